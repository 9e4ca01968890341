# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Looks from a place in a file back to the last line that says something."""
from __future__ import annotations

from .ambient import name_of, parse
from .errors import LexError, ScanError
from .text import Data

STEP = 65536
_MOVES = frozenset(("G0", "G1", "G2", "G3"))


def last_word(data: Data, start: int, end: int, letter: str) -> float | None:
    """The newest value of X, Y, Z or F in a move between two line starts.

    Raises ScanError for a move whose value is no number.
    """
    size = STEP
    needles = letter.encode("ascii"), letter.lower().encode("ascii")
    while end > start:
        begin = max(start, end - size)
        piece = data[begin:end]
        if begin > start:
            skipped = piece.find(b"\n") + 1
            begin, piece = begin + skipped, piece[skipped:]
            if not skipped or not piece:
                size *= 2
                continue
        at = max(map(piece.rfind, needles))
        while at >= 0:
            line_start = piece.rfind(b"\n", 0, at) + 1
            line = piece[line_start : max(piece.find(b"\n", at), 0) or None]
            if line[:1] == b"G" and name_of(line) in _MOVES:
                try:
                    value = parse(line).number(letter)
                except LexError as error:
                    where = begin + line_start
                    raise ScanError(f"at offset {where}: {error}") from error
                if value is not None:
                    return value
            at = max(piece.rfind(needle, 0, line_start) for needle in needles)
        end = begin
    return None
