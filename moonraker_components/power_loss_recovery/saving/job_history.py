# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Moonraker's job history: a resumed print is another job there, and names the one
that it was resumed from.  Without a history component there is none of this."""
from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moonraker.server import Server

FIELD = "resumed_from"
LOOK_BACK = 50  # jobs
SAME_START = 30.0  # seconds between our clock and the history's


class JobHistory:
    """resuming: (name of the resume file, job that it comes from)."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.resuming = ("", "")
        history = server.lookup_component("history", None)
        if history is None:
            return
        try:
            from moonraker.common import HistoryFieldData

            history.register_auxiliary_field(
                HistoryFieldData(
                    FIELD, "power_loss_recovery",
                    "The job of which this print is the rest", "basic",
                    reset_callback=self._of_new_job,
                )
            )  # fmt: skip
        except (ImportError, AttributeError, TypeError, server.error) as e:
            logging.info(f"power_loss_recovery: no field in the job history: {e}")

    def _of_new_job(self) -> str | None:
        """Called by the history when a print begins."""
        resume_file, job = self.resuming
        stats = self.server.lookup_component("job_state").get_last_stats()
        return job or None if stats.get("filename") == resume_file else None

    async def job_of(self, name: str, started: float) -> str:
        """The newest job that printed `name`, by preference the one that began at
        `started` (seconds since the epoch); empty if there is none."""
        try:
            answer: dict[str, Any] = await self.server.lookup_component(
                "internal_transport"
            ).call_method("server.history.list", limit=LOOK_BACK)
        except Exception as e:
            logging.info(f"power_loss_recovery: the job history: {e}")
            return ""
        jobs = [job for job in answer["jobs"] if job["filename"] == name]
        near = [
            job for job in jobs if abs(job["start_time"] - started) < SAME_START
        ]
        return next((str(job["job_id"]) for job in [*near, *jobs]), "")
