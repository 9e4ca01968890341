# shellcheck shell=bash disable=SC2034  # others read what is set here
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# What install.sh and uninstall.sh have in common: options, the checks before anything
# is changed, the editing of configurations.  Sourced, never run.  Sets KLIPPER,
# MOONRAKER (empty: to be found), PRINTERS, RESTART, YES, and by check_printer klipper,
# moonraker and PYTHON.

KLIPPER='' MOONRAKER='' RESTART=1 YES=''
PRINTERS=()

parse_options() {
    while [ $# -gt 0 ]; do
        case $1 in
            --klipper | --moonraker | --printer-data)
                [ $# -gt 1 ] || die "$1 needs a path"
                [ -d "$2" ] || die "$1: there is no folder $2"
                case $1 in
                    --klipper) KLIPPER=$(cd "$2" && pwd) ;;
                    --moonraker) MOONRAKER=$(cd "$2" && pwd) ;;
                    --printer-data) PRINTERS+=("$(cd "$2" && pwd)") ;;
                esac
                shift
                ;;
            --no-restart) RESTART='' ;;
            --yes) YES=1 ;;
            -h | --help)
                usage
                exit 0
                ;;
            *) die "unknown option $1. See: $0 --help" ;;
        esac
        shift
    done
    if [ ${#PRINTERS[@]} -eq 0 ]; then
        local found
        found=$(find_printers)
        [ -n "$found" ] || die "no printer found in $HOME" \
            "Name the folder that has config/printer.cfg: --printer-data PATH"
        mapfile -t PRINTERS <<<"$found"
    fi
}

# Everything that can refuse, before anything is changed.
check_printer() {  # printer's folder
    local file
    [ -f "$1/config/printer.cfg" ] || die "$1 has no config/printer.cfg"
    [ -f "$1/config/moonraker.conf" ] || die "$1 has no config/moonraker.conf" \
        "Without Moonraker only scripts/plr can help."
    for file in "$1" "$1/config" "$1/config/printer.cfg" "$1/config/moonraker.conf"; do
        refuse_root "$file"
    done
    klipper=$(klipper_of "$1")
    moonraker=$(moonraker_of "$1")
    refuse_root "$(extras_of "$klipper")"
    refuse_root "$(components_of "$moonraker")"
    PYTHON=$(find_python "$moonraker")
}

check_printers() {
    local printer
    for printer in "${PRINTERS[@]}"; do check_printer "$printer"; done
}

config_edit() { "$PYTHON" "$PLR_ROOT/scripts/lib/config_edit.py" "$@"; }

restart_printers() {
    local printer
    if [ -z "$RESTART" ]; then
        say "Restart Klipper and Moonraker (the services) when nothing is printed."
        return 0
    fi
    for printer in "${PRINTERS[@]}"; do restart_services "$printer"; done
}
