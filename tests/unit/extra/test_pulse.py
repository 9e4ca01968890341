# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A host that was late: until when the boards had their steps, and where motors are."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery import pulse
from klippy_extras.power_loss_recovery.motors import Motors
from klippy_extras.power_loss_recovery.stop import ANSWER_TIME, MAX_TRIES, Stop

BEHIND = 100.0  # a board's print time is the host's less this
FREQ = 1000


class Board:
    """A board as klippy sees it: print times are host times less BEHIND."""

    def __init__(self, last_prediction_time: float = 0.0) -> None:
        self._clocksync = SimpleNamespace(last_prediction_time=last_prediction_time)
        self.handlers: dict[Any, Any] = {("shutdown", None): lambda params: None}
        self._serial = self

    def register_response(self, handler: Any, name: str) -> None:
        self.handlers[(name, None)] = handler

    def estimated_print_time(self, eventtime: float) -> float:
        return eventtime - BEHIND

    def clock32_to_clock64(self, clock: int) -> int:
        return clock

    def clock_to_print_time(self, clock: int) -> float:
        return clock / FREQ

    def say_shutdown(self, print_time: float, reason: str) -> None:
        params = {"clock": int(print_time * FREQ), "static_string_id": reason}
        self.handlers[("shutdown", None)](params)


class Reactor:
    NOW, NEVER = 0.0, 9e9

    def __init__(self) -> None:
        self.now = BEHIND
        self.callbacks: list[tuple[float, Any]] = []

    def monotonic(self) -> float:
        return self.now

    def register_timer(self, callback: Any, waketime: float) -> None:
        pass

    def register_callback(self, callback: Any, waketime: float) -> None:
        self.callbacks.append((waketime, callback))

    def run(self) -> None:
        while self.callbacks:
            self.now, callback = self.callbacks.pop(0)
            callback(self.now)


def beat(beats: pulse.Pulse, *times: float) -> None:
    for time in times:
        beats.note(BEHIND + time)


def printer_of(*boards: Board) -> tuple[Motors, Reactor]:
    reactor = Reactor()
    motors = Motors(SimpleNamespace(get_reactor=lambda: reactor))
    motors.mcus = list(boards)
    for board in boards:
        motors._listen(board)
    return motors, reactor


def test_a_host_that_runs_on_was_never_late() -> None:
    beats = pulse.Pulse(Reactor())
    beat(beats, 10.0, 10.1, 10.2, 10.35, 10.45)
    assert beats.sent_until(Board(), 10.4) is None


@pytest.mark.parametrize(
    ("stopped", "sent"),
    [
        (9.9, None),  # before it
        (10.1, 10.1), (11.0, 10.1), (12.0, 10.1), (12.2, 10.1),  # in it, just after it
        (12.5, None),  # it has had late steps, and taken none amiss
    ],
)  # fmt: skip
def test_what_comes_after_a_standstill_is_not_promised(
    stopped: float, sent: float | None
) -> None:
    beats = pulse.Pulse(Reactor())
    beat(beats, 10.0, 10.1, 12.0, 12.1, 12.2, 12.3)
    assert beats.sent_until(Board(), stopped) == (
        None if sent is None else pytest.approx(sent)
    )


def test_klippy_that_writes_its_log_of_the_shutdown_is_not_late() -> None:
    beats = pulse.Pulse(Reactor())
    beat(beats, 10.0, 10.1)
    beats.note_shutdown(BEHIND + 10.15)
    beat(beats, 11.0)
    assert beats.sent_until(Board(), 10.16) is None


def test_a_board_that_says_when_it_stopped_is_believed() -> None:
    board = Board(last_prediction_time=BEHIND + 9.5)
    motors, _ = printer_of(board)
    beat(motors.pulse, 10.0, 10.1, 10.2)
    board.say_shutdown(10.25, "Command request")
    assert motors.stops(BEHIND + 11.0) == {board: (10.25, 10.25)}


def test_after_a_standstill_the_motors_stopped_when_their_steps_were_over() -> None:
    board = Board(last_prediction_time=BEHIND + 9.5)
    motors, _ = printer_of(board)
    beat(motors.pulse, 10.0, 10.1, 12.0)
    board.say_shutdown(12.01, "Timer too close")
    assert motors.stops(BEHIND + 12.3) == {board: (pytest.approx(10.1), 12.01)}


def test_a_link_that_stood_still_is_believed_up_to_its_last_answer() -> None:
    late, other = Board(BEHIND + 9.5), Board(BEHIND + 9.8)
    motors, _ = printer_of(late, other)
    beat(motors.pulse, 10.0, 10.1, 10.2)
    late.say_shutdown(10.25, "Timer too close")
    other.say_shutdown(10.3, "Command request")
    late._clocksync.last_prediction_time = BEHIND + 10.9  # it still answers
    assert motors.stops(BEHIND + 11.0) == {late: (9.5, 10.25), other: (10.3, 10.3)}


def test_a_board_that_does_not_answer_may_have_moved_up_to_now() -> None:
    board = Board(last_prediction_time=BEHIND + 9.5)
    motors, _ = printer_of(board)
    assert motors.stops(BEHIND + 11.0) == {board: (9.5, 11.0)}


@pytest.mark.parametrize("answers", [True, False])
def test_boards_are_waited_for_and_not_for_ever(answers: bool) -> None:
    board = Board(last_prediction_time=BEHIND - 0.5)
    motors, reactor = printer_of(board)
    motors.stopped_position = lambda stops: [1.0, 2.0, 3.0]  # type: ignore[method-assign]
    asked: list[tuple[float, float]] = []

    def stopped(low: float, high: float, position: list[float]) -> dict[str, Any]:
        asked.append((low, high))
        return {"live_position": position}

    followed = SimpleNamespace(
        note_shutdown=lambda: None, complete=lambda mark: mark, stopped=stopped
    )
    printer = SimpleNamespace(get_reactor=lambda: reactor)
    stop = Stop(printer, followed, motors)
    stop.note_shutdown()
    if answers:
        late = 1.5 * ANSWER_TIME
        answer = (BEHIND + late, lambda _: board.say_shutdown(late, "Command request"))
        reactor.callbacks.append(answer)
    reactor.run()
    assert stop.mark == {"live_position": [1.0, 2.0, 3.0]}
    if answers:
        assert asked == [(0.375, 0.375)]
    else:
        assert asked == [(-0.5, MAX_TRIES * ANSWER_TIME)]
