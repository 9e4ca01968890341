# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Where the saved state and the file say different things about one place.

The saved state is what klippy really had, and is used: somebody has turned a knob, a
macro has, or klippy reads a line otherwise than we do.  The last is why it is said.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..gcode.scan import Head
from ..record import Record

PLACE = 0.01  # mm
FILAMENT = 0.1
FEEDRATE = 1.0  # mm/min
DEGREES = 0.5
SPEED = 0.01  # of a fan


def differences(record: Record, head: Head) -> Iterator[str]:
    """Sentences for the owner; none for a record that is made from the file."""
    if record.from_file:
        return
    for what, file, saved in [*_modes(record, head), *_values(record, head)]:
        yield f"{what}: {file} in the file, {saved} in the saved state, which is used."


def _modes(record: Record, head: Head) -> Iterator[tuple[str, Any, Any]]:
    coordinates = record.state["coordinates"]
    words = ("relative", "absolute")
    for key, what, stated in (
        ("absolute_coordinates", "Coordinates (G90/G91)", head.coordinates_stated),
        ("absolute_extrude", "Filament (M82/M83)", head.extrude_stated),
    ):
        file, saved = getattr(head, key), coordinates[key]
        if stated and file != saved:
            yield what, words[file], words[saved]
    current = record.state["objects"].get("current")
    if head.current_object and current and head.current_object != current.upper():
        yield "Object", head.current_object, current


def _values(record: Record, head: Head) -> Iterator[tuple[str, str, str]]:
    absolute_e = head.absolute_coordinates and head.absolute_extrude
    for i, axis in enumerate("XYZE"):
        file, saved = head.position[i], record.position[i]
        if file is not None and (axis != "E" or absolute_e):
            if abs(file - saved) > PLACE:
                yield f"{axis} here", f"{file:.3f}", f"{saved:.3f}"
    if head.feedrate is not None and abs(head.feedrate - record.speed) > FEEDRATE:
        yield "Speed (F)", f"{head.feedrate:.0f}", f"{record.speed:.0f}"
    if not head.firmware_retracted:
        if abs(head.retracted - record.retracted) > FILAMENT:
            yield (
                "Filament pulled back, mm",
                f"{head.retracted:.2f}", f"{record.retracted:.2f}",
            )  # fmt: skip
    for name, target in head.heaters.items():
        if abs(target - record.heaters.get(name, target)) > DEGREES:
            yield f"[{name}], °C", f"{target:.0f}", f"{record.heaters[name]:.0f}"
    fans = record.state["fans"]
    for name, speed in head.fans.items():
        # Nobody counts on a fan's max_power here: on and off must agree.
        if (speed > SPEED) != (fans.get(name, speed) > SPEED):
            yield f"[{name}], %", f"{speed * 100:.0f}", f"{fans[name] * 100:.0f}"
