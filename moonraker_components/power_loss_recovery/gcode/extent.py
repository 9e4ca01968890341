# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Where plastic is, without reading the moves that cannot add to it.

After the first layers nearly every piece of a file stays inside what is there.  The
whole numbers of its X and Y words show that; such a piece is read only for its
height, and only when no higher one was.  Never smaller than what was printed: at the
start of a piece the filament is taken as not pulled back.
"""
from __future__ import annotations

import math
import re

from .layers import Layers
from .modal import Motion
from .moves import run
from .skim import Known, Skimmer
from .text import WINDOW, Data

_WHOLE = rb"([-+]?(?=[.\d])\d{0,300})"
_Z = re.compile(rb"Z *([-+]?(?:\d{1,300}\.?\d{0,300}|\.\d{1,300}))")
_ARCS = (b"G2 ", b"G3 ")


def extent(
    data: Data, end: int, window: int = WINDOW
) -> tuple[list[float], list[float]]:
    """Lowest and highest x, y, z of plastic, mm, free of G92; not finite where
    nothing was printed or a frame is unknown."""
    found = _Extent(data, window)
    found.read(end)
    return found.finish()


class _Extent(Skimmer):
    def __init__(self, data: Data, window: int) -> None:
        super().__init__(data, window)
        self._low, self._high = [math.inf] * 3, [-math.inf] * 3
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
        text = piece.upper()
        words = [float(word) for word in set(_Z.findall(text))]
        highest, self._z = max([self._z, *words]), max(words, default=self._z)
        if self._inside(text, motion):
            frame = motion.frame[2]
            self._unread.append(
                (highest + frame, start, len(piece), motion, self.known)
            )
        else:
            self._leave(self._read_moves(start, piece, motion, self.known))
        return True

    def finish(self) -> tuple[list[float], list[float]]:
        self._add(self.state.motion)
        for highest, start, length, motion, known in sorted(
            self._unread, key=lambda piece: -piece[0]
        ):
            if highest <= self._high[2]:
                break
            piece = self.data[start : start + length]
            self._read_moves(start, piece, motion, known)
        return self._low, self._high

    def _leave(self, motion: Motion) -> None:
        self._at = motion.position[:2]
        self._z = motion.position[2]
        if math.isnan(self._z):
            self._z = math.inf

    def _inside(self, text: bytes, motion: Motion) -> bool:
        reach = 0.0
        if text.startswith(_ARCS) or any(b"\n" + arc in text for arc in _ARCS):
            arms = (_span(text, a) for a in (b"I", b"J"))
            reach = 2.0 * sum(max(abs(low), abs(high)) for low, high in arms)
        for axis, letter in enumerate((b"X", b"Y")):
            low, high = _span(text, letter)
            if self._at:
                low, high = min(low, self._at[axis]), max(high, self._at[axis])
            known_low = min(self._low[axis], motion.low[axis] + motion.frame[axis])
            known_high = max(self._high[axis], motion.high[axis] + motion.frame[axis])
            # Also false where one of them is not a number
            if not low - reach + motion.frame[axis] >= known_low:
                return False
            if not high + reach + motion.frame[axis] <= known_high:
                return False
        self._at = []
        return True

    def _read_moves(
        self, start: int, piece: bytes, modes: Motion, known: Known
    ) -> Motion:
        motion = self.seeded(start, modes, known)
        motion.forget_tools(0.0)
        motion.low, motion.high = [math.inf] * 3, [-math.inf] * 3
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


def _span(text: bytes, letter: bytes) -> tuple[float, float]:
    """The least and the greatest number after `letter`; infinite for none."""
    spaced = b" *" if letter + b" " in text else b""
    words = set(re.findall(letter + spaced + _WHOLE, text))
    if not words:
        return math.inf, -math.inf
    # Whole parts do not overlap: the extremes begin with the extreme ones, of which
    # 0, 00 and +0 are the same and -0 is not.
    signed = {word: _signed(word) for word in words}
    least, most = min(signed.values()), max(signed.values())
    ends = [word for word, value in signed.items() if value in (least, most)]
    spans = [_exactly(text, letter + spaced, word) for word in ends]
    return min(low for low, _ in spans), max(high for _, high in spans)


def _signed(whole: bytes) -> float:
    value = float(whole.lstrip(b"+-") or b"0")
    return -1.0 - value if whole.startswith(b"-") else value


def _exactly(text: bytes, start: bytes, whole: bytes) -> tuple[float, float]:
    """The least and the greatest of the numbers that begin with `whole`."""
    digits = whole[-1:].isdigit()
    rest = rb"(?:\.\d*)?" if digits else rb"\.\d*"
    pattern = start + b"(" + re.escape(whole) + rest + rb")(?!\d)"
    found = [
        float(word if digits else word + b"0")
        for word in set(re.findall(pattern, text))
    ]
    return min(found, default=-math.inf), max(found, default=math.inf)
