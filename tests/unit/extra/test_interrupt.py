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
        assert printer.heaters.target == 0.0
        printer.heaters._get_temp(2.0)
    # The next one, and M105, find all as it was.
    assert printer.heaters._get_temp(3.0) == "T:20"
    with printer.interrupt.allowed():
        printer.heaters._get_temp(4.0)


def test_what_ends_by_itself_then_has_failed_too(printer: Any) -> None:
    """A heater without PID is not waited for once its target is 0."""
    with pytest.raises(CommandError, match="cancelled"), printer.interrupt.allowed():
        printer.stop()


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
