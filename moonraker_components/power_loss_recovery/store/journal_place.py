# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Where the journal is: a file, or a place of fixed size such as FRAM or a partition.

A fixed place is a block device or a memory chip that the kernel shows as a file
below /sys.  It has no name to swap in once it is whole, so its first slot alone makes
it a journal, and it is only taken if it is blank: a typing error in journal_path must
not cost anybody their disk.
"""
from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from .journal_file import Disk, write_all
from .journal_format import (
    AREAS,
    SLOT_SIZE,
    Geometry,
    JobName,
    JournalError,
    Kind,
    Slot,
)

SECTOR = 512
# File systems and partition tables show themselves within this.
BLANK_MIN = 1 << 20
SPARE_MIN = 9  # slots that are not for jobs
VOLATILE = ("tmpfs", "ramfs", "devtmpfs")
VOLATILE_DEVICES = ("/dev/ram", "/dev/zram")


@dataclass(frozen=True)
class Place:
    """identity: another one when it is another file or device.  size: of a file, in
    bytes; 0 for a device, which has to be opened for that."""

    identity: tuple[int, int, int]
    size: int
    fixed: bool


def look(disk: Disk, path: str) -> Place | None:
    """None if nothing is there.  Raises OSError, JournalError."""
    try:
        info = disk.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISBLK(info.st_mode):
        return Place((info.st_dev, info.st_ino, info.st_rdev), 0, True)
    if not stat.S_ISREG(info.st_mode):
        raise JournalError(
            f"Cannot use {path}: it is neither a regular file nor a block device;"
            " choose another place for the journal", errno.EINVAL,
        )  # fmt: skip
    fixed = path.startswith("/sys/")
    return Place((info.st_dev, info.st_ino, info.st_size), info.st_size, fixed)


def is_still_there(disk: Disk, path: str, place: Place) -> bool:
    """What look() would say, at a third of its cost: asked before each save.  Raises
    OSError."""
    try:
        info = disk.stat(path)
    except FileNotFoundError:
        return False
    last = info.st_size if place.size else info.st_rdev
    return (info.st_dev, info.st_ino, last) == place.identity


def take(disk: Disk, path: str, wanted: Geometry) -> Geometry:
    """Make a journal of a blank fixed place.  Raises OSError, JournalError."""
    fd = disk.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = disk.lseek(fd, 0, os.SEEK_END)
        geometry = _fitting(size, wanted)
        if not geometry.sound:
            least = (AREAS + SPARE_MIN) * SLOT_SIZE
            raise JournalError(
                f"Cannot use {path}: it has {size} bytes, but a journal needs {least}",
                errno.ENOSPC,
            )
        head = Slot(0, Kind.FORMAT, 0, JobName(b""), geometry).encode()
        length = min(size, max(BLANK_MIN, geometry.slots * SLOT_SIZE))
        if not _is_blank(disk, fd, length, head):
            raise JournalError(
                f"Cannot use {path}: it is not blank, and no journal. If nothing on it"
                f" is needed, blank it: dd if=/dev/zero of={path} bs={SLOT_SIZE}"
                f" count={length // SLOT_SIZE} conv=fsync", errno.EEXIST,
            )  # fmt: skip
        write_all(disk, fd, head, 0)
        sync(disk, fd, True)
        return geometry
    finally:
        disk.close(fd)


def sync(disk: Disk, fd: int, fixed: bool) -> None:
    try:
        disk.fdatasync(fd)
    except OSError as error:
        # The kernel's files of memory chips are written when the call returns.
        if not fixed or error.errno != errno.EINVAL:
            raise


@dataclass(frozen=True)
class Mount:
    """kind: of file system, empty for a device of its own."""

    kind: str
    source: str
    options: frozenset[str]

    @property
    def volatile(self) -> str:
        """What kind of memory it is; nothing for a disk."""
        if self.kind in VOLATILE:
            return self.kind
        return "a RAM disk" if self.source.startswith(VOLATILE_DEVICES) else ""


def mount_of(path: str, mounts: str) -> Mount:
    """mounts: as /proc/self/mountinfo gives it."""
    path = os.path.realpath(path)
    kind = source = best = ""
    options: frozenset[str] = frozenset()
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        point = fields[4].encode().decode("unicode_escape")
        # Of two on the same folder the later one is seen.
        inside = path.startswith(point.rstrip("/") + "/") or path == point
        if inside and len(point) >= len(best):
            best = point
            kind, source, *rest = right.split(" ")
            options = frozenset(",".join([fields[5], *rest]).split(","))
    if os.path.exists(path) and stat.S_ISBLK(os.stat(path).st_mode):
        return Mount("", path, frozenset())
    return Mount(kind, source, options)


def warning(path: str, mounts: str) -> str:
    """What is wrong with a place for the journal, for a person; usually nothing.

    mounts: as of mount_of().
    """
    what = mount_of(path, mounts).volatile
    if what:
        return (
            f"The journal {os.path.realpath(path)} is in memory ({what}): a power loss"
            " takes it along. Set journal_path in moonraker.conf to a place on a disk."
        )
    return ""


def _fitting(size: int, wanted: Geometry) -> Geometry:
    slots = min(wanted.slots, size // SLOT_SIZE)
    room = (slots - SPARE_MIN) // AREAS * AREAS
    return Geometry(slots, min(wanted.job_slots, max(room, 0)))


def _is_blank(disk: Disk, fd: int, length: int, head: bytes) -> bool:
    """All zeros or all ones, but for parts of our own first slot: a cut may have come
    while that was written."""
    for offset in range(0, length, SLOT_SIZE):
        data = disk.pread(fd, SLOT_SIZE, offset)
        for start in range(0, len(data), SECTOR):
            sector = data[start : start + SECTOR]
            blank = len(set(sector)) == 1 and sector[0] in (0, 255)
            ours = offset == 0 and sector == head[start : start + SECTOR]
            if not blank and not ours:
                return False
    return True
