# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A block device that nobody else writes to, to count what reaches it."""
from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

SIZE = 64 << 20
SECTOR = 512  # of the kernel's statistics, whatever the device has


class NoDevice(Exception):
    """None can be made here; the message says why."""


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[tuple[Path, Callable[[], int]]]:
    """An ext4 file system on a loop device, and its count of bytes written so far.

    `folder` gets its image. Needs root, losetup and mkfs.ext4; else NoDevice.
    """
    image, mount_point = folder / "image", folder / "mount"
    mount_point.mkdir()
    with open(image, "wb") as file:
        file.truncate(SIZE)
    _run("mkfs.ext4", "-q", "-F", str(image))
    loop = _run("losetup", "--find", "--show", str(image)).strip()
    try:
        _run("mount", loop, str(mount_point))
        try:
            statistics = Path("/sys/block", os.path.basename(loop), "stat")
            yield mount_point, lambda: _written(statistics)
        finally:
            _run("umount", str(mount_point))
    finally:
        _run("losetup", "--detach", loop)


def _written(statistics: Path) -> int:
    return int(statistics.read_text().split()[6]) * SECTOR


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as e:
        raise NoDevice(f"{command[0]} is not installed") from e
    if done.returncode:
        raise NoDevice(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout
