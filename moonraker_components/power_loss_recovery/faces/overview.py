# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What is so now, for programs and people: the answer of server.plr.status."""
from __future__ import annotations

from typing import TYPE_CHECKING

from .. import answers, prompts, reading

if TYPE_CHECKING:
    from ..component import PowerLossRecovery

SECTION = "power_loss_recovery"


def state(component: PowerLossRecovery) -> str:
    """One of answers.STATES."""
    tracker = component.tracker
    if component.resumer.task is not None:
        return "resuming"
    if tracker.printing is not None:
        return "printing"
    if tracker.ending:
        # Over, but a power cut now would bring it back.
        return "ending"
    return "idle" if tracker.pending is None else "interrupted"


def build(component: PowerLossRecovery, now: float) -> answers.Status:
    """`now`: seconds since the epoch."""
    tracker, now_is = component.tracker, state(component)
    z_homing = tracker.status_of(SECTION).get("z_homing") or {}
    pending, printing = tracker.pending, tracker.printing
    record: answers.Place | None = None
    # While another print is being prepared, what is kept is not of that print.
    if pending is not None and (
        printing is None or printing.job_id == pending.job_id
    ):
        bed = reading.temperature(tracker.status_of("heater_bed"))
        record = prompts.details(
            pending.job, pending.record, now, tracker.boot_id, bed
        )
    return {
        "state": now_is,
        "meaning": answers.STATES[now_is],
        "enabled": tracker.enabled,
        "record": record,
        "calibration": prompts.calibration(
            z_homing, now, component.calibration.holds(z_homing)
        ),
        "step": component.resumer.step,
        "last_save_reason": tracker.last_reason,
        "saving": tracker.saving(),
        "trouble": tracker.status_of(SECTION).get("trouble") or tracker.trouble,
        "last_error": component.last_error,
        "last_errors": list(component.errors),
        **component.attendant.told(),
    }
