# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A print that ends while the printer is being prepared for it leaves no record.

Its owner finds a cold machine and no question: they are told why, once. Best effort:
it is remembered in Moonraker's database, and written twice in a print.
"""
from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..files import name_of
from ..prompts import plain

if TYPE_CHECKING:
    from ..component import PowerLossRecovery
    from ..saving.lineage import Printing

KEY = "preparing"


class Preparing:
    def __init__(self, component: PowerLossRecovery) -> None:
        self.component = component
        self._noted: Printing | None = None  # what is in the database, by us

    def look(self) -> None:
        """Something has changed."""
        tracker = self.component.tracker
        printing, pending = tracker.printing, tracker.pending
        if printing is None:
            # Gone with klippy, which says nothing then, is not over.
            if self._noted is not None and tracker.status_of("print_stats"):
                self._note(None)
        elif pending is None or pending.job_id != printing.job_id:
            if printing != self._noted and tracker.enabled:
                self._note(printing)

    def klippy_gone(self) -> None:
        self._noted = None

    def _note(self, printing: Printing | None) -> None:
        self._noted = printing
        name = ""
        if printing is not None:
            name = name_of(self.component.tracker.gcodes, printing.printed)
        self.component.eventloop.create_task(self._write(name))

    async def _write(self, name: str) -> None:
        try:
            await self.component.remember(KEY, name)
        except self.component.server.error as e:
            logging.info(f"power_loss_recovery: {KEY}: {e}")

    async def klippy_ready(self, idle: bool) -> None:
        name = await self.component.remembered(KEY, "")
        if not idle or not name or not isinstance(name, str):
            return
        await self._write("")
        pending = self.component.tracker.pending
        if pending is not None and pending.job.name == name:
            # Something of it was saved after all: the offer speaks for it.
            return
        self.component.tell(
            f"{plain(name)} was interrupted while the printer was still being prepared"
            " (homing, heating): nothing of it was printed, so there is nothing to"
            " resume. Start it again."
        )
