# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The second copies of the Z calibration and of klippy's variables, as files.

Blocking calls.
"""
from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

from ..store.journal_file import Disk, create, put_aside, sync_folder
from .mending import MAX_FILE, Calibration, CalibrationError, Mended, mend, parse
from .variables_copy import VariablesCopy

Copy = TypeVar("Copy")


def read(path: str) -> Calibration | None:
    """None: there is none.  One that is damaged is put aside: CalibrationError."""
    return _read(path, Calibration.from_bytes)


def read_variables(path: str) -> VariablesCopy | None:
    """As read()."""
    return _read(path, VariablesCopy.from_bytes)


def _read(path: str, decode: Callable[[bytes], Copy]) -> Copy | None:
    try:
        data = _content(path)
    except FileNotFoundError:
        return None
    try:
        return decode(data)
    except CalibrationError as e:
        aside = put_aside(Disk(), path)
        raise CalibrationError(f"{e}; it is kept as {aside}") from e


def keep_variables(
    path: str, variables: str, boot_id: str, before: VariablesCopy | None
) -> VariablesCopy | None:
    """Copy klippy's file `variables` to `path`, durable when this returns.

    before: what is at `path`.  Returns what is there now.  Raises OSError.
    """
    data = _content(variables) if os.path.isfile(variables) else b""
    now = VariablesCopy(variables, boot_id, data)
    try:
        if now == before or len(data) >= MAX_FILE or not now.variables:
            return before
    except ValueError:
        # klippy wrote it since it has read it, or is about to
        return before
    _replace(Disk(), path, now.to_bytes())
    return now


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
    copy: Calibration | None,
    older: VariablesCopy | None = None,
    disk: Disk | None = None,
    torn: bool = False,
) -> tuple[Mended, str] | None:
    """Make klippy's variables file readable; None: it is, or it is not there.

    torn: also if it can be read and misses variables that `older` has.  Returns what
    was done and where the file is kept as it was.  Raises OSError, and ValueError for
    a file that is not mended.
    """
    name = next((c.path for c in (copy, older) if c is not None and c.path), "")
    had = older.variables if older is not None and older.path == name else {}
    disk, path = disk or Disk(), os.path.realpath(name)
    if not name or not os.path.isfile(path):
        return None
    data = _content(path)
    if len(data) > MAX_FILE:
        raise ValueError(f"it is larger than {MAX_FILE} bytes")
    try:
        found = parse(data)
        if not torn or had.keys() <= found.keys():
            return None
    except ValueError:
        pass
    mended = mend(data, {} if copy is None else copy.variables, had)
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
