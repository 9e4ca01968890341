# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Machines with fewer Z motors, a bed that floats, or one motor for each axis."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from . import idex
from .protocol import CLOCK_FREQ
from .trace import Session
from .variants import (
    LEAD_SCREWS,
    LEAD_SCREWS_TMC,
    ONE_MOTOR,
    ONE_SCREW,
    ONE_SCREW_TMC,
    TRIDENT,
    TWO_MOTORS,
    VORON_24,
    Variant,
)
from .world import (
    FRICTION,
    NOZZLE_START,
    REVERSED,
    U_START,
    U_SWITCH,
    XY_STEP,
    XY_SWITCH,
    Z_CORNERS,
    World,
)

PLACES = st.tuples(st.floats(0, 250), st.floats(0, 250))
CORNERS = {4: Z_CORNERS, 3: (Z_CORNERS[0], Z_CORNERS[3], (125.0, 270.0))}


@pytest.mark.parametrize("count", CORNERS)
def test_over_a_motor_the_nozzle_has_that_motors_height(count: int) -> None:
    world = World(1, z_motors=count)
    for number, place in enumerate(CORNERS[count]):
        weights = world.weights(*place)
        assert weights == pytest.approx([float(n == number) for n in range(count)])


@given(st.integers(1, 4), PLACES)
def test_a_level_machine_is_level_everywhere(
    count: int, place: tuple[float, float]
) -> None:
    world = World(1, z_motors=count)
    assert sum(world.weights(*place)) == pytest.approx(1.0)
    assert world.height(*place, 0) == pytest.approx(NOZZLE_START[2])


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(0, 100))
def test_a_bed_falls_away_from_the_nozzle(count: int, seed: int) -> None:
    world = World(seed, count, floating_bed=True)
    before = world.corners(1)
    world.sag(10, world.z_motors)
    moved = [b - a for a, b in zip(before, world.corners(11), strict=True)]
    assert all(0.2 <= m <= 3.0 for m in moved)


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(0, 100))
def test_a_gantry_with_fewer_motors_is_carried_as_well(count: int, seed: int) -> None:
    world = World(seed, count)
    for name in world.z_motors:
        world.motors[name].jump(1, 0.1 - NOZZLE_START[2])
    world.sag(10, world.z_motors)
    assert world.nozzle(11)[2] == pytest.approx(0.0, abs=1e-9)


def test_each_axis_of_a_cartesian_has_its_motor() -> None:
    world = World(1, cartesian=True)
    x, y, z = NOZZLE_START
    assert world.nozzle(0) == pytest.approx((x, y, z))
    world.motors["a"].push(CLOCK_FREQ, 1000, 800, 0, True)
    end = CLOCK_FREQ + 800_000
    assert world.xy(end) == pytest.approx((x + 800 * XY_STEP, y))
    world.motors["a"].jump(end, XY_SWITCH - x)
    clocks = np.array([end + 1])
    assert world.switch("LX", clocks)[0] and not world.switch("LY", clocks)[0]


def test_a_second_carriage_has_a_motor_and_a_switch() -> None:
    world = World(1, cartesian=True)
    nozzle = world.nozzle(0)
    assert not world.switch("LU", np.array([1]))[0]
    world.motors["u"].jump(2, U_SWITCH - U_START)
    assert world.switch("LU", np.array([3]))[0] and world.nozzle(3) == nozzle


def test_the_oracle_gets_a_corexy_and_how_near_the_carriages_came() -> None:
    t = np.array([0.0, 1.0, 2.0])
    motors = {
        "a": (t, np.array([100.0, 90.0, 120.0])), "b": (t[:1], np.array([40.0])),
        "u": (np.array([0.0, 0.5, 1.5]), np.array([10.0, 50.0, 0.0])),
    }  # fmt: skip
    session = Session(0.0, 3.0, motors)
    assert idex.nearest([session]) == 40.0
    (made,) = idex.as_corexy([session])
    assert list(made.motors["a"][1]) == [140.0, 130.0, 160.0]
    assert list(made.motors["b"][1]) == [60.0, 50.0, 80.0]


def test_a_noisy_switch_does_not_make_the_others_noisy() -> None:
    world = World(1)
    world.faults.set("ZP0", "", 0.3)
    noises: dict[str, list[float]] = {"ZP0": [], "ZP1": []}
    for pin, values in noises.items():
        for _ in range(200):
            world.arm(pin)
            values.append(world.switch_noise[pin])
    assert np.std(noises["ZP0"]) == pytest.approx(0.3, rel=0.2)
    assert np.std(noises["ZP1"]) == pytest.approx(world.noise_sigma, rel=0.2)


@pytest.mark.parametrize("variant", [VORON_24, TRIDENT, TWO_MOTORS, ONE_MOTOR])
def test_a_machine_is_told_klippy_with_the_motors_it_has(variant) -> None:
    text = variant.printer_cfg()
    for number in range(1, 4):
        there = number < variant.z_motors
        assert (f"[stepper_z{number}]" in text) == there
        assert (f"pin_stepper_z{number}:" in text) == there
    assert "[power_loss_recovery]" in text


SCREWS = [LEAD_SCREWS, LEAD_SCREWS_TMC, ONE_SCREW, ONE_SCREW_TMC]


@pytest.mark.parametrize("variant", SCREWS)
def test_a_machine_with_lead_screws_has_no_z_switches(variant: Variant) -> None:
    text = variant.printer_cfg()
    assert "ZP" not in text and "pin_stepper_z" not in text
    assert "gear_ratio: 80:16" not in text
    assert text.count("rotation_distance: 8\n") == variant.z_motors
    drivers = variant.z_motors if variant.extra else 0
    assert text.count("[tmc2209 ") == drivers
    assert ("dir_pin: !DZ1" in text) == (variant.z_motors > 1)
    assert text.count("!") == (variant.z_motors > 1)
    assert "--lead-screws" in variant.machine_arguments()


@given(st.integers(1, 4), st.integers(0, 100))
def test_lead_screws_hold_without_power(count: int, seed: int) -> None:
    world = World(seed, count, lead_screws=True)
    for name in world.z_motors:
        world.set_enable(name, True, 1)
    before = world.corners(2)
    world.set_enable("z", False, 10)
    world.motors_off(20)
    friction = 2 * FRICTION * 16 * world.motors["z"].step_mm
    assert world.corners(21) == pytest.approx(before, abs=friction)
    assert {kind for _, kind, _ in world.events} <= {"snap"}


def test_no_two_rotors_of_lead_screws_stand_on_the_same_cycle() -> None:
    world = World(1, lead_screws=True)
    for name in world.z_motors:
        world.set_enable(name, True, 1)
    snaps = [c - NOZZLE_START[2] for c in world.corners(2)]
    cycle = world.motors["z"].cycle_mm
    assert len({round(s, 3) for s in snaps}) == 4
    assert all(abs(s) <= cycle / 2 + 0.05 * 16 * 0.0025 for s in snaps)
    again = World(1, lead_screws=True)
    again.set_enable("z", True, 1)
    assert again.corners(2)[0] == world.corners(2)[0]


def test_one_lead_screw_is_wired_the_other_way_round() -> None:
    world = World(1, lead_screws=True)
    assert [n for n, m in world.motors.items() if m.reversed] == [REVERSED]
    assert not any(m.reversed for m in World(1).motors.values())
