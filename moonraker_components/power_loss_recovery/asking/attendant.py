# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Asks what shall become of the interrupted print, and warns when another begins.

`look` is called whenever something has changed, and asks once for each print and
each time that klippy gets ready: nothing is shown while klippy is not.
"""
from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import answers, files, reading, tools
from ..gcode.errors import GcodeError
from ..planning import spools
from ..planning.cooling import Outage
from ..prompts import plain, summary
from ..record import Record
from ..saving.lineage import Pending, Printing
from . import dialogs, doubts
from .attempts import Attempts
from .auto_resume import AutoResume
from .bed_holder import BedHolder
from .bed_watch import BedWatch
from .doubts import Scene
from .offer import Offer

if TYPE_CHECKING:
    from ..component import PowerLossRecovery

RUNNING = ("printing", "paused")
SENSOR_TIMEOUT = 5.0
SENSOR_PERIOD = 0.1


class Attendant:
    def __init__(self, component: PowerLossRecovery) -> None:
        self.component = component
        self.tracker = component.tracker
        self.witness = component.witness
        self.offer = Offer(component.server, self._later)
        self.auto = AutoResume(self)
        self.bed = BedHolder(self)
        self.bed_watch = BedWatch(component)
        self.ready = False
        self.mesh_profiles: frozenset[str] = frozenset()
        self.can_cancel = False
        self.mmus: tuple[str, ...] = ()
        self.spools: tuple[str, ...] = ()  # sensors
        self.attempts = Attempts(component)
        self._complete: bytes | None = None  # a print without missing plastic
        self._asked: bytes | None = None
        self._printing: Printing | None = None

    # What happens

    def klippy_ready(
        self, settings: Mapping[str, Any], status: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """settings: klippy's configuration.  status: with its bed_mesh."""
        self.ready = True
        self.mesh_profiles = frozenset(status.get("bed_mesh", {}).get("profiles") or ())
        self.can_cancel = "pause_resume" in settings
        self.mmus = tuple(tools.mmus(settings))
        self.bed.maximum = float(settings.get("heater_bed", {}).get("max_temp", 0.0))
        self.look()

    def klippy_gone(self) -> None:
        self.ready, self._asked = False, None
        self.bed_watch.klippy_gone()
        self._stop()

    def look(self) -> None:
        printing, before = self.tracker.printing, self._printing
        self._printing = printing
        if printing is not None:
            if before is None:
                self._print_began(printing)
            return
        state = self.tracker.status_of("print_stats").get("state")
        busy = self.component.resumer.task is not None or self.tracker.ending
        if not self.ready or busy or state in RUNNING:
            return
        pending = self.tracker.pending
        if pending is None:
            self._asked = None
            self.bed.release()
            self._stop()
            self._announce("")
        elif pending.job_id != self._asked:
            self._asked = pending.job_id
            self._ask(pending)

    def answered(self) -> None:
        """A resume or a print begins."""
        self._asked = None
        self.bed.finish()
        self._stop()

    def discarded(self) -> None:
        if self.tracker.printing is not None:
            self.offer.close()
        self.look()

    @property
    def waiting(self) -> tuple[Pending, ...]:
        """The interrupted prints, without the one that is resumed."""
        printing, pending = self.tracker.printing, self.tracker.pending
        aside = self.tracker.keeper.aside
        if pending is None or (printing and printing.job_id == pending.job_id):
            return aside
        return (pending, *aside)

    async def leave(self) -> None:
        """Moonraker ends, klippy may not: nothing of ours stays hot."""
        self.auto.stop()
        await self.bed.leave()

    def _stop(self) -> None:
        self.auto.stop()
        self.bed.stop()
        self.offer.close()

    def _later(self) -> None:
        self.auto.stop_asked()

    # Asking

    def scene(self, pending: Pending) -> Scene:
        tracker, outage = self.tracker, self.bed_watch.look(pending, time.time())
        return Scene(
            interruption=self.witness.of(pending),
            off=outage.off,
            bed=outage.bed,
            measures_z=reading.measures_z(tracker.extra, tracker.settings),
            mesh_profiles=self.mesh_profiles,
            aside=pending.aside,
            attempts=self.attempts.before(pending),
            complete=pending.job_id == self._complete,
            seen=outage.seen,
            material=outage.material,
            mmus=self.mmus,
            spools=self._spools_now(),
        )

    async def outage(self, pending: Pending) -> Outage:
        await self.bed_watch.read_material(pending)
        return self.bed_watch.look(pending, time.time())

    def _ask(self, pending: Pending) -> None:
        self.show(pending)
        self._announce(dialogs.announcement(
            pending.job, pending.record, self.witness.of(pending)
        ))  # fmt: skip
        self.bed.begin(pending)
        self.auto.begin(pending)
        self.component.eventloop.create_task(self._look_closer(pending))

    def _are_read(self, record: Record) -> bool:
        bed = self.tracker.status_of("heater_bed")
        if bed and reading.temperature(bed) is None:
            return False
        # klippy says that there is no filament before it has asked
        return not spools.empty(record, self._spools_now())

    def _spools_now(self) -> dict[str, Mapping[str, Any]]:
        return {name: self.tracker.status_of(name) for name in self.spools}

    async def sensors_read(self, record: Record) -> None:
        """Until the bed's temperature is known, and whether there is filament: sensors
        are read a moment after klippy is ready."""
        for _ in range(round(SENSOR_TIMEOUT / SENSOR_PERIOD)):
            if self._are_read(record):
                return
            await asyncio.sleep(SENSOR_PERIOD)

    async def _look_closer(self, pending: Pending) -> None:
        """At what takes a moment: both ends of the file, and sensors."""
        shown = self._said(pending)
        if await self.is_complete(pending):
            self._complete = pending.job_id
        await self.bed_watch.read_material(pending)
        await self.sensors_read(pending.record)
        if shown != self._said(pending):
            self._show_again(pending)

    def _said(self, pending: Pending) -> list[str]:
        return doubts.warnings(pending.record, self.scene(pending))

    async def is_complete(self, pending: Pending) -> bool:
        """Whether nothing of the part is missing, as far as the file can be read."""
        try:
            complete: bool = await self.component.eventloop.run_in_thread(
                files.is_complete, self.tracker.gcodes, pending.job, pending.record
            )
        except (files.FileProblem, GcodeError, OSError):
            return False
        return complete

    def _show_again(self, pending: Pending) -> None:
        same = self._asked == pending.job_id and self.auto.ends is None
        if same and self.offer.stands and self.tracker.pending is not None:
            self.show(self.tracker.pending)
            self.component.changed()

    def show(self, pending: Pending, countdown: float = 0.0) -> None:
        scene = self.scene(pending)
        self.offer.show(dialogs.offer(
            pending.job, pending.record, scene.interruption,
            doubts.warnings(pending.record, scene), time.time(), countdown,
            scene.complete,
        ))  # fmt: skip

    def _announce(self, text: str) -> None:
        self.component.eventloop.create_task(self.offer.announce(text))

    # Another print

    def _print_began(self, printing: Printing) -> None:
        self.answered()
        pending = self.tracker.pending
        if pending is None or pending.job_id == printing.job_id:
            return
        job, record, new = pending.job, pending.record, printing.source.job.name
        now = time.time()
        self.component.tell(plain(dialogs.another(job, record, new, now)))
        self.offer.show(dialogs.other_print(job, record, new, now, self.can_cancel))

    # Commands

    async def resume_from(self) -> None:
        """PLR_RESUME_FROM.  Raises the server's error."""
        self.auto.stop_asked()
        found = await self.component.resumer.points()
        self.offer.show_above(
            dialogs.choose(found["file"], found["saved"], found["points"])
        )

    # For the status

    def told(self) -> answers.Waiting:
        now, waiting = time.time(), self.waiting
        interruption: answers.Interruption | None = None
        warnings: list[str] = []
        if waiting:
            scene = self.scene(waiting[0])
            interruption = scene.interruption.told
            if self.tracker.printing is None:
                warnings = doubts.warnings(waiting[0].record, scene)
        return {
            "interruption": interruption,
            "warnings": [*self.component.standing_warnings(), *warnings],
            "waiting": [summary(one.job, one.record, now) for one in waiting],
            "auto_resume": self.auto.told,
            "hold_bed": self.bed.told,
        }
