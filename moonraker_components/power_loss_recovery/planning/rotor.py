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

from ..record import Phases

# A rotor rests up to this far from where the field points (friction, load), as a
# share of an electrical cycle: a fifth of a full step.
LAG = 1 / 20
# Of a cycle, and a little: rounding does not decide between two places
HALF = 0.500001


@dataclass(frozen=True)
class Motor:
    """A Z motor now.  step_dist: mm per microstep; cycle: microsteps per electrical
    cycle; phase: of its driver, None if unknown; moved: microsteps since klippy
    started; counted: the phase is a count of steps, not read from the driver."""

    step_dist: float
    cycle: int
    phase: int | None
    moved: int
    counted: bool = False


@dataclass(frozen=True)
class Rest:
    """z: of the highest motor, mm.  below: how far each stands below that.

    bound: how wrong any of it can be, mm, as long as nothing else moved the machine;
    None: nobody knows.
    apart: not None where a phase was counted: then `bound` holds only if the board was
    always switched on and restarted together with the drivers; else this does, mm.
    """

    z: float
    below: Mapping[str, float]
    bound: float | None
    apart: float | None = None


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
        # Those that move Z move X as well (CoreXZ)
        return Rest(z, {}, None)
    places = {
        name: _place(z, z_range, phases.get(name), motor)
        for name, motor in motors.items()
    }
    highest = max(place for place, _ in places.values())
    bound = max(bound for _, bound in places.values())
    counted = [name for name, m in motors.items() if m.counted and m.phase is not None]
    apart = [_doubt(places[n][0], z, z_range, motors[n]) for n in counted]
    return Rest(
        highest,
        {name: highest - place for name, (place, _) in places.items()},
        bound,
        max(apart) if max(apart, default=bound) > bound else None,
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
        place = low + moved
        return place, _doubt(place, z, z_range, motor)
    assert then[0] is not None and motor.phase is not None
    at_power_up = motor.phase - motor.moved
    origin = z + (at_power_up - then[0]) * motor.step_dist
    # Where a rotor that did not lag falls, of two such places the lower.  Few lag so
    # much that they fall to the other one, and the middle would always be wrong.
    place = origin + math.ceil((low - origin) / cycle - HALF) * cycle
    doubt = max(abs(r - place) for r in _rests(low, high, origin, cycle))
    return place + moved, doubt + LAG * cycle


def _doubt(
    place: float, z: float, z_range: tuple[float, float], motor: Motor
) -> float:
    """How wrong `place` can be when nothing is known of the phase."""
    cycle = motor.cycle * motor.step_dist
    stopped = place - motor.moved * motor.step_dist
    low, high = min(z, z_range[0]), max(z, z_range[1])
    # It lags twice: where it stood when it lost its power, and where it rests now.
    return (0.5 + 2 * LAG) * cycle + max(stopped - low, high - stopped)


def _rests(low: float, high: float, origin: float, cycle: float) -> list[float]:
    """Where a rotor can come to rest that stopped somewhere from low to high."""
    reach = (0.5 + LAG) * cycle
    first = math.ceil((low - reach - origin) / cycle)
    last = math.floor((high + reach - origin) / cycle)
    return [origin + k * cycle for k in range(first, last + 1)]
