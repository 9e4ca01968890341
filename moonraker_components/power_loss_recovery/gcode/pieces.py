# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What skim.py and extent.py look for in a piece of whole lines.

It follows from the bytes alone, whatever came before.  So others may have looked for it
meanwhile, in processes of their own; then the bytes themselves are not touched.
"""
from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

from .errors import ScanError
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
# What a helper is asked for at once, and how many times before it has answered.
_PART = 1 << 20
_WAITING = 2
# Parts of all, so that what is found does not fill the memory.
_QUEUE = 64
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
    """Somebody who looks at parts of the same bytes, in the order of the asking."""

    def ask(self, start: int, end: int, limits: Limits | None) -> None:
        """For what is between two starts of lines."""

    def ready(self) -> bool:
        """Whether next() can say something at once."""

    def next(self) -> Digest | None:
        """Of the following piece; None at the end of a part, or where it cannot tell
        what is in the rest of it."""


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
        return heights(self.upper if b"z" in self.text else self.text)

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


def digest(piece: Piece, limits: Limits | None) -> Digest:
    lines, z, sides = piece.lines(), piece.heights(), None
    if limits is not None:
        x, y = (piece.beyond(axis, *limits[axis]) for axis in range(2))
        sides = (x, y) if len(x) + len(y) <= _MOST else None
    return Digest(
        piece.start,
        piece.length,
        lines if len(lines) <= _MOST else None,
        z if len(z) <= _MOST else None,
        limits,
        sides,
    )


def own(data: Data, start: int, end: int, window: int) -> Iterator[Piece]:
    """All between two starts of lines.  Raises ScanError as windows() does."""
    for at, text in windows(data, start, end, window):
        piece = Piece(data, at, len(text))
        piece.text = text
        yield piece


@dataclass
class _Part:
    """What a helper was asked for; or what we have found while none was ready."""

    start: int
    stop: int
    helper: Helper | None
    found: Digest | None = None


def shared(
    data: Data, start: int, end: int, window: int,
    helpers: Sequence[Helper], limits: Callable[[], Limits | None],
) -> Iterator[Piece]:  # fmt: skip
    """As own(), in the same order.  limits: what to look for X and Y beyond, as of
    now."""
    parts: deque[_Part] = deque()
    last = end
    while parts or start < last:
        for helper in helpers:
            waiting = sum(part.helper is helper for part in parts)
            while start < last and waiting < _WAITING:
                stop = _line_start(data, min(start + _PART, last), last)
                helper.ask(start, stop, limits())
                parts.append(_Part(start, stop, helper))
                start, waiting = stop, waiting + 1
        part = parts[0]
        if part.helper is None:
            parts.popleft()
            yield Piece(data, part.start, part.stop - part.start, part.found)
        elif part.helper.ready() or start >= last or len(parts) >= _QUEUE:
            found = part.helper.next()
            if found is None:
                parts.popleft()
                yield from own(data, part.start, part.stop, window)
            else:
                at, part.start = part.start, part.start + found.length
                yield Piece(data, at, found.length, found)
        else:
            try:
                piece = next(own(data, start, last, window))
            except ScanError:
                # In its turn: something before may be wrong as well.
                last = start
                continue
            found = digest(piece, limits())
            parts.append(_Part(start, start + piece.length, None, found))
            start += piece.length
    yield from own(data, start, end, window)


def _line_start(data: Data, at: int, end: int) -> int:
    stop = data.find(b"\n", at) + 1
    return min(stop, end) if stop else end
