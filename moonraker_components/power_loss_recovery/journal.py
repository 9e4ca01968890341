# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The crash-safe store: a cut at any byte of any write loses at most the record
being written. The layout of the file is in `journal_format`, its creation and
plain reading in `journal_file`.
"""
from __future__ import annotations

import contextlib
import errno
import os
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .store.journal_file import (
    Disk,
    create,
    put_aside,
    read_slots,
    sync_folder,
    write_all,
)
from .store.journal_format import (
    AREAS,
    MAX_SLOTS,
    PAYLOAD_MAX,
    SLOT_SIZE,
    Geometry,
    JobName,
    JournalError,
    JournalTooNew,
    Kind,
    Slot,
    State,
    deciding,
    newest,
)  # fmt: skip
from .store.journal_place import Place, is_still_there, look, sync, take

__all__ = [
    "PAYLOAD_MAX", "Disk", "JobClosed", "JobNotWritten", "JobTooLarge", "Journal",
    "JournalError", "JournalTooNew", "Kind", "MarkTooLarge", "Slot", "State", "newest",
    "read_slots",
]

_WORDS = {
    errno.ENOSPC: "the disk is full; free some space on it",
    errno.EROFS: "the disk is read-only; it may be failing: check it, then remount it",
    errno.EIO: "the disk reports an I/O error; it may be failing: replace it soon",
    errno.ENOENT: "the folder or file is missing; is its disk mounted?",
    errno.EACCES: "this user may not use it; check the owner of the folder",
}


class MarkTooLarge(JournalError):
    """A mark or a reason that does not fit one slot."""


class JobTooLarge(JournalError):
    """A job that does not fit one area."""


class JobNotWritten(JournalError):
    """A mark for a job other than the last one given to `write_job`."""


class JobClosed(JournalError):
    """A write for a job that was closed: begin a new job id."""


@dataclass(frozen=True)
class _Job:
    """The job that marks name. `area` is None while this file does not hold it."""

    name: JobName
    payload: bytes
    area: int | None


class _Doing:
    """Holds the lock, and makes a JournalError of what the disk says.

    A class: what a generator costs after a wait for the disk shows in a save."""

    def __init__(self, journal: Journal, what: str) -> None:
        self.journal, self.what = journal, what

    def __enter__(self) -> None:
        self.journal._lock.acquire()

    def __exit__(self, kind: object, error: BaseException | None, tb: object) -> None:
        try:
            if isinstance(error, OSError):
                self.journal._drop()
                words = _WORDS.get(error.errno or 0, error.strerror or str(error))
                raise JournalError(
                    f"Cannot {self.what} {self.journal.path}: {words}", error.errno
                ) from error
        finally:
            self.journal._lock.release()


class Journal:
    """Writes from one thread at a time; each call returns once its record is durable.

    Constructing it touches no disk: each call opens, creates or reopens the file as
    needed, so that saving comes back by itself after any JournalError. An existing
    file keeps its own geometry. `set_aside` names the file last renamed to .bad-<n>.
    """

    def __init__(self, path: str, slots: int = 64, job_slots: int = 48,
                 disk: Disk | None = None) -> None:
        self.path = os.path.realpath(path)
        self.set_aside: str | None = None
        self._wanted = self._geometry = Geometry(slots, job_slots)
        if not self._geometry.sound:
            raise ValueError(
                f"A journal of {slots} slots cannot have {job_slots} job slots: it"
                f" needs 3 or more, 9 or more others, and at most {MAX_SLOTS} in all")
        self._disk = disk or Disk()
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._place: Place | None = None
        self._sequence = 0
        self._order: list[int] = []
        self._cursor = 0
        self._job: _Job | None = None
        self._tried_area = -1
        # The records that decide `read()` as far as durably known, and their job.
        self._kept: tuple[int, ...] = ()
        self._kept_job = JobName(b"")
        self._kept_area: int | None = None
        # The deciding record as long as it was only read from the file.
        self._unproven: Slot | None = None
        self._closed: dict[bytes, bytes] = {}  # job id -> the first reason given
        self._surely_closed: set[bytes] = set()

    @classmethod
    def open(cls, path: str, slots: int = 64, job_slots: int = 48,
             disk: Disk | None = None) -> Journal:
        """A journal whose file is there, or JournalError."""
        journal = cls(path, slots, job_slots, disk)
        with journal._doing("open"):
            journal._attach()
        return journal

    def close(self) -> None:
        with self._lock:
            self._drop()

    def read(self) -> State | None:
        """The newest whole state; None if there is none, or no file yet."""
        return newest(self.slots())

    def slots(self) -> list[Slot]:
        """All valid slots; changes nothing on disk, needs no write permission."""
        with self._doing("read"):
            if look(self._disk, self.path) is None:
                self._disk.stat(os.path.dirname(self.path))
                return []
            return read_slots(self.path, self._disk)

    def write_job(self, job_id: bytes, payload: bytes) -> int:
        """Store a new version of a job; returns its version."""
        with self._doing("save the job in"):
            self._attach()
            self._check_open(job_id)
            return self._store(job_id, payload).version

    def write_mark(self, job_id: bytes, payload: bytes) -> int:
        """Store a mark that names the last written job; returns its sequence."""
        _check_size(payload)
        with self._doing("save the position in"):
            self._attach()
            self._check_open(job_id)
            job = self._job
            if job is None or job.name.job_id != job_id:
                raise JobNotWritten(f"Cannot save a mark of job {job_id.hex()}: it is"
                                    " not the job last written; write the job first")
            name = job.name
            if job.area is None:
                name = self._store(job_id, job.payload)
            return self._append(Kind.MARK, name, payload)

    def close_job(self, job_id: bytes, reason: str) -> None:
        """End a job for good, whether or not it is the current one. From the call
        on, even if it fails, the job takes no more writes; call again to retry. The
        reason first given stays."""
        payload = reason.encode()
        if not payload:
            raise ValueError("A job is closed with a reason, not with an empty text")
        _check_size(payload)
        _check_id(job_id)
        with self._doing("close the job in"):
            self._closed.setdefault(job_id, payload)
            self._attach()
            if job_id in self._surely_closed:
                return
            known = [self._job.name] if self._job else []
            name = next((name for name in [*known, self._kept_job]
                         if name.job_id == job_id), JobName(job_id))
            if name.version < self._kept_job.version:
                self._prove()
            self._append(Kind.CLOSED, name, self._closed[job_id])
            self._surely_closed.add(job_id)

    def _check_open(self, job_id: bytes) -> None:
        _check_id(job_id)
        if job_id in self._closed:
            raise JobClosed(f"Job {job_id.hex()} is closed and takes no more writes;"
                            " begin a new job id")

    def _doing(self, what: str) -> _Doing:
        return _Doing(self, what)

    def _store(self, job_id: bytes, payload: bytes) -> JobName:
        room = self._geometry.area
        starts = range(0, max(len(payload), 1), PAYLOAD_MAX)
        if len(starts) > room:
            raise JobTooLarge(f"A job of {len(payload)} bytes does not fit the journal:"
                              f" at most {room * PAYLOAD_MAX}")
        self._prove()
        used = {self._kept_area, self._job.area if self._job else None}
        free = [area for area in range(AREAS) if area not in used]
        # By turns: keeps an older version longest, and leaves a bad sector behind.
        area = min(free, key=lambda area: (area - self._tried_area - 1) % AREAS)
        self._tried_area = area
        self._sequence += 1
        name = JobName(job_id, self._sequence, len(payload), zlib.crc32(payload),
                       len(starts))
        data = b"".join(
            Slot(0, Kind.JOB, self._sequence, name, self._geometry,
                 payload[start:start + PAYLOAD_MAX], part).encode()
            for part, start in enumerate(starts))
        first = 1 + area * room
        self._write(first, data)
        if 2 * len(starts) <= room:
            self._write(first + room - len(starts), data)
        self._sync()
        self._job = _Job(name, payload, area)
        return name

    def _prove(self) -> None:
        """Write the record that was found again, before anything takes the place of
        older ones: if its own sync failed, no later one brings it to the disk."""
        top = self._unproven
        if top is not None:
            self._append(top.kind, top.job, top.payload)

    def _append(self, kind: Kind, job: JobName, payload: bytes) -> int:
        written = []
        for _ in range(2 if kind is Kind.CLOSED else 1):
            index = self._next_slot()
            self._sequence += 1
            slot = Slot(index, kind, self._sequence, job, self._geometry, payload)
            self._write(index, slot.encode())
            written.append(index)
        self._sync()
        area = self._kept_area if job == self._kept_job else None
        if self._job and self._job.name == job:
            area = self._job.area
        if area is not None and job.version >= self._kept_job.version:
            self._kept, self._kept_job, self._kept_area = tuple(written), job, area
            self._unproven = None
        return self._sequence

    def _next_slot(self) -> int:
        """Moves on even after a failure: that slot may be a bad one."""
        while True:
            index = self._order[self._cursor % len(self._order)]
            self._cursor += 1
            if index not in self._kept:
                return index

    def _write(self, index: int, data: bytes) -> None:
        assert self._fd is not None
        write_all(self._disk, self._fd, data, index * SLOT_SIZE)

    def _sync(self) -> None:
        assert self._fd is not None
        sync(self._disk, self._fd, self._place is not None and self._place.fixed)

    def _drop(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                self._disk.close(self._fd)
            self._fd = None

    def _attach(self) -> None:
        """Have the file open, and know it: cheap while it is the same file."""
        place = self._place
        if self._fd is not None and place is not None:
            if is_still_there(self._disk, self.path, place):
                return
        found = look(self._disk, self.path)
        self._drop()
        if found is None or found != self._place:
            # Only a file not seen before is read: after a failed sync the page cache
            # shows writes that the disk does not have, so memory is the better witness.
            self._place = None
            self._adopt(found)
            found = look(self._disk, self.path)
        self._fd = self._disk.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        if found != self._place:
            # What a killed predecessor wrote may be in the page cache only.
            sync(self._disk, self._fd, found is not None and found.fixed)
            self._place = found

    def _adopt(self, found: Place | None) -> None:
        slots = [] if found is None else read_slots(self.path, self._disk)
        ours = [slot.geometry for slot in slots
                if found and (found.fixed
                              or slot.geometry.slots * SLOT_SIZE == found.size)]
        if not ours and found is not None and found.fixed:
            ours = [take(self._disk, self.path, self._wanted)]
        elif not ours:
            slots = []
            if found is not None:
                self.set_aside = put_aside(self._disk, self.path)
            head = Slot(0, Kind.FORMAT, 0, JobName(b""), self._wanted).encode()
            create(self._disk, self.path, head, self._wanted.slots * SLOT_SIZE)
        # Also for a file found: whoever made it may not have come as far as this.
        sync_folder(self._disk, self.path)
        self._geometry = ours[0] if ours else self._wanted
        self._learn([slot for slot in slots if slot.geometry == self._geometry])

    def _learn(self, slots: Sequence[Slot]) -> None:
        self._order = self._geometry.mark_order()
        self._sequence = max([self._sequence, *(slot.sequence for slot in slots)])
        hot = [slot for slot in slots if slot.kind in (Kind.MARK, Kind.CLOSED)]
        self._cursor = 0
        if hot:
            last = max(hot, key=lambda slot: slot.sequence)
            self._cursor = self._order.index(last.index) + 1
        self._closed |= {slot.job.job_id: slot.payload for slot in hot
                         if slot.kind is Kind.CLOSED}
        self._surely_closed = set()
        records, payload = deciding(slots)
        self._kept, self._kept_job, self._kept_area = (), JobName(b""), None
        self._unproven = records[0] if records else None
        if records:
            top = records[0]
            self._kept_job = top.job
            # Not the newest alone: it may turn out not to be on the disk.
            self._kept = tuple(record.index for record in records[:3])
            self._kept_area = next((slot.index - 1) // self._geometry.area
                                   for slot in slots
                                   if slot.kind is Kind.JOB and slot.job == top.job)
            self._tried_area = self._kept_area
        if records and (self._job is None or self._job.name == self._kept_job):
            self._job = _Job(self._kept_job, payload, self._kept_area)
        elif self._job is not None:
            self._job = replace(self._job, area=None)


def _check_id(job_id: bytes) -> None:
    if len(job_id) != 16:
        raise ValueError(f"A job id has 16 bytes, not {len(job_id)}")


def _check_size(payload: bytes) -> None:
    if len(payload) > PAYLOAD_MAX:
        raise MarkTooLarge(f"A mark of {len(payload)} bytes does not fit one slot:"
                           f" at most {PAYLOAD_MAX}")
