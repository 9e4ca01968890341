# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The interrupted print as it is kept: in memory, and durably in the journal.

Nothing here decides what to save, or when.  Two writes are never under way.  The
journal holds one print: another one that waits is set aside before its place is
taken, and comes back when that one is over.
"""
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from ..journal import Journal
from ..record import Job, Record, from_payloads, to_payloads
from .kept import Kept
from .lineage import Pending

InThread = Callable[..., Awaitable[Any]]


def _ignore(job_id: bytes, reason: str) -> None:
    """Nobody wants to know."""


class Keeper:
    """latency: seconds that the disk took for the last state.  aside: prints that
    wait for another one to be over, the last one first."""

    def __init__(
        self, journal: Journal, kept: Kept, in_thread: InThread,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self.journal = journal
        self.kept = kept
        self.in_thread = in_thread
        self.clock = clock
        self.pending: Pending | None = None
        self.aside: tuple[Pending, ...] = ()
        self.latency = 0.0
        self.ending: dict[bytes, str] = {}  # jobs not yet closed in the journal
        self.closed: Callable[[bytes, str], object] = _ignore  # told of each end
        self._stored_job: tuple[bytes, bytes] | None = None
        self._writing = asyncio.Lock()

    async def load(self) -> None:
        """Read the interrupted print, if there is one.  Raises JournalError,
        RecordError."""
        self.pending = None
        self.aside = await self.in_thread(self.kept.read)
        state = await self.in_thread(self.journal.read)
        if state is None:
            self._take_back()
            return
        if state.closed is None:
            job, record = from_payloads(state.job_payload, state.mark_payload)
            self.pending = Pending(state.job_id, job, record)
        # A cut between two steps leaves it in both places.
        await self._forget(state.job_id)
        self._take_back()

    async def store(self, job_id: bytes, job: Job, record: Record) -> int:
        """Durable when this returns; how many writes that took.  Raises
        JournalError, RecordError."""
        async with self._writing:
            return await self._store(job_id, job, record)

    async def amend(self, job_id: bytes, **changes: Any) -> int:
        """Change fields of the record of the interrupted print, durably; how many
        writes that took, none if it is another one or already so.  Raises
        JournalError, RecordError."""
        async with self._writing:
            pending = self.pending
            if pending is None or pending.job_id != job_id:
                return 0
            record = replace(pending.record, **changes)
            if record == pending.record:
                return 0
            return await self._store(job_id, pending.job, record)

    async def _store(self, job_id: bytes, job: Job, record: Record) -> int:
        writes = 1
        other = self.pending
        if other is not None and other.job_id != job_id:
            # Before its place in the journal is taken.
            if not other.aside:
                await self.in_thread(self.kept.add, other)
            self.aside = (replace(other, aside=True), *self.aside)
            self.pending = None

        def write() -> None:
            nonlocal writes
            started = self.clock()
            job_payload, mark_payload = to_payloads(job, record)
            if self._stored_job != (job_id, job_payload):
                self.journal.write_job(job_id, job_payload)
                writes += 1
            self._stored_job = None
            self.journal.write_mark(job_id, mark_payload)
            self._stored_job = job_id, job_payload
            self.latency = self.clock() - started

        try:
            await self.in_thread(write)
        except BaseException:
            self._take_back()
            raise
        was_aside = other is not None and other.job_id == job_id and other.aside
        self.pending = Pending(job_id, job, record)
        if was_aside:
            await self._forget(job_id)
        return writes

    async def close(self, job_id: bytes, reason: str) -> None:
        """End a print for good: durable when this returns.  Raises JournalError."""
        async with self._writing:
            await self.in_thread(self.journal.close_job, job_id, reason)
            await self._forget(job_id)
        self.drop(job_id)
        self.closed(job_id, reason)
        self._take_back()

    async def _forget(self, job_id: bytes) -> None:
        """It is in the journal now, or over.  Raises JournalError."""
        self.aside = tuple(one for one in self.aside if one.job_id != job_id)
        await self.in_thread(self.kept.remove, job_id)

    def _take_back(self) -> None:
        """The one set aside last waits for an answer again."""
        if self.pending is None and not self.ending and self.aside:
            self.pending, *others = self.aside
            self.aside = tuple(others)

    def drop(self, job_id: bytes) -> None:
        if self.pending is not None and self.pending.job_id == job_id:
            self.pending = None

    def end(self, job_id: bytes, reason: str) -> None:
        """To be closed by `close_ended`; from here on it cannot be resumed."""
        self.ending[job_id] = reason
        self.drop(job_id)

    async def close_ended(self) -> int:
        """How many were closed.  Raises JournalError; what could not be closed is
        tried again."""
        closed = 0
        for job_id, reason in list(self.ending.items()):
            await self.close(job_id, reason)
            self.ending.pop(job_id, None)
            self._take_back()
            closed += 1
        return closed
