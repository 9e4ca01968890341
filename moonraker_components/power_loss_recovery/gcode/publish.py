# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Puts a new file on the disk so that a power cut leaves all of it or none."""
from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from .errors import RewriteError

_CHUNK = 1 << 20
# One system call: long enough to cost nothing, short enough to be killed.
_SLICE = 32 << 20
_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)

# Bytes of ours, or (offset, count) in the original
Piece = bytes | tuple[int, int]


def publish(
    source: int,
    pieces: Sequence[Piece],
    destination: Path,
    temporary: Path | None,
) -> None:
    """Write `pieces` to `destination`, which appears whole and durable, or not.

    source: descriptor of the original.  temporary: where it is written first;
    what an earlier attempt left there is removed.  Raises FileExistsError when
    `destination` is there, RewriteError when the original got shorter, OSError
    as the disk does; nothing is left behind then.
    """
    if temporary is None:
        temporary = destination.with_name(destination.name + ".tmp")
    if os.path.lexists(destination):
        raise FileExistsError(errno.EEXIST, "resume file is there", str(destination))
    _discard(temporary, source)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    target = os.open(temporary, flags, 0o644)
    try:
        try:
            for piece in pieces:
                if isinstance(piece, bytes):
                    _write_all(target, piece)
                else:
                    _copy(source, piece[0], piece[1], target)
            os.fsync(target)
        finally:
            os.close(target)
        _rename_new(temporary, destination)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(destination.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _discard(temporary: Path, source: int) -> None:
    """Remove what a power cut left of an earlier attempt."""
    try:
        found = temporary.lstat()
    except FileNotFoundError:
        return
    if os.path.samestat(found, os.fstat(source)):
        raise RewriteError(f"{temporary} is the original, not a temporary file")
    temporary.unlink()


def _rename_new(temporary: Path, destination: Path) -> None:
    # link() refuses to replace a file that has come meanwhile; rename() would
    # not, but FAT and its like have no links.
    try:
        os.link(temporary, destination)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(destination):
            raise FileExistsError(
                errno.EEXIST, "resume file is there", str(destination)
            ) from error
        os.rename(temporary, destination)


def _write_all(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def _copy(source: int, offset: int, count: int, target: int) -> None:
    """Append `count` bytes of `source` from `offset` on.

    By the best way that works here: copy_file_range shares the bytes where the file
    system can, sendfile copies them in the kernel.
    """
    ways = [_copy_range, _send, _read_and_write]
    while count:
        try:
            done = ways[0](source, offset, min(count, _SLICE), target)
        except OSError as error:
            if len(ways) == 1 or error.errno not in _NO_KERNEL_COPY:
                raise
            done = 0
        if not done:
            # Some file systems answer 0 where they mean "not supported".
            if len(ways) == 1:
                raise RewriteError(f"the original ended at byte {offset}")
            del ways[0]
        offset += done
        count -= done


def _copy_range(source: int, offset: int, count: int, target: int) -> int:
    return os.copy_file_range(source, target, count, offset)


def _send(source: int, offset: int, count: int, target: int) -> int:
    return os.sendfile(target, source, offset, count)


def _read_and_write(source: int, offset: int, count: int, target: int) -> int:
    return os.write(target, os.pread(source, min(count, _CHUNK), offset))
