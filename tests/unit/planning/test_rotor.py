# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Against rotors that snap as physics has it, wherever they were stopped."""
from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.planning import rotor
from moonraker_components.power_loss_recovery.planning.rotor import LAG, Motor, rest

STEP, CYCLE = 0.0025, 64
MM = STEP * CYCLE
FRESH = Motor(STEP, CYCLE, 0, 0)
NAMES = ("stepper_z", "stepper_z1")
steps = st.integers(0, 100_000)
lags = st.floats(-LAG, LAG)


def snapped(step: int, lag: float = 0.0) -> float:
    """Where a rotor that stood at this step rests when its driver starts at zero."""
    return round((step * STEP + lag) / MM) * MM


def far_from_half(step: int) -> bool:
    share = step % CYCLE / CYCLE
    return abs(share - 0.5) > LAG


@given(steps)
def test_with_a_known_phase_the_snap_is_taken_out(step: int) -> None:
    assume(far_from_half(step))
    z = step * STEP
    found = rest(z, (z, z), {"stepper_z": (step % CYCLE, CYCLE)}, {"stepper_z": FRESH})
    assert found.z == pytest.approx(snapped(step), abs=1e-9)
    assert found.below == {"stepper_z": pytest.approx(0.0)}
    assert found.bound == pytest.approx(LAG * MM)


@given(steps, lags, lags)
def test_whatever_the_phase_the_bound_holds(
    step: int, lag: float, rests_at: float
) -> None:
    z = step * STEP
    found = rest(z, (z, z), {"stepper_z": (step % CYCLE, CYCLE)}, {"stepper_z": FRESH})
    there = snapped(step, lag * MM) + rests_at * MM
    assert abs(found.z - there) <= found.bound + 1e-9
    assert found.bound <= MM + LAG * MM + 1e-9


@given(st.integers(0, 1500), st.integers(-3, 3))
def test_close_to_halfway_the_place_without_lag_is_believed(
    cycles: int, beside: int
) -> None:
    """Of two that are as far the lower, and the other one is told as the bound."""
    step = cycles * CYCLE + CYCLE // 2 + beside
    assert not far_from_half(step)
    z = step * STEP
    found = rest(z, (z, z), {"stepper_z": (step % CYCLE, CYCLE)}, {"stepper_z": FRESH})
    assert found.z == pytest.approx((cycles + (beside > 0)) * MM)
    assert found.bound == pytest.approx(MM + LAG * MM)


@given(steps, st.integers(-400, 400), st.floats(0, 1))
def test_a_motor_that_went_on_stands_within_the_bound(
    step: int, further: int, share: float
) -> None:
    """Between the last save and the cut Z may have moved, as the queue had it."""
    z, to = step * STEP, (step + further) * STEP
    stopped = step + round(share * further)
    found = rest(z, (min(z, to), max(z, to)), {"stepper_z": (step % CYCLE, CYCLE)},
                 {"stepper_z": FRESH})  # fmt: skip
    assert abs(found.z - snapped(stopped)) <= found.bound + 1e-9


@given(steps)
def test_a_little_doubt_about_z_does_no_harm(step: int) -> None:
    """All places where it can rest are a cycle apart."""
    assume(abs(step % CYCLE - CYCLE / 2) > CYCLE / 4)
    z = step * STEP
    found = rest(z, (z - MM / 8, z + MM / 8), {"stepper_z": (step % CYCLE, CYCLE)},
                 {"stepper_z": FRESH})  # fmt: skip
    assert found.z == pytest.approx(snapped(step))
    assert found.bound == pytest.approx(LAG * MM)


@given(st.tuples(steps, steps))
def test_each_motor_has_a_snap_of_its_own(at: tuple[int, int]) -> None:
    """They share one Z and not one phase."""
    z = 10.0
    phases = {n: (s % CYCLE, CYCLE) for n, s in zip(NAMES, at, strict=True)}
    found = rest(z, (z, z), phases, dict.fromkeys(NAMES, FRESH))
    assert min(found.below.values()) == 0.0
    for name, step in zip(NAMES, at, strict=True):
        if far_from_half(step):
            snap = snapped(step) - step * STEP
            assert found.z - found.below[name] == pytest.approx(z + snap, abs=1e-9)


def test_a_motor_that_was_moved_since_is_followed() -> None:
    moved = Motor(STEP, CYCLE, (400 + 0) % CYCLE, 400)
    at = rest(10.0, (10.0, 10.0), {"stepper_z": (8, CYCLE)}, {"stepper_z": moved})
    still = rest(10.0, (10.0, 10.0), {"stepper_z": (8, CYCLE)}, {"stepper_z": FRESH})
    assert at.z == pytest.approx(still.z + 400 * STEP)


@pytest.mark.parametrize(("then", "motor"), [
    (None, FRESH), ((None, CYCLE), FRESH), ((8, CYCLE), replace(FRESH, phase=None)),
    ((8, 2 * CYCLE), FRESH),
])  # fmt: skip
@given(step=steps, lag=lags, rests_at=lags)
def test_without_a_phase_it_is_half_a_cycle_and_two_lags(
    then: tuple[int | None, int] | None,
    motor: Motor,
    step: int,
    lag: float,
    rests_at: float,
) -> None:
    z = step * STEP
    phases = {} if then is None else {"stepper_z": then}
    found = rest(z, (z, z + 0.2), phases, {"stepper_z": motor})
    assert found.z == z and found.apart is None
    assert found.bound == pytest.approx((0.5 + 2 * LAG) * MM + 0.2)
    there = snapped(step, lag * MM) + rests_at * MM
    assert abs(found.z - there) <= found.bound + 1e-9


@given(steps, st.integers(-400, 400), st.floats(0, 1), steps, lags)
def test_a_count_that_is_wrong_is_within_the_other_bound(
    step: int, further: int, share: float, wrong: int, lag: float
) -> None:
    """The board was restarted and the drivers were not, or the other way round."""
    z, to = step * STEP, (step + further) * STEP
    stopped = step + round(share * further)
    phases = {"stepper_z": ((step + wrong) % CYCLE, CYCLE)}
    counted = replace(FRESH, counted=True)
    found = rest(z, (min(z, to), max(z, to)), phases, {"stepper_z": counted})
    if found.apart is None:
        pytest.fail("the owner is told only what holds if the count is right")
    assert found.apart > found.bound
    assert abs(found.z - snapped(stopped, lag * MM)) <= found.apart + 1e-9


def test_a_driver_that_was_read_is_not_doubted() -> None:
    found = rest(10.0, (10.0, 10.0), {"stepper_z": (8, CYCLE)}, {"stepper_z": FRESH})
    assert found.apart is None


def test_the_lower_of_two_places_is_believed() -> None:
    """A nozzle that is believed too high would be driven into the part."""
    found = rest(10.0, (10.0, 10.4), {"stepper_z": (0, CYCLE)}, {"stepper_z": FRESH})
    assert found.z == pytest.approx(10.0)
    assert found.bound == pytest.approx(0.48 + LAG * MM)


def test_a_machine_whose_motors_are_not_known() -> None:
    """Of CoreXZ: how far they snap is not known, and no figure is made up."""
    assert rest(5.0, (4.8, 5.4), {}, {}) == rotor.Rest(5.0, {}, None)
