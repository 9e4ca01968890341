# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A busy machine is waited for, and a failure is not mistaken for one."""
from __future__ import annotations

import pytest

from tests.virtual_printer import busy
from tests.virtual_printer.printer import PrinterError


class Trial:
    def __init__(self, *errors: str) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise PrinterError(self.errors.pop(0))
        return "done"


def test_what_klippy_could_not_run_is_done_again() -> None:
    trial = Trial("400: Communication timeout during homing z", "Timer too close")
    assert busy.again(trial) == "done"


def test_but_not_for_ever() -> None:
    with pytest.raises(PrinterError):
        busy.again(Trial(*["Timer too close"] * busy.TRIES))


def test_another_failure_is_one_at_once() -> None:
    trial = Trial("PLR_Z_HOME: the Z+ switch of stepper_z does not repeat", "more")
    with pytest.raises(PrinterError, match="does not repeat"):
        busy.again(trial)
    assert trial.errors == ["more"]
