# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A disk that forgets, tears and fails, and what a journal on it may then say.

`SimDisk` keeps every write in the order of the calls. At a power cut after any of
them, each 512-byte sector of each write that no successful sync covers is, on its
own, there or not or rubbish. A failed sync leaves its writes in doubt for ever, as
Linux does. `Expect` is an independent model of what `Journal.read()` owes.
"""
from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from moonraker_components.power_loss_recovery.journal import (
    Disk,
    Journal,
    JournalError,
    State,
    newest,
    read_slots,
)

SECTOR = 512
FOLDER = "/plr"
PATH = "/plr/journal"
SLOTS = 18
JOB_SLOTS = 9  # three areas of three slots; eight slots for marks


@dataclass(frozen=True)
class Write:
    """A write of `data`; `sure` once a successful sync followed it."""

    inode: int
    offset: int
    data: bytes
    sure: bool = False

    @property
    def sectors(self) -> int:
        return -(-len(self.data) // SECTOR)


class Killed(BaseException):
    """The process is no more."""


@dataclass
class SimDisk(Disk):
    """Stands in for `Disk`; one folder. `fail` queues errors by call name.

    As on Linux, a sync with nothing new to write does not fail. `killed` queued for
    a sync ends the process there: the writes stay in the page cache.
    """

    files: dict[str, int] = field(default_factory=dict)
    data: dict[int, bytearray] = field(default_factory=dict)
    ops: list[tuple[Any, ...]] = field(default_factory=list)
    read_only: bool = False
    full: bool = False
    bad_slots: set[int] = field(default_factory=set)  # cannot be written
    bad_sectors: set[int] = field(default_factory=set)
    hold: threading.Event | None = None
    bytes_written: int = 0
    syncs: int = 0
    opened: int = 0
    _fds: dict[int, int] = field(default_factory=dict)
    _dirty: set[int] = field(default_factory=set)
    _queue: list[tuple[str, int]] = field(default_factory=list)

    @classmethod
    def holding(cls, image: bytes) -> SimDisk:
        return cls(files={PATH: 1}, data={1: bytearray(image)})

    def fail(self, call: str, number: int, times: int = 1) -> None:
        self._queue += [(call, number)] * times

    def _maybe_fail(self, call: str) -> None:
        for at, (name, number) in enumerate(self._queue):
            if name == call:
                del self._queue[at]
                raise OSError(number, os.strerror(number))

    def _inode(self, path: str) -> int:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file", path)
        return self.files[path]

    def open(self, path, flags, mode=0o777):  # type: ignore[no-untyped-def, override]
        self._maybe_fail("open")
        if self.read_only and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if path != FOLDER and path not in self.files and flags & os.O_CREAT:
            inode = len(self.data) + 1
            self.files[path], self.data[inode] = inode, bytearray()
            self.ops.append(("names", dict(self.files)))
        elif path != FOLDER and flags & os.O_TRUNC:
            self.data[self._inode(path)].clear()
        self.opened += 1
        fd = 1000 + self.opened
        self._fds[fd] = 0 if path == FOLDER else self._inode(path)
        return fd

    def close(self, fd):  # type: ignore[no-untyped-def]
        del self._fds[fd]

    def pread(self, fd, size, offset):  # type: ignore[no-untyped-def]
        self._maybe_fail("pread")
        if offset // 4096 in self.bad_sectors:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return bytes(self.data[self._fds[fd]][offset:offset + size])

    def pwrite(self, fd, data, offset):  # type: ignore[no-untyped-def]
        self._maybe_fail("pwrite")
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        end = offset + len(data)
        if any(offset < bad * 4096 + 4096 and bad * 4096 < end
               for bad in self.bad_slots):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        inode, data = self._fds[fd], bytes(data)
        self._dirty.add(inode)
        if ("short", 0) in self._queue:
            self._queue.remove(("short", 0))
            data = data[:SECTOR]
        self.ops.append(("write", Write(inode, offset, data)))
        self.data[inode][offset:offset + len(data)] = data
        self.bytes_written += len(data)
        return len(data)

    def fdatasync(self, fd):  # type: ignore[no-untyped-def]
        self.syncs += 1
        if self.hold is not None:
            self.hold.wait(10)
        inode = self._fds[fd]
        if inode in self._dirty:
            if ("killed", 0) in self._queue:
                self._queue.remove(("killed", 0))
                raise Killed
            self._dirty.discard(inode)
            try:
                self._maybe_fail("fdatasync")
            except OSError:
                self.ops.append(("lost", inode))
                raise
        self.ops.append(("sync", inode))

    fsync = fdatasync

    def stat(self, path):  # type: ignore[no-untyped-def, override]
        if path == FOLDER:
            return SimpleNamespace(st_mode=stat.S_IFDIR, st_dev=1, st_ino=0, st_size=0)
        inode = self._inode(path)
        return SimpleNamespace(st_mode=stat.S_IFREG, st_dev=1, st_ino=inode,
                               st_size=len(self.data[inode]))

    def replace(self, source, target):  # type: ignore[no-untyped-def, override]
        self._maybe_fail("replace")
        self.files[target] = self.files.pop(source)
        self.ops.append(("names", dict(self.files)))

    rename = replace  # type: ignore[assignment]

    def unlink(self, path):  # type: ignore[no-untyped-def, override]
        del self.files[path]
        self.ops.append(("names", dict(self.files)))


def at_cut(ops: Sequence[tuple[Any, ...]], cut: int,
           base: dict[str, int] | None = None,
           ) -> tuple[list[Write], list[dict[str, int]]]:
    """The writes before a cut, and each set of file names that it may leave."""
    writes: list[Write] = []
    doubtful: set[int] = set()
    names = [base or {}]
    for kind, what in ops[:cut]:
        if kind == "write":
            writes.append(what)
        elif kind == "names":
            names.append(what)
        elif kind == "lost":
            doubtful |= {i for i, w in enumerate(writes)
                         if w.inode == what and not w.sure}
        elif what == 0:
            names = names[-1:]
        else:
            writes = [replace(w, sure=True) if w.inode == what and i not in doubtful
                      else w for i, w in enumerate(writes)]
    return writes, names


Mask = Sequence[int]  # per sector: 0 stays old, 1 is new, 2 is rubbish


def image_after(start: bytes, writes: Sequence[Write], masks: Sequence[Mask]) -> bytes:
    """The file after a cut; `masks` are for the writes that are not sure, in order."""
    image = bytearray(start)
    left = iter(masks)
    for write in writes:
        end = write.offset + len(write.data)
        if end > len(image):
            image.extend(bytes(end - len(image)))
        if write.sure:
            image[write.offset:end] = write.data
            continue
        for sector, fate in enumerate(next(left)):
            at = write.offset + sector * SECTOR
            if fate == 1:
                piece = write.data[sector * SECTOR:(sector + 1) * SECTOR]
                image[at:at + len(piece)] = piece
            elif fate == 2:
                image[at:at + SECTOR] = b"\xa5" * SECTOR
    return bytes(image)


def torn(write: Write) -> Iterator[Mask]:
    """Absent, whole, and torn at every sector boundary, from either end."""
    count = write.sectors
    for landed in range(count + 1):
        yield [1] * landed + [0] * (count - landed)
        if 0 < landed < count:
            yield [0] * landed + [1] * (count - landed)


@dataclass(frozen=True)
class Expect:
    """What a reader is owed. Lineages: job id -> (rank, job, mark, reason)."""

    rank: int = 0
    current: tuple[bytes, int, bytes] | None = None
    lineages: tuple[tuple[bytes, int, bytes, bytes, str | None], ...] = ()

    def after(self, call: tuple[Any, ...]) -> Expect:
        kind, job_id, payload = call
        if kind == "job":
            return replace(self, rank=self.rank + 1,
                           current=(job_id, self.rank + 1, payload))
        if kind == "restart":
            line = max(self.lineages, key=lambda line: line[1], default=None)
            return replace(self, current=line and line[:3])
        old = next((line for line in self.lineages if line[0] == job_id), None)
        others = tuple(line for line in self.lineages if line[0] != job_id)
        if kind == "mark":
            if self.current is None or self.current[0] != job_id:
                raise LookupError("the journal took a mark, so this was not so")
            line = (*self.current, payload, None)
            return replace(self, lineages=(*others, line))
        if old is not None and old[4] is not None:
            return self
        if self.current is not None and self.current[0] == job_id:
            line = (*self.current, old[3] if old else b"", payload)
        elif old is not None:
            line = (*old[:4], payload)
        else:
            return self
        return replace(self, lineages=(*others, line))

    def answer(self) -> tuple[bytes, bytes, bytes, str | None] | None:
        if not self.lineages:
            return None
        job_id, _, job, mark, reason = max(self.lineages, key=lambda line: line[1])
        return job_id, job, mark, reason


def answer_of(state: State | None) -> tuple[bytes, bytes, bytes, str | None] | None:
    if state is None:
        return None
    return state.job_id, state.job_payload, state.mark_payload, state.closed


def agrees(found: Any, owed: Any) -> bool:
    """A closed print owes its reason; its last mark may have given way by then."""
    if found == owed:
        return True
    return (found is not None and owed is not None and owed[3] is not None
            and found[0] == owed[0] and found[3] == owed[3])


@dataclass
class Call:
    call: tuple[Any, ...]
    start: int
    end: int
    done: bool


def _all_after(possible: list[Expect], call: tuple[Any, ...]) -> list[Expect]:
    found = []
    for expect in possible:
        with contextlib.suppress(LookupError):
            found.append(expect.after(call))
    return found


@dataclass
class Recording:
    """A script that ran on a disk. `start` is the file before its first write."""

    disk: SimDisk
    calls: list[Call]
    start: bytes
    before: Expect

    def owed(self, cut: int) -> list[Expect]:
        """Every state that a reader may find after `cut` operations."""
        possible = [self.before]
        for call in self.calls:
            if call.end <= cut and call.done:
                possible = _all_after(possible, call.call)
            elif call.start < cut and call.call[0] != "job":
                possible += _all_after(possible, call.call)
        return possible


def record(script: Sequence[tuple[Any, ...]], image: bytes | None = None,
           before: Expect | None = None) -> Recording:
    """Run calls: ("job"|"mark"|"close", id, payload), ("restart",), ("fail", name)."""
    if image is None:
        disk = SimDisk()
        Journal.open(PATH, SLOTS, JOB_SLOTS, disk).close()
        image = bytes(disk.data[disk.files[PATH]])
    disk = SimDisk.holding(image)
    journal = Journal.open(PATH, SLOTS, JOB_SLOTS, disk)
    calls: list[Call] = []
    current = b"-" * 16

    def restart() -> None:
        nonlocal journal
        journal = Journal(PATH, SLOTS, JOB_SLOTS, disk)
        now = len(disk.ops)
        calls.append(Call(("restart", b"", b""), now, now, True))

    for step in script:
        if step[0] == "restart":
            restart()
            continue
        if step[0] == "fail":
            disk.fail(step[1], 0 if step[1] in ("short", "killed") else errno.EIO)
            continue
        if step[1] is None:  # whatever job is current
            step = (step[0], current, step[2])
        start = len(disk.ops)
        writers: dict[str, Callable[[bytes, Any], object]] = {
            "job": journal.write_job, "mark": journal.write_mark,
            "close": journal.close_job}
        try:
            writers[step[0]](step[1], step[2])
            done = True
            current = step[1] if step[0] == "job" else current
        except JournalError as error:
            if error.errno is None:
                continue
            done = False
        except Killed:
            calls.append(Call(step, start, len(disk.ops), False))
            restart()
            continue
        calls.append(Call(step, start, len(disk.ops), done))
    return Recording(disk, calls, image, before or Expect())


def read_image(image: bytes) -> State | None:
    return newest(read_slots(PATH, SimDisk.holding(image)))
