# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a print has set that klippy's status mostly does not show: two parts of a
record's state, checked.

"gcode" changes often: saved G-code states, whether the firmware has retracted, the
plane of arcs.  "rare" changes seldom, and is in the job's part of what is saved; its
keys are the readers of the extra's rare.py, and "variables".  A record that was saved
by an earlier version has neither.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .. import reading
from ..store.checks import finite, key, name, numbers, table
from ..store.payloads import RecordError

MAX_POINTS = 2500
MAX_STATES = 200
PLANES = ("G17", "G18", "G19")  # as gcode_arcs.plane counts them
AXES = frozenset("XYZ")
SAVED_FLAGS = ("absolute_coord", "absolute_extrude")
SAVED_FACTORS = ("speed", "speed_factor", "extrude_factor")
SAVED_POSITIONS = ("base_position", "last_position", "homing_position")
MESH_SIZES = ("x_count", "y_count")


def checked(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The two parts, as far as they are there.  Raises RecordError."""
    found: dict[str, Any] = {}
    for part, check in (("gcode", _gcode), ("rare", _rare)):
        value = raw.get(part)
        if value:
            if not isinstance(value, Mapping):
                raise RecordError(f"state: {part} is {type(value).__name__}")
            check(value)
            found[part] = dict(value)
    return found


def attach(extra: dict[str, Any]) -> None:
    """Put what klippy tells beside the newest mark into that mark's state.

    extra: the extra's status as far as it is known; a mark in it is not changed but
    replaced.
    """
    mark = extra.get("mark")
    if not isinstance(mark, Mapping) or not isinstance(mark.get("state"), Mapping):
        return
    rare = extra.get("rare")
    if rare and "rare" not in mark["state"]:
        extra["mark"] = {**mark, "state": {**mark["state"], "rare": rare}}


def complete(status: dict[str, dict[str, Any]]) -> None:
    """Likewise of all that klippy tells: also whether the print stands still.

    PAUSE is in the mark already, with the place before it.  After M25 nothing keeps a
    place: the one where the motors came to rest counts, wherever they are moved to.
    """
    extra = status.get("power_loss_recovery", {})
    attach(extra)
    mark, stats = extra.get("mark"), status.get("print_stats", {})
    if stats.get("state") != "paused" or not reading.at_rest(extra):
        return
    if isinstance(mark, Mapping) and not mark.get("paused"):
        extra["mark"] = {**mark, "paused": True}


def _gcode(part: Mapping[str, Any]) -> None:
    plane, retracted = part.get("plane"), part.get("retracted")
    if plane is not None and (type(plane) is not int or not 0 <= plane < len(PLANES)):
        raise RecordError(f"state: plane is {plane!r:.80}")
    if retracted is not None and not isinstance(retracted, bool):
        raise RecordError(f"state: retracted is {retracted!r:.80}")
    states = part.get("states") or {}
    if not isinstance(states, Mapping) or len(states) > MAX_STATES:
        raise RecordError("state: saved states are no table")
    for saved in states.values():
        if not isinstance(saved, Mapping):
            raise RecordError(f"state: a saved state is {saved!r:.80}")
        for flag in SAVED_FLAGS:
            if not isinstance(saved.get(flag), bool):
                raise RecordError(f"state: {flag} is {saved.get(flag)!r:.80}")
        for factor in SAVED_FACTORS:
            finite(saved.get(factor), factor, 0, 1e6)
        for which in SAVED_POSITIONS:
            position = saved.get(which)
            count = len(position) if isinstance(position, (list, tuple)) else 4
            numbers(position, which, count, 1e9)


def _rare(part: Mapping[str, Any]) -> None:
    for what, value in part.items():
        check = _CHECKS.get(what)
        if check is not None:
            check(value)


def _is_list(value: Any, count: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == count


def _each(count: int, low: float, high: float) -> Callable[[Any], None]:
    """A table of lists of `count` numbers."""

    def check(value: Any) -> None:
        for one, values in table(value, "rare").items():
            if not _is_list(values, count):
                raise RecordError(f"state: {one} is {values!r:.80}")
            for number in values:
                finite(number, one, low, high)

    return check


def _values(low: float, high: float) -> Callable[[Any], None]:
    """A table of numbers."""

    def check(value: Any) -> None:
        for one, number in table(value, "rare").items():
            finite(number, one, low, high)

    return check


def _shaper(value: Any) -> None:
    for axis, parameters in table(value, "shaper").items():
        if axis not in AXES or not _is_list(parameters, 3):
            raise RecordError(f"state: shaper of {axis!r:.80}: {parameters!r:.80}")
        key(parameters[0])
        finite(parameters[1], "shaper_freq", 0, 1e5)
        finite(parameters[2], "damping_ratio", 0, 1)


def _skew(value: Any) -> None:
    name(table(value, "skew").get("name", ""))
    numbers(value.get("factors"), "skew", 3, 1)


def _mesh(value: Any) -> None:
    if not table(value, "mesh"):
        return
    key(value.get("name"))
    numbers(value.get("offsets"), "mesh offsets", 2)
    finite(value.get("tool_offset"), "tool_offset", -1000, 1000)
    points, params = value.get("points"), table(value.get("params"), "mesh")
    if not isinstance(points, (list, tuple)) or not points:
        return
    columns, rows = (params.get(size) for size in MESH_SIZES)
    if type(columns) is not int or len(points) != rows:
        raise RecordError(f"state: a mesh of {len(points)} rows")
    if columns * len(points) > MAX_POINTS:
        raise RecordError(f"state: a mesh of {columns} x {len(points)} points")
    for row in points:
        numbers(row, "mesh", columns, 1000)


def _extruders(value: Any) -> None:
    for one, both in table(value, "extruders").items():
        if not _is_list(both, 2):
            raise RecordError(f"state: {one} is {both!r:.80}")
        if both[0] is not None:
            name(both[0])
        finite(both[1], "rotation distance", -1e4, 1e4)


def _flags(value: Any) -> None:
    """A table of booleans."""
    for one, flag in table(value, "rare").items():
        if not isinstance(flag, bool):
            raise RecordError(f"state: {one} is {flag!r:.80}")


def _tmc(value: Any) -> None:
    for one, both in table(value, "tmc").items():
        if not _is_list(both, 2):
            raise RecordError(f"state: {one} is {both!r:.80}")
        finite(both[0], "run current", 0, 100)
        if both[1] is not None:
            finite(both[1], "hold current", 0, 100)


def _leds(value: Any) -> None:
    for one, colors in table(value, "leds").items():
        if not isinstance(colors, (list, tuple)):
            raise RecordError(f"state: {one} is {colors!r:.80}")
        for color in colors:
            numbers(color, one, 4, 1)


def _variables(value: Any) -> None:
    for one, literal in table(value, "variables").items():
        if not isinstance(literal, str):
            raise RecordError(f"state: {one} is {literal!r:.80}")


def _idle(value: Any) -> None:
    finite(value, "idle_timeout", 0, 1e9)


def _carriages(value: Any) -> None:
    """Goes back to klippy as it came, which checks what is in it."""
    table(value, "carriages")


_CHECKS: dict[str, Callable[[Any], None]] = {
    "retraction": _values(0, 1e5),
    "shaper": _shaper,
    "skew": _skew,
    "mesh": _mesh,
    "extruders": _extruders,
    "idle_timeout": _idle,
    "sensors": _flags,
    "spools": _flags,
    "temperature_fans": _each(3, 0, 1000),
    "tmc": _tmc,
    "carriages": _carriages,
    "pins": _values(0, 1e9),
    "servos": _values(0, 1),
    "leds": _leds,
    "variables": _variables,
}
