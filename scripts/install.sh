#!/usr/bin/env bash
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
set -euo pipefail

# shellcheck source=scripts/lib/installer.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/installer.sh"

usage() {
    cat <<'TEXT'
usage: scripts/install.sh [options]

Links power loss recovery into Klipper and Moonraker, and adds what is missing to
printer.cfg and moonraker.conf of each printer on this host, after asking. A dated copy
of each file that it changes is kept. Run it again at any time: what is done is left
as it is, and what an update has taken away comes back.

  --klipper PATH        where Klipper or Kalico is; default: what the printer runs,
                        or ~/klipper
  --moonraker PATH      where Moonraker is, or the Python environment that has it
  --printer-data PATH   one printer instead of all: the folder that has config/;
                        may be given several times
  --no-restart          do not offer to restart Klipper and Moonraker
  --yes                 yes to all questions
TEXT
}

# Only an address that Moonraker can fetch from: a clone of a folder has none.
repository_address() {
    local origin
    origin=$(git -C "$PLR_ROOT" remote get-url origin 2>/dev/null) || return 0
    case $origin in
        http://* | https://*) printf '%s\n' "$origin" ;;
    esac
}

repository_branch() {
    git -C "$PLR_ROOT" symbolic-ref --short -q HEAD 2>/dev/null || printf 'main\n'
}

add_lines() {  # printer's folder, klipper|moonraker, file, more arguments
    local data=$1 which=$2 file=$1/config/$3 lines backup
    shift 3
    lines=$(config_edit show "$which" "$data" "$@")
    if [ -z "$lines" ]; then
        note "complete: $file"
        return 0
    fi
    say "To be added to $file:"
    printf '%s\n' "$lines" | sed 's/^/    /'
    if ask "Add this?"; then
        backup=$(config_edit add "$which" "$data" "$@")
        note "changed: $file"
        note "as it was: $backup"
    else
        say "Not added. Add it by hand before you restart."
    fi
}

install_printer() {  # printer's folder
    say "Printer $1"
    check_printer "$1"
    note "Klipper: $klipper"
    note "Moonraker: $moonraker"
    link_extra "$klipper"
    link_component "$moonraker"
    link_macros "$1"
    add_lines "$1" klipper printer.cfg
    add_lines "$1" moonraker moonraker.conf \
        "$(repository_address)" "$(repository_branch)"
    if [ -z "$(repository_address)" ]; then
        note "no updates by Moonraker: this folder has no address that it can fetch from"
    fi
}

parse_options "$@"
check_printers
for printer in "${PRINTERS[@]}"; do install_printer "$printer"; done
restart_printers
say "Then, on the console of Mainsail or Fluidd: PLR_CHECK" \
    "It says what is still to be done, such as the calibration of the Z+ switches."
