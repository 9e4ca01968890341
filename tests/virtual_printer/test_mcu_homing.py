# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Homing: switches are seen at their exact time, however late this process looks."""
from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from .board import MS, PIN, SECOND, Board, encoded
from .mcu import TOO_LATE
from .protocol import SEQ_MASK
from .world import XY_STEP, XY_SWITCH

A, B, TRSYNC, SWITCH = Board.A, Board.B, Board.TRSYNC, Board.SWITCH
ENABLE = Board.ENABLE


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    made = Board(monkeypatch)
    made.configure()
    yield made
    made.close()


def drive(board: Board, begin: int, mm: float, seconds: float) -> None:
    """Both motors forward: X moves at a constant speed from `begin` on."""
    count = round(mm / XY_STEP)
    for oid in (A, B):
        board.ask("reset_step_clock", oid, begin & 0xFFFFFFFF)
        board.ask("set_next_step_dir", oid, 1)
        board.ask("queue_step", oid, int(seconds * SECOND / count), count, 0)


def near_switch(board: Board, gap: float) -> None:
    x, _ = board.world.xy(board.clock)
    for motor in ("a", "b"):
        board.world.motors[motor].jump(board.clock, XY_SWITCH - gap - x)


def crossing(board: Board, at: int, rest: int = 500) -> int:
    """First sample at or after which X is at the switch, looked at one by one."""
    clock = board.firmware.powered_at + at
    while board.world.xy(clock)[0] < XY_SWITCH:
        clock += rest
    return clock - board.firmware.powered_at


@pytest.mark.parametrize("tick", [0.001, 0.003, 0.02, 0.08, 0.2])
def test_the_clock_of_a_trigger_is_exact_however_late_it_is_seen(
    board: Board, tick: float
) -> None:
    near_switch(board, 1.0)
    at = board.now + SECOND // 5
    board.home(at)
    drive(board, at, 5.0, 0.1)
    expected = crossing(board, at)
    board.run(2.0, tick=tick)
    state = board.value("endstop_query_state", SWITCH)
    assert state["homing"] == 1 and state["pin_value"] == 1
    assert state["next_clock"] - 500 == expected
    # Four samples, 300 ticks apart, and both motors stood.
    stopped = board.firmware.powered_at + expected + 3 * 300
    for motor in ("a", "b"):
        moved = board.world.motors[motor].net_at(board.clock)
        assert moved == (stopped - board.firmware.powered_at - at) // 2500
    assert {"oid": TRSYNC, "can_trigger": 0, "trigger_reason": 1} == {
        k: v for k, v in board.said("trsync_state")[-1].items() if k != "clock"}


def test_steps_sent_after_the_trigger_are_dropped_until_a_reset(board: Board) -> None:
    near_switch(board, 1.0)
    at = board.now + SECOND // 5
    board.home(at)
    drive(board, at, 50.0, 2.0)
    board.run(1.0)
    stood = board.net("a")
    board.ask("queue_step", A, 5000, 100, 0)
    board.ask("queue_step", A, SECOND, 100, 0)
    board.run(0.3)
    assert board.net("a") == stood
    board.ask("reset_step_clock", A, board.now + SECOND // 10)
    board.ask("queue_step", A, 1000, 7, 0)
    board.run(1.0)
    # The direction went back to its rest with the stop.
    assert board.net("a") == stood - 7
    assert board.shutdown_reason() is None


def test_a_switch_that_is_let_go_between_its_samples_does_not_trigger(
    board: Board,
) -> None:
    near_switch(board, 1.0)
    at = board.now + SECOND // 5
    board.home(at)
    motor = board.world.motors["a"]
    touch = board.firmware.powered_at + at + 10_000
    motor.jump(touch - 1, 3.0)
    motor.jump(touch + 500, -3.0)
    board.run(1.0)
    assert board.said("trsync_state")[-1]["can_trigger"] == 1
    drive(board, board.now + SECOND // 5, 5.0, 0.1)
    board.run(1.0)
    assert board.said("trsync_state")[-1]["can_trigger"] == 0


def test_a_switch_that_is_already_closed_triggers_at_the_first_sample(
    board: Board,
) -> None:
    near_switch(board, -1.0)
    at = board.now + SECOND // 5
    board.home(at)
    drive(board, at, 5.0, 0.1)
    board.run(1.0)
    state = board.value("endstop_query_state", SWITCH)
    assert state["next_clock"] == at + 500
    assert board.net("a") == 0


def test_reports_come_while_homing_and_say_when(board: Board) -> None:
    at = board.now + SECOND // 5
    board.home(at)
    board.run(1.05)
    reports = board.said("trsync_state")
    assert [r["can_trigger"] for r in reports] == [1] * 9
    assert np.all(abs(np.diff([r["clock"] for r in reports]) - SECOND / 10) < 4 * MS)


def test_a_host_that_ends_homing_hears_the_first_reason(board: Board) -> None:
    near_switch(board, 1.0)
    at = board.now + SECOND // 5
    board.home(at)
    drive(board, at, 5.0, 0.1)
    board.run(1.0)
    answer = board.value("trsync_trigger", TRSYNC, 3)
    assert (answer["trigger_reason"], answer["can_trigger"]) == (1, 0)
    board.responses.clear()
    board.run(1.0)
    assert board.said("trsync_state") == []


def test_a_switch_that_closed_just_before_the_host_gave_up_counts(
    board: Board,
) -> None:
    near_switch(board, 1.0)
    at = board.now + SECOND // 5
    board.home(at)
    drive(board, at, 2.0, 0.1)
    expected = crossing(board, at)
    board.run((expected + 2000 - board.now) / SECOND)
    assert board.ask("trsync_trigger", TRSYNC, 4)[-1][1]["trigger_reason"] == 1
    assert board.value("endstop_query_state", SWITCH)["next_clock"] == expected + 500


def test_a_host_that_ends_homing_early_stops_the_motors(board: Board) -> None:
    near_switch(board, 10.0)
    at = board.now + SECOND // 5
    board.home(at)
    drive(board, at, 5.0, 0.5)
    board.run(0.4)
    assert board.value("trsync_trigger", TRSYNC, 3)["trigger_reason"] == 3
    stood = board.net("a")
    assert stood == pytest.approx(0.2 * 10 / XY_STEP, abs=1)
    board.run(1.0)
    assert board.net("a") == stood


def test_a_timeout_that_nobody_extends_stops_the_motors_at_its_clock(
    board: Board,
) -> None:
    near_switch(board, 10.0)
    at = board.now + SECOND // 5
    board.home(at, timeout=SECOND // 4)
    drive(board, at, 5.0, 1.0)
    board.run(1.5)
    last = board.said("trsync_state")[-1]
    assert (last["can_trigger"], last["trigger_reason"]) == (0, 2)
    assert board.net("a") == round(0.25 * 5 / XY_STEP)


def test_a_timeout_that_is_extended_does_not_expire(board: Board) -> None:
    at = board.now + SECOND // 5
    board.home(at, timeout=SECOND // 4)
    for _ in range(10):
        board.run(0.1)
        board.ask("trsync_set_timeout", TRSYNC, board.now + SECOND // 4)
    assert board.said("trsync_state")[-1]["can_trigger"] == 1


def test_the_earlier_of_switch_and_timeout_wins(board: Board) -> None:
    near_switch(board, 1.0)
    at = board.now + SECOND // 5
    drive(board, at, 5.0, 0.1)
    expected = crossing(board, at) - at
    board.home(at, timeout=expected - 100)
    board.run(1.0, tick=0.09)
    assert board.said("trsync_state")[-1]["trigger_reason"] == 2


def test_a_motor_switched_on_while_homing_is_seen_where_it_snapped_to(
    board: Board,
) -> None:
    motor = board.world.motors["a"]
    near_switch(board, 0.1)
    motor.driver_reset(board.clock)
    motor.origin = motor.at(board.clock) + 0.39
    at = board.now + SECOND // 5
    on = at + 70_000
    board.home(at)
    board.ask("queue_digital_out", ENABLE, on, 1)
    board.run(1.0, tick=0.05)
    assert motor.energised
    state = board.value("endstop_query_state", SWITCH)
    assert state["next_clock"] == on + 500
    when, kind, _ = board.world.events[-1]
    assert kind == "snap"
    assert when == pytest.approx((board.firmware.powered_at + on) / SECOND)


def test_a_cut_while_homing_comes_after_a_switch_that_closed_before(
    board: Board,
) -> None:
    near_switch(board, 1.0)
    at = board.now + SECOND // 5
    board.home(at)
    drive(board, at, 5.0, 0.1)
    stopped = crossing(board, at) + 3 * 300
    board.run((stopped + 20 * MS - board.now) / SECOND)
    board.firmware.power_off(board.clock)
    assert board.net("a") == (stopped - at) // 2500


# Starved of processor time


class BusyHost:
    """Streams the steps of a homing move as klippy does.

    Chunks go out `lead` ticks ahead of their time, in frames, of which no more than
    12 are on the way without an answer (serialqueue.c, MAX_PENDING_BLOCKS).
    """

    WINDOW = 12

    def __init__(self, board: Board, begin: int, mm: float, seconds: float) -> None:
        self.board = board
        count = round(mm / XY_STEP)
        interval = int(seconds * SECOND / count)
        self.commanded = [begin + interval * n for n in range(1, count + 1)]
        for oid in (A, B):
            board.ask("reset_step_clock", oid, begin & 0xFFFFFFFF)
            board.ask("set_next_step_dir", oid, 1)
        # Chunks of ten steps, three of a motor in a frame, as stepcompress orders
        # them: by their times, over both motors.
        self.frames: list[tuple[int, bytes]] = []
        for n in range(0, count, 30):
            for oid in (A, B):
                part = b"".join(
                    encoded("queue_step", oid, interval, min(10, count - k), 0)
                    for k in range(n, min(n + 30, count), 10)
                )
                self.frames.append((begin + interval * n, part))

    def act(self, lead: int) -> None:
        board = self.board
        board.read()
        while self.frames and self.frames[0][0] - lead <= board.now:
            if (board.sent - board.answered) & SEQ_MASK >= self.WINDOW:
                return
            board.post(self.frames.pop(0)[1])


def stall(rng: random.Random, likely: float, longest: int = 80) -> int:
    if rng.random() < likely:
        return rng.randint(30 * MS, longest * MS)
    return 3 * MS


def starved_homing(
    board: Board,
    seed: int,
    lead: int,
    likely: float,
    host_stalls: bool,
    longest: int = 80,
) -> None:
    rng = random.Random(seed)
    near_switch(board, rng.uniform(1.0, 9.0))
    at = board.now + SECOND // 5
    board.home(at)
    begin = board.clock - board.now + at
    x0 = board.world.xy(board.clock)[0]
    host = BusyHost(board, at, 12.0, 0.15)
    needed = int(np.ceil((XY_SWITCH - x0) / XY_STEP - 1e-6))
    expected = at + -(-(host.commanded[needed - 1] - at) // 500) * 500
    host_at = 0
    while board.now < at + 2 * SECOND:
        # Each runs when it is let: the machine first, or the host.
        board.clock += stall(rng, likely, longest)
        if not host_stalls or board.now >= host_at:
            host.act(lead)
            host_at = board.now + (stall(rng, likely) if host_stalls else 0)
        for _ in range(rng.randint(1, 3)):
            board.look()
            host.act(lead)
            board.clock += rng.randint(0, MS)
    assert board.shutdown_reason() is None
    state = board.value("endstop_query_state", SWITCH)
    assert state["next_clock"] - 500 == expected & 0xFFFFFFFF
    stopped = expected + 3 * 300
    taken = sum(when <= stopped for when in host.commanded)
    assert (board.net("a"), board.net("b")) == (taken, taken)
    assert begin + stopped - at <= board.clock


@pytest.mark.parametrize("seed", range(25))
def test_a_process_that_is_starved_sees_no_switch_late(
    board: Board, seed: int
) -> None:
    starved_homing(board, seed, lead=100 * MS, likely=0.3, host_stalls=False)


@pytest.mark.parametrize("seed", range(25))
def test_a_starved_host_and_a_starved_process_agree_on_the_trigger(
    board: Board, seed: int
) -> None:
    starved_homing(board, seed, lead=100 * MS, likely=0.3, host_stalls=True)


@pytest.mark.parametrize("seed", range(10))
def test_a_process_that_is_starved_all_the_time_still_homes(
    board: Board, seed: int
) -> None:
    starved_homing(board, seed, lead=100 * MS, likely=1.0, host_stalls=False)


@pytest.mark.parametrize("seed", range(10))
def test_a_process_that_is_starved_for_a_third_of_a_second_catches_up(
    board: Board, seed: int
) -> None:
    starved_homing(
        board, seed, lead=100 * MS, likely=0.2, host_stalls=False, longest=330
    )


@pytest.mark.parametrize("late", range(-90, 300, 20))
def test_a_host_that_is_late_homes_exactly_or_not_at_all(
    board: Board, late: int
) -> None:
    """Never a third way: steps that come too late to be true end in a shutdown."""
    near_switch(board, 10.0)
    at = board.now + SECOND // 5
    board.home(at)
    host = BusyHost(board, at, 12.0, 0.15)
    lead = 100 * MS
    for _ in range(50):
        host.act(lead)
        board.run(0.004)
    # Half of the move is on its way; the other half is `late` ms late.
    board.run(late / 1000 + 0.1)
    for _ in range(300):
        host.act(lead)
        board.run(0.003)
    if late * MS > TOO_LATE:
        assert board.shutdown_reason() == "Timer too close"
        return
    assert board.shutdown_reason() is None
    needed = round(10.0 / XY_STEP)
    expected = at + -(-(host.commanded[needed - 1] - at) // 500) * 500
    state = board.value("endstop_query_state", SWITCH)
    assert state["next_clock"] - 500 == expected
    taken = sum(when <= expected + 900 for when in host.commanded)
    assert board.net("a") == board.net("b") == taken


def test_patience_lets_a_host_that_extends_late_go_on(board: Board) -> None:
    board.firmware.patience = SECOND // 5
    at = board.now + SECOND // 5
    board.home(at, timeout=SECOND // 4)
    drive(board, at, 1.0, 2.0)
    board.run(0.2 + 0.25 + 0.1 + 0.15)
    assert board.said("trsync_state")[-1]["can_trigger"] == 1
    extended = board.now + SECOND // 4
    board.ask("trsync_set_timeout", TRSYNC, extended)
    board.run(1.0)
    last = board.said("trsync_state")[-1]
    assert (last["can_trigger"], last["trigger_reason"]) == (0, 2)
    ended = (extended + SECOND // 5 - at) / SECOND
    assert board.net("a") == pytest.approx(ended / 2.0 / XY_STEP, abs=1)


def test_a_sticky_switch_holds_back_the_next_homing_move(board: Board) -> None:
    board.world.faults.set("ZP0", "sticky")
    motor = board.world.motors["z"]
    switch = board.world.switch_height["ZP0"]
    motor.jump(board.clock, switch + 0.1 - motor.at(board.clock))
    board.ask("config_endstop", SWITCH, PIN["ZP0"], 0)
    board.home(board.now + SECOND // 5)
    board.run(0.5)
    motor.jump(board.clock, -1.0)
    assert board.value("endstop_query_state", SWITCH)["pin_value"] == 1
    board.world.faults.set("ZP0", "")
    assert board.value("endstop_query_state", SWITCH)["pin_value"] == 0
