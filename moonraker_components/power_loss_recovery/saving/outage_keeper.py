# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Glue: who tells the list of outages what has happened, and where it is kept."""
from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING

from ..answers import Outage
from .job_history import JobHistory
from .lineage import Pending
from .outages import Outages, lost

if TYPE_CHECKING:
    from ..component import PowerLossRecovery

NAMESPACE = "power_loss_recovery"
KEY = "outages"


class OutageKeeper:
    def __init__(self, component: PowerLossRecovery) -> None:
        self.component = component
        self.list = Outages(self._save, time.time)
        self.jobs = JobHistory(component.server)
        component.tracker.keeper.closed = self.ended

    async def load(self) -> None:
        database = self.component.database
        self.list.load(await database.get_item(NAMESPACE, KEY, []))

    async def _save(self, entries: list[Outage]) -> None:
        # Written in a thread, while the next event may come.
        await self.component.database.insert_item(
            NAMESPACE, KEY, copy.deepcopy(entries)
        )

    async def klippy_ready(self, idle: bool) -> None:
        """idle: nothing is printing, so what waits to be resumed was interrupted."""
        tracker = self.component.tracker
        pending = tracker.pending
        if not idle or pending is None or not self.list.is_new(pending):
            return
        lost_s = lost(
            tracker.saving(), tracker.settings.save_delay, tracker.last_reason
        )
        interruption = self.component.status()["interruption"]
        job = await self.jobs.job_of(pending.job.name, pending.job.started)
        await self.list.found(pending, lost_s, interruption, job)

    def resuming(self, pending: Pending, resume_file: str) -> None:
        """That file is about to be printed."""
        outage = self.list.of(pending.job_id)
        job = outage["history_job"] if outage is not None else ""
        self.jobs.resuming = (resume_file, job)

    def ended(self, job_id: bytes, how: str) -> None:
        self.component.eventloop.create_task(self.list.ended(job_id, how))
