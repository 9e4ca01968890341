# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A motor's chunks, jumps and rotor agree with a motor that counts every step."""
from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .motor import Chunk, Motor

STEP = 0.01
MICROSTEPS = 16
CYCLE = STEP * MICROSTEPS * 4


def step_times(c0: int, interval: int, count: int, add: int) -> list[int]:
    """As src/stepper.c walks through a queue_step: the interval grows by `add`."""
    times = []
    clock = c0
    for _ in range(count):
        clock += interval
        times.append(clock)
        interval += add
    return times


@dataclass
class Counted:
    """The motor step by step, and jump by jump."""

    start: float
    steps: list[tuple[int, int]] = field(default_factory=list)  # clock, +1 or -1
    jumps: list[tuple[int, float]] = field(default_factory=list)

    def net(self, clock: int) -> int:
        return sum(way for when, way in self.steps if when <= clock)

    def at(self, clock: int) -> float:
        moved = sum(delta for when, delta in self.jumps if when <= clock)
        return self.start + moved + self.net(clock) * STEP

    def stop(self, clock: int) -> int:
        kept = [s for s in self.steps if s[0] <= clock]
        dropped = len(self.steps) - len(kept)
        self.steps = kept
        return dropped


def chunk_fields(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Gap before it, interval, count, add: never an interval below zero."""
    count = draw(st.integers(1, 12))
    add = draw(st.integers(-20, 20))
    least = 1 if add >= 0 else 1 - add * (count - 1)
    interval = draw(st.integers(least, least + 60))
    return draw(st.sampled_from([0, 0, 0, 37, 500])), interval, count, add


@st.composite
def histories(draw: st.DrawFn) -> tuple[Motor, Counted, int]:
    """A motor and its counted twin after the same chunks, stops and jumps."""
    motor = Motor("z", STEP, MICROSTEPS, 5.0)
    twin = Counted(5.0)
    end = 100
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(["chunk", "chunk", "chunk", "stop", "jump"]))
        if kind == "chunk":
            gap, interval, count, add = chunk_fields(draw)
            up = draw(st.booleans())
            times = step_times(end + gap, interval, count, add)
            twin.steps += [(when, 1 if up else -1) for when in times]
            end = motor.push(end + gap, interval, count, add, up)
            assert end == times[-1]
        elif kind == "stop":
            clock = draw(st.integers(0, end + 10))
            clock = max([clock, *(when for when, _ in twin.jumps)])
            assert motor.stop_at(clock) == twin.stop(clock)
            end = max(clock, end)
        else:
            delta = draw(st.floats(-3, 3))
            motor.jump(end, delta)
            twin.jumps.append((end, delta))
    return motor, twin, end


# Chunks


@given(st.data())
def test_the_formula_of_a_chunk_is_the_firmwares_loop(data: st.DataObject) -> None:
    gap, interval, count, add = data.draw(st.composite(chunk_fields)())
    chunk = Chunk(gap, interval, count, add, 1)
    times = step_times(gap, interval, count, add)
    assert [chunk.time_of(k) for k in range(1, count + 1)] == times
    for clock in range(gap, times[-1] + 3):
        assert chunk.steps_until(clock) == sum(t <= clock for t in times)


@pytest.mark.parametrize(
    "interval, count, add",
    [(60_000, 300, -200), (60_000, 301, -200), (2**31, 2, -(2**15)),
     (5, 65_535, 32_767), (3, 65_535, 0), (0, 1, 0)],
)  # fmt: skip
def test_long_and_extreme_chunks_are_counted_right(
    interval: int, count: int, add: int
) -> None:
    motor = Motor("a", STEP, MICROSTEPS, 0.0)
    motor.push(1000, interval, count, add, True)
    times = np.array(step_times(1000, interval, count, add))
    clocks = np.unique(np.concatenate((times - 1, times, times + 1)))
    wanted = np.searchsorted(times, clocks, side="right")
    assert np.array_equal(np.round(motor.at_many(clocks) / STEP).astype(int), wanted)
    for clock in clocks[:: max(len(clocks) // 50, 1)]:
        assert motor.net_at(int(clock)) == np.searchsorted(times, clock, "right")


# Against the twin


@given(histories())
def test_position_is_the_same_at_every_clock(
    history: tuple[Motor, Counted, int],
) -> None:
    motor, twin, end = history
    clocks = np.unique(np.linspace(0, end + 50, 200).astype(np.int64))
    expected = [twin.at(int(c)) for c in clocks]
    assert [motor.at(int(c)) for c in clocks] == pytest.approx(expected)
    assert list(motor.at_many(clocks)) == pytest.approx(expected)
    assert motor.net == twin.net(end + 10**9)


@given(histories(), st.data())
def test_expand_gives_each_step_of_the_span_once(
    history: tuple[Motor, Counted, int], data: st.DataObject
) -> None:
    motor, twin, end = history
    begin = data.draw(st.integers(0, end))
    last = data.draw(st.integers(begin, end + 100))
    times, net = motor.expand(begin, last)
    inside = sorted(when for when, _ in twin.steps if begin < when <= last)
    assert list(times) == inside
    assert len(net) == 0 or net[-1] == twin.net(last)
    if len(set(inside)) == len(inside):
        assert list(net) == [twin.net(when) for when in inside]


@given(histories(), st.data())
def test_history_holds_the_start_and_everything_after_it(
    history: tuple[Motor, Counted, int], data: st.DataObject
) -> None:
    motor, twin, end = history
    begin = data.draw(st.integers(0, end))
    last = data.draw(st.integers(begin, end + 100))
    times, positions = motor.history(begin, last)
    assert times[0] == begin and np.all(np.diff(times) >= 0)
    assert positions[0] == pytest.approx(twin.at(begin))
    changes = {when for when, _ in [*twin.steps, *twin.jumps] if begin < when <= last}
    assert set(times[1:].tolist()) == changes
    for clock in {begin, last, *changes}:
        row = int(np.searchsorted(times, clock, side="right")) - 1
        assert positions[row] == pytest.approx(twin.at(clock))


@given(histories(), st.data())
def test_a_stop_keeps_the_past_and_ends_the_future(
    history: tuple[Motor, Counted, int], data: st.DataObject
) -> None:
    motor, twin, end = history
    latest = max([0, *(when for when, _ in twin.jumps)])
    clock = data.draw(st.integers(latest, max(end, latest) + 5))
    before = motor.at(clock)
    assert motor.stop_at(clock) == twin.stop(clock)
    assert motor.at(clock) == before
    assert motor.at(end + 10**9) == pytest.approx(before)
    assert motor.stop_at(clock) == 0
    # And it runs on from there.
    motor.push(max(clock, end), 10, 3, 0, True)
    assert motor.at(end + 10**9) == pytest.approx(before + 3 * STEP)


def test_a_stop_at_the_clock_of_a_step_keeps_that_step() -> None:
    motor = Motor("z", STEP, MICROSTEPS, 0.0)
    motor.push(0, 10, 5, 0, True)
    assert motor.stop_at(30) == 2
    assert motor.at(1000) == pytest.approx(3 * STEP)
    assert motor.stop_at(29) == 1


def test_steps_counted_from_an_older_clock_do_not_hide_later_ones() -> None:
    # After a new configuration the first interval counts from the power-on.
    motor = Motor("z", STEP, MICROSTEPS, 0.0)
    motor.push(1_000, 10, 5, 0, True)
    motor.push(0, 5_000, 2, 0, True)
    clocks = np.array([0, 1_009, 1_010, 1_050, 4_999, 5_000, 10_000])
    assert list(np.round(motor.at_many(clocks) / STEP)) == [0, 0, 1, 5, 5, 6, 7]
    assert [motor.net_at(int(c)) for c in clocks] == [0, 0, 1, 5, 5, 6, 7]
    assert motor.expand(1_030, 6_000)[0].tolist() == [1_040, 1_050, 5_000]


# The rotor


def off_lattice(motor: Motor, clock: int) -> float:
    """How far from where the rotor can stand with the driver's phase, in cycles."""
    place = motor.at(clock) - motor.origin - motor.phase_at(clock) * motor.step_mm
    return abs(place / motor.cycle_mm - round(place / motor.cycle_mm))


@given(histories(), st.floats(-2, 2))
def test_power_up_moves_the_rotor_to_its_lattice_by_half_a_cycle_at_most(
    history: tuple[Motor, Counted, int], sag: float
) -> None:
    motor, _, end = history
    motor.energise(end)
    motor.stop_at(end)
    motor.driver_reset(end)
    motor.jump(end + 1, sag)
    before = motor.at(end + 2)
    snap = motor.energise(end + 2)
    assert abs(snap) <= CYCLE / 2 + 1e-9
    assert motor.at(end + 2) == pytest.approx(before + snap)
    assert motor.phase_at(end + 2) == 0
    assert off_lattice(motor, end + 2) < 1e-6


def test_a_motor_stopped_between_cycles_goes_to_the_nearer_one() -> None:
    motor = Motor("z", STEP, MICROSTEPS, 0.0)
    motor.energise(0)
    motor.push(0, 10, 40, 0, True)  # 0.40 of a cycle of 0.64
    motor.driver_reset(1_000)
    assert motor.energise(1_001) == pytest.approx(CYCLE - 0.40)
    assert motor.at(1_001) == pytest.approx(CYCLE)


def test_a_motor_switched_off_and_on_keeps_its_phase() -> None:
    # M84 leaves the driver its power: a gantry that has not moved stays.
    motor = Motor("z", STEP, MICROSTEPS, 0.0)
    motor.energise(0)
    motor.push(0, 10, 23, 0, True)
    motor.energised = False
    assert motor.energise(1_000) == pytest.approx(0.0)
    motor.energised = False
    motor.jump(1_001, -0.9 * CYCLE)
    assert motor.energise(1_002) == pytest.approx(-0.1 * CYCLE)
    assert off_lattice(motor, 1_002) < 1e-6


def test_a_held_rotor_and_an_extruder_do_not_snap() -> None:
    motor = Motor("z", STEP, MICROSTEPS, 0.0)
    motor.energise(0)
    motor.jump(1, 0.1)
    assert motor.energise(2) == 0.0
    extruder = Motor("e", STEP, MICROSTEPS, 0.0, snaps=False)
    extruder.jump(1, 0.1)
    assert extruder.energise(2) == 0.0
    assert extruder.at(3) == pytest.approx(0.1)


@settings(max_examples=50)
@given(st.integers(0, 400), st.floats(-1, 1), st.integers(0, 63))
def test_steps_queued_for_later_do_not_change_the_snap(
    enable: int, sag: float, phase: int
) -> None:
    """The enable event is carried out while later steps are already known."""
    early, late = (Motor("z", STEP, MICROSTEPS, 0.0) for _ in range(2))
    for motor in (early, late):
        motor.push(0, 1, phase, 0, True) if phase else None
        motor.driver_reset(100)
        motor.jump(100, sag)
    early.push(100 + enable, 7, 20, 0, True)
    first = early.energise(100 + enable)
    second = late.energise(100 + enable)
    late.push(100 + enable, 7, 20, 0, True)
    assert first == second
    clocks = np.arange(90, 1_000)
    assert np.array_equal(early.at_many(clocks), late.at_many(clocks))
    # Once it holds, its steps keep it on the lattice.
    for clock in (100 + enable, 100 + enable + 71, 900):
        assert off_lattice(early, clock) < 1e-6


def test_a_motor_that_is_disconnected_stands_and_its_past_stays_true() -> None:
    motor = Motor("z", STEP, MICROSTEPS, 5.0)
    motor.push(0, 10, 100, 0, True)
    clocks = np.arange(0, 500)
    before = motor.at_many(clocks)
    motor.disconnect(499)
    motor.push(2_000, 10, 50, 0, False)
    assert np.array_equal(motor.at_many(clocks), before)
    assert motor.at(10_000) == motor.at(499) == pytest.approx(5.0 + 49 * STEP)
    times, positions = motor.history(0, 10_000)
    assert positions[-1] == positions[times <= 499][-1] == motor.at(499)
    # The firmware counts its steps all the same.
    assert motor.net_at(10_000) == 50
    motor.jump(3_000, -1.0)
    assert motor.energise(4_000) == 0.0
    assert motor.at(5_000) == pytest.approx(4.0 + 49 * STEP)
    motor.connect(6_000)
    past = motor.history(0, 5_000)
    motor.push(7_000, 10, 20, 0, True)
    assert motor.at(10_000) == pytest.approx(4.0 + 69 * STEP)
    assert motor.at_many(np.array([5_000, 7_100, 10_000])) == pytest.approx(
        [motor.at(c) for c in (5_000, 7_100, 10_000)]
    )
    assert motor.history(0, 10_000)[1][-1] == pytest.approx(motor.at(10_000))
    assert np.array_equal(motor.history(0, 5_000)[1], past[1])


# Friction

FRICTION = 0.05 * MICROSTEPS * STEP


def stiff(seed: int) -> Motor:
    chance = random.Random(seed)
    return Motor("z", STEP, MICROSTEPS, 0.0, friction=FRICTION, chance=chance)


def beside_field(motor: Motor, clock: int) -> float:
    """mm from the nearest place that has the driver's phase."""
    return off_lattice(motor, clock) * motor.cycle_mm


@given(st.integers(0, 1000), st.integers(0, 300))
def test_a_stiff_rotor_rests_close_to_its_field_and_stays_there_without(
    seed: int, steps: int
) -> None:
    motor = stiff(seed)
    motor.energise(0)
    motor.push(0, 10, steps, 0, True) if steps else None
    held = motor.at(10_000)
    assert abs(held - steps * STEP) <= FRICTION + 1e-9
    motor.release(10_000)
    left = motor.at(10_001)
    assert abs(left - steps * STEP) <= FRICTION + 1e-9
    # The driver keeps its phase, so the rotor comes back to the same cycle.
    motor.energise(20_000)
    assert motor.at(20_000) == pytest.approx(steps * STEP, abs=FRICTION + 1e-9)
    assert beside_field(motor, 20_000) <= FRICTION + 1e-9


@given(st.integers(0, 1000), st.integers(0, 300))
def test_a_stiff_rotor_falls_to_a_cycle_after_a_power_cut(
    seed: int, steps: int
) -> None:
    motor = stiff(seed)
    motor.energise(0)
    motor.push(0, 10, steps, 0, True) if steps else None
    motor.driver_reset(10_000)
    left = motor.at(10_001)
    motor.energise(20_000)
    there = motor.at(20_001)
    assert abs(there / CYCLE - round(there / CYCLE)) * CYCLE <= FRICTION + 1e-9
    assert abs(there - left) <= CYCLE / 2 + FRICTION + 1e-9


def test_the_seed_decides_where_a_stiff_rotor_rests() -> None:
    def places(seed: int) -> list[float]:
        motor = stiff(seed)
        found = []
        for clock in range(1, 6):
            motor.energise(2 * clock)
            motor.push(2 * clock, 0, 10, 0, True)
            motor.driver_reset(2 * clock + 1)
            found.append(motor.at(2 * clock + 1))
        return found

    assert places(1) == places(1) != places(2)
    lags = {round(p / STEP - round(p / STEP), 6) for p in places(1)}
    assert len(lags) == 5


def test_a_rotor_within_its_friction_does_not_move_when_switched_on() -> None:
    motor = stiff(1)
    motor.jump(0, 0.9 * FRICTION)
    assert motor.energise(1) == 0.0
    assert motor.at(2) == pytest.approx(0.9 * FRICTION)
    motor.release(3)
    assert abs(motor.at(4)) <= FRICTION


@pytest.mark.parametrize("steps", [31, 32, 33])
def test_halfway_between_two_cycles_chance_decides(steps: int) -> None:
    """0.05 full steps of lag: more than half a microstep of 1/16, less than one."""
    ends = set()
    for seed in range(40):
        motor = stiff(seed)
        motor.energise(0)
        motor.push(0, 10, steps, 0, True)
        motor.driver_reset(10_000)
        motor.energise(20_000)
        ends.add(round(motor.at(20_001) / CYCLE))
    assert ends == {31: {0}, 32: {0, 1}, 33: {1}}[steps]
