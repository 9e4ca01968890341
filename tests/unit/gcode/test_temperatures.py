# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

import pytest

from moonraker_components.power_loss_recovery.gcode.temperatures import of_start_macro


@pytest.mark.parametrize("line", [
    b"PRINT_START BED_TEMP=60 EXTRUDER_TEMP=215",
    b"START_PRINT EXTRUDER=215 BED=60 MATERIAL=PLA",
    b"print_start HOTEND=215 bed=60.0 ; START_PRINT BED=1",
    b"_START_PRINT BED_TEMPERATURE=60 NOZZLE=215",
    b"M190 S0\n  START_PRINT EXTRUDER_TEMP=215 BED_TEMP=60 Chamber=0 PRINT_MIN=-7,2",
])  # fmt: skip
def test_a_start_macro_tells_both(line: bytes) -> None:
    assert of_start_macro(line + b"\nG28\n") == {"extruder": 215.0, "heater_bed": 60.0}


@pytest.mark.parametrize("line", [
    b"; START_PRINT BED=60", b"START_PRINT", b"EXCLUDE_OBJECT_START NAME=BED",
    b"START_PRINT BED='6", b"START_PRINT BED=x EXTRUDER=nan", b"PRINT BED=60",
    b"START_PRINT BED=0 EXTRUDER=5000", b"M117 START_PRINT BED=60",
])  # fmt: skip
def test_what_tells_nothing_is_not_guessed(line: bytes) -> None:
    assert of_start_macro(line) == {}


def test_the_first_of_several_is_taken() -> None:
    text = b"START_PRINT BED=60\nSTART_MORE BED=80 EXTRUDER=200\n"
    assert of_start_macro(text) == {"heater_bed": 60.0, "extruder": 200.0}
