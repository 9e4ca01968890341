# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What is known of an outage: how long, how cold the bed has been, and of what the part
is made.  Readings are those since klippy is back; the material is in the file."""
from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from .. import files, reading
from ..gcode.errors import GcodeError
from ..planning import cooling
from ..planning.cooling import Outage
from ..saving.lineage import Pending

if TYPE_CHECKING:
    from ..component import PowerLossRecovery


class BedWatch:
    def __init__(self, component: PowerLossRecovery) -> None:
        self.component = component
        self._outage: tuple[bytes, float] | None = None  # the print, when it was saved
        self._seen: cooling.Seen | None = None
        self._made_of: tuple[bytes, str | None] | None = None  # of a print

    def klippy_gone(self) -> None:
        """Its heaters are off: what is read next is another first.  A file that was
        missing may be put back."""
        self._seen = self._made_of = None

    def look(self, pending: Pending, now: float) -> Outage:
        """The outage, as far as it is known.  now: seconds since the epoch."""
        tracker, saved_at = self.component.tracker, pending.record.saved_at
        if self._outage != (pending.job_id, saved_at):
            self._outage, self._seen = (pending.job_id, saved_at), None
        found = Outage(
            off=cooling.since(saved_at, now),
            bed=reading.temperature(tracker.status_of("heater_bed")),
            material=self._material(pending),
        )
        self._seen = cooling.watched(self._seen, found)
        return Outage(found.off, found.bed, self._seen, found.material)

    def _material(self, pending: Pending) -> str | None:
        known = self._made_of
        return known[1] if known and known[0] == pending.job_id else None

    async def read_material(self, pending: Pending) -> None:
        if self._made_of is not None and self._made_of[0] == pending.job_id:
            return
        material = None
        # Others say what is wrong with the file.
        with contextlib.suppress(files.FileProblem, GcodeError, OSError):
            material = await self.component.eventloop.run_in_thread(
                files.material_of, self.component.tracker.gcodes, pending.job,
                pending.record,
            )  # fmt: skip
        self._made_of = pending.job_id, material
