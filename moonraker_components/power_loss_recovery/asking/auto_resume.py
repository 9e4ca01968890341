# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Resumes without a yes, where the owner wants that: once in a boot of the host, after
a countdown that anybody who touches the printer stops.
"""
from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from .. import answers
from ..journal import JournalError
from ..saving.lineage import Pending
from ..store.payloads import RecordError
from . import unattended

if TYPE_CHECKING:
    from .attendant import Attendant

CLOCK_PERIOD = 5.0
CLOCK_TIMEOUT = 120.0  # for a host that learns the time from the network
KEY = "auto_resume_boot"


class AutoResume:
    def __init__(self, attendant: Attendant) -> None:
        self.attendant = attendant
        self.component = attendant.component
        self.ends: float | None = None  # of the countdown, monotonic seconds
        self.why_not = ""
        self._task: asyncio.Task[None] | None = None
        self.component.server.register_event_handler(
            "klippy_connection:gcode_received", self._handle_gcode
        )

    @property
    def told(self) -> answers.AutoResume:
        left = None if self.ends is None else max(self.ends - time.monotonic(), 0.0)
        return {"seconds_left": left, "why_not": self.why_not}

    def begin(self, pending: Pending) -> None:
        self.stop()
        self.why_not = ""
        if self.component.tracker.settings.auto_resume != "never":
            self._task = self.component.eventloop.create_task(self._run(pending))

    def stop(self) -> bool:
        """Whether it was counting down."""
        counting, task = self.ends is not None, self._task
        self._task, self.ends = None, None
        if task is not None:
            task.cancel()
        return counting

    def stop_asked(self) -> bool:
        """By a person."""
        if not self.stop():
            return False
        self.why_not = "it was stopped"
        self.component.tell("It is not resumed by itself: it was stopped.")
        pending, offer = self.component.tracker.pending, self.attendant.offer
        if pending is not None and offer.stands:
            self.attendant.show(pending)
        self.component.changed()
        return True

    def _handle_gcode(self, script: str) -> None:
        """Somebody uses the printer."""
        if self.ends is None or script.startswith(("PLR_", "_PLR_")):
            return
        if script not in self.attendant.bed.scripts:
            self.stop_asked()

    async def _run(self, pending: Pending) -> None:
        try:
            why = await self._count_down(pending)
            if not why:
                # Not to be stopped by what it does itself.
                self._task, self.ends = None, None
                await self.attendant.attempts.count(pending)
                await self.component.resumer.resume()
                return
        except self.component.server.error as e:
            why = str(e)
        except (JournalError, RecordError) as e:
            why = f"the attempt cannot be counted ({e})"
        except Exception as e:
            logging.exception("power_loss_recovery: auto_resume")
            why = f"internal error ({e})"
        counted = self.ends is not None
        self._task, self.ends, self.why_not = None, None, why
        self.component.tell(f"It is not resumed by itself: {why}.")
        if counted and self.component.tracker.pending is not None:
            self.attendant.show(self.component.tracker.pending)
        self.component.changed()

    async def _count_down(self, pending: Pending) -> str:
        """Why not, or nothing when it is time."""
        why = await self._wait_clock(pending)
        if why:
            return why
        if not await self._first_in_boot():
            return "it was counted down once since the host was started"
        # Whatever stands against it is said now, not after the countdown.
        await self.component.resumer.resume(dry_run=True)
        seconds = self.component.tracker.settings.auto_resume_countdown
        self.ends = time.monotonic() + seconds
        self.attendant.show(pending, seconds)
        self.component.tell(
            f"The print is resumed by itself in {seconds:.0f} s. PLR_STOP_AUTO_RESUME,"
            " or any command, stops that."
        )
        self.component.changed()
        await asyncio.sleep(seconds)
        return self._refusal(pending)

    def _refusal(self, pending: Pending) -> str:
        now = self.component.tracker.pending
        if now is None or now.job_id != pending.job_id:
            return "another print waits"
        settings = self.component.tracker.settings
        return unattended.resume(settings, now.record, self.attendant.scene(now))

    async def _wait_clock(self, pending: Pending) -> str:
        await self.attendant.sensors_read(pending.record)
        until = time.monotonic() + CLOCK_TIMEOUT
        while True:
            why = self._refusal(pending)
            if why != unattended.NO_CLOCK or time.monotonic() > until:
                return why
            await asyncio.sleep(CLOCK_PERIOD)

    async def _first_in_boot(self) -> bool:
        """A person who stopped it must not find it running after a restart."""
        boot = self.component.tracker.boot_id
        if await self.component.remembered(KEY, "") == boot:
            return False
        await self.component.remember(KEY, boot)
        return True
