# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""`resume_meta_info`, which owners' own resume macros read.

The structure is that of the klipper-plr guide ("State Data Structure").
"""
from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..record import Job, Record

VARIABLE = "resume_meta_info"
# SAVE_VARIABLE shuts the printer down on a '%' in a value (all trees), and Klipper
# up to v0.12 ends a parameter at # * and ; even inside quotes.
FORBIDDEN = str.maketrans(dict.fromkeys("%#*;\"'\\\r\n\0", "_"))


def structure(
    job: Job, record: Record, fan_power: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Positions in mm, targets in degrees C.

    position: for a G1, with the offsets set again and free of a G92 of the file.
    fan_speeds: 0..1, as M106 and SET_FAN_SPEED count them; fan_power: max_power of
    each fan, which klippy counts into the speed that it tells.
    """
    progress = record.state["progress"]
    coordinates = record.state["coordinates"]
    offsets, g92 = coordinates["homing_origin"], coordinates["g92"]
    place = [record.position[i] + g92[i] for i in range(3)]
    power = fan_power or {}
    return {
        "position": dict(zip("xyz", place, strict=True)),
        "xyz_offsets": dict(zip("xyz", offsets, strict=True)),
        "fan_speeds": {
            name.split()[-1]: min(speed / (power.get(name) or 1.0), 1.0)
            for name, speed in record.state["fans"].items()
        },
        "layer": int(_number(progress.get("layer"))),
        "layer_height": _number(progress.get("layer_height")),
        "file_progress": {
            "position": record.file_position,
            "total_size": job.size,
            "progress_pct": 100.0 * record.file_position / job.size if job.size else 0,
        },
        "active_extruder": record.extruder,
        "hotend_temp": record.hotend_target,
        "bed_temp": record.bed_target,
        "current_file": job.name,
    }


def _number(value: Any) -> float:
    """Nothing of the print's progress is checked when a record is read."""
    sane = type(value) in (int, float) and 0 <= value <= 1e6
    return value if sane else 0


def save_command(
    job: Job, record: Record, fan_power: Mapping[str, float] | None = None
) -> str:
    """The line that stores it, for klippy's shell-like splitting of parameters."""
    value = _literal(structure(job, record, fan_power))
    return f'SAVE_VARIABLE VARIABLE={VARIABLE} VALUE="{value}"'


def _literal(value: Any) -> str:
    """A Python literal, as SAVE_VARIABLE reads it, without double quotes."""
    if isinstance(value, dict):
        items = (f"{_literal(key)}: {_literal(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, str):
        return "'" + value.translate(FORBIDDEN) + "'"
    return json.dumps(value)
