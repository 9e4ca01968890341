# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Keeps the bed warm while the question stands, where the owner wants that.

Ends with the bed off: when the time is over, the print is discarded, or Moonraker
ends.  A resume or a print takes the bed over as it is.  Whoever sets the bed to
another temperature has it.  If Moonraker is killed, klippy's idle_timeout turns the
bed off, because nobody keeps it awake.
"""
from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from .. import answers
from ..journal import JournalError
from ..saving.lineage import Pending
from ..sequence import KEEP_AWAKE, KEEP_AWAKE_PERIOD
from ..store.payloads import RecordError
from . import unattended

if TYPE_CHECKING:
    from .attendant import Attendant

PERIOD = 2.0
SAME = 0.05  # degrees C
KEY = "hold_bed"
SCRIPT = "SET_HEATER_TEMPERATURE HEATER=heater_bed TARGET={:.1f}"
OFF = SCRIPT.format(0)


class BedHolder:
    def __init__(self, attendant: Attendant) -> None:
        self.attendant = attendant
        self.component = attendant.component
        self.maximum = 0.0  # of the bed's heater, as configured
        self.target = 0.0  # while it is held
        self.ends = 0.0  # monotonic seconds
        self.scripts = {KEEP_AWAKE, OFF}
        self._sent = 0.0  # when the target was given
        self._task: asyncio.Task[None] | None = None

    @property
    def told(self) -> answers.HoldBed | None:
        if not self.target:
            return None
        left = max(self.ends - time.monotonic(), 0.0)
        return {"target": self.target, "seconds_left": left}

    def begin(self, pending: Pending) -> None:
        self.release()
        if self.component.tracker.settings.hold_bed > 0:
            self._task = self.component.eventloop.create_task(self._run(pending))

    def stop(self) -> None:
        """Somebody else decides about the bed, or klippy is gone."""
        task, self._task, self.target = self._task, None, 0.0
        if task is not None:
            task.cancel()

    def release(self) -> None:
        """Stop, and turn the bed off."""
        held = self._is_ours()
        self.stop()
        if held:
            self.component.eventloop.create_task(self._turn_off())

    async def leave(self) -> None:
        """The same, done when it returns."""
        held = self._is_ours()
        self.stop()
        if held:
            await self._turn_off()

    def finish(self) -> None:
        """A person has said yes: whatever comes of it, not again in this boot."""
        self.stop()
        if self.component.tracker.settings.hold_bed > 0:
            told = {"boot": self.component.tracker.boot_id, "until": 0.0}
            self.component.eventloop.create_task(self.component.remember(KEY, told))

    async def _turn_off(self) -> None:
        try:
            await self._send(OFF)
        except self.component.server.error as e:
            logging.info(f"power_loss_recovery: hold_bed: {e}")

    def _is_ours(self) -> bool:
        """Whether the bed still has the target that we gave it."""
        if not self.target or time.monotonic() - self._sent < PERIOD:
            # klippy's status comes a moment after the command.
            return bool(self.target)
        now = self.component.tracker.status_of("heater_bed").get("target")
        return now is not None and abs(now - self.target) < SAME

    async def _send(self, script: str) -> None:
        await self.component.klippy_apis.run_gcode(script)

    async def _run(self, pending: Pending) -> None:
        await self.attendant.sensors_read(pending.record)
        scene = self.attendant.scene(pending)
        settings = self.component.tracker.settings
        why = unattended.hold_bed(settings, pending.record, scene)
        try:
            if not why:
                why = await self._hold(pending, 60 * settings.hold_bed)
        except self.component.server.error as e:
            why = str(e)
        except (JournalError, RecordError) as e:
            why = f"the attempt cannot be counted ({e})"
        self._task, self.target = None, 0.0
        self.component.tell(f"The bed is not kept warm: {why}.")
        self.component.changed()

    async def _hold(self, pending: Pending, seconds: float) -> str:
        """Returns why no longer."""
        self.ends = await self._until(seconds)
        if self.ends <= time.monotonic():
            return "its time is over"
        await self.attendant.attempts.count(pending)
        target = unattended.hold_target(pending.record, self.maximum)
        script = SCRIPT.format(target)
        self.scripts.add(script)
        self.target, self._sent = round(target, 1), time.monotonic()
        await self._send(script)
        minutes = (self.ends - time.monotonic()) / 60
        self.component.tell(
            f"The bed is kept at {target:.0f} °C for {minutes:.0f} min (hold_bed)."
        )
        self.component.changed()
        return await self._wait()

    async def _wait(self) -> str:
        awake = time.monotonic()
        while time.monotonic() < self.ends:
            await asyncio.sleep(min(PERIOD, self.ends - time.monotonic()))
            now = time.monotonic()
            if not self._is_ours():
                return "somebody has set it to another temperature"
            if now - awake >= KEEP_AWAKE_PERIOD:
                awake = now
                await self._send(KEEP_AWAKE)
        if self._is_ours():
            await self._send(OFF)
        return "nobody has answered in time"

    async def _until(self, seconds: float) -> float:
        """One time for each boot of the host, however often Moonraker starts."""
        boot, until = self.component.tracker.boot_id, time.monotonic() + seconds
        told = await self.component.remembered(KEY, {})
        if isinstance(told, dict) and boot and told.get("boot") == boot:
            kept = told.get("until")
            return min(until, kept) if isinstance(kept, (int, float)) else 0.0
        await self.component.remember(KEY, {"boot": boot, "until": until})
        return until
