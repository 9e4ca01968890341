# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The journal's file as a file: the system calls, creation, plain reading."""
from __future__ import annotations

import contextlib
import errno
import itertools
import os

from .journal_format import MAX_SLOTS, SLOT_SIZE, JournalTooNew, Slot, decode


class Disk:
    """The system calls in use; a test puts a failing or forgetful disk here."""

    open = staticmethod(os.open)
    close = staticmethod(os.close)
    lseek = staticmethod(os.lseek)
    pread = staticmethod(os.pread)
    pwrite = staticmethod(os.pwrite)
    fdatasync = staticmethod(os.fdatasync)
    fsync = staticmethod(os.fsync)
    stat = staticmethod(os.stat)
    rename = staticmethod(os.rename)
    replace = staticmethod(os.replace)
    unlink = staticmethod(os.unlink)


def read_slots(path: str, disk: Disk | None = None) -> list[Slot]:
    """All valid slots of the file, which is only read. Raises OSError, JournalTooNew.

    An unreadable sector costs its own slot only, unless nothing else is left.
    """
    disk = disk or Disk()
    found: list[Slot] = []
    failure: OSError | None = None
    fd = disk.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for index in range(MAX_SLOTS):
            try:
                data = disk.pread(fd, SLOT_SIZE, index * SLOT_SIZE)
            except OSError as error:
                failure = error
                continue
            if not data:
                break
            slot = decode(data, index)
            if slot is not None:
                found.append(slot)
    except JournalTooNew as error:
        raise JournalTooNew(f"Cannot use {path}: {error}") from error
    finally:
        disk.close(fd)
    if failure is not None and not found:
        raise failure
    return found


def write_all(disk: Disk, fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = disk.pwrite(fd, view, offset)
        if count == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[count:]
        offset += count


def create(disk: Disk, path: str, head: bytes, size: int) -> None:
    """A file of `head` and real zeros, under its name only once it is whole.

    No hole and no unwritten extent: a later save changes no file system metadata.
    """
    temporary = path + ".new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    fd = disk.open(temporary, flags, 0o644)
    try:
        write_all(disk, fd, head.ljust(size, b"\0"), 0)
        disk.fsync(fd)
        disk.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            disk.unlink(temporary)
        raise
    finally:
        disk.close(fd)


def put_aside(disk: Disk, path: str) -> str:
    """Rename the file to the first free `path`.bad-<n>; returns that name."""
    for number in itertools.count(1):
        target = f"{path}.bad-{number}"
        try:
            disk.stat(target)
        except FileNotFoundError:
            break
    disk.rename(path, target)
    return target


def sync_folder(disk: Disk, path: str) -> None:
    """Make the name of `path` itself durable."""
    fd = disk.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        disk.fsync(fd)
    except OSError as error:
        # Some file systems (FUSE, network) have no such thing for folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        disk.close(fd)
