# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The numbers after a letter in a piece of a file, in upper case; comments count.

Most need not be looked at to know that they stay between two limits: a pattern of
whole numbers passes over those that do for certain, and only the few near the limits
or beyond, or written in another way, become numbers.
"""
from __future__ import annotations

import functools
import math
import re

# Beyond them, numbers are compared one by one.
_MOST = 9999
# Letters that are looked for one by one, which is quicker than a pattern.
_FEW = 128
# As Klipper cuts it out, if float() can take it; it takes digits of other scripts.
_VALUE = rb"[ \t\v\f\r]*([-+.\d\x80-\xff][^A-Z*_;\n]*)"


def beyond(
    text: bytes, letter: bytes, low: float, high: float
) -> list[tuple[int, float]]:
    """(offset, number) of every one after `letter` that is not from `low` to `high`.

    Also of what does not begin as one that is, as NaN; and of all where a limit is.
    """
    if not low <= high:
        pattern = re.compile(letter + _VALUE)
    else:
        least, most = max(low, -_MOST), min(high, _MOST)
        pattern = _perhaps_beyond(letter, math.ceil(least), math.floor(most))
    found = [(match.start(), _number(match[1])) for match in pattern.finditer(text)]
    return [(at, value) for at, value in found if not low <= value <= high]


def numbers(text: bytes, letter: bytes) -> list[float]:
    """All that are different; NaN for what may be no number."""
    pattern, words = re.compile(letter + _VALUE), set()
    at = text.find(letter)
    for _ in range(_FEW):
        if at < 0:
            break
        match = pattern.match(text, at)
        if match is not None:
            words.add(match[1])
        at = text.find(letter, at + 1)
    else:
        words.update(pattern.findall(text, max(at, 0)))
    return [_number(word) for word in words]


def _number(word: bytes) -> float:
    try:
        return float(word if word.isascii() else word.decode("utf-8"))
    except ValueError:
        return math.nan


@functools.lru_cache(maxsize=64)
def _perhaps_beyond(letter: bytes, low: int, high: int) -> re.Pattern[bytes]:
    """Finds the words whose whole part does not show that they are from low to
    high."""
    # 7.9 is more than 7, and -7.9 less than -7.  The most frequent come first.
    parts = _integers(max(low, 0), high - 1)
    negative = _integers(max(-high, 0), -low - 1)
    if negative:
        parts.append(b"-(?:" + b"|".join(negative) + b")")
    if not parts:
        return re.compile(letter + _VALUE)
    # Most words end at the first of these: trying one of several takes longer.
    groups = [*parts[:2], b"(?:" + b"|".join(parts[2:]) + b")"][: len(parts)]
    ahead = b"".join(rb"(?!" + group + rb"\.)" for group in groups)
    return re.compile(letter + ahead + _VALUE)


def _integers(low: int, high: int) -> list[bytes]:
    """Patterns of all numbers from `low` >= 0 to `high`, without leading zeros;
    those of the most numbers first."""
    found = []
    while low <= high:
        step = 1
        while low % (step * 10) == 0 and step * 10 <= min(low, high - low + 1):
            step *= 10
        prefix, digit = divmod(low // step, 10)
        last = min(9, digit + (high - low + 1) // step - 1)
        digits = b"%d" % digit if last == digit else b"[%d-%d]" % (digit, last)
        lead = b"%d" % prefix if prefix else b""
        count = step * (last - digit + 1)
        found.append((count, lead + digits + rb"\d" * (len(str(step)) - 1)))
        low += count
    return [pattern for _, pattern in sorted(found, reverse=True)]
