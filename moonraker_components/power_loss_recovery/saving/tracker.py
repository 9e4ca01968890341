# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Follows the running print and keeps its newest executed state in the journal.

One worker looks at the newest status and does what is due: two saves are never
under way, and the newest state wins.  Whatever goes wrong here, the print goes on.
"""
from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import files, history, reading
from ..answers import Saving
from ..gcode.errors import GcodeError
from ..journal import JobClosed, Journal, JournalError
from ..record import Phases, RecordError
from ..settings import Settings
from . import lineage, machine_state
from .due import Due
from .interruption import LEFT, NOTHING, POWER, Cause, error
from .keeper import InThread, Keeper
from .kept import Kept
from .lineage import Z_NOISE, Pending, Printing
from .pacing import Pacing
from .trouble import Trouble

WATCHED = ("print_stats", "power_loss_recovery")
EXPECTED = (JournalError, RecordError, files.FileProblem, GcodeError, OSError)
RETRY_PERIOD = 2.0  # seconds between attempts after a failure
PROVEN = 600.0  # seconds that a resumed print must last to count as a success


class Tracker:
    def __init__(
        self,
        journal: Journal,
        kept: Kept,
        gcodes: Path,
        in_thread: InThread,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        boot_id: str,
        changed: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        self.keeper = Keeper(journal, kept, in_thread, clock)
        self.gcodes = gcodes
        self.in_thread = in_thread
        self.clock = clock
        self.wall_clock = wall_clock
        self.boot_id = boot_id
        self.changed, self.tell = changed, tell
        self.enabled = True
        self.settings = Settings()
        self.pacing = Pacing(self.settings)
        self.due = Due(self.pacing)
        self.history = history.History(5, 2)
        self.printing: Printing | None = None
        self.troubles = Trouble(clock, changed, tell)
        self.last_reason = ""
        self.cause = NOTHING  # of the end that is coming, for what is saved now
        self._status: dict[str, dict[str, Any]] = {}
        self._wake = asyncio.Event()
        self.asked = False  # for a save that is still to be done
        self._deaf = False  # klippy is gone: what still comes from it is old
        self._sessions = 0  # how often klippy went
        self._gone: Printing | None = None  # what it was printing
        self._began = clock()
        self._retry_at = float("-inf")
        # What is still to be saved of it, and why
        self._last_words: tuple[Printing, Mapping[str, Any], str] | None = None

    @property
    def pending(self) -> Pending | None:
        """The interrupted print, or the one under way once it is saved."""
        return self.keeper.pending

    @property
    def trouble(self) -> str:
        return self.troubles.text

    @property
    def ending(self) -> bool:
        """A print has ended, but the journal does not say so yet."""
        return bool(self.keeper.ending)

    # What comes in

    def configure(self, settings: Settings) -> None:
        self.settings = self.pacing.settings = settings
        self.history = history.History(settings.history_size, settings.save_delay)

    async def klippy_ready(self, status: Mapping[str, Mapping[str, Any]]) -> None:
        """`status`: the first one of this klippy."""
        self._deaf, self._gone, self._last_words = False, None, None
        self.cause = NOTHING
        ended = lineage.ended_unseen(self.pending, status.get("print_stats", {}))
        if self.pending is not None and ended:
            self.keeper.end(self.pending.job_id, ended)
            with contextlib.suppress(JournalError):
                await self._close_ended()
        self.update(status)

    def update(self, status: Mapping[str, Mapping[str, Any]]) -> None:
        """Merge a status update of klippy."""
        if self._deaf:
            return
        for name, values in status.items():
            self._status.setdefault(name, {}).update(values)
        machine_state.complete(self._status)
        self.pacing.observe(self.clock(), self._status)
        if any(name in status for name in WATCHED):
            self._wake.set()

    def save_now(self) -> None:
        self.asked = self.printing is not None
        self._wake.set()

    def commit(self, mark: Mapping[str, Any], reason: str) -> None:
        """Save just this mark, without delay or limit: the power is failing, or the
        motors were stopped there.  Also of a print whose klippy is gone."""
        current = self.printing or self._gone
        if current is None or not self.enabled:
            return
        if (mark["job"], mark["file_path"]) == (current.number, current.printed):
            self._last_words = (current, mark, reason)
            self._wake.set()

    def klippy_gone(self, cause: Cause = LEFT) -> None:
        """The print under way, if any, is interrupted from here on."""
        if self.cause == NOTHING:
            self.cause = POWER if reading.power_fails(self.extra) else cause
        mark = self.history.select()
        if self.printing is not None:
            self._gone = self.printing
            if mark is not None:
                self.commit(mark, "interrupted")
        self._deaf = True
        self._sessions += 1
        self._status.clear()
        self.printing = None
        self.history.clear()
        self._wake.set()

    def status_of(self, name: str) -> Mapping[str, Any]:
        return self._status.get(name, {})

    @property
    def extra(self) -> Mapping[str, Any]:
        return self.status_of("power_loss_recovery")

    # Journal

    async def load(self) -> None:
        """Read the interrupted print, if there is one."""
        try:
            await self.keeper.load()
        except (JournalError, RecordError) as e:
            self.troubles.begin(f"The saved state cannot be read: {e}", e)
        self.changed()

    async def close(self, job_id: bytes, reason: str) -> None:
        """End a print for good: durable when this returns.  Raises JournalError."""
        await self.keeper.close(job_id, reason)
        self.pacing.wrote(self.clock(), 1, reason)
        self.changed()

    async def note_z(self, job_id: bytes, z: float, phases: Phases) -> None:
        """A resume has moved Z: where the motors of the interrupted print are now."""
        pending = self.pending
        if pending is None or pending.job_id != job_id or not math.isfinite(z):
            return
        if abs(pending.record.toolhead_z - z) < Z_NOISE:
            return
        try:
            await self.amend(job_id, toolhead_z=z, z_range=None, z_phases=phases)
        except (JournalError, RecordError) as e:
            self.troubles.begin(f"The height of the nozzle is not saved: {e}", e)

    async def amend(self, job_id: bytes, **changes: Any) -> None:
        """See Keeper.amend."""
        written = await self.keeper.amend(job_id, **changes)
        self.pacing.wrote(self.clock(), written, "resume")

    def saving(self) -> Saving:
        """How saves are spaced, and why; see Pacing.status."""
        return self.pacing.status(self.clock())

    # The worker

    async def run(self) -> None:
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                # klippy falls silent after a print: what failed is tried again.
                waiting = self.ending or self._last_words
                await asyncio.wait_for(
                    self._wake.wait(), RETRY_PERIOD if waiting else None
                )
            self._wake.clear()
            try:
                await self._step()
            except Exception as e:
                what = "" if isinstance(e, EXPECTED) else "internal error: "
                if what:
                    logging.exception("power_loss_recovery: tracking the print")
                self._retry_at = self.clock() + RETRY_PERIOD
                self.troubles.begin(f"The print is not being saved: {what}{e}", e)

    async def _step(self) -> None:
        if self.clock() >= self._retry_at:
            await self._close_ended()
            await self._save_last_words()
        stats = self.status_of("print_stats")
        extra = self.extra
        mark, state = extra.get("mark"), stats.get("state")
        if state in ("printing", "paused"):
            if mark is not None and mark.get("file_path"):
                await self._follow(mark, state == "paused")
            elif extra.get("trouble"):
                self.troubles.begin(f"The print is not being saved: {extra['trouble']}")
        elif self.printing is None:
            self.asked = False
        elif (
            # A macro may reset the file before we see that it was cancelled.
            state in ("cancelled", "standby")
            # klippy says complete while the last moves are still queued.
            or (state == "complete" and reading.at_rest(self.extra))
        ):
            await self._finish(str(state))
        elif state == "error":
            if not reading.at_rest(self.extra):
                # The lines before the bad one are still being laid.
                assert mark is not None
                await self._follow(mark, False)
                return
            self.cause = error(str(stats.get("message") or ""))
            if mark is not None and self.enabled:
                self._last_words = (self.printing, mark, "interrupted")
            self._gone, self.printing = self.printing, None
            await self._save_last_words()
            self.changed()

    async def _save_last_words(self) -> None:
        words = self._last_words
        if words is not None:
            await self._save(*words)
            if self._last_words is words:
                self._last_words = None
            self.changed()

    async def _follow(self, mark: Mapping[str, Any], paused: bool) -> None:
        session, current = self._sessions, self.printing
        key = (mark["job"], mark["file_path"])
        if current is not None and (current.number, current.printed) != key:
            # The end of that print was too short to be seen.
            await self._finish("replaced")
        if self.printing is None and self.clock() >= self._retry_at:
            await self._begin(mark, session)
        current = self.printing
        if current is None:
            return
        self.history.add(mark)
        if not self.enabled:
            await self._stop_saving(current)
            return
        chosen = mark if reading.power_fails(self.extra) else self.history.select()
        if chosen is None or self.clock() < self._retry_at:
            return
        now, asked = self.clock(), self.asked
        reason = self.due.why(now, chosen, self.extra, paused, asked)
        if reason is not None:
            await self._save(current, chosen, reason)
            self.due.was_paused = paused

    async def _begin(self, mark: Mapping[str, Any], session: int) -> None:
        source = await self.in_thread(
            files.identify, self.gcodes, mark["file_path"], self.wall_clock()
        )
        if session != self._sessions:
            return
        job_id = secrets.token_bytes(16)
        if self.pending is not None and lineage.continues(self.pending, source, mark):
            job_id = self.pending.job_id
        self.printing = Printing(job_id, source, mark["job"], mark["file_path"])
        self.history.clear()
        self.cause, self._began, self._last_words = NOTHING, self.clock(), None
        self.due.new_print()
        self.changed()

    async def _save(
        self, current: Printing, mark: Mapping[str, Any], reason: str
    ) -> None:
        started = self.clock()
        cause = POWER if reading.power_fails(self.extra) else self.cause
        proven = started - self._began >= PROVEN
        now = lineage.Now(self.wall_clock(), self.boot_id, cause, proven)
        record = await self.in_thread(
            lineage.worth_saving, mark, current, self.pending, now
        )
        if record is None:
            return
        try:
            writes = await self.keeper.store(current.job_id, current.source.job, record)
        except JobClosed:
            # Discarded while it began: what is printed now is another job.
            if self.printing == current:
                self._take_new_id(current)
            return
        self.asked &= reason != "asked"
        if not lineage.in_prologue(mark, current):
            self.due.last = mark
        self.pacing.saved(started, self.keeper.latency, writes, reason)
        self.last_reason = reason
        if self.settings.debug_mode:
            self.tell(f"Saved ({reason}): byte {record.file_position}.")
        self.troubles.end()

    # The end

    def _take_new_id(self, current: Printing) -> None:
        self.printing = replace(current, job_id=secrets.token_bytes(16))
        self.due.last = None

    async def _stop_saving(self, current: Printing) -> None:
        """What was saved gets old while the print goes on: it must not be resumed."""
        if self.pending is not None and self.pending.job_id == current.job_id:
            self._take_new_id(current)
            self.keeper.end(current.job_id, "disabled")
            await self._close_ended()

    async def _finish(self, reason: str) -> None:
        current = self.printing
        assert current is not None
        self.asked = False
        self.history.clear()
        if self.pending is not None and self.pending.job_id == current.job_id:
            self.keeper.end(current.job_id, reason)
        self.printing = None
        await self._close_ended()
        self.changed()
        if reason == "complete":
            await self.in_thread(files.remove_resume_files, self.gcodes)
        elif current.source.stamp is not None:
            self.troubles.tell(
                f"{files.name_of(self.gcodes, current.printed)} is kept: the rest of"
                f" {current.source.job.name}. The next resume removes it."
            )

    async def _close_ended(self) -> None:
        """Raises JournalError; what could not be closed is tried again."""
        closed = await self.keeper.close_ended()
        if closed:
            self.pacing.wrote(self.clock(), closed, "end")
            self.troubles.end()
            self.changed()
