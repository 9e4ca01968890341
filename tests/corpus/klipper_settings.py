# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a file sets beside motion, as Klipper's extras keep it.

From toolhead.py (limits), kinematics/extruder.py, extras/fan.py, heater_bed.py,
firmware_retraction.py, exclude_object.py, print_stats.py and gcode_macro.py.  Dicts
are replaced and never changed, so that a state can be kept by reference.
"""
from __future__ import annotations

import json
from typing import Any

from .klipper_gcode import Params, Stopped, is_traditional, named, number

LIMITS = {
    "VELOCITY": "max_velocity",
    "ACCEL": "max_accel",
    "ACCEL_TO_DECEL": "max_accel_to_decel",
    "MINIMUM_CRUISE_RATIO": "minimum_cruise_ratio",
    "SQUARE_CORNER_VELOCITY": "square_corner_velocity",
}
PREHEATED = 200.0
MACHINE_LIMITS = {"max_velocity": 300.0, "max_accel": 3000.0}
RETRACTION = {
    "RETRACT_LENGTH": 0.7,
    "RETRACT_SPEED": 30.0,
    "UNRETRACT_EXTRA_LENGTH": 0.0,
    "UNRETRACT_SPEED": 20.0,
}
# Kept as they were said: macros, and profiles that have no value to compare.
MACROS = ("M900", "SKEW_PROFILE", "BED_MESH_PROFILE")


class Settings:
    """fans_by_number: the owner has a macro that heeds M106's P; Klipper's own knows
    one fan and does not look at P."""

    def __init__(self, fans_by_number: bool = False) -> None:
        self.fans_by_number = fans_by_number
        self.extruder = "extruder"
        # Some files rely on an owner who heats by hand.
        self.heaters: dict[str, float] = {"extruder": PREHEATED}
        self.told_to_macro = {"extruder"}
        self.fans: dict[str, float] = {}
        self.limits = dict(MACHINE_LIMITS)
        self.advance: dict[str, tuple[float, float]] = {}
        self.synced: dict[str, str] = {}
        self.plane = 17
        self.firmware_retracted = False
        self.retraction = dict(RETRACTION)
        self.objects: tuple[tuple[str, str], ...] = ()
        self.excluded: frozenset[str] = frozenset()
        self.object: str | None = None
        self.m486: str | None = None
        self.info: dict[str, int | None] = {}
        self.offset = 0
        self.layer_lines: list[int] = []
        self.progress: str | None = None
        self.variables: dict[tuple[str, str], str] = {}
        self.macros: dict[str, str] = {}
        self.unknown: set[str] = set()

    def conditions(self) -> tuple[Any, ...]:
        return (
            self.extruder, self.limits, self.fans, self.heaters, self.advance,
        )  # fmt: skip

    def settings(self) -> dict[str, Any]:
        return {
            "extruder": self.extruder,
            "heaters": self.heaters,
            "fans": self.fans,
            "limits": self.limits,
            "pressure_advance": self.advance,
            "synced": self.synced,
            "plane": self.plane,
            "firmware_retracted": self.firmware_retracted,
            "retraction": self.retraction,
            "objects": self.objects,
            "excluded": self.excluded,
            "current_object": self.object,
            "m486": self.m486,
            "print_stats": self.info,
            "m73": self.progress,
            "variables": self.variables,
            "macros": self.macros,
        }

    def note_command(self, command: str, params: Params, text: str) -> None:
        """A command that the model has no handler for: Klipper would say so."""
        if command in MACROS:
            if not is_traditional(command):
                params = named(command, text)
            said = " ".join(f"{k}{v}" for k, v in sorted(params.items()))
            self.macros = {**self.macros, command: said}
        else:
            self.unknown.add(command)

    # Heat and air

    def heat_as_macro(self, params: Params) -> None:
        """What most owners' PRINT_START makes of what the slicer tells it."""
        told = {"extruder": 210.0, "heater_bed": 60.0}
        for key, value in params.items():
            name = "heater_bed" if "BED" in key else "extruder"
            if "BED" in key or "EXTRUDER" in key or "HOTEND" in key:
                told[name] = float(value)
        self.heaters = {**self.heaters, **told}
        self.told_to_macro |= {"extruder", "heater_bed"}

    def _heat(self, params: Params) -> None:
        index = number(params, "T")
        name = self.extruder if index is None else f"extruder{int(index) or ''}"
        self._set_heater(name, number(params, "S", 0.0) or 0.0)

    do_M104 = do_M109 = _heat

    def _bed(self, params: Params) -> None:
        self._set_heater("heater_bed", number(params, "S", 0.0) or 0.0)

    do_M140 = do_M190 = _bed

    def _chamber(self, params: Params) -> None:
        # Not Klipper's: every macro of that name does this.
        self._set_heater("chamber", number(params, "S", 0.0) or 0.0)

    do_M141 = do_M191 = _chamber

    def do_SET_HEATER_TEMPERATURE(self, params: Params) -> None:
        self._set_heater(params["HEATER"], number(params, "TARGET", 0.0) or 0.0)

    def _set_heater(self, name: str, target: float) -> None:
        self.heaters = _with(self.heaters, name, target)
        self.told_to_macro.discard(name)

    def do_TURN_OFF_HEATERS(self, params: Params) -> None:
        self.heaters = {}

    def do_M106(self, params: Params) -> None:
        self._blow(params, min((number(params, "S", 255.0) or 0.0) / 255.0, 1.0))

    def do_M107(self, params: Params) -> None:
        self._blow(params, 0.0)

    def _blow(self, params: Params, speed: float) -> None:
        index = int(number(params, "P", 0.0) or 0.0) if self.fans_by_number else 0
        self.fans = _with(self.fans, f"fan{index or ''}", speed)

    def do_SET_FAN_SPEED(self, params: Params) -> None:
        speed = number(params, "SPEED", 0.0) or 0.0
        self.fans = _with(self.fans, params["FAN"], speed)

    # Limits, pressure

    def do_M204(self, params: Params) -> None:
        accel = number(params, "S")
        if accel is None:
            both = [number(params, letter) for letter in "PT"]
            if None in both:
                return
            accel = min(value for value in both if value is not None)
        if accel <= 0.0:
            raise Stopped("S must be above 0")
        self.limits = {**self.limits, "max_accel": accel}

    def do_SET_VELOCITY_LIMIT(self, params: Params) -> None:
        found = {LIMITS[k]: number(params, k) for k in LIMITS if k in params}
        self.limits = {**self.limits, **found}  # type: ignore[dict-item]

    def do_SET_PRESSURE_ADVANCE(self, params: Params) -> None:
        name = params.get("EXTRUDER", self.extruder)
        advance, smooth = self.advance.get(name, (0.0, 0.04))
        advance = number(params, "ADVANCE", advance) or 0.0
        smooth = number(params, "SMOOTH_TIME", smooth) or 0.0
        self.advance = {**self.advance, name: (advance, smooth)}

    def do_SYNC_EXTRUDER_MOTION(self, params: Params) -> None:
        self.synced = {**self.synced, params["EXTRUDER"]: params["MOTION_QUEUE"]}

    def do_SET_RETRACTION(self, params: Params) -> None:
        found = {k: number(params, k) for k in RETRACTION if k in params}
        self.retraction = {**self.retraction, **found}  # type: ignore[dict-item]
        self.firmware_retracted = False

    def do_G17(self, params: Params) -> None:
        self.plane = 17

    def do_G18(self, params: Params) -> None:
        self.plane = 18

    def do_G19(self, params: Params) -> None:
        self.plane = 19

    # Objects

    def do_EXCLUDE_OBJECT_DEFINE(self, params: Params) -> None:
        if params.get("RESET"):
            self.objects, self.excluded, self.object = (), frozenset(), None
        elif params.get("NAME"):
            outline = params.get("POLYGON", "")
            if outline:
                try:
                    json.loads(outline)
                except ValueError as error:
                    raise Stopped("POLYGON is no JSON") from error
            name = params["NAME"].upper()
            said = (name, params.get("CENTER", "") + "|" + outline)
            self.objects = tuple(sorted((*self.objects, said)))

    def do_EXCLUDE_OBJECT(self, params: Params) -> None:
        if params.get("RESET"):
            self.excluded = frozenset()
        elif params.get("NAME"):
            self.excluded |= {params["NAME"].upper()}
        elif params.get("CURRENT") and self.object:
            self.excluded |= {self.object}

    def do_EXCLUDE_OBJECT_START(self, params: Params) -> None:
        name = params["NAME"].upper()
        if all(known != name for known, _ in self.objects):
            self.objects = tuple(sorted((*self.objects, (name, "|"))))
        self.object = name

    def do_EXCLUDE_OBJECT_END(self, params: Params) -> None:
        self.object = None

    def do_M486(self, params: Params) -> None:
        if "S" in params:
            self.m486 = params["S"]

    # What people see, and macros

    def do_SET_PRINT_STATS_INFO(self, params: Params) -> None:
        for key in ("CURRENT_LAYER", "TOTAL_LAYER"):
            value = number(params, key)
            if value is not None:
                self.info = {**self.info, key: int(value)}
                self.layer_lines.append(self.offset)

    def do_M73(self, params: Params) -> None:
        self.progress = params.get("P", self.progress)

    def do_SET_GCODE_VARIABLE(self, params: Params) -> None:
        key = (params["MACRO"], params["VARIABLE"])
        self.variables = {**self.variables, key: params["VALUE"]}


def _with(values: dict[str, float], name: str, value: float) -> dict[str, float]:
    """Off and never on are the same."""
    if not value:
        return {key: old for key, old in values.items() if key != name}
    return {**values, name: value}
