# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What the status of klippy's extra means.  `extra`: as the extra publishes it."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .settings import Settings


def at_rest(extra: Mapping[str, Any]) -> bool:
    """Whether all that klippy has read is laid."""
    return extra.get("mark") is None or extra.get("pending_marks") == 0


def power_fails(extra: Mapping[str, Any]) -> bool:
    """Whether power_loss_pin says so."""
    return (extra.get("power_loss") or {}).get("lost") is True


def temperature(heater: Mapping[str, Any]) -> float | None:
    """klippy says 0.0 until it has read the sensor."""
    return heater.get("temperature") or None


def contradicts(news: Mapping[str, Any], running: bool) -> bool:
    """Whether an update of the extra does not fit what is known of print_stats.

    running: printing or paused, as far as we were told.
    """
    mark = news.get("mark")
    if not running:
        return bool(mark and mark.get("file_path"))
    return news.get("pending_marks") == 0 or ("mark" in news and not mark)


def measures_z(extra: Mapping[str, Any], settings: Settings) -> bool:
    """Whether a resume would find Z on the Z+ switches."""
    calibrated = (extra.get("z_homing") or {}).get("calibrated", False)
    return settings.z_strategy != "assume" and bool(calibrated)
