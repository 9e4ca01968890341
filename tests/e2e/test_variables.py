# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The mains fail again while the resume saves a variable for the owner's macros.

SAVE_VARIABLE empties klippy's file before it writes it, and never syncs it.  One
printer without Z+ switches, whose disk forgets by another seed at each cut.
"""
from __future__ import annotations

import ast
import configparser
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.virtual_printer import outage, parts, screw_trial, variants
from tests.virtual_printer.printer import VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

OWN = {"a_tool": 3, "hours": 1234.5, "zz_name": "last"}
CUTS = 3
# Without a hook nothing is saved for macros.
CONFIG = screw_trial.CONFIG + """
[power_loss_recovery]
restart_gcode: M400
"""
SAVED = "Tell the macros what was interrupted"


@pytest.fixture(scope="module")
def printer() -> Iterator[VirtualPrinter]:
    """With variables of the owner's, and a print that was cut."""
    with VirtualPrinter(
        seed=7, config=CONFIG, variant=variants.ONE_SCREW
    ) as printer:
        printer.power_on()
        for name, value in OWN.items():
            printer.gcode(f"SAVE_VARIABLE VARIABLE={name} VALUE='{json.dumps(value)}'")
        printer.disk.settle(printer.data / "config" / "variables.cfg")
        printer.cut_power()
        printer.power_on()
        printer.gcode("G28\nG1 X125 Y125 Z5 F9000\nM400")
        part = parts.write(printer.root / "flat.gcode", screw_trial.FLAT)
        printer.print_file(part)
        printer.arm_cut(3.0)
        outage.wait_cut(printer, 3.0)
        printer.power_on()
        yield printer


def variables(printer: VirtualPrinter) -> dict[str, Any]:
    file = configparser.ConfigParser()
    file.read(printer.data / "config" / "variables.cfg")
    items = file.items("Variables") if file.has_section("Variables") else []
    return {name: ast.literal_eval(value) for name, value in items}


def begin_resume(printer: VirtualPrinter) -> None:
    """Until the variable is saved, and no longer."""
    outage.wait_offer(printer)
    steps = printer.post("/server/plr/resume", dry_run=True)["steps"]
    printer.gcode("PLR_RESUME_PRINT")
    number = steps.index(SAVED) + 1

    def saved() -> bool:
        step = printer.get("/server/plr/status")["step"]
        return step is not None and step["number"] > number

    printer.wait("the variable", saved, 60, 0.02)
    assert "resume_meta_info" in variables(printer)


@pytest.mark.parametrize("number", range(CUTS))
def test_klippy_starts_again_with_all_that_was_saved_before(
    printer: VirtualPrinter, number: int
) -> None:
    begin_resume(printer)
    printer.cut_power()
    printer.power_on()
    outage.wait_offer(printer)
    found = variables(printer)
    assert {name: found.get(name) for name in OWN} == OWN
    status = printer.objects("save_variables")["save_variables"]["variables"]
    assert {name: status.get(name) for name in OWN} == OWN
