# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A hook that waits for heat ends when its resume is cancelled."""
from __future__ import annotations

from typing import Any

import pytest

from klippy_extras.power_loss_recovery.interrupt import ENDPOINT, Interrupt
from tests.unit.extra.fake_printer import CommandError, Printer


class Heaters:
    """klippy's, that wait as its M109 does."""

    def __init__(self) -> None:
        self.target, self.told = 210.0, 0

    def _get_temp(self, eventtime: float) -> str:
        self.told += 1
        return "T:20"

    def turn_off_all_heaters(self, print_time: float = 0.0) -> None:
        self.target = 0.0


@pytest.fixture
def printer() -> Any:
    made: Any = Printer()
    made.heaters = made.objects["heaters"] = Heaters()
    made.interrupt = Interrupt(made)
    made.stop = lambda: made.endpoints[ENDPOINT](None)
    return made


def test_the_wait_fails_and_the_heaters_are_off(printer: Any) -> None:
    with pytest.raises(CommandError, match="cancelled"), printer.interrupt.allowed():
        assert printer.heaters._get_temp(1.0) == "T:20"
        printer.stop()
        printer.heaters._get_temp(2.0)
    assert printer.heaters.target == 0.0
    # The next one, and M105, find all as it was.
    assert printer.heaters._get_temp(3.0) == "T:20"
    with printer.interrupt.allowed():
        printer.heaters._get_temp(4.0)


def test_a_wait_that_ends_now_has_failed_too(printer: Any) -> None:
    with pytest.raises(CommandError, match="cancelled"), printer.interrupt.allowed():
        printer.stop()
    assert printer.heaters.target == 0.0


def test_between_two_hooks_of_a_command_it_is_not_forgotten(printer: Any) -> None:
    ran = []
    with pytest.raises(CommandError, match="cancelled"), printer.interrupt.command():
        with printer.interrupt.allowed():
            ran.append("before")
        printer.stop()  # while Z is measured
        with printer.interrupt.allowed():
            ran.append("after")
    assert ran == ["before"] and printer.heaters.target == 0.0


def test_a_command_that_has_no_further_hook_ends_with_the_heaters_off(
    printer: Any,
) -> None:
    with printer.interrupt.command():
        printer.stop()
    assert printer.heaters.target == 0.0
    with printer.interrupt.allowed():
        pass


def test_without_a_hook_nothing_is_turned_off(printer: Any) -> None:
    printer.stop()
    assert printer.heaters.target == 210.0
    with printer.interrupt.allowed():
        pass


def test_a_hook_in_a_hook_is_part_of_it(printer: Any) -> None:
    with pytest.raises(CommandError, match="cancelled"), printer.interrupt.allowed():
        with printer.interrupt.allowed():
            pass
        printer.stop()
        printer.heaters._get_temp(1.0)


@pytest.mark.parametrize("heaters", [None, object()])
def test_where_klippy_differs_a_hook_runs_as_before(
    printer: Any, heaters: object
) -> None:
    printer.objects["heaters"] = heaters
    with printer.interrupt.allowed():
        printer.stop()
