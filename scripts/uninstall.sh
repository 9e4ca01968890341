#!/usr/bin/env bash
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
set -euo pipefail

# shellcheck source=scripts/lib/installer.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/installer.sh"

usage() {
    cat <<'TEXT'
usage: scripts/uninstall.sh [options]

Takes out what scripts/install.sh has put in: the lines between its marks in
printer.cfg and moonraker.conf, and the links. A dated copy of each file that it changes
is kept. What you wrote elsewhere stays, and so does printer_data/plr with the journal,
the copies and the backups. klipper-plr, if it was moved aside, is moved back.

Options: --klipper, --moonraker, --printer-data, --no-restart and --yes, as of
scripts/install.sh.
TEXT
}

remove_lines() {  # printer's folder
    local which backup
    for which in klipper moonraker; do
        backup=$(config_edit remove "$which" "$1")
        if [ -n "$backup" ]; then note "changed; as it was: $backup"; fi
    done
}

# What names us outside of our marks: without us, Klipper would not start.
check_rest() {  # printer's folder
    local left
    left=$(config_edit left klipper "$1" && config_edit left moonraker "$1")
    if [ -n "$left" ]; then
        die "you have written these lines yourself:" "$left" \
            "Take them out, then run this again. The links are still there."
    fi
}

# Another printer of this host may need the links.
is_used() {  # Klipper's or Moonraker's folder, klipper_of|moonraker_of
    local other printer
    for other in $(find_printers); do
        for printer in "${PRINTERS[@]}"; do
            if [ "$other" = "$printer" ]; then continue 2; fi
        done
        if [ "$("$2" "$other")" = "$1" ] && [ -L "$other/config/$PLR_MACROS" ]; then
            note "kept, $other uses it: the link in $1"
            return 0
        fi
    done
    return 1
}

uninstall_printer() {  # printer's folder
    say "Printer $1"
    check_printer "$1"
    remove_lines "$1"
    check_rest "$1"
    unlink_macros "$1"
    is_used "$klipper" klipper_of || unlink_extra "$klipper"
    is_used "$moonraker" moonraker_of || unlink_component "$moonraker"
}

parse_options "$@"
check_printers
ask "Remove power loss recovery from ${PRINTERS[*]}?" || die "nothing was changed"
for printer in "${PRINTERS[@]}"; do uninstall_printer "$printer"; done
restart_printers
say "Removed. This folder can be deleted now: $PLR_ROOT"
