# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Temperatures that a file hands to a start macro instead of setting them."""
from __future__ import annotations

import math
import re
from collections.abc import Mapping

from .errors import LexError
from .lexer import parse

_START = re.compile(rb"(?mi)^[ \t]*(_?[A-Z_]{0,32}START[A-Z_]{0,32}[ \t][^\n]{1,2000})")
_OF = {
    "extruder": re.compile(r"(?:EXTRUDER|HOTEND|NOZZLE|TOOL)(?:_?TEMP\w{0,16})?"),
    "heater_bed": re.compile(r"BED(?:_?TEMP\w{0,16})?"),
}
HOTTEST = 500.0


def of_start_macro(start: bytes) -> Mapping[str, float]:
    """{"extruder": 215.0, "heater_bed": 60.0}, as far as START_PRINT or its like is
    told.  start: the file up to its first layer, or more."""
    found: dict[str, float] = {}
    for match in _START.finditer(start):
        try:
            params = parse(match[1]).params
        except LexError:
            continue
        for heater, pattern in _OF.items():
            for key, text in params.items():
                value = _number(text)
                if value is not None and pattern.fullmatch(key):
                    found.setdefault(heater, value)
    return found


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and 0.0 < value <= HOTTEST else None
