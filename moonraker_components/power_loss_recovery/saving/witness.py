# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Writes into the record why a print ended, when somebody is left to see it."""
from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..journal import JournalError
from ..store.payloads import RecordError
from . import interruption
from .interruption import LEFT, NOTHING, Cause, Interruption
from .lineage import Pending

if TYPE_CHECKING:
    from .tracker import Tracker


class Witness:
    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.process: int | None = None  # klippy's, when it was last ready

    def of(self, pending: Pending) -> Interruption:
        record = pending.record
        return interruption.classify(
            record.cause, record.boot_id, self.tracker.boot_id
        )

    async def found_shut_down(self, message: str) -> None:
        """klippy had shut down before Moonraker came."""
        pending = self.tracker.pending
        if pending is not None and pending.record.cause in (NOTHING, LEFT):
            if pending.record.boot_id == self.tracker.boot_id:
                await self._note(pending, interruption.shutdown(message))

    async def came_back(self, process: Any, idle: bool) -> None:
        """klippy is ready.  process: its id."""
        before, self.process = self.process, process
        pending = self.tracker.pending
        if pending is None or not idle or pending.record.cause != LEFT:
            return
        if before is not None and pending.record.boot_id == self.tracker.boot_id:
            same = before == process
            cause = interruption.RESTARTED if same else interruption.REPLACED
            await self._note(pending, cause)

    async def leaving(self) -> None:
        """Moonraker is told to end.  klippy may print on, or end as well."""
        tracker, pending = self.tracker, self.tracker.pending
        tracker.cause = interruption.after_exit(tracker.cause, 0.0)
        if pending is None or pending.record.boot_id != tracker.boot_id:
            return
        age = tracker.wall_clock() - pending.record.saved_at
        seen = interruption.after_exit(pending.record.cause, age)
        running = tracker.printing is not None
        # What waited for an answer already had its end before.
        if running or pending.record.cause == LEFT:
            await self._note(pending, seen)

    async def _note(self, pending: Pending, cause: Cause) -> None:
        if cause == pending.record.cause:
            return
        try:
            await self.tracker.amend(pending.job_id, cause=cause)
        except (JournalError, RecordError) as e:
            logging.info(f"power_loss_recovery: {cause} is not saved: {e}")
