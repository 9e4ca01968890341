# shellcheck shell=bash
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# The systemd services of a printer; sourced, never run.  PYTHON: a Python 3.10.
# PLR_UNITS: where the units are; the tests have a folder of their own.

PLR_UNITS=${PLR_UNITS:-/etc/systemd/system}

# Names of the services that run a printer: its folder is in the unit, or in the file
# with its environment.
services_of() {  # printer's folder
    local unit
    for unit in "$PLR_UNITS"/klipper*.service "$PLR_UNITS"/moonraker*.service; do
        if [ -f "$unit" ] && grep -qE -- "(^|[\"' =])$1(/|[\"' ]|\$)" "$unit"; then
            basename -- "$unit" .service
        fi
    done
}

is_printing() {  # printer's folder
    "$PYTHON" "$PLR_ROOT/scripts/lib/is_printing.py" "$1/config/moonraker.conf"
}

restart_services() {  # printer's folder
    local names
    names=$(services_of "$1" | paste -s -d ' ' -)
    if [ -z "$names" ]; then
        say "Restart Klipper and Moonraker now (the services, not only RESTART)."
        return 0
    fi
    if is_printing "$1"; then
        say "$1 is printing. When it is done: sudo systemctl restart $names"
        return 0
    fi
    if ask "Restart $names now?"; then
        # shellcheck disable=SC2086  # several names
        if ! sudo systemctl restart $names; then
            say "That failed. By hand: sudo systemctl restart $names"
        fi
    else
        say "Not restarted. Later: sudo systemctl restart $names"
    fi
}
