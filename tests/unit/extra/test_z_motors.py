# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The Z+ switches are read, or it is said why not: klippy never waits for ever."""
from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery import z_motors
from tests.unit.extra.fake_printer import CommandError, Printer

AHEAD = 3.0  # s of motion before the question


class Silent(Exception):
    """Stands for a greenlet that waits for ever."""


class Bench(Printer):
    def __init__(self, look: Callable[[], bool]) -> None:
        super().__init__()
        self.waited = 0.0
        endstop = SimpleNamespace(query_endstop=lambda print_time: look())
        self.objects["mcu"] = SimpleNamespace(estimated_print_time=lambda t: 50.0)
        self.reactor = SimpleNamespace(
            monotonic=lambda: 100.0, register_callback=self.register_callback
        )
        self.motors = z_motors.ZMotors(self)
        self.motors.toolhead = SimpleNamespace(get_last_move_time=lambda: 50.0 + AHEAD)
        self.motors.endstops = [(endstop, "stepper_z")]

    def get_reactor(self) -> Any:
        return self.reactor

    def is_shutdown(self) -> bool:
        return self.shut_down

    def register_callback(self, callback: Callable[[float], Any]) -> Any:
        def wait(waketime: float, result: Any) -> Any:
            self.waited = waketime - 100.0
            answer = callback(100.0)
            return result if isinstance(answer, Silent) else answer

        return SimpleNamespace(wait=wait)


def fails(error: Exception) -> Callable[[], bool]:
    def look() -> bool:
        raise error

    return look


@pytest.mark.parametrize("pressed", [True, False])
def test_the_switches_are_read(pressed: bool) -> None:
    assert Bench(lambda: pressed).motors.pressed() == ["stepper_z"] * pressed


@pytest.mark.parametrize(("error", "said"), [
    (Silent(), "the board does not answer"), (CommandError("Timeout"), "Timeout"),
    (ZeroDivisionError("odd"), "odd"),
])  # fmt: skip
def test_a_board_that_does_not_answer_is_an_error(error: Exception, said: str) -> None:
    bench = Bench(fails(error))
    with pytest.raises(CommandError, match=f"cannot be read: {said}"):
        bench.motors.pressed()
    assert bench.waited == pytest.approx(AHEAD + z_motors.ANSWER_TIME)


def test_after_a_shutdown_nothing_is_asked() -> None:
    bench = Bench(fails(AssertionError()))
    bench.shut_down = True
    with pytest.raises(CommandError, match="was shut down"):
        bench.motors.pressed()


def test_without_switches_none_is_pressed() -> None:
    bench = Bench(fails(AssertionError()))
    bench.motors.endstops = []
    assert bench.motors.pressed() == []
