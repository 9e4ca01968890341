# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The state at an offset without reading every move before it.

A pattern finds the lines that are no moves; what they set is applied, each once for
a piece of the file.  What moves leave behind follows from the last of them: a place
from the last word of each axis, the filament from as many lines before the offset as
have fed more than a machine ever pulls back.  Where a frame or relative coordinates
make all moves count, the piece is read as moves.py does.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from .ambient import Ambient, name_of, parse
from .backward import STEP, last_word
from .errors import LexError, ScanError
from .lexer import Command
from .markers import Markers, markers_in
from .modal import Motion
from .moves import run
from .pieces import Helper, Limits, Piece, own, shared
from .text import MAX_LINE, WINDOW, Data, windows

# mm.  An MMU takes filament back by 100 to 200 mm when it changes it.
FURTHEST_RETRACTION = 500.0
_ARCS = (b"G2 ", b"G3 ")
_PLACEHOLDER = b"PLR_RESUME"
# Where the head is matters to these.
_NEED_PLACE = frozenset(
    "G0 G1 G2 G3 G28 G91 RESTORE_GCODE_STATE SAVE_GCODE_STATE SET_GCODE_OFFSET".split()
)
_MODES = frozenset("ACTIVATE_EXTRUDER G17 G18 G19 G20 G90 M82 M83".split())
_TOOL_OR_AXIS = ("T", "X", "Y", "Z", "I", "J")
# Only the last of each matters, whatever stands between.
_LAST_WINS = frozenset(
    "EXCLUDE_OBJECT_END EXCLUDE_OBJECT_START G10 G11 G92 M106 M107 M117 M204"
    " M205 M73 M900 SET_FAN_SPEED SET_GCODE_VARIABLE SET_PIN SET_PRESSURE_ADVANCE"
    " SET_RETRACTION SET_VELOCITY_LIMIT".split()
)


@dataclass
class State:
    """first, last: offsets of extruding lines."""

    motion: Motion
    ambient: Ambient
    markers: Markers
    first: int | None = None
    last: int | None = None


@dataclass
class Known:
    """A place where nothing about motion is in doubt."""

    offset: int
    motion: Motion
    printed_z: float
    last: int | None


def skim(data: Data, end: int, window: int = WINDOW) -> State:
    """What read() finds, sooner.  `data` has passed text.check()."""
    return Skimmer(data, window).read(end)


def read(data: Data, end: int, window: int = WINDOW) -> State:
    """The state at `end`, from every line before it: the reference, and slow.

    Raises ScanError, with the offset of the line at which Klipper would stop.
    """
    state = State(Motion(), Ambient(), Markers())
    for start, piece in windows(data, 0, end, window):
        state.markers = markers_in(piece, start, state.markers)
        first, last = run(
            piece, start, state.motion, state.ambient.layers, state.ambient
        )
        state.first = first if state.first is None else state.first
        state.last = last or state.last
    return state


class Skimmer:
    """A way through a file, from its start; extent.py looks over its shoulder.

    helpers: look at other parts of it meanwhile.
    moves_only: settings do not matter, nor whether Klipper would take them.
    """

    moves_only = False

    def __init__(
        self, data: Data, window: int, helpers: Sequence[Helper] = ()
    ) -> None:
        self.data, self._window, self.helpers = data, window, helpers
        self.state = State(Motion(), Ambient(), Markers())
        self.known = Known(0, Motion(), math.nan, None)
        # Starts of the pieces skimmed since then, with modes and frame there
        self.trail: list[tuple[int, Motion]] = []
        # Of the piece that was skimmed last: whether modes do, but for the tool, and
        # whether it has arcs
        self.modes_changed = self.arcs = False
        self._modes: Motion | None = None
        self._end = 0

    def read(self, end: int) -> State:
        """The state at `end`."""
        self.go_on(end)
        if self.state.motion.unsure or self.state.motion.missed:
            self.state = read(self.data, end, self._window)
            self._note(end)
        return self.state

    def go_on(self, end: int) -> None:
        """From where it is to `end`."""
        step = min(STEP, self._window)
        for start, piece in windows(self.data, self._end, end, step):
            if self.state.motion.printing:
                break
            self.read_piece(start, piece)
            self._end = start + len(piece)
        rest = self.data, self._end, end, self._window
        parts = shared(*rest, self.helpers, self.limits) if self.helpers else own(*rest)
        for part in parts:
            if not self.skim(part):
                self.read_piece(part.start, part.text)
        self._end = end
        if self.trail:
            self._settle(end)

    def read_piece(self, start: int, piece: bytes) -> None:
        state = self.state
        if self.trail:
            self._settle(start)
        layers = state.ambient.layers
        first, last = run(piece, start, state.motion, layers, state.ambient)
        state.markers = markers_in(piece, start, state.markers)
        state.first = first if state.first is None else state.first
        state.last = last or state.last
        self._note(start + len(piece))

    def _note(self, offset: int) -> None:
        """There, nothing is in doubt."""
        state = self.state
        printed_z = state.ambient.layers.printed_z
        self.known = Known(offset, state.motion.copy(), printed_z, state.last)
        self.trail.clear()
        self._modes = None

    def limits(self) -> Limits | None:
        """Beyond which X and Y matter; None where they don't."""
        return None

    def skim(self, piece: Piece) -> bool:
        """False when the piece has to be read."""
        state = self.state
        if not state.motion.absolute_coordinates:
            return False
        lines = piece.lines()
        if _PLACEHOLDER in b"\n".join(lines):
            state.markers = markers_in(piece.text, piece.start, state.markers)
        try:
            sorts = _sorts(lines)
            if sorts is None:
                return False
            if self._modes is None:
                self._modes = state.motion.copy()
            # Thousands of pieces share one: nothing changes it.
            self.trail.append((piece.start, self._modes))
            self._apply(lines, sorts)
        except LexError as error:
            at = piece.start + (b"\n" + piece.text).find(b"\n" + error.line)
            raise ScanError(f"at offset {at}: {error}") from error
        return True

    def _apply(self, lines: list[bytes], sorts: _Sorts) -> None:
        motion, ambient = self.state.motion, self.state.ambient
        self.arcs, self.modes_changed = sorts.arcs, False
        if sorts.modes:
            self._modes = None
        in_turn = sorts.modes if self.moves_only else sorts.in_turn
        for line in () if self.moves_only else sorts.any_time:
            ambient.apply(line)
        for line in lines if in_turn else ():
            if line in in_turn:
                if not self.moves_only:
                    ambient.apply(line)
                if line in sorts.modes:
                    before = motion.modes()
                    motion.command(line)
                    self.modes_changed |= motion.modes() != before

    def _settle(self, end: int) -> None:
        """Find what the moves of the trail have left behind at its end."""
        count = 0
        while True:
            count = count * 2 or 1
            certain = count >= len(self.trail)
            tail = Known(0, Motion(), math.nan, None)
            if certain:
                known = self.known
                tail = replace(known, motion=known.motion.copy())
            else:
                tail.offset, motion = self.trail[-count]
                tail.motion = self.seeded(tail.offset, motion, self.known)
            layers = replace(self.state.ambient.layers, printed_z=tail.printed_z)
            motion = tail.motion
            for start, piece in windows(self.data, tail.offset, end, self._window):
                tail.last = run(piece, start, motion, layers)[1] or tail.last
            lost = motion.absolute_extrude and math.isnan(motion.position[3])
            doubt = motion.unsure or motion.missed or lost or tail.last is None
            if certain or not doubt:
                break
        self.state.motion, self.state.last = motion, tail.last
        self.state.ambient.layers.printed_z = layers.printed_z
        self._note(end)

    def seeded(self, offset: int, motion: Motion, known: Known) -> Motion:
        """`motion`, at a place of the trail that begins at `known`, with where the
        head is there."""
        values = [
            last_word(self.data, known.offset, offset, letter) for letter in "XYZF"
        ]
        was = [*known.motion.position[:3], known.motion.feedrate]
        x, y, z, f = (
            old if new is None else new for old, new in zip(was, values, strict=True)
        )
        made = motion.copy()
        made.forget_tools(FURTHEST_RETRACTION)
        made.position, made.feedrate = [x, y, z, math.nan], f
        return made


class _Sorts(NamedTuple):
    """Lines of a piece: whose order matters, of which some set modes or a tool, and of
    which only the last of its kind counts; arcs: whether it has any."""

    in_turn: set[bytes]
    modes: set[bytes]
    any_time: list[bytes]
    arcs: bool


def _sorts(lines: list[bytes]) -> _Sorts | None:
    """None when the piece has to be read."""
    found = _Sorts(set(), set(), [], any(arc in lines for arc in _ARCS))
    # Each once, in the order in which they come last
    for line in reversed(dict.fromkeys(reversed(lines))):
        if line in _ARCS:
            continue
        if len(line) > MAX_LINE:
            return None
        name = name_of(line) if line[:1] != b";" else ""
        if name in _NEED_PLACE or (name == "G92" and _frames(parse(line))):
            return None
        if name in _MODES or name.startswith(_TOOL_OR_AXIS):
            found.modes.add(line)
        if name in _LAST_WINS:
            found.any_time.append(line)
        else:
            found.in_turn.add(line)
    return found


def _frames(command: Command) -> bool:
    """Whether a G92 moves the frame of X, Y or Z."""
    axes = set("XYZE") & set(command.params)
    return not axes or axes != {"E"}
