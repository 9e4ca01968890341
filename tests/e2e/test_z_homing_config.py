# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Configs for PLR_Z_HOME: what klippy refuses when it starts, and what it takes."""
from __future__ import annotations

import re

import pytest

from tests.virtual_printer import variants, z_trial
from tests.virtual_printer.klippy_api import Klippy
from tests.virtual_printer.klippy_tree import prepare
from tests.virtual_printer.printer import PrinterError, VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

REFUSED = {
    "kinematics": (
        "\n[printer]\nkinematics: corexz\n", ("kinematics: corexz", "stepper_x"),
    ),
    "shared pin": (
        "\n[power_loss_recovery]\npin_stepper_z1: ^!LZ\n",
        ("pin_stepper_z1", "endstop_pin of [stepper_z]"),
    ),
    "twice": (
        "\n[power_loss_recovery]\npin_stepper_z1: mcu:ZP0\n",
        ("pin_stepper_z1", "also pin_stepper_z"),
    ),
    "travel": (
        "\n[power_loss_recovery]\nfast_travel_upto_z_height: 240\n",
        ("fast_travel_upto_z_height", "below z_position"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_config_that_cannot_work_is_refused_at_start(case: str) -> None:
    config, words = REFUSED[case]
    with VirtualPrinter(config=config) as printer:
        printer.power_on(moonraker=False, wait=False)
        klippy = Klippy(printer, ready=False)
        for word in words:
            assert word in klippy.info["state_message"]


def test_a_delta_is_refused_by_name() -> None:
    with VirtualPrinter(variant=variants.ONE_MOTOR) as printer:
        path = printer.data / "config" / "printer.cfg"
        text = re.sub(r"^position_m(in|ax):.*\n", "", path.read_text(), flags=re.M)
        for axis, tower in zip("xyz", "abc", strict=True):
            text = text.replace(
                f"[stepper_{axis}]\n", f"[stepper_{tower}]\narm_length: 300\n"
            )
        path.write_text(text + "\n[printer]\nkinematics: delta\ndelta_radius: 150\n")
        printer.power_on(moonraker=False, wait=False)
        message = Klippy(printer, ready=False).info["state_message"]
        assert "kinematics: delta" in message
        assert "stepper_a moves X or Y as well as Z" in message


@pytest.mark.parametrize(("kinematics", "refused"), [
    ("hybrid_corexz", True), ("hybrid_corexy", False),
])  # fmt: skip
def test_of_the_hybrids_the_one_whose_z_motors_move_only_z_is_taken(
    kinematics: str, refused: bool
) -> None:
    if prepare().is_package:
        pytest.skip("PyPI's klippy cannot load these kinematics")
    with VirtualPrinter(config=f"\n[printer]\nkinematics: {kinematics}\n") as printer:
        printer.power_on(moonraker=False, wait=False)
        info = Klippy(printer, ready=False).info
        assert (info["state"] != "ready") == refused
        if refused:
            assert f"kinematics: {kinematics}" in info["state_message"]
            assert "moves X or Y as well as Z" in info["state_message"]


def test_a_motor_without_a_switch_is_refused_at_start() -> None:
    with VirtualPrinter() as printer:
        path = printer.data / "config" / "printer.cfg"
        path.write_text(path.read_text().replace("pin_stepper_z3: ^ZP3\n", ""))
        printer.power_on(moonraker=False, wait=False)
        message = Klippy(printer, ready=False).info["state_message"]
        assert "stepper_z3" in message and "its own Z+ switch" in message


def test_inverted_and_pulled_down_pins_are_accepted() -> None:
    config = (
        "pin_stepper_z: !ZP0\npin_stepper_z1: ~ZP1\n"
        "pin_stepper_z2: ~!ZP2\npin_stepper_z3: ZP3\n"
    )
    with VirtualPrinter(config=z_trial.CONFIG + config) as printer:
        printer.power_on(moonraker=False, wait=False)
        klippy = Klippy(printer)
        klippy.gcode("SET_KINEMATIC_POSITION Z=40")
        with pytest.raises(PrinterError) as e:
            klippy.gcode("PLR_Z_HOME MODE=CALIBRATE")
        # Open switches on inverted pins look pressed
        assert "of stepper_z, stepper_z2 is already pressed" in str(e.value)
