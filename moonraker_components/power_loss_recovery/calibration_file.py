# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The second copy of the Z calibration as a file.  Blocking calls."""
from __future__ import annotations

import os
import time

from .calibration import MAX_FILE, Calibration, CalibrationError, Mended, mend, parse
from .journal_file import Disk, create, put_aside, sync_folder


def read(path: str) -> Calibration | None:
    """None: there is none.  One that is damaged is put aside: CalibrationError."""
    try:
        data = _content(path)
    except FileNotFoundError:
        return None
    try:
        return Calibration.from_bytes(data)
    except CalibrationError as e:
        aside = put_aside(Disk(), path)
        raise CalibrationError(f"{e}; it is kept as {aside}") from e


def write(path: str, copy: Calibration, disk: Disk | None = None) -> None:
    """Returns once it is durable, and klippy's own file as well.  Raises OSError."""
    disk = disk or Disk()
    _replace(disk, path, copy.to_bytes())
    if not copy.path:
        return
    variables = os.path.realpath(copy.path)
    fd = disk.open(variables, os.O_RDONLY | os.O_CLOEXEC)
    try:
        disk.fsync(fd)
    finally:
        disk.close(fd)
    sync_folder(disk, variables)


def mend_variables(
    copy: Calibration, disk: Disk | None = None
) -> tuple[Mended, str] | None:
    """Make klippy's variables file readable; None: it is, or it is not there.

    Returns what was done and where the broken file is kept.  Raises OSError, and
    ValueError for a file that is not mended.
    """
    if not copy.path:
        return None
    disk, path = disk or Disk(), os.path.realpath(copy.path)
    if not os.path.isfile(path):
        return None
    data = _content(path)
    if len(data) > MAX_FILE:
        raise ValueError(f"it is larger than {MAX_FILE} bytes")
    try:
        parse(data)
        return None
    except ValueError:
        pass
    mended = mend(data, copy)
    aside = f"{path}.broken-{time.strftime('%Y%m%d-%H%M%S')}"
    # First: the name of the file always has one of the two contents.
    _replace(disk, aside, data)
    mode = os.stat(path).st_mode & 0o777
    _replace(disk, path, mended.data)
    os.chmod(path, mode)
    return mended, aside


def _content(path: str) -> bytes:
    with open(path, "rb") as f:
        return f.read(MAX_FILE + 1)


def _replace(disk: Disk, path: str, data: bytes) -> None:
    create(disk, path, data, len(data))
    sync_folder(disk, path)
