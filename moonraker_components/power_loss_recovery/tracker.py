# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Follows the running print and keeps its newest executed state in the journal.

One worker looks at the newest status and does what is due: two saves are never
under way, and the newest state wins.  Whatever goes wrong here, the print goes on.
"""
from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import files, history
from .gcode.rewriter import RewriteError, original_fraction, to_original
from .journal import Journal, JournalError
from .record import Job, Record, RecordError
from .settings import Settings

InThread = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Pending:
    """An interrupted print."""

    job_id: bytes
    job: Job
    record: Record


@dataclass(frozen=True)
class Printing:
    """The print under way.  `number` is klippy's count of prints."""

    job_id: bytes
    source: files.Source
    number: int
    printed: str


class Tracker:
    def __init__(
        self,
        journal: Journal,
        gcodes: Path,
        in_thread: InThread,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        boot_id: str,
        changed: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        self.journal = journal
        self.gcodes = gcodes
        self.in_thread = in_thread
        self.clock = clock
        self.wall_clock = wall_clock
        self.boot_id = boot_id
        self.changed = changed
        self.tell = tell
        self.enabled = True
        self.settings = Settings()
        self.history = history.History(5, 2)
        self.printing: Printing | None = None
        self.pending: Pending | None = None
        self.trouble = ""
        self.last_reason = ""
        self._refused: tuple[int, str] | None = None
        self._last_mark: Mapping[str, Any] | None = None
        self._last_save = float("-inf")
        self._force = False
        self._wake = asyncio.Event()
        self._status: dict[str, dict[str, Any]] = {}

    # What comes in

    def configure(self, settings: Settings) -> None:
        self.settings = settings
        self.history = history.History(settings.history_size, settings.save_delay)

    def update(self, status: Mapping[str, Mapping[str, Any]]) -> None:
        """Merge a status update of klippy."""
        for name, values in status.items():
            self._status.setdefault(name, {}).update(values)
        self._wake.set()

    def save_now(self) -> None:
        self._force = True
        self._wake.set()

    def klippy_gone(self) -> None:
        """The print under way, if any, is interrupted from here on."""
        self._status.clear()
        self.printing = None
        self.history.clear()

    def status_of(self, name: str) -> Mapping[str, Any]:
        return self._status.get(name, {})

    # Journal

    async def load(self) -> None:
        """Read the interrupted print, if there is one."""
        self.pending = None
        try:
            state = await self.in_thread(self.journal.read)
            if state is not None and state.closed is None:
                self.pending = Pending(
                    state.job_id,
                    Job.from_bytes(state.job_payload),
                    Record.from_bytes(state.mark_payload),
                )
        except (JournalError, RecordError) as e:
            self._problem(f"the saved state cannot be read: {e}")
        self.changed()

    async def close(self, job_id: bytes, reason: str) -> None:
        """End a print for good: durable when this returns.  Raises JournalError."""
        await self.in_thread(self.journal.close_job, job_id, reason)
        if self.pending is not None and self.pending.job_id == job_id:
            self.pending = None
        self.changed()

    # The worker

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._step()
            except (JournalError, RecordError, files.FileProblem) as e:
                self._problem(str(e))
            except Exception as e:
                logging.exception("power_loss_recovery: tracking the print")
                self._problem(f"internal error: {e}")

    async def _step(self) -> None:
        stats = self.status_of("print_stats")
        extra = self.status_of("power_loss_recovery")
        mark, state = extra.get("mark"), stats.get("state")
        if state in ("printing", "paused"):
            if mark is not None and mark.get("file_path"):
                await self._follow(mark)
        elif self.printing is not None and (
            state == "cancelled"
            # klippy says complete while the last moves are still queued.
            or (state == "complete" and extra.get("pending_marks") == 0)
        ):
            await self._finish(str(state))
        elif self.printing is not None and state == "error":
            self.printing = None
            self.changed()

    async def _follow(self, mark: Mapping[str, Any]) -> None:
        current = self.printing
        key = (mark["job"], mark["file_path"])
        if current is None or (current.number, current.printed) != key:
            if not self.enabled or self._refused == key:
                return
            self._refused = key
            await self._begin(mark)
            self._refused = None
        self.history.add(mark)
        if not self.enabled:
            return
        reason = self._due(mark)
        if reason is not None:
            await self._save(reason)

    def _due(self, mark: Mapping[str, Any]) -> str | None:
        if self._force:
            return "asked"
        urgent = history.urgent(self._last_mark, mark, self.settings.save_on_layer)
        if urgent is not None:
            return urgent
        interval = self.settings.save_interval
        if history.due(self.clock(), self._last_save, interval):
            return "interval"
        return None

    async def _begin(self, mark: Mapping[str, Any]) -> None:
        source = await self.in_thread(
            files.identify, self.gcodes, mark["file_path"], self.wall_clock()
        )
        old = self.pending
        if (
            old is not None
            and source.stamp is not None
            and old.job.name == source.job.name
            and old.job.fingerprint == source.job.fingerprint
        ):
            # A resumed print goes on with its lineage: until it has saved a state
            # of its own, the one that it was resumed from stands.
            job_id = old.job_id
        else:
            job_id = secrets.token_bytes(16)
        self.printing = Printing(job_id, source, mark["job"], mark["file_path"])
        self.history.clear()
        self._last_mark, self._last_save = None, float("-inf")
        self.changed()

    async def _save(self, reason: str) -> None:
        mark, current = self.history.select(), self.printing
        if mark is None or current is None:
            return
        record = await self.in_thread(self._record, mark, current)
        if record is None:
            return
        started = self.clock()
        if self._last_mark is None:
            await self.in_thread(
                self.journal.write_job, current.job_id, current.source.job.to_bytes()
            )
        await self.in_thread(
            self.journal.write_mark, current.job_id, record.to_bytes()
        )
        self._force = False
        self._last_save, self._last_mark = started, mark
        self.last_reason = reason
        self.pending = Pending(current.job_id, current.source.job, record)
        if self.trouble:
            self.trouble = ""
            self.tell("Saving works again.")
            self.changed()

    def _record(self, mark: Mapping[str, Any], current: Printing) -> Record | None:
        """None while a resume file is still in its prologue.  Blocking."""
        position, fraction = mark["file_position"], mark["fraction"]
        stamp = current.source.stamp
        if stamp is not None:
            try:
                original = to_original(stamp, position)
            except RewriteError as e:
                raise RecordError(f"resume file: {e}") from e
            if original is None:
                return None
            fraction = original_fraction(stamp, position, fraction)
            position = original
        return Record.from_dict({
            **mark,
            "file_position": position,
            "fraction": fraction,
            "line": files.text_at(current.source.path, position),
            "saved_at": self.wall_clock(),
            "boot_id": self.boot_id,
        })  # fmt: skip

    async def _finish(self, reason: str) -> None:
        current = self.printing
        assert current is not None
        self.printing = None
        self.history.clear()
        await self.close(current.job_id, reason)
        self.pending = None
        await self.in_thread(files.remove_resume_files, self.gcodes)

    def _problem(self, text: str) -> None:
        """Tell the owner once; the print goes on."""
        if text != self.trouble:
            self.trouble = text
            logging.info(f"power_loss_recovery: {text}")
            self.tell(f"The print is not being saved: {text}")
            self.changed()
