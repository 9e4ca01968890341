# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The steps of a plan as plain G-code, for a printer that has only Klipper."""
from __future__ import annotations

import re
from collections.abc import Iterator

from ..plan import Plan
from ..planning.facts import Facts
from ..record import Record

# Written by PrusaSlicer and its kin, OrcaSlicer and its kin
_BED = re.compile(rb"(?m)^; (?:bed_shape|printable_area) = ([-\d.x,]{3,4000})\r?$")
_HEIGHT = re.compile(rb"(?m)^; (?:max_print_height|printable_height) = ([\d.]{1,12})")
MIN_EXTRUDE_TEMP = 170.0

Bed = tuple[float, float, float, float]


def stated_bed(text: bytes) -> Bed | None:
    """x_min, y_min, x_max, y_max of the printer that a slicer's settings speak of."""
    match = _BED.search(text)
    if match is None:
        return None
    try:
        corners = [tuple(map(float, c.split(b"x"))) for c in match[1].split(b",")]
        xs, ys = ([corner[i] for corner in corners] for i in (0, 1))
    except (ValueError, IndexError):
        return None
    return min(xs), min(ys), max(xs), max(ys)


def stated_height(text: bytes) -> float | None:
    match = _HEIGHT.search(text)
    try:
        return None if match is None else float(match[1])
    except ValueError:
        return None


def facts(
    bed: Bed, height: float, nozzle_z: float, objects: frozenset[str]
) -> Facts:
    """A machine of which only its size is known."""
    return Facts(
        axis_minimum=(bed[0], bed[1], min(0.0, nozzle_z)),
        axis_maximum=(bed[2], bed[3], height),
        min_extrude_temp=MIN_EXTRUDE_TEMP,
        z_switches=False,
        z_calibrated=False,
        objects=objects,
        toolhead_z=nozzle_z,
        z_strategy="assume",
    )


def preparation(plan: Plan, record: Record, nozzle_z: float) -> Iterator[bytes]:
    """Lines that bring a cold, unhomed printer to where the prologue begins."""
    yield from (line.encode() for line in _opening(nozzle_z))
    for step in plan.steps:
        yield f"; {step.title}.".encode()
        if step.name == "lift":
            yield from _assume(nozzle_z)
        for line in step.script.split("\n"):
            if line:
                yield line.encode("utf-8", "surrogateescape")
        for sensor, minimum in step.wait.items():
            yield (
                f"TEMPERATURE_WAIT SENSOR={_quoted(sensor)} MINIMUM={minimum:.1f}"
                " ; as hot as that before it goes on"
            ).encode()


def _opening(nozzle_z: float) -> Iterator[str]:
    yield "; Made for a printer that has only Klipper: it prepares the printer itself."
    yield "; Klipper needs [force_move] with enable_force_move: True, for"
    yield "; SET_KINEMATIC_POSITION. G28 X Y must home these two only, and not lower Z."
    yield f"; The nozzle must stand at Z={nozzle_z:.3f} now, as when the print stopped:"
    yield "; nothing measures Z. Be there, and ready to stop it."


def _assume(z: float) -> Iterator[bytes]:
    yield b"; Klipper before v0.13 knows no SET_HOMED, and takes X and Y for homed too:"
    yield b"; they do not move before G28 has homed them."
    yield f"SET_KINEMATIC_POSITION Z={z:.4f} SET_HOMED=Z ; Z as you said".encode()


def _quoted(sensor: str) -> str:
    return f'"{sensor}"' if " " in sensor else sensor
