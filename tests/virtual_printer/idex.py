# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A Cartesian machine with two carriages on X: the second one has the nozzle that lays
plastic, the first one a nozzle that nothing comes out of."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from . import variants
from .trace import FloatArray, Series, Session

APART = 30.0  # safe_distance
LEFT_AT = 10.0  # where the first one stands while the second one prints
# Klippy's endstop of the first one is at U_SWITCH.
CONFIG = f"""
[stepper_x]
step_pin: SU
dir_pin: DU
enable_pin: EU
rotation_distance: 40
microsteps: 32
endstop_pin: LU
position_min: -100
position_endstop: -100
position_max: 200
homing_speed: 80
homing_retract_dist: 4
second_homing_speed: 10

[extruder]
nozzle_diameter: 0.4
filament_diameter: 1.75
heater_pin: AUX2
sensor_type: temperature_host
sensor_path: {{SENSOR}}
control: watermark
min_temp: 0
max_temp: 300

[gcode_macro T1]
gcode:
    G90
    G1 X{LEFT_AT} F9000
    ACTIVATE_EXTRUDER EXTRUDER=extruder1
    SET_DUAL_CARRIAGE CARRIAGE=1

[gcode_macro PRINT_START]
gcode:
    M140 S{{params.BED}}
    M104 S{{params.EXTRUDER}} T1
    G28
    G90
    G1 Z5 F1200
    T1
    M190 S{{params.BED}}
    M109 S{{params.EXTRUDER}} T1
"""


@dataclass(frozen=True)
class Idex(variants.Variant):
    """sensor: of a nozzle that stays cold."""

    sensor: Path = Path()

    def printer_cfg(self) -> str:
        self.sensor.write_text("25000")
        text = super().printer_cfg().replace("[extruder]\n", "[extruder1]\n")
        second = f"[dual_carriage]\naxis: x\nsafe_distance: {APART}\n"
        text = text.replace("[stepper_x]\n", second)
        return text + CONFIG.replace("{SENSOR}", str(self.sensor))


def variant(folder: Path) -> Idex:
    return Idex(
        "IDEX, gantry on four motors", extra=("cartesian.cfg",),
        sensor=folder / "temperature",
    )  # fmt: skip


def nearest(sessions: Sequence[Session]) -> float:
    """The least that the second carriage ever was to the right of the first one."""
    found = []
    for session in sessions:
        t, (a, u) = _together(session.motors["a"], session.motors["u"])
        found.append(float((a - u).min()))
    return min(found)


def as_corexy(sessions: Sequence[Session]) -> list[Session]:
    """For the oracle, which knows the motors of a CoreXY."""
    made = []
    for session in sessions:
        t, (x, y) = _together(session.motors["a"], session.motors["b"])
        motors = {**session.motors, "a": (t, x + y), "b": (t, x - y)}
        made.append(replace(session, motors=motors))
    return made


def _together(*series: Series) -> tuple[FloatArray, list[FloatArray]]:
    """Constant between rows."""
    t = np.unique(np.concatenate([rows[0] for rows in series]))
    return t, [
        rows[1][np.maximum(np.searchsorted(rows[0], t, side="right") - 1, 0)]
        for rows in series
    ]
