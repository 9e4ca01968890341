# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Small programs that are run on the forgetful disk."""
from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import forgetful, fuse_disk
from .disk import Disk, ForgetfulDisk, probe
from .fuse_disk import FuseDisk

OLD = b"o" * 3000
NEW = b"n" * 3000
Files = dict[str, bytes]

BEGIN = """
import os
NEW = b"n" * 3000
RW, NEWFILE = os.O_RDWR, os.O_RDWR | os.O_CREAT | os.O_EXCL
def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
def create(path, synced):
    fd = os.open(path, NEWFILE)
    os.write(fd, NEW)
    if synced:
        os.fsync(fd)
    os.close(fd)
"""


KINDS = ("preload", "fuse")


def need_disk(kind: str) -> None:
    """Skip where it cannot be had; fail where the disk does not forget."""
    if kind == "fuse":
        if fuse_disk.why_not():
            pytest.skip(fuse_disk.why_not())
        return
    if shutil.which(forgetful.COMMAND[0]) is None:
        pytest.skip(f"no forgetful disk: {forgetful.COMMAND[0]} is not installed")
    probe(sys.executable)


@contextlib.contextmanager
def disk_of(kind: str, data: Path) -> Iterator[ForgetfulDisk]:
    """On `data`, a folder that has its parent to itself."""
    disk: ForgetfulDisk
    disk = (FuseDisk if kind == "fuse" else Disk)(data.parent, data)
    try:
        yield disk
    finally:
        disk.close()


def run(disk: ForgetfulDisk, program: str) -> None:
    """Run it, and kill it before Python can tidy up."""
    code = BEGIN + textwrap.dedent(program) + "\nos.kill(os.getpid(), 9)\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True,
        cwd=disk.data, env=dict(os.environ, **disk.environment()),
    )  # fmt: skip
    assert done.returncode == -9, done.stderr


def left_on(disk: ForgetfulDisk) -> Files:
    return {
        str(path.relative_to(disk.data)): path.read_bytes()
        for path in disk.data.rglob("*")
        if path.is_file()
    }
