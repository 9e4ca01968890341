# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What may be done before a person has said yes, if the owner has configured it.

Each function gives the reason why not, in words that follow a colon; "" means yes.
"""
from __future__ import annotations

from ..planning import spools
from ..prompts import span
from ..record import Record
from ..settings import Settings
from .doubts import Scene

NO_CLOCK = (
    "the host's clock is not set yet, so nobody knows how long the power was off"
)
CANCELLED = "the print was being cancelled when the power failed"
# Colder than this and the part has let go or it will hold without heat.
HOLD_DROP = 30.0  # degrees C
BED_MARGIN = 1.0  # below the maximum of the bed's heater


def resume(settings: Settings, record: Record, scene: Scene) -> str:
    """Whether to resume without a yes."""
    if settings.auto_resume == "never":
        return "auto_resume is never"
    if scene.interruption.kind != "power_loss":
        return f"it was no power loss ({scene.interruption.words})"
    if scene.aside:
        return "another print has run since"
    if record.cancelling:
        return CANCELLED
    if record.paused:
        return "the print was paused, and only a person knows why"
    empty = spools.empty(record, scene.spools)
    if empty:
        return f"[{empty[0]}] sees no filament"
    tried = _tried(settings, scene)
    if tried or settings.auto_resume == "always":
        return tried
    target, bed, drop = record.bed_target, scene.bed, settings.auto_resume_bed_drop
    if target <= 0 or bed is None:
        return "the print had no warm bed, so nobody knows whether the part holds"
    if bed < target - drop:
        return (
            f"the bed has cooled to {bed:.0f} °C, more than {drop:.0f} below"
            f" {target:.0f}"
        )
    if scene.off is None:
        return NO_CLOCK
    if scene.off > 60 * settings.auto_resume_max_off:
        return f"the last save is {span(scene.off)} ago"
    return ""


def hold_bed(settings: Settings, record: Record, scene: Scene) -> str:
    """Whether to keep the bed warm for the answer."""
    if settings.hold_bed <= 0 or record.bed_target <= 0 or scene.bed is None:
        return "there is nothing to hold"
    if scene.interruption.kind == "klippy_shutdown":
        return f"{scene.interruption.words}. Somebody should look first"
    if scene.aside:
        return "another print has run since"
    if record.cancelling:
        return CANCELLED
    if scene.bed < record.bed_target - HOLD_DROP:
        return f"the bed has cooled to {scene.bed:.0f} °C already"
    return _tried(settings, scene)


def hold_target(record: Record, bed_maximum: float) -> float:
    """The bed's temperature while the question stands, degrees C."""
    return min(record.bed_target, bed_maximum - BED_MARGIN)


def _tried(settings: Settings, scene: Scene) -> str:
    if scene.attempts < settings.auto_resume_attempts:
        return ""
    return (
        f"the power has failed after {scene.attempts} attempts (auto_resume_attempts);"
        " perhaps the heaters are the reason"
    )
