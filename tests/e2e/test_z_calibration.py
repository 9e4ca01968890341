# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The calibration outlives klippy's variables file, on a disk that forgets.

One printer; the tests run in the order they are written.
"""
from __future__ import annotations

import ast
import configparser
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.virtual_printer import z_trial
from tests.virtual_printer.printer import PrinterError, VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STORED = "a second copy of it"
CUTS = 3
OTHERS = {"a_tool": 3, "hours": 1234.5, "zz_name": "last"}


@pytest.fixture(scope="module")
def printer() -> Iterator[VirtualPrinter]:
    with VirtualPrinter(seed=5, config=z_trial.CONFIG) as printer:
        printer.power_on()
        printer.gcode("SET_KINEMATIC_POSITION X=100 Y=100 Z=10\nG28\nG90\nG1 Z222")
        yield printer


def variables(printer: VirtualPrinter) -> Path:
    return printer.data / "config" / "variables.cfg"


def read(path: Path) -> dict[str, Any]:
    file = configparser.ConfigParser()
    file.read(path)
    items = file.items("Variables") if file.has_section("Variables") else []
    return {name: ast.literal_eval(value) for name, value in items}


def told(printer: VirtualPrinter, text: str) -> int:
    return sum(text in line for line in printer.console())


def z_homing(printer: VirtualPrinter) -> dict[str, Any]:
    objects = printer.objects("power_loss_recovery")
    return objects["power_loss_recovery"]["z_homing"]


def calibrate(printer: VirtualPrinter) -> dict[str, float]:
    """Until the answer that it is stored; returns the heights."""
    before = told(printer, STORED)
    printer.gcode("PLR_Z_HOME MODE=CALIBRATE")
    printer.wait("stored twice", lambda: told(printer, STORED) > before, 10, 0.02)
    return z_homing(printer)["heights"]


def calibrated(printer: VirtualPrinter) -> dict[str, float]:
    printer.wait("a calibration", lambda: z_homing(printer)["calibrated"], 10)
    return z_homing(printer)["heights"]


def resume(printer: VirtualPrinter) -> None:
    """After a cut: Z is made true again from what is stored."""
    printer.gcode("_PLR_ASSUME_Z Z=222\nPLR_Z_HOME MODE=RESUME")


def cut(printer: VirtualPrinter) -> None:
    printer.cut_power()
    printer.power_on()


@pytest.mark.parametrize("number", range(CUTS))
def test_once_it_is_answered_a_power_cut_does_not_take_it(
    printer: VirtualPrinter, number: int
) -> None:
    """The disk forgets by another seed each time."""
    heights = calibrate(printer)
    cut(printer)
    assert calibrated(printer) == pytest.approx(heights, abs=3e-6)
    resume(printer)


def test_the_saved_state_shows_it(printer: VirtualPrinter) -> None:
    heights = calibrated(printer)
    printer.gcode("PLR_QUERY_SAVED_STATE")
    for name, height in heights.items():
        printer.wait(name, lambda h=f"{name} {height:.3f} mm": told(printer, h), 5)
    status = printer.get("/server/plr/status")["calibration"]
    assert status["heights"] == heights and status["second_copy"]
    assert status["reference_height"] == heights["stepper_z"]


def boot_with(printer: VirtualPrinter, content: bytes, config: str = "") -> None:
    """Power comes back, and the variables file is this; `config` is appended."""
    printer.cut_power()
    variables(printer).write_bytes(content)
    with open(printer.data / "config" / "printer.cfg", "a") as f:
        f.write(config)
    printer.power_on()


def test_a_variables_file_cut_short_at_any_byte_is_mended(
    printer: VirtualPrinter,
) -> None:
    """At the ends of its lines, in them, and where half a number is a number."""
    heights = calibrated(printer)
    for name, value in OTHERS.items():
        printer.gcode(f"SAVE_VARIABLE VARIABLE={name} VALUE='{json.dumps(value)}'")
    whole = variables(printer).read_bytes()
    offset = whole.index(b"z_offset_stepper_z2 = ") + len("z_offset_stepper_z2 = ")
    lengths = {
        "nothing": 0, "in the section": 5, "no lines": len("[Variables]\n"),
        "in the info": whole.index(b"'time'"),
        "in a name": whole.index(b"z_offset_stepper_z1") + 9,
        "half a number": offset + 4, "in the last": whole.index(b"'last'") + 3,
    }  # fmt: skip
    for where, length in lengths.items():
        boot_with(printer, whole[:length])
        assert calibrated(printer) == pytest.approx(heights, abs=3e-6), where
        kept = {n: v for n, v in read(variables(printer)).items() if n in OTHERS}
        lines = whole[: whole[:length].rfind(b"\n") + 1].decode()
        assert kept == {n: v for n, v in OTHERS.items() if f"\n{n} = " in lines}, where
    broken = list(variables(printer).parent.glob("variables.cfg.broken-*"))
    assert {len(p.read_bytes()) for p in broken} == set(lengths.values())
    assert told(printer, "could not be read, as after a power loss")
    resume(printer)


def test_a_file_that_is_gone_comes_back(printer: VirtualPrinter) -> None:
    heights = calibrated(printer)
    variables(printer).unlink()
    cut(printer)
    assert calibrated(printer) == pytest.approx(heights, abs=3e-6)
    assert told(printer, "had lost variables, as in a power loss")


def test_a_later_calibration_wins(printer: VirtualPrinter) -> None:
    older = variables(printer).read_bytes()
    resume(printer)
    z = printer.objects("toolhead")["toolhead"]["position"][2]
    printer.gcode(f"SET_KINEMATIC_POSITION X=100 Y=100 Z={z + 0.3}")
    heights = calibrate(printer)
    newer = variables(printer).read_bytes()
    assert newer != older
    boot_with(printer, older)
    printer.wait(
        "the newer one",
        lambda: calibrated(printer) == pytest.approx(heights, abs=3e-6), 5,
    )  # fmt: skip


def test_after_a_change_of_the_config_it_is_still_refused(
    printer: VirtualPrinter,
) -> None:
    boot_with(printer, b"", "\n[power_loss_recovery]\nz_position: 231\n")

    def known() -> bool:
        return "is '231.000'" in z_homing(printer)["calibration_problem"]

    printer.wait("the reason", known, 30)
    assert not z_homing(printer)["calibrated"]
    with pytest.raises(PrinterError, match="PLR_Z_HOME MODE=CALIBRATE"):
        printer.gcode("PLR_Z_HOME MODE=RESUME")
