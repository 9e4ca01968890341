# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The firmware does what Klipper's src/*.c does, command by command."""
from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest

from .board import (
    MS,
    PIN,
    SECOND,
    Board,
    encoded,
)
from .mcu import TOO_LATE
from .mcu_core import DICTIONARY, STATS_PERIOD
from .protocol import ADC_MAX, MOVE_COUNT
from .world import adc_fraction

A, B = Board.A, Board.B
HEATER, ENABLE, ADC, BUTTONS = Board.HEATER, Board.ENABLE, Board.ADC, Board.BUTTONS
MISSED = "Missed scheduling of next digital out event"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """A board that has just got power."""
    made = Board(monkeypatch)
    yield made
    made.close()


@pytest.fixture
def board(bare: Board) -> Board:
    bare.configure()
    return bare


def reason_in(args: dict) -> str:
    names = {n: text for text, n in DICTIONARY.strings.items()}
    return names[args["static_string_id"]]


# Connecting


def test_the_dictionary_comes_in_pieces_and_ends(bare: Board) -> None:
    blob = b""
    while True:
        part = bare.value("identify", len(blob), 40)
        assert part["offset"] == len(blob)
        if not part["data"]:
            break
        blob += part["data"]
    assert b"queue_step" in zlib.decompress(blob)


def test_a_new_board_has_no_configuration(bare: Board) -> None:
    assert bare.value("get_config") == {
        "is_config": 0, "crc": 0, "is_shutdown": 0, "move_count": 0}  # fmt: skip


def test_a_host_that_connects_again_finds_the_configuration(board: Board) -> None:
    wanted = {"is_config": 1, "crc": 42, "is_shutdown": 0, "move_count": MOVE_COUNT}
    assert board.value("get_config") == wanted
    # A new host counts its frames from 1, and learns where the board is.
    expected, board.sent = board.sent, 1
    assert board.ask("get_config") == []
    board.sent = board.answered
    assert board.answered == expected
    assert board.value("get_config") == wanted


def test_the_clock_is_the_boards_own_and_wraps(board: Board) -> None:
    board.clock += 3 * 2**32 + 5 - board.now
    assert board.value("get_clock") == {"clock": 5}
    assert board.value("get_uptime") == {"high": 3, "clock": 5}


def test_statistics_come_every_five_seconds(board: Board) -> None:
    board.run(4.9)
    assert board.said("stats") == []
    board.run(10.2)
    assert len(board.said("stats")) == 15 * SECOND // STATS_PERIOD


def test_an_unknown_oid_shuts_down_and_the_rest_of_the_frame_is_lost(
    board: Board,
) -> None:
    board.post(encoded("queue_step", 99, 100, 1, 0) + encoded("get_clock"))
    board.listen()
    assert [name for name, _ in board.read()] == ["shutdown"]
    assert board.shutdown_reason() == "Invalid oid type"


def test_an_oid_of_another_kind_shuts_down(board: Board) -> None:
    board.ask("queue_step", HEATER, 100, 1, 0)
    assert board.shutdown_reason() == "Invalid oid type"


def test_a_write_to_nobody_is_no_error(board: Board) -> None:
    for _ in range(30_000):
        board.firmware.send("clock", 1)
    board.host.close()
    board.firmware.send("clock", 1)


# Steps


def test_the_first_steps_after_configuration_count_from_clock_zero(
    board: Board,
) -> None:
    begin = board.now + SECOND
    board.ask("set_next_step_dir", A, 1)
    board.ask("queue_step", A, begin, 1, 0)
    board.ask("queue_step", A, 1000, 4, 10)
    start = board.firmware.powered_at + begin
    times, _ = board.world.motors["a"].expand(0, start + SECOND)
    assert [int(t) - start for t in times] == [0, 1000, 2010, 3030, 4060]


def test_steps_after_a_reset_count_from_its_clock(board: Board) -> None:
    base = board.now + SECOND
    board.ask("reset_step_clock", B, base)
    board.ask("queue_step", B, 500, 3, 0)
    times, nets = board.world.motors["b"].expand(0, board.clock + 2 * SECOND)
    assert [int(t) - base - board.firmware.powered_at for t in times] == [
        500, 1000, 1500]  # fmt: skip
    assert nets.tolist() == [-1, -2, -3]


@pytest.mark.parametrize("idle", [1.0, 200.0, 250.0, 1000.0])
def test_a_step_after_any_idle_time_is_meant_modulo_32_bits(
    board: Board, idle: float
) -> None:
    base = board.now + SECOND
    board.ask("reset_step_clock", A, base)
    board.ask("queue_step", A, 500, 3, 0)
    last = base + 1500
    board.run(idle + 2, tick=0.5)
    due = board.now + SECOND // 2
    board.ask("queue_step", A, (due - last) & 0xFFFFFFFF, 1, 0)
    times, _ = board.world.motors["a"].expand(0, board.clock + 2 * SECOND)
    assert int(times[-1]) == board.firmware.powered_at + due
    assert len(times) == 4


def test_a_position_counts_from_the_configuration(board: Board) -> None:
    board.ask("reset_step_clock", A, board.now + SECOND)
    board.ask("set_next_step_dir", A, 1)
    board.ask("queue_step", A, 1000, 100, 0)
    board.run(1.0 + 50 * 1000 / SECOND)
    assert board.value("stepper_get_position", A)["pos"] == 50
    board.run(1.0)
    assert board.value("stepper_get_position", A)["pos"] == 100
    board.ask("emergency_stop")
    board.ask("config_reset")
    board.configure()
    assert board.value("stepper_get_position", A)["pos"] == 0


def test_steps_after_a_new_configuration_go_on_from_where_the_motor_is(
    board: Board,
) -> None:
    board.ask("reset_step_clock", A, board.now + SECOND)
    board.ask("queue_step", A, 1000, 100, 0)
    board.run(2.0)
    board.ask("emergency_stop")
    board.ask("config_reset")
    board.configure()
    board.ask("queue_step", A, board.now + SECOND, 1, 0)
    assert board.net("a") == -100
    board.run(2.0)
    assert board.net("a") == -101


def test_a_count_of_nothing_shuts_down(board: Board) -> None:
    board.ask("queue_step", A, board.now + SECOND, 0, 0)
    assert board.shutdown_reason() == "Invalid count parameter"


def test_a_clock_is_not_reset_while_the_motor_steps(board: Board) -> None:
    board.ask("reset_step_clock", A, board.now + SECOND)
    board.ask("queue_step", A, 1000, 100, 0)
    board.ask("reset_step_clock", A, board.now + 3 * SECOND)
    assert board.shutdown_reason() == "Can't reset time when stepper active"


def test_a_step_that_is_far_too_late_shuts_down(board: Board) -> None:
    board.run(1.0)
    board.ask("reset_step_clock", A, board.now - TOO_LATE - 10 * MS)
    board.ask("queue_step", A, 1000, 5, 0)
    assert board.shutdown_reason() == "Timer too close"
    assert board.net("a") == 0


def test_a_step_that_is_a_little_late_has_happened_at_its_time(board: Board) -> None:
    board.run(1.0)
    base = board.clock - TOO_LATE // 2
    board.ask("reset_step_clock", A, base - board.firmware.powered_at)
    board.ask("queue_step", A, 1000, 5, 0)
    assert board.shutdown_reason() is None
    assert board.world.motors["a"].net_at(base + 2500) == -2


# Outputs


def set_heater(board: Board, part: float, at: int | None = None) -> None:
    at = board.now + SECOND // 10 if at is None else at
    board.ask("queue_digital_out", HEATER, at, int(part * SECOND // 10))


def test_an_output_changes_at_the_clock_that_was_asked_for(board: Board) -> None:
    at = board.now + SECOND // 2
    set_heater(board, 0.25, at)
    set_heater(board, 1.5, at + SECOND)
    output = board.firmware.outputs["HE"]
    board.run(3.0, tick=0.07)
    powered = board.firmware.powered_at
    assert output.times[-2:] == [powered + at, powered + at + SECOND]
    assert output.levels[-2:] == [0.25, 1.0]


def test_a_heater_whose_host_was_killed_shuts_the_board_down(board: Board) -> None:
    set_heater(board, 1.0)
    begin = board.now + SECOND // 10
    board.run(4.9)
    assert board.shutdown_reason() is None
    board.run(0.5)
    assert board.shutdown_reason() == MISSED
    (shutdown,) = board.said("shutdown")
    assert reason_in(shutdown) == MISSED
    assert shutdown["clock"] == begin + 5 * SECOND
    assert board.firmware.outputs["HE"].level == 0.0
    # A host that comes later is told, and can do nothing but ask.
    assert board.value("get_config")["is_shutdown"] == 1
    assert [n for n, _ in board.ask("queue_step", A, 1, 1, 0)] == ["is_shutdown"]
    assert board.value("get_clock")["clock"] == board.now


def test_a_heater_that_is_refreshed_or_off_runs_on(board: Board) -> None:
    for _ in range(4):
        set_heater(board, 0.5)
        board.run(3.75)
    set_heater(board, 0.0)
    board.run(20.0, tick=0.05)
    assert board.shutdown_reason() is None


def test_an_event_beyond_the_limit_shuts_down_at_once(board: Board) -> None:
    set_heater(board, 0.5)
    board.run(1.0)
    set_heater(board, 0.5, board.now + 6 * SECOND)
    assert board.shutdown_reason() == (
        "Scheduled digital out event will exceed max_duration"
    )


def test_a_queue_with_a_gap_beyond_the_limit_shuts_down(board: Board) -> None:
    at = board.now + SECOND // 2
    set_heater(board, 0.5, at)
    set_heater(board, 0.5, at + 6 * SECOND)
    board.run(1.0)
    assert board.shutdown_reason() == (
        "Scheduled digital out event will exceed max_duration"
    )


def test_a_shutdown_ends_steps_and_lets_motors_go_in_that_instant(
    board: Board,
) -> None:
    board.ask("queue_digital_out", ENABLE, board.now + SECOND // 10, 1)
    board.run(0.5)
    board.ask("reset_step_clock", A, board.now + SECOND // 10)
    board.ask("queue_step", A, 1000, 60_000, 0)
    board.run(1.0)
    board.ask("emergency_stop")
    stood = board.net("a")
    assert stood == pytest.approx(-0.9 * SECOND / 1000, abs=1)
    board.run(3.0)
    assert board.net("a") == stood
    assert not board.world.motors["a"].energised
    assert board.shutdown_reason() == "Command request"


def test_a_missed_heater_stops_motors_at_the_deadline_itself(board: Board) -> None:
    set_heater(board, 1.0, board.now + SECOND // 10)
    deadline = board.now + SECOND // 10 + 5 * SECOND
    board.run(4.0)
    board.ask("reset_step_clock", A, board.now + SECOND // 10)
    board.ask("queue_step", A, 1000, 60_000, 0)
    begin = board.now + SECOND // 10
    board.run(3.0, tick=0.05)
    assert board.net("a") == -((deadline - begin) // 1000)


def test_config_reset_gives_a_shut_down_board_a_new_start(board: Board) -> None:
    board.ask("config_reset")
    assert board.value("get_config")["is_config"] == 1
    board.ask("emergency_stop")
    board.ask("config_reset")
    assert board.value("get_config") == {
        "is_config": 0, "crc": 0, "is_shutdown": 0, "move_count": 0}  # fmt: skip
    board.configure(crc=43)
    assert board.value("get_config")["crc"] == 43
    board.run(6.0)
    assert board.shutdown_reason() is None
    assert len(board.said("stats")) == 1


def test_update_sets_an_output_now_but_not_before_what_is_queued(board: Board) -> None:
    board.ask("update_digital_out", ENABLE, 1)
    board.run(0.2)
    assert board.firmware.outputs["EA"].level == 1.0
    board.ask("queue_digital_out", ENABLE, board.now + SECOND, 0)
    board.ask("update_digital_out", ENABLE, 0)
    assert board.shutdown_reason() == "update_digital_out not valid with active queue"


# Power


def test_a_cut_keeps_what_came_before_it_and_nothing_else(board: Board) -> None:
    board.ask("queue_digital_out", ENABLE, board.now + SECOND // 10, 1)
    board.run(0.5)
    board.ask("reset_step_clock", A, board.now + SECOND // 10)
    board.ask("queue_step", A, 1000, 60_000, 0)
    set_heater(board, 1.0, board.now + SECOND // 2)
    begin = board.clock + SECOND // 10
    board.run(1.0)
    cut = board.clock - 30 * MS
    board.firmware.ends = cut
    board.post(encoded("emergency_stop"))
    board.listen()
    board.firmware.power_off(cut)
    assert board.net("a") == -((cut - begin) // 1000)
    output = board.firmware.outputs["HE"]
    assert output.times == sorted(output.times) and output.times[-1] == cut
    assert all(when <= cut / SECOND for when, _, _ in board.world.events)


# Thermistors and buttons


def watch(board: Board, low: int, high: int, checks: int) -> None:
    board.ask("query_analog_in", ADC, board.now + SECOND // 10, 20_000, 8,
              3 * SECOND // 10, low, high, checks)  # fmt: skip


def test_a_thermistor_is_reported_and_says_when_next(board: Board) -> None:
    watch(board, 0, 65535, 4)
    begin = board.now + SECOND // 10
    board.run(1.05)
    reports = board.said("analog_in_state")
    period = 3 * SECOND // 10
    assert [r["next_clock"] for r in reports] == [
        begin + n * period for n in range(1, 5)]  # fmt: skip
    celsius = board.world.heaters["extruder"].temperature
    assert reports[0]["value"] == int(adc_fraction(celsius) * ADC_MAX * 8)


def test_a_temperature_out_of_range_shuts_down_after_so_many_samples(
    board: Board,
) -> None:
    watch(board, 100, 200, 3)
    board.run(0.65)
    assert board.shutdown_reason() is None
    board.run(0.2)
    assert board.shutdown_reason() == "ADC out of range"
    board.responses.clear()
    board.run(1.0)
    assert board.said("analog_in_state"), "a host wants temperatures all the same"


def test_one_bad_sample_among_good_ones_is_forgiven(board: Board) -> None:
    limit = int(adc_fraction(30.0) * ADC_MAX * 8)
    watch(board, limit, 65535, 2)
    heater = board.world.heaters["extruder"]
    for celsius in (25.0, 50.0, 25.0, 50.0, 25.0, 50.0, 25.0):
        heater.temperature = celsius
        board.run(0.3)
    assert board.shutdown_reason() is None


def press(board: Board, seconds: float, ok: bool) -> None:
    board.world.ac_ok = ok
    board.run(seconds, tick=0.001)


def test_a_button_is_reported_when_two_looks_agree(board: Board) -> None:
    board.ask("buttons_query", BUTTONS, board.now + 5 * MS, 5 * MS, 50, 1)
    press(board, 0.1, True)
    assert board.said("buttons_state") == []
    press(board, 0.006, False)
    press(board, 0.1, True)
    assert board.said("buttons_state") == []
    press(board, 0.05, False)
    assert board.said("buttons_state") == [
        {"oid": BUTTONS, "ack_count": 0, "state": b"\x00"}]  # fmt: skip
    press(board, 0.05, True)
    # Not acknowledged yet: the first goes along.
    assert board.said("buttons_state")[-1]["state"] == b"\x00\x01"
    board.ask("buttons_ack", BUTTONS, 2)
    press(board, 0.05, False)
    assert board.said("buttons_state")[-1] == {
        "oid": BUTTONS, "ack_count": 2, "state": b"\x00"}  # fmt: skip


def test_a_button_nobody_acknowledged_is_reported_again(board: Board) -> None:
    board.ask("buttons_query", BUTTONS, board.now + 5 * MS, 5 * MS, 10, 1)
    press(board, 0.03, False)
    assert len(board.said("buttons_state")) == 1
    press(board, 0.05, False)
    assert len(board.said("buttons_state")) == 2
    board.ask("buttons_ack", BUTTONS, 1)
    press(board, 0.2, False)
    assert len(board.said("buttons_state")) == 2


def test_the_pins_that_klippy_is_told_of_exist() -> None:
    assert {"SA", "LX", "HE", "EA", "TE", "ACOK"} <= set(PIN)


def test_a_motor_wired_the_other_way_round_counts_as_its_dir_pin(board: Board) -> None:
    motor = board.world.motors["a"]
    motor.reversed = True
    x = motor.at(board.clock)
    board.ask("set_next_step_dir", board.A, 1)
    board.ask("queue_step", board.A, board.now + 10 * MS, 5, 0)
    board.run(0.2)
    assert board.value("stepper_get_position", board.A)["pos"] == 5
    assert motor.at(board.clock) == pytest.approx(x - 5 * motor.step_mm)
