# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Which phase is known, and which is not."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery import z_phase


class Stepper:
    def __init__(self, name: str, axes: str) -> None:
        self.name, self.axes, self.position, self.past = name, axes, 0, 0

    def get_name(self) -> str:
        return self.name

    def is_active_axis(self, axis: str) -> bool:
        return axis in self.axes

    def get_mcu_position(self) -> int:
        return self.position

    def get_past_mcu_position(self, print_time: float) -> int:
        return self.past

    def get_step_dist(self) -> float:
        return 0.0025


class Printer:
    def __init__(self, reason: str = "startup", phases: int | None = None) -> None:
        self.reason = reason
        self.steppers = [Stepper("stepper_x", "x"), Stepper("stepper_z", "z"),
                         Stepper("stepper_z1", "z")]  # fmt: skip
        kin = SimpleNamespace(get_steppers=lambda: self.steppers)
        settings = {s.name: {"microsteps": 16} for s in self.steppers}
        self.offset: int | None = 5
        self.objects: dict[str, Any] = {
            "toolhead": SimpleNamespace(get_kinematics=lambda: kin),
            "configfile": SimpleNamespace(get_status=lambda t: {"settings": settings}),
        }
        if phases is not None:
            self.objects["tmc2209 stepper_z"] = SimpleNamespace(
                get_phase_offset=lambda: (self.offset, phases)
            )

    def lookup_object(self, name: str, default: Any = None) -> Any:
        return self.objects.get(name, default)

    def get_start_args(self) -> dict[str, str]:
        return {"start_reason": self.reason}

    def attached(self) -> z_phase.ZPhase:
        made = z_phase.ZPhase(self)
        made.attach()
        return made


def test_the_count_of_a_board_that_was_switched_on_is_the_phase() -> None:
    printer = Printer()
    made = printer.attached()
    z, z1 = printer.steppers[1:]
    z.past, z1.past = 1000, -10
    assert made.at(1.0) == {"stepper_z": [1000 % 64, 64], "stepper_z1": [54, 64]}
    z.position = 70
    assert made.get_status()["stepper_z"] == {
        "step_dist": 0.0025, "cycle": 64, "phase": 6, "moved": 70,
    }  # fmt: skip


@pytest.mark.parametrize("reason", ["firmware_restart", "restart"])
def test_after_a_restart_the_count_says_nothing(reason: str) -> None:
    assert Printer(reason).attached().at(1.0)["stepper_z"] == [None, 64]


def test_a_board_that_has_counted_before_says_nothing() -> None:
    printer = Printer()
    printer.steppers[2].position = 3
    assert printer.attached().get_status()["stepper_z"]["phase"] is None


def test_a_driver_that_can_be_read_knows_it_after_a_restart_too() -> None:
    printer = Printer("firmware_restart", phases=64)
    made = printer.attached()
    printer.steppers[1].past = 100
    assert made.at(1.0) == {"stepper_z": [105 % 64, 64], "stepper_z1": [None, 64]}


def test_a_driver_that_has_not_been_read_yet_is_not_guessed() -> None:
    printer = Printer(phases=64)
    printer.offset = None
    assert printer.attached().at(1.0)["stepper_z"] == [None, 64]


def test_other_microsteps_than_configured_are_not_believed() -> None:
    assert Printer(phases=128).attached().at(1.0)["stepper_z"] == [None, 64]


def test_a_motor_that_moves_more_than_z_has_no_height() -> None:
    printer = Printer()
    printer.steppers[1].axes = "xz"
    assert set(printer.attached().get_status()) == {"stepper_z1"}
