# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What skim.py and extent.py look for in a piece of whole lines.

It follows from the bytes alone, whatever came before.  So others may have looked for it
meanwhile, in processes of their own; then the bytes themselves are not touched.
"""
from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

from .layers import NOTE_START
from .text import Data, windows
from .words import beyond, numbers

# Of an arc that lays plastic no more than that it is one, of another nothing.
_LINES = re.compile(
    rb"\n(?!G[01] )(?!G[23] [^Ee\n]*\n)(?!;(?!" + NOTE_START + rb"|[; \t]*PLR_))"
    rb"(G[23] |[^\r\n][^\n]*)"
)
_LOWER = (b"x", b"y", b"z")
_SIDES = (b"X", b"Y")
# We look at so many bytes while each of the others looks at more: what the lines mean
# together is left to us.
_OURS, _THEIRS = 1 << 21, 1 << 22
# More than that is found again sooner than it is handed over.
_MOST = 2048

# Lowest and highest X and Y
Limits = tuple[tuple[float, float], tuple[float, float]]
Words = list[tuple[int, float]]


class Digest(NamedTuple):
    """What was found in a piece.  sides: words beyond `limits`, by axis.  None where it
    was not looked for, or where it is too much to be handed over."""

    start: int
    length: int
    lines: list[bytes] | None
    heights: list[float] | None
    limits: Limits | None
    sides: tuple[Words, Words] | None


class Helper(Protocol):
    """Somebody who looks at parts of the same bytes."""

    def ask(self, start: int, end: int, limits: Limits | None) -> None:
        """For what is between two starts of lines."""

    def digests(self) -> Iterator[Digest]:
        """Of what was asked for first, in order; fewer where it cannot tell."""


class Piece:
    """`found` wins over the bytes."""

    def __init__(
        self, data: Data, start: int, length: int, found: Digest | None = None
    ) -> None:
        self.data, self.start, self.length, self.found = data, start, length, found

    @cached_property
    def text(self) -> bytes:
        return self.data[self.start : self.start + self.length]

    @cached_property
    def upper(self) -> bytes:
        text = self.text
        return text.upper() if any(axis in text for axis in _LOWER) else text

    def lines(self) -> list[bytes]:
        """Those that are no plain moves, and of a drawing arc "G2 " or "G3 "."""
        if self.found is not None and self.found.lines is not None:
            return self.found.lines
        # The pattern wants the newline before a line.
        first = b"\n" + self.text[: self.text.find(b"\n")]
        return _LINES.findall(first) + _LINES.findall(self.text)

    def heights(self) -> list[float]:
        """All numbers after Z that are different; infinite where one is none."""
        if self.found is not None and self.found.heights is not None:
            return self.found.heights
        return heights(self.upper)

    def beyond(self, axis: int, low: float, high: float) -> Words:
        """See words.py; of X and Y."""
        found = self.found
        if found is not None and found.limits is not None and found.sides is not None:
            least, most = found.limits[axis]
            if low <= least and most <= high:
                words = found.sides[axis]
                return [(at, value) for at, value in words if not low <= value <= high]
        return beyond(self.upper, _SIDES[axis], low, high)


def heights(text: bytes) -> list[float]:
    return [math.inf if math.isnan(z) else z for z in numbers(text, b"Z")]


def digests(
    data: Data, start: int, end: int, limits: Limits | None, window: int
) -> Iterator[Digest]:
    """What a helper answers.  Raises ScanError as windows() does."""
    for piece in _own(data, start, end, window):
        lines, z, sides = piece.lines(), piece.heights(), None
        if limits is not None:
            x, y = (piece.beyond(axis, *limits[axis]) for axis in range(2))
            sides = (x, y) if len(x) + len(y) <= _MOST else None
        yield Digest(
            piece.start,
            piece.length,
            lines if len(lines) <= _MOST else None,
            z if len(z) <= _MOST else None,
            limits,
            sides,
        )


def pieces(
    data: Data, start: int, end: int, window: int,
    helpers: Sequence[Helper] = (), limits: Callable[[], Limits | None] = lambda: None,
) -> Iterator[Piece]:  # fmt: skip
    """All between two starts of lines, in order.  limits: what to look for X and Y
    beyond, as of now.  Raises ScanError as windows() does."""
    turns = _turns(data, start, end, len(helpers))
    turn = _ask(next(turns, []), helpers, limits)
    while turn:
        yield from _own(data, *turn[0], window)
        # Whoever is asked before he is listened to does not wait for us.
        following = _ask(next(turns, []), helpers, limits)
        for helper, (begin, stop) in zip(helpers, turn[1:], strict=False):
            for found in helper.digests():
                yield Piece(data, begin, found.length, found)
                begin += found.length
            yield from _own(data, begin, stop, window)
        turn = following


def _own(data: Data, start: int, end: int, window: int) -> Iterator[Piece]:
    for at, text in windows(data, start, end, window):
        piece = Piece(data, at, len(text))
        piece.text = text
        yield piece


def _ask(
    turn: list[tuple[int, int]],
    helpers: Sequence[Helper],
    limits: Callable[[], Limits | None],
) -> list[tuple[int, int]]:
    for helper, (start, end) in zip(helpers, turn[1:], strict=False):
        helper.ask(start, end, limits())
    return turn


def _turns(
    data: Data, start: int, end: int, helpers: int
) -> Iterator[list[tuple[int, int]]]:
    """Parts to be looked at at once: the first by ourselves."""
    if not helpers and start < end:
        yield [(start, end)]
    while helpers and start < end:
        turn: list[tuple[int, int]] = []
        for size in (_OURS, *[_THEIRS] * helpers):
            if start < end:
                stop = data.find(b"\n", min(start + size, end)) + 1
                stop = min(stop, end) if stop else end
                turn.append((start, stop))
                start = stop
        yield turn
