# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The physics below the firmware: heights, sagging, switches and thermistors."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .protocol import CLOCK_FREQ
from .world import (
    AMBIENT,
    E_STEP,
    SWITCH_PINS,
    XY_STEP,
    XY_SWITCH,
    Z_CORNERS,
    Z_MOTORS,
    Z_STEP,
    Heater,
    Output,
    World,
    adc_fraction,
)

SECOND = CLOCK_FREQ
PLACES = st.tuples(st.floats(0, 250), st.floats(0, 250))


def place(world: World, x: float, y: float, heights: list[float]) -> None:
    """Put everything somewhere at clock 1."""
    for name, wanted in (("a", x + y), ("b", x - y), *zip(Z_MOTORS, heights,
                                                          strict=True)):  # fmt: skip
        motor = world.motors[name]
        motor.jump(1, wanted - motor.at(1))


def steps(
    world: World, name: str, clock: int, seconds: float, mm: float, unit: float
) -> None:
    count = round(abs(mm) / unit)
    left = count
    while left:
        part = min(left, 60_000)
        interval = int(seconds * SECOND / count)
        clock = world.motors[name].push(clock, interval, part, 0, mm > 0)
        left -= part


def line(
    world: World, clock: int, dx: float, dy: float, filament: float, seconds: float
) -> int:
    """One straight bead; returns the clock of its end."""
    steps(world, "a", clock, seconds, dx + dy, XY_STEP)
    steps(world, "b", clock, seconds, dx - dy, XY_STEP)
    steps(world, "e", clock, seconds, filament, E_STEP)
    return clock + int(seconds * SECOND)


def lift(world: World, clock: int, mm: float) -> int:
    for name in Z_MOTORS:
        steps(world, name, clock, 0.1, mm, Z_STEP)
    return clock + SECOND // 10


def hold(world: World, on: bool = True, clock: int = 2) -> None:
    for name in Z_MOTORS:
        # Held where they are: these tests are not about rotors.
        world.motors[name].energised = on


# Heights


@pytest.mark.parametrize("corner", range(4))
def test_at_a_corner_the_nozzle_has_that_corners_height(corner: int) -> None:
    weights = World(1).weights(*Z_CORNERS[corner])
    assert weights == pytest.approx([float(n == corner) for n in range(4)])


@given(PLACES, st.lists(st.floats(0, 200), min_size=4, max_size=4))
def test_the_nozzle_hangs_between_its_four_corners(
    xy: tuple[float, float], heights: list[float]
) -> None:
    world = World(1)
    place(world, *xy, heights)
    x, y, z = world.nozzle(2)
    assert (x, y) == pytest.approx(xy, abs=1e-9)
    (x0, y0), (_, y1), (x1, _), _ = Z_CORNERS
    front = np.interp(x, [x0, x1], [heights[0], heights[3]])
    rear = np.interp(x, [x0, x1], [heights[1], heights[2]])
    assert z == pytest.approx(np.interp(y, [y0, y1], [front, rear]))


def test_the_world_moves_as_a_corexy() -> None:
    world = World(1)
    x, y, z = world.nozzle(0)
    end = line(world, SECOND, 10.0, -4.0, 0.0, 1.0)
    assert world.nozzle(end) == pytest.approx((x + 10, y - 4, z), abs=XY_STEP)


# Sagging


def fall(seed: int, motors: tuple[str, ...] = Z_MOTORS) -> list[float]:
    world = World(seed)
    place(world, 120, 110, [40.0] * 4)
    world.sag(10, motors)
    return [h - 40.0 for h in world.corners(11)]


def test_each_corner_falls_by_its_own_amount_and_the_seed_decides_it() -> None:
    drops = fall(3)
    assert fall(3) == drops
    assert fall(4) != drops
    assert len({round(d, 3) for d in drops}) == 4
    assert all(-3.0 <= d <= -0.2 for d in drops)


def test_only_a_loose_corner_falls() -> None:
    drops = fall(5, ("z1",))
    assert drops[1] < -0.1
    assert [drops[n] for n in (0, 2, 3)] == [0.0, 0.0, 0.0]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1000),
    PLACES,
    st.lists(st.sampled_from(Z_MOTORS), min_size=1, max_size=4, unique=True),
    st.floats(0.2, 6.0),
    st.floats(0.0, 2.0),
)
def test_no_sag_drives_the_nozzle_below_what_is_under_it_or_lifts_it(
    seed: int, xy: tuple[float, float], loose: list[str], height: float, gap: float
) -> None:
    world = World(seed)
    place(world, *xy, [height] * 4)
    hold(world)
    end = line(world, SECOND, 1.0, 0.0, 0.05, 0.1)
    end = lift(world, end, gap) + 1
    before = world.corners(end)
    x, y, z = world.nozzle(end)
    below = world.surface(x, y, end)
    assert below == pytest.approx(height, abs=Z_STEP)
    world.sag(end, loose)
    after = world.nozzle(end + 1)
    assert after[:2] == (x, y)
    assert below - 1e-9 <= after[2] <= z + 1e-9
    for n, name in enumerate(Z_MOTORS):
        if name not in loose:
            assert world.corners(end + 1)[n] == before[n]


def test_a_gantry_over_nothing_falls_onto_the_bed_at_most() -> None:
    world = World(2)
    place(world, 120, 110, [0.1] * 4)
    world.sag(10, Z_MOTORS)
    assert world.nozzle(11)[2] == pytest.approx(0.0, abs=1e-9)


def test_a_cut_lets_go_of_what_was_held_and_forgets_the_phases() -> None:
    world = World(2)
    hold(world)
    steps(world, "z", SECOND, 1.0, 10.0, Z_STEP)
    cut = SECOND + SECOND // 2
    world.motors_off(cut)
    z = world.motors["z"]
    assert z.net_at(10 * SECOND) == z.net_at(cut) == z.phase
    assert [kind for _, kind, _ in world.events] == ["sag"]
    assert not any(m.energised for m in world.motors.values())
    world.motors_off(cut + SECOND)
    assert len(world.events) == 1


def test_switching_motors_on_again_notes_how_far_the_rotors_snapped() -> None:
    world = World(2)
    hold(world)
    world.motors_off(SECOND)
    before = world.corners(SECOND + 1)
    for n, name in enumerate(Z_MOTORS):
        world.set_enable(name, True, SECOND + 2)
        snapped = world.corners(SECOND + 3)[n] - before[n]
        when, kind, text = world.events[-1]
        assert (kind, text) == ("snap", f"{name} {snapped:+.4f}")
    world.set_enable("z", False, 2 * SECOND)
    assert world.events[-1][1] == "sag"


# What is under the nozzle


def test_plastic_is_where_filament_went_forward_and_nowhere_else() -> None:
    world = World(1)
    place(world, 100, 100, [0.4] * 4)
    end = line(world, SECOND, 10.0, 0.0, 0.4, 1.0)  # a bead from 100 to 110
    end = line(world, end, 10.0, 0.0, 0.0, 0.1)  # a travel to 120
    assert world.surface(105, 100, end) == pytest.approx(0.4)
    assert world.surface(105, 100.4, end) == pytest.approx(0.4)
    assert world.surface(105, 101, end) == 0.0
    assert world.surface(115, 100, end) == 0.0


def test_thin_and_fast_plastic_is_found_up_to_its_last_step() -> None:
    world = World(1)
    place(world, 100, 100, [0.4] * 4)
    end = line(world, SECOND, 10.0, 0.0, 20 * E_STEP, 0.02)
    for x in (100.5, 104.75, 109.75):
        assert world.surface(x, 100, end) == pytest.approx(0.4)


def test_filament_that_goes_back_and_forth_in_a_travel_lays_nothing() -> None:
    world = World(1)
    place(world, 100, 100, [0.4] * 4)
    end = line(world, SECOND, 10.0, 0.0, 0.4, 1.0)
    end = line(world, end, 0.0, 0.0, -0.8, 0.1)
    end = line(world, end, 10.0, 0.0, 0.0, 0.1)
    end = line(world, end, 0.0, 0.0, 0.75, 0.1)
    assert world.surface(120, 100, end) == 0.0


def test_the_highest_layer_counts_but_not_a_purge_above_the_nozzle() -> None:
    world = World(1)
    place(world, 100, 100, [0.2] * 4)
    end = line(world, SECOND, 10.0, 0.0, 0.4, 1.0)
    end = lift(world, end, 0.2)
    end = line(world, end, -10.0, 0.0, 0.4, 1.0)
    end = lift(world, end, 30.0)
    assert world.surface(101, 100, end) == pytest.approx(0.4)
    end = line(world, end, 1.0, 0.0, 5.0, 1.0)
    assert world.surface(100.5, 100, end) == pytest.approx(30.4)
    end = lift(world, end, -30.0)
    assert world.surface(100.5, 100, end) == pytest.approx(0.4)


def test_the_surface_after_ten_minutes_of_printing_takes_less_than_a_second() -> None:
    world = World(1)
    place(world, 100, 100, [0.2] * 4)
    clock = SECOND
    corners = ((20.0, 0.0), (0.0, 20.0), (-20.0, 0.0), (0.0, -20.0))
    for n in range(3_000):  # 200 ms each, 20 mm at 100 mm/s
        dx, dy = corners[n % 4]
        # Real chunks are short: stepcompress ends one whenever the speed changes.
        for _ in range(20):
            clock = line(world, clock, dx / 20, dy / 20, 0.035, 0.01)
        if n % 40 == 39:
            clock = lift(world, clock, 0.2)
    began = time.process_time()
    found = world.surface(110.0, 100.0, clock)
    assert time.process_time() - began < 1.0
    assert found == pytest.approx(0.2 * 75)
    began = time.process_time()
    world.surface(110.0, 100.0, clock)
    assert time.process_time() - began < 0.01


# Switches


def closes_at(world: World, pin: str, clocks: np.ndarray) -> int:
    return int(clocks[np.argmax(world.switch(pin, clocks))])


@pytest.mark.parametrize("number", range(4))
def test_each_corners_switch_closes_at_its_own_height(number: int) -> None:
    world = World(4)
    pin = f"ZP{number}"
    motor = world.motors[Z_MOTORS[number]]
    motor.jump(1, 229.0 - motor.at(1))
    steps(world, motor.name, SECOND, 1.0, 2.0, Z_STEP)
    clocks = np.arange(SECOND, 2 * SECOND, 500)
    found = closes_at(world, pin, clocks)
    assert motor.at(found) >= world.switch_height[pin] > motor.at(found - 500)
    others = [p for p in world.switch_height if p != pin]
    assert not any(world.switch(p, clocks).any() for p in others)
    assert abs(world.switch_height[pin] - 230.0) <= 0.5


def test_switches_differ_from_corner_to_corner_and_from_seed_to_seed() -> None:
    heights = World(1).switch_height
    assert len(set(heights.values())) == 4
    assert World(1).switch_height == heights
    assert World(2).switch_height != heights


def test_a_switch_closes_within_microns_of_where_it_closed_before() -> None:
    world = World(1)
    noises = []
    for _ in range(200):
        world.arm("ZP0")
        noises.append(world.switch_noise["ZP0"])
    assert np.std(noises) == pytest.approx(world.noise_sigma, rel=0.2)
    assert len(set(noises)) == 200
    assert all(world.switch_noise[p] == 0.0 for p in SWITCH_PINS if p != "ZP0")


def test_noise_moves_the_place_where_a_switch_closes() -> None:
    world = World(1)
    motor = world.motors["z"]
    world.switch_noise["ZP0"] = 0.02
    target = world.switch_height["ZP0"] + 0.01
    motor.jump(1, target - motor.at(1))
    assert not world.switch("ZP0", np.array([2]))[0]
    world.switch_noise["ZP0"] = 0.0
    assert world.switch("ZP0", np.array([2]))[0]


def test_x_and_y_switches_close_at_the_end_of_travel() -> None:
    world = World(1)
    place(world, XY_SWITCH - 1, 100.0, [40.0] * 4)
    end = line(world, SECOND, 2.0, 0.0, 0.0, 1.0)
    clocks = np.arange(SECOND, end, 400)
    found = closes_at(world, "LX", clocks)
    assert world.xy(found)[0] == pytest.approx(XY_SWITCH, abs=2 * XY_STEP)
    assert not world.switch("LY", clocks).any()


@given(PLACES)
def test_the_z_probe_sees_the_height_of_the_nozzle(xy: tuple[float, float]) -> None:
    world = World(1)
    place(world, *xy, [1.0, -1.0, 0.5, 0.25])
    height = world.nozzle(2)[2]
    assert world.switch("LZ", np.array([2]))[0] == (height <= 0.0)


def test_a_switch_sees_a_jump_between_two_looks() -> None:
    world = World(1)
    motor = world.motors["z"]
    motor.jump(500, world.switch_height["ZP0"] + 0.1 - motor.at(500))
    assert list(world.switch("ZP0", np.array([100, 499, 500, 900]))) == [
        False, False, True, True]  # fmt: skip


def test_the_mains_pin_follows_the_mains() -> None:
    world = World(1)
    assert world.switch("ACOK", np.array([1, 2])).all()
    world.ac_ok = False
    assert not world.switch("ACOK", np.array([3])).any()


# Heat


def test_a_heater_settles_where_loss_meets_power_and_cools_without() -> None:
    heater = Heater(gain=14.0, loss=0.02)
    for _ in range(10_000):
        heater.advance(0.1, 0.25)
    assert heater.temperature == pytest.approx(AMBIENT + 0.25 * 14.0 / 0.02, abs=0.1)
    for _ in range(10_000):
        heater.advance(0.1, 0.0)
    assert heater.temperature == pytest.approx(AMBIENT, abs=0.1)


KLIPPYS_TEMPERATURES = """
import sys, json
tree, fractions = sys.argv[1], json.loads(sys.argv[2])
sys.path[:0] = [tree, tree + "/klippy"]
try:
    from klippy.extras.thermistor import Thermistor
except ImportError:
    from extras.thermistor import Thermistor
t = Thermistor(4700., 0.)
t.setup_coefficients_beta(25., 100000., 3950.)
print(json.dumps([t.calc_temp(f) for f in fractions]))
"""


def test_klippy_reads_the_temperature_that_the_thermistor_has() -> None:
    tree = os.environ.get("PLR_KLIPPER_PATH")
    if not tree:
        pytest.skip("PLR_KLIPPER_PATH names no Klipper tree")
    wanted = [0.0, 23.0, 60.0, 110.0, 210.0, 280.0]
    fractions = json.dumps([adc_fraction(c) for c in wanted])
    python = os.environ.get("PLR_KLIPPY_PYTHON", sys.executable)
    out = subprocess.run(
        [python, "-c", KLIPPYS_TEMPERATURES, str(Path(tree).resolve()), fractions],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout) == pytest.approx(wanted, abs=1e-6)


# Outputs


def test_an_output_is_what_was_last_set_or_is_due() -> None:
    output = Output("FAN0", default=0)
    output.set(100, 0.5)
    output.set(200, 1.0)
    output.queue = [(300, 0.25), (400, 0.75)]
    levels = [output.at(c) for c in (50, 100, 199, 200, 299, 300, 399, 400)]
    assert levels == [0.0, 0.5, 0.5, 1.0, 1.0, 0.25, 0.25, 0.75]


def test_only_an_output_off_its_default_has_a_deadline() -> None:
    output = Output("HE", default=0, max_duration=50)
    output.set(100, 0.0)
    assert output.deadline() is None
    output.set(200, 1.0)
    assert output.deadline() == 250
    assert Output("FAN0", level=1.0).deadline() is None
