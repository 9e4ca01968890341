# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Where each Z motor stands once its coils have power again.

A stepper without power keeps its place on a lead screw.  Its driver starts again at
phase zero, and the rotor snaps to the nearest place that has the driver's phase:

    before the cut     ....|.......x.......|....     x: the rotor, | : phase zero
    power is back      ....|<------x       |....     up to half a cycle = 2 full steps

All such places are one electrical cycle apart.  With the phase at the cut known, so
are they, and a small doubt about where the motor stopped does no harm: it stands at
one of them.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .record import Phases

# A rotor rests up to this far from where the field points (friction, load), as a
# share of an electrical cycle: a fifth of a full step.
LAG = 1 / 20


@dataclass(frozen=True)
class Motor:
    """A Z motor now.  step_dist: mm per microstep; cycle: microsteps per electrical
    cycle; phase: of its driver, None if unknown; moved: microsteps since klippy
    started."""

    step_dist: float
    cycle: int
    phase: int | None
    moved: int


@dataclass(frozen=True)
class Rest:
    """z: of the highest motor, mm.  below: how far each stands below that.

    bound: how wrong any of it can be, mm, as long as nothing else moved the machine.
    """

    z: float
    below: Mapping[str, float]
    bound: float


def rest(
    z: float,
    z_range: tuple[float, float],
    phases: Phases,
    motors: Mapping[str, Motor],
) -> Rest:
    """Where the motors stand that were at `z` when the state was saved.

    z_range: lowest and highest Z at which they can have stopped, mm.
    phases: at `z`.
    """
    if not motors:
        return Rest(z, {}, z_range[1] - z)
    places = {
        name: _place(z, z_range, phases.get(name), motor)
        for name, motor in motors.items()
    }
    highest = max(place for place, _ in places.values())
    return Rest(
        highest,
        {name: highest - place for name, (place, _) in places.items()},
        max(bound for _, bound in places.values()),
    )


def _place(
    z: float,
    z_range: tuple[float, float],
    then: tuple[int | None, int] | None,
    motor: Motor,
) -> tuple[float, float]:
    """Z at which one motor stands now, and how wrong that can be."""
    cycle = motor.cycle * motor.step_dist
    moved = motor.moved * motor.step_dist
    low, high = min(z, z_range[0]), max(z, z_range[1])
    known = then is not None and then[0] is not None and motor.phase is not None
    if then is None or not known or then[1] != motor.cycle:
        # It may have stopped higher, but a nozzle that is believed too low hits
        # nothing.
        return low + moved, cycle / 2 + high - low
    assert then[0] is not None and motor.phase is not None
    at_power_up = motor.phase - motor.moved
    origin = z + (at_power_up - then[0]) * motor.step_dist
    lowest = _rests(low, low, origin, cycle)
    place = (lowest[0] + lowest[-1]) / 2
    doubt = max(abs(r - place) for r in _rests(low, high, origin, cycle))
    return place + moved, doubt + LAG * cycle


def _rests(low: float, high: float, origin: float, cycle: float) -> list[float]:
    """Where a rotor can come to rest that stopped somewhere from low to high."""
    reach = (0.5 + LAG) * cycle
    first = math.ceil((low - reach - origin) / cycle)
    last = math.floor((high + reach - origin) / cycle)
    return [origin + k * cycle for k in range(first, last + 1)]
