# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a line other than a plain move changes in motion: modes, frames, offsets.

Follows Klipper's gcode_move.py.  Coordinates are the file's own, after its G92.
A number that the file has not stated is NaN: it stays unknown through arithmetic
and loses every comparison.
"""
from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from .ambient import extruder_number, name_of, parse
from .errors import LexError
from .lexer import Command
from .replay import MAX_ENTRIES

_STILL = re.compile(
    r"M\d|G(?:4|10|11|17|18|19|21)$|SET_|SYNC_|EXCLUDE_OBJECT|PLR_"
    r"|(?:RESPOND|SKEW_PROFILE|BED_MESH_(?:PROFILE|CLEAR|OFFSET)|TURN_OFF_HEATERS)$"
)
_BARE = re.compile(r"[XYZIJ] *[-+]?\.?\d")

# X, Y, Z, E, F as written, None where absent: one straight move to its end
Words = tuple[str | None, str | None, str | None, str | None, str | None]


class Point4(NamedTuple):
    """mm, in the file's own coordinates; None where the file leaves it open."""

    x: float | None
    y: float | None
    z: float | None
    e: float | None


@dataclass(frozen=True)
class Saved:
    """What SAVE_GCODE_STATE keeps, in the file's terms; None for what it leaves
    open."""

    absolute_coordinates: bool
    absolute_extrude: bool
    position: tuple[float | None, ...]
    frame: tuple[float | None, ...]
    offset: tuple[float, ...]
    feedrate: float | None


@dataclass
class Motion:
    """The state between two lines; lengths in mm, feedrate in mm/min.

    position: x, y, z, e.  frame: position + frame is free of G92.  low, high:
    extents of the plastic on x, y, z in the current frame.  retracted: how far
    the filament is behind its furthest point, for the current tool; no_less_than:
    what to take for a tool of which nothing is known; unsure: `retracted` goes
    back to that guess.  saved: by SAVE_GCODE_STATE.  lost: a state was restored
    that is not in it, so that even the modes are a guess.
    """

    absolute_coordinates: bool = True
    absolute_extrude: bool = True
    coordinates_stated: bool = False
    extrude_stated: bool = False
    position: list[float] = field(default_factory=lambda: [math.nan] * 4)
    frame: list[float] = field(default_factory=lambda: [0.0] * 3)
    feedrate: float = math.nan
    retracted: float = 0.0
    low: list[float] = field(default_factory=lambda: [math.inf] * 3)
    high: list[float] = field(default_factory=lambda: [-math.inf] * 3)
    printing: bool = False
    xy_plane: bool = True
    no_less_than: float = 0.0
    unsure: bool = False
    missed: bool = False
    offset: list[float] = field(default_factory=lambda: [0.0] * 4)
    offset_stated: list[bool] = field(default_factory=lambda: [False] * 4)
    _tool: int | None = None
    _tool_retracted: dict[int, tuple[float, bool]] = field(default_factory=dict)
    saved: dict[str, Saved] = field(default_factory=dict)
    lost: bool = False

    def command(self, line: bytes) -> Words | None:
        """Apply one line.  A move is not applied but returned as words.

        Raises LexError where Klipper would stop with an error.
        """
        name = name_of(line)
        if name in ("G0", "G1", "G2", "G3"):
            command = parse(line)
            return self._arc(command) if name in ("G2", "G3") else _words(command)
        handler = _HANDLERS.get(name)
        if handler is not None:
            handler(self, parse(line))
        elif name.startswith("T") and name[1:].isdecimal() and len(name) < 8:
            self._select_tool(int(name[1:]))
        elif _BARE.match(name):
            raise LexError(
                "coordinates without G0 or G1, as CAM programs write them and Klipper"
                " ignores them", line
            )  # fmt: skip
        elif name and not self.printing and not _STILL.match(name):
            # A start macro homes, heats and primes: the head is anywhere.  In
            # mid-print a macro leaves it where the slicer believes it to be,
            # or the undisturbed print would have gone wrong as well.
            self.position = [math.nan] * 4
        return None

    def modes(self) -> tuple[bool, ...]:
        return self.absolute_coordinates, self.absolute_extrude, self.xy_plane

    def copy(self) -> Motion:
        """One that shares nothing that changes."""
        return replace(
            self,
            position=list(self.position),
            frame=list(self.frame),
            low=list(self.low),
            high=list(self.high),
            offset=list(self.offset),
            offset_stated=list(self.offset_stated),
            _tool_retracted=dict(self._tool_retracted),
            saved=dict(self.saved),
        )

    def forget_tools(self, no_less_than: float) -> None:
        """How far any filament is pulled back is not known here, only a bound."""
        self.retracted = self.no_less_than = no_less_than
        self.unsure = True
        self._tool_retracted.clear()

    def _set_frame(self, axis: int, value: float) -> None:
        shift = value - self.frame[axis]
        self.low[axis] -= shift
        self.high[axis] -= shift
        self.frame[axis] = value

    def _select_tool(self, number: int) -> None:
        if len(self._tool_retracted) < MAX_ENTRIES:
            # klippy begins with the first.
            self._tool_retracted[self._tool or 0] = self.retracted, self.unsure
            self.missed = self.missed or self.unsure
            guess = self.no_less_than, self.no_less_than > 0.0
            self.retracted, self.unsure = self._tool_retracted.get(number, guess)
        self._tool = number

    def _activate(self, command: Command) -> None:
        number = extruder_number(command.params.get("EXTRUDER", ""))
        if number is None or number == (self._tool or 0):
            return
        self._select_tool(number)
        # Klipper: gcode_move.py, _handle_activate_extruder
        self.position[3] = 0.0

    def _mode(self, command: Command) -> None:
        if command.name in ("G90", "G91"):
            self.absolute_coordinates = command.name == "G90"
            self.coordinates_stated = True
        else:
            self.absolute_extrude = command.name == "M82"
            self.extrude_stated = True

    def _inches(self, command: Command) -> None:
        raise LexError("inches (G20), which Klipper does not support", command.raw)

    def _plane(self, command: Command) -> None:
        self.xy_plane = command.name == "G17"

    def _set_position(self, command: Command) -> None:
        values = [command.number(axis) for axis in "XYZE"]
        if all(value is None for value in values):
            values = [0.0] * 4
        for axis, value in enumerate(values):
            if value is None:
                continue
            if axis < 3:
                moved = self.position[axis] - value
                self._set_frame(axis, self.frame[axis] + moved)
            self.position[axis] = value

    def _home(self, command: Command) -> None:
        homed = [i for i, axis in enumerate("XYZ") if axis in command.params]
        for axis in homed or range(3):
            self._set_frame(axis, 0.0)
            self.position[axis] = math.nan

    def _gcode_offset(self, command: Command) -> None:
        for axis, letter in enumerate("XYZE"):
            value = command.number(letter)
            if value is None:
                adjust = command.number(letter + "_ADJUST")
                if adjust is None:
                    continue
                value = self.offset[axis] + adjust
            else:
                self.offset_stated[axis] = True
            # Without MOVE the head stays, so its coordinate changes.
            if not command.number("MOVE", 0.0):
                self.position[axis] -= value - self.offset[axis]
            self.offset[axis] = value

    def _save_state(self, command: Command) -> None:
        if len(self.saved) >= MAX_ENTRIES:
            raise LexError(f"more than {MAX_ENTRIES} saved states", command.raw)
        self.saved[command.params.get("NAME", "default")] = Saved(
            self.absolute_coordinates,
            self.absolute_extrude,
            tuple(map(known, self.position)),
            tuple(map(known, self.frame)),
            tuple(self.offset),
            known(self.feedrate),
        )

    def _restore_state(self, command: Command) -> None:
        saved = self.saved.get(command.params.get("NAME", "default"))
        if saved is None:
            # Saved by a macro, which the file does not show.
            self.position, self.lost = [math.nan] * 4, True
            return
        self.absolute_coordinates = saved.absolute_coordinates
        self.absolute_extrude = saved.absolute_extrude
        self.feedrate = _number(saved.feedrate)
        for axis in range(3):
            frame = _number(saved.frame[axis])
            shift = frame - self.frame[axis]
            shift += saved.offset[axis] - self.offset[axis]
            self._set_frame(axis, frame)
            self.position[axis] -= shift
        self.offset = list(saved.offset)
        self.position[3] = _number(saved.position[3])
        if command.number("MOVE", 0.0):
            self.position = list(map(_number, saved.position))

    def _arc(self, command: Command) -> Words:
        # Klipper: gcode_arcs.py
        if not self.absolute_coordinates:
            raise LexError("an arc with relative coordinates (G91)", command.raw)
        x, y, z, e, f = _words(command)
        px, py, _, pe = self.position
        end = (command.number("X", px) or 0.0, command.number("Y", py) or 0.0)
        centre = (px + (command.number("I") or 0.0), py + (command.number("J") or 0.0))
        extrusion = command.number("E", 0.0) or 0.0
        if self.absolute_extrude and e is not None:
            extrusion -= pe
        if self.xy_plane and extrusion > self.retracted:
            for point in _extremes((px, py), end, centre, command.name == "G2"):
                for axis in range(2):
                    self.low[axis] = min(self.low[axis], point[axis])
                    self.high[axis] = max(self.high[axis], point[axis])
        elif not self.xy_plane and extrusion > self.retracted:
            # A rare thing: as far as the whole circle can reach.
            reach = 2.0 * math.hypot(*(command.number(k) or 0.0 for k in "IJK"))
            for axis in range(3):
                self.low[axis] = min(self.low[axis], self.position[axis] - reach)
                self.high[axis] = max(self.high[axis], self.position[axis] + reach)
        # A full circle names no end point, and is motion all the same.
        return x or repr(end[0]), y or repr(end[1]), z, e, f


def known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value


Point = tuple[float, float]


def _extremes(start: Point, end: Point, centre: Point, clockwise: bool) -> list[Point]:
    """Where an XY arc reaches furthest along an axis, its ends not included."""
    radius = math.hypot(start[0] - centre[0], start[1] - centre[1])
    first, last = (math.atan2(p[1] - centre[1], p[0] - centre[0]) for p in (start, end))
    if clockwise:
        first, last = last, first
    turn = 2.0 * math.pi
    sweep = (last - first) % turn or turn
    return [
        (centre[0] + radius * dx, centre[1] + radius * dy)
        for quarter, (dx, dy) in enumerate(((1, 0), (0, 1), (-1, 0), (0, -1)))
        if (quarter * math.pi / 2.0 - first) % turn < sweep
    ]


def _words(command: Command) -> Words:
    get = command.params.get
    return get("X"), get("Y"), get("Z"), get("E"), get("F")


_HANDLERS: dict[str, Callable[[Motion, Command], None]] = {
    "ACTIVATE_EXTRUDER": Motion._activate,
    "G17": Motion._plane,
    "G18": Motion._plane,
    "G19": Motion._plane,
    "G20": Motion._inches,
    "G28": Motion._home,
    "G90": Motion._mode,
    "G91": Motion._mode,
    "G92": Motion._set_position,
    "M82": Motion._mode,
    "M83": Motion._mode,
    "RESTORE_GCODE_STATE": Motion._restore_state,
    "SAVE_GCODE_STATE": Motion._save_state,
    "SET_GCODE_OFFSET": Motion._gcode_offset,
}
