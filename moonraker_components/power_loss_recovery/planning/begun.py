# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The line in which the power failed: how things stood inside it, and its rest."""
from __future__ import annotations

from dataclasses import replace

from ..gcode.rewriter import Point4, remainder
from ..gcode.scan import Head
from ..record import Record

PLANES = ("G17", "G18", "G19")


def split(record: Record, head: Head, line: bytes) -> tuple[Record, bytes | None]:
    """The record where the unprinted path begins, and the rest of its line.

    line: the text at record.file_position.  The record as it is, and None, when that
    line is to be run whole.
    """
    coordinates = record.state["coordinates"]
    rest = remainder(
        line,
        Point4(*record.position),
        record.fraction,
        coordinates["absolute_coordinates"],
        coordinates["absolute_extrude"],
        _plane(head),
    )
    if rest is None:
        return replace(record, fraction=0.0), None
    point, first_line = rest
    x, y, z, e = (
        was if now is None else now
        for was, now in zip(record.position, point, strict=True)
    )
    # M221 counts for the motor, and not for what the file says of E.
    fed = (e - record.position[3]) * record.state["coordinates"]["extrude_factor"]
    retracted = max(record.retracted - fed, 0.0)
    return replace(record, position=(x, y, z, e), retracted=retracted), first_line


def _plane(head: Head) -> str:
    """Of arcs: klippy does not tell, the file does."""
    chosen = [setting.name for setting in head.settings if setting.name in PLANES]
    return chosen[-1] if chosen else "G17"
