# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Where plastic is, without reading the moves that cannot add to it.

After the first layers nearly every piece of a file stays inside what is there: no X
or Y word in it names a place outside.  Of a piece that has one, only the lines around
it are read; of the others, those with the highest Z.  Never smaller than what was
printed: where reading begins, the filament is taken as not pulled back.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

from .layers import Layers
from .modal import Motion
from .moves import run
from .skim import Known, Skimmer
from .text import WINDOW, Data, windows
from .words import numbers, within

_ARMS = (b"I", b"J")
_LOWER = (b"x", b"y", b"z")
# So much is read around a place outside.
_PART = 2048

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
    before: of the head at its start, or more; in_parts: modes and frame are `motion`'s all through;
    known: before it."""

    highest: float
    before: float
    start: int
    length: int
    motion: Motion
    in_parts: bool
    known: Known


class Extent(Skimmer):
    """finish() tells what was printed since the one before.  flat: whether X and Y
    are wanted, or Z alone."""

    def __init__(self, data: Data, window: int = WINDOW, flat: bool = True) -> None:
        super().__init__(data, window)
        self._flat = flat
        self._low, self._high = _nowhere()
        self._unread: list[_Unread] = []
        # Where the head is between two pieces when it may be outside
        self._at: list[float] = []
        self._z = -math.inf

    def read_piece(self, start: int, piece: bytes) -> None:
        super().read_piece(start, piece)
        self._leave(self.state.motion)

    def skim(self, start: int, piece: bytes) -> bool:
        if not super().skim(start, piece):
            return False
        motion = self.trail[-1][1]
        text = _upper(piece)
        before, found = self._z, _heights(text)
        highest, self._z = max([before, *found]), max(found, default=before)
        unread = _Unread(
            highest + motion.frame[2], before, start, len(piece), motion,
            not self.modes_changed, self.known,
        )  # fmt: skip
        if not self._flat or self._inside(text, motion):
            self._unread.append(unread)
        elif unread.in_parts:
            self._unread.append(unread)
            self._read_sides(start, piece, motion)
        else:
            self._leave(self._read_moves(start, piece, motion, self.known))
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

    def _read_sides(self, start: int, piece: bytes, motion: Motion) -> None:
        for at, part in windows(piece, 0, len(piece), _PART):
            if not self._inside(_upper(part), motion):
                read = self._read_moves(start + at, part, motion, self.known)
                self._at = read.position[:2]

    def _read_tops(self, unread: _Unread) -> None:
        start, end = unread.start, unread.start + unread.length
        size = _PART if unread.in_parts else self._window
        z = unread.before
        for at, part in windows(self.data, start, end, size):
            found = _heights(_upper(part))
            if max([z, *found]) + unread.motion.frame[2] > self._high[2]:
                read = self._read_moves(at, part, unread.motion, unread.known)
                z = read.position[2]
                z = math.inf if math.isnan(z) else z
            else:
                z = max(found, default=z)

    def _inside(self, text: bytes, motion: Motion) -> bool:
        # An arc goes no further from its ends than twice its arm.
        reach = 0.0
        if self.arcs:
            arms = (max(map(abs, numbers(text, axis)), default=0.0) for axis in _ARMS)
            reach = 2.0 * sum(arms)
        for axis, letter in enumerate((b"X", b"Y")):
            frame = motion.frame[axis]
            low = min(self._low[axis] - frame, motion.low[axis]) + reach
            high = max(self._high[axis] - frame, motion.high[axis]) - reach
            # Also false where one of them is not a number
            if self._at and not low <= self._at[axis] <= high:
                return False
            if not within(text, letter, low, high):
                return False
        self._at = []
        return True

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


def _upper(piece: bytes) -> bytes:
    return piece.upper() if any(axis in piece for axis in _LOWER) else piece


def _heights(text: bytes) -> list[float]:
    return [math.inf if math.isnan(z) else z for z in numbers(text, b"Z")]
