# shellcheck shell=bash
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# How install.sh and uninstall.sh talk; sourced, never run.  YES=1 answers all
# questions with yes.

say() { printf '%s\n' "$@"; }  # lines

note() { printf '  %s\n' "$*"; }

die() {  # message lines
    printf 'error: %s\n' "$1" >&2
    shift
    if [ $# -gt 0 ]; then printf '       %s\n' "$@" >&2; fi
    exit 1
}

# Without a terminal nobody can say yes.
ask() {  # question
    if [ "${YES:-}" = 1 ]; then return 0; fi
    local answer=
    printf '%s [y/N] ' "$1"
    read -r answer || printf '\n'
    case $answer in
        [yY] | [yY][eE][sS]) return 0 ;;
    esac
    return 1
}
