# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""That a print is being cancelled is known from the press on, until it is done."""
from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery.cancel import Cancel
from tests.unit.extra.fake_printer import Command, CommandError, Printer


class Dispatch:
    """klippy's, as far as this goes; `busy` is what a script waits for."""

    def __init__(self, handler: Callable[[Any], None] | None) -> None:
        self.handlers = {} if handler is None else {"CANCEL_PRINT": handler}
        self.busy: Callable[[], None] = lambda: None

    def register_command(self, name: str, handler: Any) -> Any:
        if handler is None:
            return self.handlers.pop(name, None)
        assert name not in self.handlers
        self.handlers[name] = handler

    def run_script(self, script: str) -> None:
        self.busy()
        for line in script.split("\n"):
            if line.split()[0].upper() in self.handlers:
                self.handlers["CANCEL_PRINT"](Command(line, {}))


@pytest.fixture
def bench() -> SimpleNamespace:
    seen: list[bool] = []
    printer = Printer()
    cancel = Cancel(printer)

    def macro(gcmd: Any) -> None:
        seen.append(cancel.is_under_way())

    dispatch = printer.objects["gcode"] = Dispatch(macro)
    cancel.attach()
    return SimpleNamespace(cancel=cancel, gcode=dispatch, seen=seen, macro=macro)


@pytest.mark.parametrize("script", ["CANCEL_PRINT", "M400\ncancel_print X=1"])
def test_it_is_under_way_until_the_macro_has_ended(bench: Any, script: str) -> None:
    bench.gcode.run_script(script)
    assert bench.seen == [True] and not bench.cancel.is_under_way()


def test_it_is_under_way_while_the_press_waits_for_the_line_before(bench: Any) -> None:
    bench.gcode.busy = lambda: bench.seen.append(bench.cancel.is_under_way())
    bench.gcode.run_script("CANCEL_PRINT")
    bench.gcode.run_script("M117 CANCEL_PRINT")
    assert bench.seen == [True, True, False]


def test_a_macro_that_cancels_counts_too(bench: Any) -> None:
    bench.gcode.handlers["CANCEL_PRINT"](Command("CANCEL_PRINT", {}))
    assert bench.seen == [True] and not bench.cancel.is_under_way()


def test_a_cancel_that_fails_is_over() -> None:
    printer = Printer()

    def fail(gcmd: Any) -> None:
        raise CommandError("Move out of range")

    printer.objects["gcode"] = dispatch = Dispatch(fail)
    cancel = Cancel(printer)
    cancel.attach()
    with pytest.raises(CommandError, match="out of range"):
        dispatch.run_script("CANCEL_PRINT")
    assert not cancel.is_under_way()


def test_without_pause_resume_there_is_nothing_to_hear() -> None:
    printer = Printer()
    printer.objects["gcode"] = dispatch = Dispatch(None)
    cancel = Cancel(printer)
    cancel.attach()
    dispatch.run_script("CANCEL_PRINT")
    assert dispatch.handlers == {} and not cancel.is_under_way()
