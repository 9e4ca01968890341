# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The interrupted print as it is kept: in memory, and durably in the journal.

Nothing here decides what to save, or when.  Two writes are never under way.
"""
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from .journal import Journal
from .lineage import Pending
from .record import Job, Record, from_payloads, to_payloads

InThread = Callable[..., Awaitable[Any]]


def _ignore(job_id: bytes, reason: str) -> None:
    """Nobody wants to know."""


class Keeper:
    """latency: seconds that the disk took for the last state."""

    def __init__(
        self, journal: Journal, in_thread: InThread, clock: Callable[[], float]
    ) -> None:
        self.journal = journal
        self.in_thread = in_thread
        self.clock = clock
        self.pending: Pending | None = None
        self.latency = 0.0
        self.ending: dict[bytes, str] = {}  # jobs not yet closed in the journal
        self.closed: Callable[[bytes, str], object] = _ignore  # told of each end
        self._stored_job: tuple[bytes, bytes] | None = None
        self._writing = asyncio.Lock()

    async def load(self) -> None:
        """Read the interrupted print, if there is one.  Raises JournalError,
        RecordError."""
        self.pending = None
        state = await self.in_thread(self.journal.read)
        if state is not None and state.closed is None:
            job, record = from_payloads(state.job_payload, state.mark_payload)
            self.pending = Pending(state.job_id, job, record)

    async def store(self, job_id: bytes, job: Job, record: Record) -> int:
        """Durable when this returns; how many writes that took.  Raises
        JournalError, RecordError."""
        writes = 1

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

        async with self._writing:
            await self.in_thread(write)
            before, self.pending = self.pending, Pending(job_id, job, record)
        if before is not None and before.job_id != job_id:
            self.closed(before.job_id, "replaced")
        return writes

    async def close(self, job_id: bytes, reason: str) -> None:
        """End a print for good: durable when this returns.  Raises JournalError."""
        async with self._writing:
            await self.in_thread(self.journal.close_job, job_id, reason)
        self.drop(job_id)
        self.closed(job_id, reason)

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
            closed += 1
        return closed
