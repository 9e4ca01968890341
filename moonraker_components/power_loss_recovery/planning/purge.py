# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Where to purge: a strip of bed that the part does not touch; and the purge."""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..record import Record
from .prologue import RETRACT, RETRACT_SPEED, TRAVEL_SPEED, Z_SPEED, retraction

Box = tuple[float, float, float, float]

LENGTH = 60.0
BESIDE = 0.25  # of the bed's size, that a head may reach beyond it
ROWS = 3  # along each edge
ROW = 10.0  # from one to the next
# Of another purge, which stands up where Z was not trusted.
APART = 8.0
EDGE = 6.0  # from the end of travel
CLEARANCE = 10.0  # from the part: room for a nozzle, a brim
# What comes down beside the part with the nozzle, as slicers assume it for objects
# that are printed one after another: the nozzle stands out below ducts and fans by
# so much; they reach so far around it; above them a beam goes along X, from side to
# side, and as far in front or behind.
NOZZLE = 3.0
BEAM = 25.0
HEAD = 50.0
# Filament per mm of travel; 0.2 of 1.75 mm is 0.48 mm2, below Klipper's default
# max_extrude_cross_section for a 0.4 mm nozzle.
FLOW = 0.2
# Of what klippy lets through at once (max_extrude_cross_section).
CROSS_SECTION_SHARE = 0.8
# Above the prime line that a start macro may have left there.
HEIGHT = 1.2
# With an untrusted Z the bed may be nearer than thought.
HEIGHT_UNTRUSTED = 5.0
PURGE_SPEED = 900
# Klipper smooths the filament's motion: it begins up to 0.1 s before the move. After
# some way without any, that is not while the nozzle still comes down: a drop laid
# there stands in the way of the wipe.
LEAD_IN = 3.0
# Below Klipper's default max_extrude_only_distance of 50 mm
LONGEST = 45.0


@dataclass(frozen=True)
class Strip:
    """Purge from (x, y) to (end_x, end_y), mm.  `on_bed` is False where no strip
    of bed is free: then the purge hangs in the air, above everything printed, and
    beside it where there is room."""

    x: float
    y: float
    end_x: float
    end_y: float
    on_bed: bool


def flow(extruder: Mapping[str, Any]) -> float:
    """Filament per mm of travel, mm: FLOW of 1.75 mm, or what is allowed.

    extruder: its section in klippy's settings.
    """
    nozzle = float(extruder.get("nozzle_diameter", 0.4))
    diameter = float(extruder.get("filament_diameter", 1.75))
    allowed = float(extruder.get("max_extrude_cross_section", 4 * nozzle**2))
    wanted = FLOW * math.pi / 4 * 1.75**2
    return min(wanted, allowed * CROSS_SECTION_SHARE) / (math.pi / 4 * diameter**2)


def bed(minimum: Sequence[float], maximum: Sequence[float]) -> Box:
    """What of the reach of the nozzle may be bed.  x, y, ...: its limits, mm.

    A head that goes a little below zero has something there: a brush, a dock, a
    switch.  The bed begins at zero, or has it in its middle.
    """
    x, y = (
        0.0 if -high * BESIDE < low < 0.0 else low
        for low, high in zip(minimum[:2], maximum[:2], strict=True)
    )
    return x, y, maximum[0], maximum[1]


def shifted(box: Box | None, origin: Sequence[float]) -> Box | None:
    """The box of the motors, of one in the file's coordinates."""
    if box is None:
        return None
    x, y = origin[:2]
    return (box[0] + x, box[1] + y, box[2] + x, box[3] + y)


def height(record: Record, measured: bool) -> float:
    """Of the motors, mm: there is neither offset nor mesh in a purge.

    measured: whether Z is true.
    """
    coordinates = record.state["coordinates"]
    zero = coordinates["homing_origin"][2] + coordinates["g92"][2]
    points = record.rare.get("mesh", {}).get("points") or ()
    uneven = max((max(row) for row in points), default=0.0)
    # The bed may stand that much higher than the motors count it.
    rise = max(zero, 0.0) + max(uneven, 0.0)
    return rise + (HEIGHT if measured else HEIGHT_UNTRUSTED)


def beside(
    bed: Box, part: Box | None, printed: bool, used: Sequence[Box] = (),
    depth: float = 0.0,
) -> Strip:  # fmt: skip
    """Something may be printed of which nobody knows where it is."""
    if part is None and printed:
        return in_the_air(bed)
    return choose(bed, part, used, depth)


def choose(
    bed: Box, part: Box | None, used: Sequence[Box] = (), depth: float = 0.0
) -> Strip:
    """The first free strip along an edge of the bed: front, rear, left, right, then
    further in.  used: where earlier resumes of this print have purged.

    depth: how far below the top of the part the nozzle comes there, mm.  Where that
    brings the head into the part, the strip is purged over, in the air.
    """
    free = [
        strip for strip in _edges(bed)
        if (part is None or not _near(strip, part, CLEARANCE))
        and not any(_near(strip, other, APART) for other in used)
    ]  # fmt: skip
    for strip in free:
        if part is None or not _hits(strip, part, depth):
            return strip
    return replace(free[0], on_bed=False) if free else in_the_air(bed)


def note(used: Sequence[Box], strip: Strip) -> tuple[Box, ...]:
    """`used`, with this one; a purge in the air is taken away."""
    box = (strip.x, strip.y, strip.end_x, strip.end_y)
    return (*used, box) if strip.on_bed and box not in used else tuple(used)


def in_the_air(bed: Box) -> Strip:
    """At a corner, for want of a strip of bed that is known to be free."""
    x, y = bed[0] + EDGE, bed[1] + EDGE
    return Strip(x, y, min(x + LENGTH, bed[2]), y, on_bed=False)


def script(
    strip: Strip, height: float, safe_z: float, record: Record, flow: float
) -> Iterator[str]:
    """Purge at `height`, pull the filament back, wipe, rise.  flow: filament per mm
    of travel, mm."""
    x = strip.x + (LEAD_IN if strip.end_x > strip.x else 0.0)
    y = strip.y + (LEAD_IN if strip.end_y > strip.y else 0.0)
    filament = max(strip.end_x - x, strip.end_y - y) * flow
    yield from ("G90", "M83", "G92 E0", f"G1 Z{height:.3f} F{Z_SPEED * 2}")
    # As after a wipe tower's unloading: the strip is for what comes after it.
    yield from _filament(max(record.retracted - RETRACT, 0.0))
    yield f"G1 X{x:.3f} Y{y:.3f} F{PURGE_SPEED}"
    yield f"G1 X{strip.end_x:.3f} Y{strip.end_y:.3f} E{filament:.3f} F{PURGE_SPEED}"
    yield from _filament(-retraction(record))
    yield f"G1 X{x:.3f} Y{y:.3f} F{TRAVEL_SPEED}"
    yield f"G1 Z{safe_z:.3f} F{Z_SPEED * 2}"
    yield "M400"


def _filament(length: float) -> Iterator[str]:
    """On the spot, in moves that klippy takes."""
    count = math.ceil(abs(length) / LONGEST)
    for _ in range(count):
        yield f"G1 E{length / count:.5f} F{RETRACT_SPEED}"


def _edges(bed: Box) -> Iterator[Strip]:
    x_min, y_min, x_max, y_max = bed
    x_mid, y_mid = (x_min + x_max) / 2, (y_min + y_max) / 2
    # A small machine has no room for some.
    wide = x_max - x_min >= LENGTH + 2 * EDGE
    deep = y_max - y_min >= LENGTH + 2 * EDGE
    for row in range(ROWS):
        edge = EDGE + row * ROW
        if row and min(x_max - x_min, y_max - y_min) < 2 * edge:
            return
        for y in (y_min + edge, y_max - edge) if wide else ():
            for x in (x_min + EDGE, x_mid - LENGTH / 2, x_max - EDGE - LENGTH):
                yield Strip(x, y, x + LENGTH, y, True)
        for x in (x_min + edge, x_max - edge) if deep else ():
            for y in (y_min + EDGE, y_mid - LENGTH / 2, y_max - EDGE - LENGTH):
                yield Strip(x, y, x, y + LENGTH, True)


def _hits(strip: Strip, part: Box, depth: float) -> bool:
    if depth <= NOZZLE:
        return False
    return _near(strip, part, HEAD, math.inf if depth > BEAM else HEAD)


def _near(strip: Strip, other: Box, room: float, along_x: float | None = None) -> bool:
    aside = room if along_x is None else along_x
    return (
        strip.x - aside < other[2]
        and strip.end_x + aside > other[0]
        and strip.y - room < other[3]
        and strip.end_y + room > other[1]
    )
