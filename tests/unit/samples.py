# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A print as klippy tells it, a machine, and a record: small ones to vary."""
from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from moonraker_components.power_loss_recovery.gcode.extent import Extent
from moonraker_components.power_loss_recovery.gcode.scan import Head, scan
from moonraker_components.power_loss_recovery.planning.facts import Facts
from moonraker_components.power_loss_recovery.record import Job, Record

STATE: dict[str, Any] = {
    "coordinates": {
        "absolute_coordinates": True, "absolute_extrude": False,
        "speed_factor": 1.0, "extrude_factor": 0.95,
        "homing_origin": [0.0, 0.0, 0.0], "homed_axes": "xyz", "g92": [0.0, 0.0, 0.0],
    },
    "heaters": {"extruder": 215.0, "heater_bed": 60.0},
    "fans": {"fan": 0.5},
    "limits": {"max_velocity": 300.0, "max_accel": 5000.0},
    "tool": {"active": "extruder", "pressure_advance": {"extruder": [0.04, 0.04]}},
    "mesh": {"profile": None},
    "objects": {"current": None, "excluded": []},
    "progress": {"layer": 3, "layers": 10},
}  # fmt: skip
GCODE = b"""; made by a slicer
G90
M83
G1 X100 Y100 Z0.2 F6000
G1 X150 Y100 E5 F1800
G1 X150 Y150 E5
G1 Z0.4
G1 X100 Y150 E5
G1 X100 Y100 E5
"""
POSITION = GCODE.index(b"G1 X100 Y150")
LINE = b"G1 X100 Y150 E5"
JOB = Job("part.gcode", len(GCODE), 1.7e9, "0" * 64, 1.7e9)
OBJECTS = frozenset({
    "extruder", "heater_bed", "fan", "bed_mesh", "exclude_object", "toolhead",
})  # fmt: skip
FACTS = Facts(
    axis_minimum=(0.0, 0.0, -2.0), axis_maximum=(250.0, 250.0, 232.0),
    min_extrude_temp=170.0, z_switches=True, z_calibrated=True, objects=OBJECTS,
)  # fmt: skip


def state(**parts: Any) -> dict[str, Any]:
    """STATE with the given keys of its parts replaced: state(mesh={...})."""
    made = copy.deepcopy(STATE)
    for part, values in parts.items():
        made[part].update(values)
    return made


def record(**changes: Any) -> Record:
    made = Record(
        file_position=POSITION, fraction=0.0, line=LINE.decode(),
        position=(150.0, 150.0, 0.4, 10.0), toolhead_z=0.4, speed=1800.0,
        retracted=0.0, state=state(), saved_at=1.7e9, boot_id="boot",
    )  # fmt: skip
    return replace(made, **changes)


def mark(**changes: Any) -> dict[str, Any]:
    """What the extra publishes, see marks.py get_status."""
    made: dict[str, Any] = {
        "file_position": POSITION, "fraction": 0.25, "toolhead_z": 0.4,
        "position": [150.0, 150.0, 0.4, 10.0], "speed": 1800.0, "retracted": 0.0,
        "file_path": "/gcodes/part.gcode", "print_time": 12.5, "job": 1,
        "state": state(),
    }  # fmt: skip
    return {**made, **changes}


def head(gcode: bytes = GCODE, position: int = POSITION) -> Head:
    return scan(gcode, position, Extent(gcode))
