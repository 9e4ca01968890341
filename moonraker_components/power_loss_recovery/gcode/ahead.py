# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a file does after a point, and how high it goes before it."""
from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from .layers import Layers
from .modal import Motion
from .moves import run
from .text import Data, windows

_NUMBER = re.compile(rb"[ \t]*=?[ \t]*(-?\d{1,9}(?:\.\d{0,9})?|-?\.\d{1,9})")
# Commands whose Z is no height, after which others are not either
_SHIFT = re.compile(rb"(?i)G92|SET_GCODE_OFFSET")


@dataclass(frozen=True)
class Reach:
    """Extents of what is printed, mm, free of G92: (x_min, y_min, x_max, y_max) and
    the highest Z.  NaN where the file does not tell."""

    box: tuple[float, float, float, float]
    top_z: float


def reach(data: Data, start: int) -> Reach | None:
    """Of all that is printed from byte `start` on; None when nothing is.

    Reads every move of the file: slow.  Raises ScanError as scan() does.
    """
    motion, layers = Motion(), Layers()
    for offset, piece in windows(data, 0, start):
        run(piece, offset, motion, layers)
    motion.low, motion.high = [math.inf] * 3, [-math.inf] * 3
    found = False
    for offset, piece in windows(data, start, len(data)):
        found = run(piece, offset, motion, layers)[0] is not None or found
    if not found:
        return None
    (x, y, _), (x_max, y_max, top_z) = motion.low, motion.high
    gx, gy, gz = motion.frame
    return Reach((x + gx, y + gy, x_max + gx, y_max + gy), top_z + gz)


def highest_z(data: Data, end: int) -> float | None:
    """The highest Z that any line before `end` names, printing or not.

    Far quicker than to follow the print, and never lower.  None when lines before
    `end` shift Z, so that its words do not tell.
    """
    highest = -math.inf
    for _, piece in windows(data, 0, end):
        if any(True for word in (b"G91", b"g91") for _ in _commands(piece, word)):
            return None
        for letter in (b"Z", b"z"):
            for at, before in _commands(piece, letter):
                match = _NUMBER.match(piece, at + 1)
                if match is not None and _SHIFT.search(before):
                    return None
                if match is not None:
                    highest = max(highest, float(match[1]))
    return highest if math.isfinite(highest) else None


def _commands(piece: bytes, text: bytes) -> Iterator[tuple[int, bytes]]:
    """Where `text` stands outside of comments, and what stands before it."""
    at = piece.find(text)
    while at >= 0:
        before = piece[piece.rfind(b"\n", 0, at) + 1 : at]
        if b";" not in before:
            yield at, before
        at = piece.find(text, at + 1)
