# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The outages of the past: what was lost, and how each ended.

Kept in Moonraker's database, which is written once for each event: an outage found,
resumed, ended.  Nothing here decides anything, so a list that is lost is no harm.
"""
from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

from ..answers import Interruption, Outage, Saving
from ..prompts import percent
from .lineage import Pending

MOST = 200
UPDATE_PERIOD = 0.25  # seconds between two states that klippy tells
OVER = {"standby": "cancelled"}

Save = Callable[[list[Outage]], Awaitable[None]]


def lost(saving: Saving, save_delay: int, reason: str) -> float | None:
    """Seconds of motion that may not be saved, at most; None without an upper bound.

    saving: as Pacing.status gives it.  reason: of the last save, if it is known.
    """
    if reason in ("stop", "power loss"):
        return 0.0
    if saving["interval"] is None:
        return None
    updates = (save_delay + 1) * UPDATE_PERIOD
    return float(saving["interval"] + updates + saving["latency_ms"] / 1000)


class Outages:
    """Newest first.  Times are seconds since the epoch."""

    def __init__(self, save: Save, clock: Callable[[], float]) -> None:
        self.save = save
        self.clock = clock
        self.entries: list[Outage] = []

    def load(self, raw: Any) -> None:
        """What the database has; anything else than outages is left out."""
        if isinstance(raw, list):
            self.entries = [entry for entry in raw if _is_outage(entry)][:MOST]

    def newest(self, limit: int) -> list[Outage]:
        return self.entries[:limit]

    def of(self, job_id: bytes) -> Outage | None:
        """The newest of that print."""
        found = (entry for entry in self.entries if entry["job"] == job_id.hex())
        return next(found, None)

    def is_new(self, pending: Pending) -> bool:
        """Whether `pending`, which waits to be resumed, is not known yet."""
        last = self.of(pending.job_id)
        if last is None or last["ended"]:
            return True
        return last["saved_at"] != pending.record.saved_at

    async def found(
        self, pending: Pending, lost_s: float | None,
        interruption: Interruption | None, history_job: str,
    ) -> None:  # fmt: skip
        """history_job: used for the first outage of a print."""
        record, now = pending.record, self.clock()
        last = self.of(pending.job_id)
        progress = record.state["progress"]
        if last is not None and last["ended"] in ("", "resumed"):
            last["ended"], last["ended_at"] = "interrupted", now
        self.entries.insert(0, {
            "job": pending.job_id.hex(),
            "number": last["number"] + 1 if last is not None else 1,
            "file": pending.job.name,
            "history_job": last["history_job"] if last is not None else history_job,
            "saved_at": record.saved_at,
            "found_at": now,
            "off_s": max(now - record.saved_at, 0.0),
            "lost_s": lost_s,
            "layer": progress.get("layer"),
            "layers": progress.get("layers"),
            "z": record.position[2],
            "percent": percent(pending.job, record),
            "interruption": interruption,
            "ended": "",
            "ended_at": None,
        })  # fmt: skip
        del self.entries[MOST:]
        await self._store()

    async def ended(self, job_id: bytes, how: str) -> None:
        """`how`: "resumed", or why the print is closed in the journal."""
        last = self.of(job_id)
        if last is None or last["ended"] not in ("", "resumed"):
            return
        if how == "discarded" and last["ended"]:
            return
        last["ended"], last["ended_at"] = OVER.get(how, how), self.clock()
        await self._store()

    async def _store(self) -> None:
        try:
            await self.save(self.entries)
        except Exception as e:
            logging.info(f"power_loss_recovery: the history is not saved: {e}")


def _is_outage(entry: Any) -> bool:
    known = get_type_hints(Outage)
    if not isinstance(entry, dict) or set(entry) != set(known):
        return False
    texts = ("job", "file", "history_job", "ended")
    numbers = ("number", "saved_at", "found_at", "off_s", "z", "percent")
    return all(isinstance(entry[key], str) for key in texts) and all(
        isinstance(entry[key], (int, float)) for key in numbers
    )
