# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Where plastic is, without reading the moves that cannot add to it.

After the first layers nearly all of a file stays inside what is there: only the lines
around X and Y words, and arcs, that may lead outside are read, and those with the
highest Z.  Never smaller than what was printed: where reading begins, the filament is
taken as not pulled back.
"""
from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .layers import Layers
from .modal import Motion
from .moves import run
from .pieces import Helper, Limits, Piece, heights
from .skim import Known, Skimmer
from .text import WINDOW, Data, windows
from .words import numbers

_ARMS = (b"I", b"J")
_ARC = re.compile(rb"\nG[23] [^\n]*E[^\n]*")
_AXES = (b"X", b"Y")
# So much is read at a place outside, and so much before it, to know the filament.
_PART, _BEFORE = 2048, 512

# Offset, axis, value
_Word = tuple[int, int, float]

# Lowest and highest x, y, z of plastic, mm, free of G92; not finite where nothing
# was printed or a frame is unknown
Span = tuple[list[float], list[float]]


def extent(data: Data, end: int, window: int = WINDOW) -> Span:
    """Of all that is printed before `end`."""
    found = Extent(data, window)
    found.read(end)
    return found.finish()


@dataclass
class _Unread:
    """A piece of which X and Y are known.  highest: Z of its words, free of G92;
    before: of the head at its start, or more; modes_changed: from those of `motion`;
    known: before it."""

    highest: float
    before: float
    start: int
    length: int
    motion: Motion
    modes_changed: bool
    known: Known


class Extent(Skimmer):
    """finish() tells what was printed since the one before.  flat: whether X and Y
    are wanted, or Z alone."""

    def __init__(
        self, data: Data, window: int = WINDOW, flat: bool = True,
        helpers: Sequence[Helper] = (),
    ) -> None:  # fmt: skip
        super().__init__(data, window, helpers)
        self._flat = flat
        self._low, self._high = _nowhere()
        self._unread: list[_Unread] = []
        # Where the head is between two pieces when it may be outside
        self._at: list[float] = []
        self._z = -math.inf

    def read_piece(self, start: int, piece: bytes) -> None:
        super().read_piece(start, piece)
        self._leave(self.state.motion)

    def limits(self) -> Limits | None:
        x, y = (self._limits(axis, self.state.motion) for axis in range(2))
        finite = all(map(math.isfinite, (*x, *y)))
        return (x, y) if self._flat and finite else None

    def skim(self, piece: Piece) -> bool:
        if not super().skim(piece):
            return False
        motion = self.trail[-1][1]
        before, found = self._z, piece.heights()
        highest, self._z = max([before, *found]), max(found, default=before)
        self._unread.append(
            _Unread(highest + motion.frame[2], before, piece.start, piece.length,
                    motion, self.modes_changed, self.known)
        )  # fmt: skip
        outside = self._outside(piece, motion) if self._flat else []
        if not outside:
            self._at = []
        elif self.modes_changed:
            self._unread.pop()
            self._leave(self._read_moves(piece.start, piece.text, motion, self.known))
        else:
            self._read_sides(piece.start, piece.text, motion, outside)
        return True

    def finish(self) -> Span:
        self._add(self.state.motion)
        for unread in sorted(self._unread, key=lambda piece: -piece.highest):
            if unread.highest <= self._high[2]:
                break
            self._read_tops(unread)
        low, high = self._low, self._high
        if not self._flat:
            low[:2], high[:2] = [math.nan] * 2, [math.nan] * 2
        self._low, self._high = _nowhere()
        self._unread.clear()
        for motion in (self.state.motion, self.known.motion):
            motion.low, motion.high = _nowhere()
        self._leave(self.state.motion)
        return low, high

    def _leave(self, motion: Motion) -> None:
        self._at = motion.position[:2]
        self._z = motion.position[2]
        if math.isnan(self._z):
            self._z = math.inf

    def _read_sides(
        self, start: int, piece: bytes, motion: Motion, outside: list[_Word]
    ) -> None:
        """Around the words outside, and until the head is inside again."""
        done, at = 0, self._at
        for offset, axis, value in outside:
            low, high = self._limits(axis, motion)
            if offset < done or low <= value <= high:
                continue
            begin = piece.rfind(b"\n", 0, max(offset - _BEFORE, 0)) + 1
            begin = max(begin, done)
            for number, part in windows(piece, begin, len(piece), _PART):
                read = self._read_moves(start + number, part, motion, self.known)
                done, at = number + len(part), read.position[:2]
                if done > offset and self._holds(at, motion):
                    break
        self._at = at if done == len(piece) else []

    def _read_tops(self, unread: _Unread) -> None:
        start, end = unread.start, unread.start + unread.length
        size = self._window if unread.modes_changed else _PART
        z = unread.before
        for at, part in windows(self.data, start, end, size):
            found = heights(part.upper())
            if max([z, *found]) + unread.motion.frame[2] > self._high[2]:
                read = self._read_moves(at, part, unread.motion, unread.known)
                z = read.position[2]
                z = math.inf if math.isnan(z) else z
            else:
                z = max(found, default=z)

    def _outside(self, piece: Piece, motion: Motion) -> list[_Word]:
        found: list[_Word] = []
        limits = [self._limits(axis, motion) for axis in range(2)]
        if any(map(math.isnan, (*limits[0], *limits[1]))):
            # In an unknown frame: what is laid later does not make it known.
            self._low[:2], self._high[:2] = [math.nan] * 2, [math.nan] * 2
            return found
        if self._at and not self._holds(self._at, motion):
            found.append((0, 0, math.nan))
        for axis in range(2):
            words = piece.beyond(axis, *limits[axis])
            found += [(offset, axis, value) for offset, value in words]
        if self.arcs:
            for match in _ARC.finditer(b"\n" + piece.upper):
                if not self._holds_arc(match[0], motion):
                    found.append((match.start(), 0, math.nan))
        return sorted(found, key=lambda word: word[0])

    def _limits(self, axis: int, motion: Motion) -> tuple[float, float]:
        frame = motion.frame[axis]
        low = min(self._low[axis] - frame, motion.low[axis])
        return low, max(self._high[axis] - frame, motion.high[axis])

    def _holds(self, at: list[float], motion: Motion, reach: float = 0.0) -> bool:
        limits = (self._limits(axis, motion) for axis in range(2))
        return all(
            low <= x - reach and x + reach <= high
            for x, (low, high) in zip(at, limits, strict=True)
        )

    def _holds_arc(self, line: bytes, motion: Motion) -> bool:
        """False also where it does not say in which plane, or where it ends."""
        arms = [max(map(abs, numbers(line, axis)), default=0.0) for axis in _ARMS]
        words = [numbers(line, axis) for axis in _AXES]
        end = [word[0] if len(word) == 1 else math.nan for word in words]
        # It goes no further from its end than the whole circle does.
        return b"K" not in line and self._holds(end, motion, 2.0 * sum(arms))

    def _read_moves(
        self, start: int, piece: bytes, modes: Motion, known: Known
    ) -> Motion:
        motion = self.seeded(start, modes, known)
        motion.forget_tools(0.0)
        motion.low, motion.high = _nowhere()
        if motion.absolute_extrude:
            # The first E there is taken for extrusion, as nobody knows.
            motion.position[3] = -math.inf
        run(piece, start, motion, Layers())
        self._add(motion)
        return motion

    def _add(self, motion: Motion) -> None:
        for axis in range(3):
            low = motion.low[axis] + motion.frame[axis]
            high = motion.high[axis] + motion.frame[axis]
            # What is not a number stays so: the place is unknown.
            if low < self._low[axis] or math.isnan(low):
                self._low[axis] = low
            if high > self._high[axis] or math.isnan(high):
                self._high[axis] = high


def _nowhere() -> Span:
    return [math.inf] * 3, [-math.inf] * 3
