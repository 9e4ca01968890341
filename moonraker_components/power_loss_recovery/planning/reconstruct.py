# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A record where none was saved: what the file alone says about a place in it.

It knows what the slicer asked for, and nothing of what a person or a macro changed.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import tools
from ..gcode.errors import ScanError
from ..gcode.lexer import Command, parse
from ..gcode.scan import Head
from ..record import MAX_LINE_TEXT, Record
from .saved_states import saved_states

_NEEDED = ("extruder", "heater_bed")
_NAMED = {"extruder": "the nozzle", "heater_bed": "the bed"}


def record(
    head: Head,
    line: bytes,
    objects: frozenset[str] = frozenset(),
    stated: Mapping[str, float] | None = None,
    told: Mapping[str, float] | None = None,
    excluded: tuple[str, ...] = (),
) -> Record:
    """What a record of byte head.end would say, as far as the file knows.

    line: the text there.  objects: klippy's, to find heaters and fans by the short
    names that a file has for them.  stated: temperatures in degrees C that a person
    or a start macro's line gives, for "extruder" and "heater_bed"; the file's own
    commands win, but for a nozzle that they leave cold.  excluded: objects.
    Raises ScanError when the file leaves open what must be known.
    """
    position = _position(head)
    coordinates = _coordinates(head)
    if head.flow_before_tool and "extruder1" in objects:
        # Where T means another extruder, klippy forgets M221 with it.
        coordinates["extrude_factor"] = 1.0
    z = position[2] + coordinates["g92"][2] + coordinates["homing_origin"][2]
    tool = _tool(head, objects)
    return Record.from_dict({
        "file_position": head.end,
        "fraction": 0.0,
        "line": line.decode("utf-8", "replace")[:MAX_LINE_TEXT],
        "position": position,
        "toolhead_z": z,
        "speed": head.feedrate or 0.0,
        # A record has it as the motor made it.
        "retracted": head.retracted * coordinates["extrude_factor"],
        "state": {
            "coordinates": coordinates,
            "heaters": _heaters(head, tool, objects, stated or {}, told or {}),
            "fans": {_full(name, "fan_generic", objects): min(max(speed, 0.0), 1.0)
                     for name, speed in head.fans.items()},
            "limits": {},
            "tool": {"active": tool, **_changer(head, objects)},
            "mesh": {"profile": _word(head, "BED_MESH_PROFILE", "LOAD")},
            "objects": {"current": head.current_object, "excluded": list(excluded)},
            "progress": {"layer": head.layer, "layers": head.total_layers},
            "gcode": {"states": saved_states(head)},
        },
        "saved_at": 0.0,
        "boot_id": "",
        "from_file": True,
    })  # fmt: skip


def _position(head: Head) -> list[float]:
    x, y, z, e = head.position
    if e is None and not (head.absolute_coordinates and head.absolute_extrude):
        e = 0.0
    known = {"X": x, "Y": y, "Z": z, "E": e}
    missing = [axis for axis, value in known.items() if value is None]
    if missing:
        raise ScanError(
            f"the file does not say where {' and '.join(missing)} stands at byte"
            f" {head.end}: choose a later place, after the next move"
        )
    return [value for value in known.values() if value is not None]


def _coordinates(head: Head) -> dict[str, Any]:
    if None in head.g92:
        raise ScanError(
            f"a G92 before byte {head.end} has moved the origin of X, Y or Z while the"
            " head was at an unknown place: nobody can tell where the print stands"
        )
    return {
        "absolute_coordinates": head.absolute_coordinates,
        "absolute_extrude": head.absolute_extrude,
        "speed_factor": _number(head, "M220", "S", 100.0) / 100.0,
        "extrude_factor": _number(head, "M221", "S", 100.0) / 100.0,
        "homing_origin": [
            _number(head, "SET_GCODE_OFFSET", axis,
                    _number(head, "SET_GCODE_OFFSET", axis + "_ADJUST", 0.0))
            for axis in "XYZ"
        ],
        "homed_axes": "xyz",
        "g92": list(head.g92),
    }  # fmt: skip


def _last(head: Head, name: str) -> Command | None:
    found = next((s for s in reversed(head.settings) if s.name == name), None)
    return None if found is None else parse(found.line)


def _number(head: Head, name: str, key: str, default: float) -> float:
    command = _last(head, name)
    value = None if command is None else command.number(key)
    return default if value is None else value


def _word(head: Head, name: str, key: str) -> str | None:
    command = _last(head, name)
    text = "" if command is None else command.params.get(key, "")
    # It may hold bytes that are no text, and goes into a record.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") or None


def _tool(head: Head, objects: frozenset[str]) -> str:
    """The extruder in use.  A printer that has one nozzle for all tools has one."""
    named = _word(head, "ACTIVATE_EXTRUDER", "EXTRUDER")
    name = f"extruder{head.tool or ''}" if named is None else named
    return name if name in objects or not objects else "extruder"


def _changer(head: Head, objects: frozenset[str]) -> dict[str, Any]:
    if head.tool is None or tools.find(objects) is None:
        return {}
    return {"changer": {"number": head.tool, "name": None}}


def _heaters(
    head: Head, tool: str, objects: frozenset[str], stated: Mapping[str, float],
    told: Mapping[str, float],
) -> dict[str, float]:  # fmt: skip
    heaters = {
        _full(name, "heater_generic", objects): target
        for name, target in head.heaters.items()
    }
    known = {name.lower() for name in objects}
    if known and not known & {"heater_bed", "gcode_macro m140"}:
        # klippy passes over what a file says of it.
        heaters["heater_bed"], told = 0.0, {**told, "heater_bed": 0.0}
    for heater in _NEEDED:
        own = tool if heater == "extruder" else heater
        if heater in told:
            heaters[own] = told[heater]
        elif heater in stated and not heaters.get(own):
            heaters[own] = stated[heater]
        if own not in heaters or (heater == "extruder" and not heaters[own]):
            raise ScanError(
                f"the file does not say how hot {_NAMED[heater]} is at byte {head.end}:"
                " a macro sets it. State the temperature"
            )
    return heaters


def _full(name: str, module: str, objects: frozenset[str]) -> str:
    full = f"{module} {name}"
    return full if name not in objects and full in objects else name
