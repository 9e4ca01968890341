# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Values read from disk, or sent by klippy: of the right type, finite, in bounds.

Each raises RecordError for what is not.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .payloads import RecordError

MAX_MM = 100_000.0


def name(value: Any) -> str:
    """A name that may stand in a G-code line."""
    if not isinstance(value, str) or len(value) > 300:
        raise RecordError(f"{value!r:.80} is no name")
    if any(c in value for c in "\r\n\0;\""):
        raise RecordError(f"{value!r:.80} cannot stand in a G-code line")
    return value


def key(value: Any) -> str:
    """A name that a command cannot do without."""
    if not name(value).strip():
        raise RecordError("state: an empty name")
    return value


def numbers(value: Any, what: str, count: int, limit: float = MAX_MM) -> None:
    if not isinstance(value, (list, tuple)) or len(value) != count:
        raise RecordError(f"{what} is {value!r:.80}, expected {count} numbers")
    for number in value:
        finite(number, what, -limit, limit)


def finite(value: Any, what: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RecordError(f"{what} is {value!r:.80}, expected a number")
    # NaN is in no range; a whole number may be too large for a float.
    if not low <= value <= high:
        raise RecordError(f"{what} is {value!r}, expected {low:g} to {high:g}")
    return float(value)


def real(raw: Mapping[str, Any], key: str, low: float, high: float) -> float:
    return finite(raw.get(key), key, low, high)


def table(value: Any, what: str) -> Mapping[str, Any]:
    """What becomes names in G-code."""
    if not isinstance(value, Mapping):
        raise RecordError(f"state: {what} is {value!r:.80}, expected a table")
    for one in value:
        key(one)
    return value


def integer(raw: Mapping[str, Any], key: str, low: int, high: int) -> int:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecordError(f"{key} is {value!r:.80}, expected a whole number")
    if not low <= value <= high:
        raise RecordError(f"{key} is {value}, expected {low} to {high}")
    return value


def text(raw: Mapping[str, Any], key: str, longest: int) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or len(value) > longest:
        raise RecordError(f"{key} is {value!r:.80}, expected a text")
    return value
