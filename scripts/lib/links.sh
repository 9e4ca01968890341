# shellcheck shell=bash
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# The links by which Klipper, Moonraker and the front ends find us, made and taken
# away; sourced, never run.  PLR_ROOT: this checkout.

PLR_NAME=power_loss_recovery
PLR_MACROS=power-loss-recovery

# Only ever replaces a link: what else has that name is somebody's work.
link_to() {  # target, link
    if [ "$(readlink -- "$2")" = "$1" ]; then
        note "already linked: $2"
        return 0
    fi
    if [ -e "$2" ] && [ ! -L "$2" ]; then
        die "$2 is in the way" "Look at it, move it elsewhere, and run this again."
    fi
    ln -sfn -- "$1" "$2"
    note "linked: $2"
}

# Links of other checkouts are left alone.
unlink_ours() {  # link
    if [ -L "$1" ]; then
        case $(readlink -- "$1") in
            "$PLR_ROOT"/*)
                rm -f -- "$1"
                note "removed: $1"
                ;;
            *) note "left alone, it leads elsewhere: $1" ;;
        esac
    fi
}

link_extra() {  # Klipper's folder
    local folder
    folder=$(extras_of "$1")
    set_older_aside "$1"
    # Of the other kind, from before a change between Klipper and Kalico
    if [ "$folder" != "$1/klippy/extras" ]; then
        unlink_ours "$1/klippy/extras/$PLR_NAME"
    fi
    link_to "$PLR_ROOT/klippy_extras/$PLR_NAME" "$folder/$PLR_NAME"
    hide_from_git "$1" "${folder#"$1"}/$PLR_NAME"
}

unlink_extra() {  # Klipper's folder
    local folder
    for folder in extras plugins; do
        unlink_ours "$1/klippy/$folder/$PLR_NAME"
        show_to_git "$1" "/klippy/$folder/$PLR_NAME"
    done
    bring_older_back "$1"
}

# klipper-plr is a file of the same name; its G-code commands have ours.
set_older_aside() {  # Klipper's folder
    local folder file
    for folder in extras plugins; do
        file=$1/klippy/$folder/$PLR_NAME.py
        if [ ! -e "$file" ] && [ ! -L "$file" ]; then continue; fi
        say "$file is another plugin of the same name (klipper-plr)."
        ask "Move it aside, to $file.klipper-plr?" \
            || die "not both can be installed: nothing was changed in $1"
        mv -- "$file" "$file.klipper-plr"
        # Python would go on with what it has compiled.
        rm -f -- "$1/klippy/$folder/__pycache__/$PLR_NAME".*.pyc
        note "moved aside: $file.klipper-plr"
    done
}

bring_older_back() {  # Klipper's folder
    local folder file
    for folder in extras plugins; do
        file=$1/klippy/$folder/$PLR_NAME.py
        if [ -e "$file.klipper-plr" ] && [ ! -e "$file" ]; then
            mv -- "$file.klipper-plr" "$file"
            note "moved back: $file"
        fi
    done
}

# A real folder with a link to one file in it: pip deletes what a linked folder leads
# to, and git counts a linked .py as a foreign source file.
link_component() {  # Moonraker's folder
    local folder
    folder=$(components_of "$1")/$PLR_NAME
    if [ -L "$folder" ]; then rm -f -- "$folder"; fi
    mkdir -p -- "$folder"
    link_to "$PLR_ROOT/moonraker_components/$PLR_NAME/__init__.py" \
        "$folder/__init__.py"
    hide_from_git "$1" "/moonraker/components/$PLR_NAME"
}

unlink_component() {  # Moonraker's folder
    local folder
    folder=$(components_of "$1")/$PLR_NAME
    if [ -L "$folder" ]; then unlink_ours "$folder"; fi
    unlink_ours "$folder/__init__.py"
    if [ -d "$folder" ] && [ ! -L "$folder" ]; then
        rm -rf -- "$folder/__pycache__"
        rmdir -- "$folder" 2>/dev/null || note "left, it is not empty: $folder"
    fi
    show_to_git "$1" "/moonraker/components/$PLR_NAME"
}

link_macros() {  # printer's folder
    link_to "$PLR_ROOT/macros" "$1/config/$PLR_MACROS"
}

unlink_macros() {  # printer's folder
    unlink_ours "$1/config/$PLR_MACROS"
}

# So that git status, and with it the update manager, sees nothing of ours.
exclude_file() {  # repository
    local file
    [ -e "$1/.git" ] || return 0
    file=$(git -C "$1" rev-parse --git-path info/exclude 2>/dev/null) || return 0
    case $file in
        /*) printf '%s\n' "$file" ;;
        *) printf '%s\n' "$1/$file" ;;
    esac
}

hide_from_git() {  # repository, path inside it with a leading /
    local file
    file=$(exclude_file "$1")
    if [ -z "$file" ] || git -C "$1" check-ignore -q -- ".$2"; then return 0; fi
    mkdir -p -- "$(dirname -- "$file")"
    if [ -s "$file" ] && [ -n "$(tail -c 1 -- "$file")" ]; then echo >>"$file"; fi
    printf '%s\n' "$2" >>"$file"
    note "hidden from git: $2 (in $file)"
}

show_to_git() {  # repository, path inside it with a leading /
    local file
    file=$(exclude_file "$1")
    if [ -n "$file" ] && grep -qxF -- "$2" "$file" 2>/dev/null; then
        local rest
        rest=$(grep -vxF -- "$2" "$file"; printf x)
        printf '%s' "${rest%x}" >"$file"
    fi
}
