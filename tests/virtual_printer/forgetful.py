# Builds the library that makes a disk forget
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from pathlib import Path

from .klippy_tree import REPO

HERE = Path(__file__).parent
SOURCES = ("forgetful.c", "forgetful_log.c")
COMMAND = ("gcc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC")


class DiskUnavailable(Exception):
    """No forgetful disk on this computer; the message says why."""


def library() -> Path:
    """Path of the library; compiled once for each state of its sources."""
    digest = hashlib.sha256(repr((COMMAND, os.uname().machine)).encode())
    for name in (*SOURCES, "forgetful.h"):
        digest.update((HERE / name).read_bytes())
    folder = REPO / ".cache" / "forgetful"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"forgetful-{digest.hexdigest()[:16]}.so"
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _compile(target)
    return target


def _compile(target: Path) -> None:
    unfinished = target.with_suffix(".new")
    sources = [str(HERE / name) for name in SOURCES]
    command = [*COMMAND, "-o", str(unfinished), *sources, "-ldl"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as e:
        raise DiskUnavailable(f"{COMMAND[0]} is not installed") from e
    if done.returncode:
        raise DiskUnavailable(f"gcc cannot build it:\n{done.stderr.strip()}")
    os.replace(unfinished, target)
