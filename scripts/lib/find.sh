# shellcheck shell=bash
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# Where Klipper, Moonraker and the printers of this host are; sourced, never run.
# KIAUH and MainsailOS: ~/klipper, ~/moonraker and ~/printer_data, or one
# ~/printer_NAME_data for each of several printers; what each of them runs is in
# its systemd/klipper.env and systemd/moonraker.env.

# The printers: folders with config/printer.cfg, one a line.
find_printers() {
    local folder
    for folder in "$HOME"/printer_data "$HOME"/printer_*_data; do
        if [ -f "$folder/config/printer.cfg" ]; then printf '%s\n' "$folder"; fi
    done
}

# The top folder of the program that a printer runs.
of_environment() {  # printer's folder, klipper|moonraker, path inside the program
    local file=$1/systemd/$2.env
    if [ -r "$file" ]; then
        sed -n "s|^[A-Z_]*ARGS=\"\{0,1\}\([^\" ]*\)/$3.*|\1|p" "$file" | head -n 1
    fi
}

klipper_of() {  # printer's folder
    local found=${KLIPPER:-}
    if [ -z "$found" ]; then found=$(of_environment "$1" klipper klippy/klippy.py); fi
    if [ -z "$found" ]; then
        for found in "$HOME/klipper" "$HOME/kalico"; do
            if [ -d "$found/klippy" ]; then break; fi
        done
    fi
    [ -d "$found/klippy/extras" ] || die "no Klipper in $found" \
        "Name its folder: --klipper PATH"
    (cd "$found" && pwd)
}

moonraker_of() {  # printer's folder
    local found=${MOONRAKER:-}
    if [ -z "$found" ]; then
        found=$(of_environment "$1" moonraker moonraker/moonraker.py)
    fi
    found=${found:-$HOME/moonraker}
    [ -n "$(components_of "$found")" ] || die "no Moonraker in $found" \
        "Name its folder, or the Python environment it is in: --moonraker PATH"
    (cd "$found" && pwd)
}

# Of a checkout, of the package, or of a Python environment that has it.
components_of() {  # Moonraker's folder
    local folder
    for folder in "$1"/moonraker/components "$1"/components \
        "$1"/lib/python3*/site-packages/moonraker/components; do
        if [ -f "$folder/klippy_apis.py" ]; then
            printf '%s\n' "$folder"
            return 0
        fi
    done
}

# Kalico keeps others' modules in a folder of its own, which git ignores.
extras_of() {  # Klipper's folder
    if [ -d "$1/klippy/plugins" ]; then
        printf '%s\n' "$1/klippy/plugins"
    else
        printf '%s\n' "$1/klippy/extras"
    fi
}

# Moonraker's own Python, or any that is new enough.
find_python() {  # Moonraker's folder
    local python
    for python in "$HOME/moonraker-env/bin/python" "$1/bin/python" python3; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
            2>/dev/null; then
            printf '%s\n' "$python"
            return 0
        fi
    done
    die "Python 3.10 or newer is needed" \
        "Moonraker's environment ($HOME/moonraker-env) has an older one: make it again" \
        "on a newer system, for example with KIAUH on Debian 12."
}

# Root may install what is root's own (a vendor's image), and nothing else.
refuse_root() {  # path that must be root's as well
    local owner
    owner=$(stat -L -c %U "$1")
    if [ "$(id -u)" = 0 ] && [ "$owner" != root ]; then
        die "$1 belongs to $owner: run this as $owner, without sudo"
    fi
    [ -w "$1" ] || die "$1 cannot be written: it belongs to $owner"
}
