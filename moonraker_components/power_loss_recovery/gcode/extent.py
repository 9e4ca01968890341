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

from .layers import Layers
from .modal import Motion
from .moves import run
from .skim import Known, Skimmer
from .text import WINDOW, Data, windows
from .words import numbers, within

_ARMS = (b"I", b"J")
_LOWER = (b"x", b"y", b"z")
# Of a piece with a place outside, so much is read around it.
_PART = 4096

# Lowest and highest x, y, z of plastic, mm, free of G92; not finite where nothing
# was printed or a frame is unknown
Span = tuple[list[float], list[float]]


def extent(data: Data, end: int, window: int = WINDOW) -> Span:
    """Of all that is printed before `end`."""
    found = Extent(data, window)
    found.read(end)
    return found.finish()


class Extent(Skimmer):
    """finish() tells what was printed since the one before.  flat: whether X and Y
    are wanted, or Z alone."""

    def __init__(self, data: Data, window: int = WINDOW, flat: bool = True) -> None:
        super().__init__(data, window)
        self._flat = flat
        self._low, self._high = _nowhere()
        # (highest Z word, start, length, modes and frame, known before) of pieces
        self._unread: list[tuple[float, int, int, Motion, Known]] = []
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
        text = piece.upper() if any(axis in piece for axis in _LOWER) else piece
        found = [math.inf if math.isnan(z) else z for z in numbers(text, b"Z")]
        highest, self._z = max([self._z, *found]), max(found, default=self._z)
        unread = highest + motion.frame[2], start, len(piece), motion, self.known
        if not self._flat or self._inside(text, motion):
            self._unread.append(unread)
        elif self.modes_changed:
            self._leave(self._read_moves(start, piece, motion, self.known))
        else:
            self._unread.append(unread)
            self._read_parts(start, piece, motion)
        return True

    def finish(self) -> Span:
        self._add(self.state.motion)
        for highest, start, length, motion, known in sorted(
            self._unread, key=lambda piece: -piece[0]
        ):
            if highest <= self._high[2]:
                break
            piece = self.data[start : start + length]
            self._read_moves(start, piece, motion, known)
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

    def _read_parts(self, start: int, piece: bytes, motion: Motion) -> None:
        for at, part in windows(piece, 0, len(piece), _PART):
            if not self._inside(part.upper(), motion):
                read = self._read_moves(start + at, part, motion, self.known)
                self._at = read.position[:2]

    def _inside(self, text: bytes, motion: Motion) -> bool:
        # An arc goes no further from its ends than twice its arm.
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
