# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Real file systems and block devices that a test may fill, break and take away."""
from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def run(*command: str) -> str:
    """Skips the test, with the reason, where this machine does not allow it."""
    if os.geteuid() != 0:
        pytest.skip(f"needs root: {' '.join(command)}")
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}, which is not installed")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


def release(*command: str) -> None:
    subprocess.run(command, capture_output=True)


@contextlib.contextmanager
def tmpfs(point: Path, size: str) -> Iterator[Path]:
    point.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "plr-test", str(point))
    try:
        yield point
    finally:
        release("umount", "-l", str(point))


@contextlib.contextmanager
def loop_device(image: Path, size: int) -> Iterator[str]:
    with image.open("wb") as f:
        f.truncate(size)
    device = run("losetup", "--find", "--show", str(image))
    try:
        yield device
    finally:
        release("losetup", "--detach", device)


@contextlib.contextmanager
def ext4(folder: Path, size: int = 8 << 20) -> Iterator[tuple[str, Path]]:
    """A device with ext4 on it, and where it is mounted."""
    with loop_device(folder / "image", size) as device:
        run("mkfs.ext4", "-q", device)
        point = folder / "disk"
        point.mkdir()
        run("mount", device, str(point))
        try:
            yield device, point
        finally:
            release("umount", "-l", str(point))
