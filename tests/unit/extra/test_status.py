# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What klippy publishes of us: asked at any moment, it never raises."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras import power_loss_recovery
from tests.unit.extra.fake_printer import Config, Printer


@pytest.fixture
def extra() -> Any:
    printer = Printer()
    printer.objects["pins"] = SimpleNamespace(setup_pin=lambda kind, pin: None)
    return power_loss_recovery.load_config(Config(printer, {"pin_stepper_z": "PA1"}))


def test_it_answers_before_klippy_has_found_its_boards(extra: Any) -> None:
    """A front end that asked then shut the printer down."""
    status = extra.get_status(0.0)
    assert status["mark"] is None and status["trouble"] == ""
    assert status["z_homing"]["available"] and not status["z_homing"]["calibrated"]


@pytest.mark.parametrize("part", ["marks", "z_homing", "z_phase"])
def test_an_error_of_ours_is_told_and_stays_ours(extra: Any, part: str) -> None:
    def fail(*args: object) -> None:
        raise ZeroDivisionError

    getattr(extra, part).get_status = fail
    status = extra.get_status(0.0)
    assert "internal error" in status["trouble"] and status["mark"] is None


def test_the_switches_are_shown_by_query_endstops() -> None:
    """There an owner presses each by hand, and the doctor looks whether it is open."""
    printer = Printer()
    printer.objects["pins"] = SimpleNamespace(setup_pin=lambda kind, pin: None)
    pins = {"pin_stepper_z": "PA1", "pin_stepper_z1": "PA2"}
    power_loss_recovery.load_config(Config(printer, pins))
    assert printer.queried == ["z_plus stepper_z", "z_plus stepper_z1"]
