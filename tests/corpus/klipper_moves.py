# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Coordinates, motion and filament, as Klipper's extras/gcode_move.py, gcode_arcs.py
and firmware_retraction.py and kinematics/extruder.py have them, names included.
"""
from __future__ import annotations

import json
from typing import Any, NamedTuple

from .klipper_exclude import Exclusion
from .klipper_gcode import Params, Stopped, number
from .klipper_settings import Settings

# Klipper's own before the first F, mm/min
DEFAULT_SPEED = 1500.0
# Where our PRINT_START leaves the head: a place that no file asks for.
AFTER_START = (3.25, 4.75, 17.125)
LAID = 1e-7  # mm of filament that count as plastic


class Segment(NamedTuple):
    """One motion of the head, mm, and what it was done with.

    arc: (centre on the plane's first and second axis, first, second, clockwise).
    conditions: see Settings.conditions(), with the speed in mm/min as asked of the
    motors.
    """

    start: tuple[float, ...]
    end: tuple[float, ...]
    filament: float
    arc: tuple[float, float, int, int, bool] | None
    conditions: tuple[Any, ...]


class Moves(Settings):
    """position: what gcode_move last asked for, mm; base: what G92 and offsets make
    the file's zero; head: where the motors are, e of the active extruder included.

    parked: where the other extruders stand.  furthest: how far each one's filament
    has ever been.  trace: None, or the list to which every motion is appended.
    prints: line starts at which plastic was laid.  uses: (offset, name, whether it
    was read) wherever what the file has set before is used, or set anew.
    """

    def __init__(self, tools: int = 1, fans_by_number: bool = False) -> None:
        super().__init__(fans_by_number)
        self.position = [0.0, 0.0, 0.0, 0.0]
        self.base = [0.0, 0.0, 0.0, 0.0]
        self.homing = [0.0, 0.0, 0.0, 0.0]
        self.speed = DEFAULT_SPEED
        self.speed_factor = self.extrude_factor = 1.0
        self.absolute = self.absolute_e = True
        self.tools = tools
        self.parked = {"extruder": 0.0}
        self.furthest = {"extruder": 0.0}
        self.head = [0.0, 0.0, 0.0, 0.0]
        self.exclusion: Exclusion | None = None
        self.saved: dict[str, Any] = {}
        self.prints: list[int] = []
        self.uses: list[tuple[int, str, bool]] = []
        self.trace: list[Segment] | None = None

    # Motion

    def _move(self, params: Params) -> None:
        target = list(self.position)
        for axis, letter in enumerate("XYZE"):
            if letter not in params:
                continue
            value = number(params, letter) or 0.0
            relative = not self.absolute
            if letter == "E":
                value *= self.extrude_factor
                relative = relative or not self.absolute_e
                if not relative:
                    self.uses.append((self.offset, "e", True))
            target[axis] = (target if relative else self.base)[axis] + value
        speed = number(params, "F")
        if speed is not None and speed <= 0.0:
            raise Stopped("Invalid speed")
        if speed is not None:
            self.speed = speed
            self.uses.append((self.offset, "f", False))
        self._go(target, None)

    def _go(
        self, target: list[float], arc: tuple[float, float, int, int, bool] | None
    ) -> None:
        self.position = target
        at = target
        if self.exclusion is not None:
            excluded = self.object in self.excluded
            moved = self.exclusion.move(target, self.extruder, excluded)
            if moved is None:
                return
            at = moved
        filament = at[3] - self.head[3]
        behind = self.furthest[self.extruder] - at[3]
        if behind < 0.0:
            self.furthest[self.extruder] = at[3]
        start, self.head = self.head, list(at)
        is_motion = start[:3] != at[:3] or arc is not None
        if behind < -LAID and is_motion:
            self.prints.append(self.offset)
        if self.trace is not None and (is_motion or filament):
            speed = self.speed * self.speed_factor
            self.trace.append(
                Segment(tuple(start[:3]), tuple(at[:3]), filament, arc,
                        (speed, *self.conditions()))  # fmt: skip
            )

    def _arc(self, params: Params, clockwise: bool) -> None:
        # extras/gcode_arcs.py; the polygon that it makes of an arc follows from
        # what a Segment keeps.
        if not self.absolute:
            raise Stopped("G2/G3 does not support relative move mode")
        if "R" in params:
            raise Stopped("G2/G3 does not support R moves")
        first, second = {17: (0, 1), 18: (0, 2), 19: (1, 2)}[self.plane]
        arm = [number(params, "IJK"[axis], 0.0) or 0.0 for axis in (first, second)]
        if not any(arm):
            raise Stopped("G2/G3 requires IJ, IK or JK parameters")
        centre = (self.position[first] + arm[0], self.position[second] + arm[1])
        self._move_arc(params, (*centre, first, second, clockwise))

    def _move_arc(
        self, params: Params, arc: tuple[float, float, int, int, bool]
    ) -> None:
        target = list(self.position)
        for axis, letter in enumerate("XYZ"):
            value = number(params, letter)
            if value is not None:
                target[axis] = value + self.base[axis]
        value = number(params, "E")
        if value is not None:
            value *= self.extrude_factor
            target[3] = (self.base if self.absolute_e else self.position)[3] + value
            if self.absolute_e:
                self.uses.append((self.offset, "e", True))
        speed = number(params, "F")
        if speed is not None:
            self.speed = speed
            self.uses.append((self.offset, "f", False))
        self._go(target, arc)

    def do_G2(self, params: Params) -> None:
        self._arc(params, True)

    def do_G3(self, params: Params) -> None:
        self._arc(params, False)

    # Coordinates

    def do_G90(self, params: Params) -> None:
        self.absolute = True

    def do_G91(self, params: Params) -> None:
        self.absolute = False

    def do_M82(self, params: Params) -> None:
        self.absolute_e = True

    def do_M83(self, params: Params) -> None:
        self.absolute_e = False

    def do_G20(self, params: Params) -> None:
        raise Stopped("Machine does not support G20 (inches) command")

    def do_G92(self, params: Params) -> None:
        values = [number(params, letter) for letter in "XYZE"]
        if values == [None] * 4:
            values = [0.0] * 4
        for axis, value in enumerate(values):
            if value is not None:
                if axis == 3:
                    value *= self.extrude_factor
                    self.uses.append((self.offset, "e", False))
                self.base[axis] = self.position[axis] - value

    def do_G28(self, params: Params) -> None:
        axes = [i for i, a in enumerate("XYZ") if a in params] or [0, 1, 2]
        for axis in axes:
            self.position[axis] = self.head[axis] = 0.0
            self.base[axis] = self.homing[axis]

    def do_M220(self, params: Params) -> None:
        self.speed_factor = self._percent(params)

    def do_M221(self, params: Params) -> None:
        factor = self._percent(params)
        counted = (self.position[3] - self.base[3]) / self.extrude_factor
        self.base[3] = self.position[3] - counted * factor
        self.extrude_factor = factor

    @staticmethod
    def _percent(params: Params) -> float:
        value = number(params, "S", 100.0) or 0.0
        if value <= 0.0:
            raise Stopped("S must be above 0")
        return value / 100.0

    def do_SET_GCODE_OFFSET(self, params: Params) -> None:
        target = list(self.position)
        for axis, letter in enumerate("XYZE"):
            value = number(params, letter)
            if value is None:
                adjust = number(params, letter + "_ADJUST")
                if adjust is None:
                    continue
                value = self.homing[axis] + adjust
            delta = value - self.homing[axis]
            self.base[axis] += delta
            self.homing[axis] = value
            target[axis] += delta
        if number(params, "MOVE", 0.0):
            self._go(target, None)

    def do_SAVE_GCODE_STATE(self, params: Params) -> None:
        name = params.get("NAME", "default")
        self.uses.append((self.offset, "saved " + name, False))
        self.saved[name] = (
            self.absolute, self.absolute_e, list(self.base), list(self.position),
            list(self.homing), self.speed, self.speed_factor, self.extrude_factor,
        )  # fmt: skip

    def do_RESTORE_GCODE_STATE(self, params: Params) -> None:
        name = params.get("NAME", "default")
        if name not in self.saved:
            raise Stopped(f"Unknown g-code state: {name}")
        self.uses.append((self.offset, "saved " + name, True))
        saved = self.saved[name]
        self.absolute, self.absolute_e = saved[:2]
        self.base, self.homing = list(saved[2]), list(saved[4])
        # gcode_move keeps mm/s with the factor in it: the two come back together.
        self.speed, self.speed_factor, self.extrude_factor = saved[5:]
        self.base[3] += self.position[3] - saved[3][3]
        if number(params, "MOVE", 0.0):
            self._go([*saved[3][:3], self.position[3]], None)

    def do__PLR_RESTORE(self, params: Params) -> None:
        # Of what our extra is told, the saved states; klippy's speed is in mm/s,
        # with the factor in it.
        told = json.loads(bytes.fromhex(params["DATA"]))
        for name, state in told.get("states", {}).items():
            speed_factor = state["speed_factor"]
            self.saved[name] = (
                state["absolute_coord"], state["absolute_extrude"],
                list(state["base_position"]), list(state["last_position"]),
                list(state["homing_position"]), state["speed"] / speed_factor,
                speed_factor * 60.0, state["extrude_factor"],
            )  # fmt: skip

    def saved_states(self) -> dict[str, tuple[Any, ...]]:
        """With E as the file counts it, where that is absolute: klippy uses no more of
        it."""
        return {
            name: (*saved[:2], tuple(saved[2][:3]), tuple(saved[3][:3]),
                   (saved[3][3] - saved[2][3]) / saved[7] if saved[1] else None,
                   tuple(saved[4]), *saved[5:])
            for name, saved in self.saved.items()
        }  # fmt: skip

    # Filament

    def _tool(self, index: int) -> None:
        if index < self.tools:
            self.do_ACTIVATE_EXTRUDER({"EXTRUDER": f"extruder{index or ''}"})
        else:
            self.note_command(f"T{index}", {}, f"T{index}")
            # A macro has changed the filament: what comes is at the tip.
            self.furthest[self.extruder] = self.head[3]

    def do_ACTIVATE_EXTRUDER(self, params: Params) -> None:
        name = params["EXTRUDER"]
        if name == self.extruder:
            return
        self.parked[self.extruder] = self.head[3]
        self.head[3] = self.parked.get(name, 0.0)
        self.furthest.setdefault(name, self.head[3])
        self.extruder = name
        self.position = list(self.head)
        if self.exclusion is not None:
            offset = self.exclusion.offset(name)
            self.position = [p + o for p, o in zip(self.head, offset, strict=True)]
            self.exclusion.last_position = list(self.position)
        self.base[3] = self.position[3]
        self.extrude_factor = 1.0
        self.uses.append((self.offset, "e", False))

    def do_EXCLUDE_OBJECT(self, params: Params) -> None:
        super().do_EXCLUDE_OBJECT(params)
        if self.excluded and self.exclusion is None:
            self.exclusion = Exclusion(self.position)

    def do_EXCLUDE_OBJECT_DEFINE(self, params: Params) -> None:
        super().do_EXCLUDE_OBJECT_DEFINE(params)
        if params.get("RESET") and self.exclusion is not None:
            self.exclusion, self.position = None, list(self.head)

    def is_left_out(self) -> bool:
        """Whether Klipper keeps the motors still here."""
        excluded = self.object in self.excluded
        return self.exclusion is not None and self.exclusion.active(excluded)

    def do_G10(self, params: Params) -> None:
        self.uses.append((self.offset, "firmware_retracted", True))
        if not self.firmware_retracted:
            self._firmware(-self.retraction["RETRACT_LENGTH"])
            self.firmware_retracted = True

    def do_G11(self, params: Params) -> None:
        self.uses.append((self.offset, "firmware_retracted", True))
        if self.firmware_retracted:
            extra = self.retraction["UNRETRACT_EXTRA_LENGTH"]
            self._firmware(self.retraction["RETRACT_LENGTH"] + extra)
            self.firmware_retracted = False

    def _firmware(self, length: float) -> None:
        before = self.speed
        self.speed = 60.0 * self.retraction["RETRACT_SPEED"] / self.speed_factor
        target = list(self.position)
        # Klipper writes "G1 E-%.5f", which M221 scales.
        target[3] += round(length, 5) * self.extrude_factor
        shift = target[3] - self.position[3]
        self._go(target, None)
        self.base[3] += shift
        self.speed = before

    def _start(self, params: Params) -> None:
        self.heat_as_macro(params)
        self.position[:3] = self.head[:3] = AFTER_START
        self.base[:3] = self.homing[:3]

    def do__PLR_ASSUME_Z(self, params: Params) -> None:
        self._stand_at_z(number(params, "Z") or 0.0)

    def do__PLR_LIFT(self, params: Params) -> None:
        self._stand_at_z(self.position[2] + (number(params, "DISTANCE") or 0.0))

    def do_PLR_Z_HOME(self, params: Params) -> None:
        self._stand_at_z(180.0)

    def _stand_at_z(self, z: float) -> None:
        self.position[2] = self.head[2] = z
