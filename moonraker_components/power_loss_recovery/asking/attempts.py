# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""In how many boots of the host heaters were turned on for a print, with no yes from a
person: a heater that brings the mains down must not do so for ever.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from ..saving.lineage import Pending

if TYPE_CHECKING:
    from ..component import PowerLossRecovery

KEY = "attempts_in_boot"


class Attempts:
    def __init__(self, component: PowerLossRecovery) -> None:
        self.component = component
        self._counted: set[str] = set()  # job ids, of this boot

    async def load(self) -> None:
        """What another life of Moonraker has counted in this boot."""
        told = await self.component.remembered(KEY, {})
        boot = self.component.tracker.boot_id
        if isinstance(told, dict) and told.get("boot") == boot:
            self._counted = {str(job_id) for job_id in told.get("jobs", ())}

    def before(self, pending: Pending) -> int:
        """Without this boot's."""
        return pending.record.attempts - (pending.job_id.hex() in self._counted)

    async def count(self, pending: Pending) -> None:
        """Once in a boot, durably, before anything gets hot.  Raises JournalError."""
        job_id = pending.job_id.hex()
        if job_id in self._counted:
            return
        attempts = pending.record.attempts + 1
        self._counted.add(job_id)
        try:
            await self.component.tracker.amend(pending.job_id, attempts=attempts)
        except BaseException:
            self._counted.discard(job_id)
            raise
        boot, jobs = self.component.tracker.boot_id, sorted(self._counted)
        await self.component.remember(KEY, {"boot": boot, "jobs": jobs})
