# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The owner is told what file and saved state see differently, with both values."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.gcode.scan import Point4
from moonraker_components.power_loss_recovery.planning.disagree import differences
from tests.unit.samples import GCODE, POSITION, head, record, state

SET = b"M140 S60\nM104 S215\nM106 S128\nEXCLUDE_OBJECT_START NAME=C\n"
HEAD = head(GCODE[:-1].replace(b"G90\n", b"G90\n" + SET), POSITION + len(SET))
MATCHING: dict[str, Any] = {
    "state": state(heaters={"heater_bed": 60.0}, objects={"current": "C"})
}


def test_where_they_agree_nothing_is_said() -> None:
    assert list(differences(record(**MATCHING), HEAD)) == []


@pytest.mark.parametrize(("changes", "said"), [
    ({"position": (150.0, 150.0, 0.6, 10.0)},
     "Z here: 0.400 in the file, 0.600 in the saved state, which is used."),
    ({"position": (151.0, 150.0, 0.4, 10.0)}, "X here: 150.000 in the file, 151.000"),
    ({"speed": 900.0}, "Speed (F): 1800 in the file, 900 in"),
    ({"retracted": 2.0}, "Filament pulled back, mm: 0.00 in the file, 2.00 in"),
    ({"state": state(coordinates={"absolute_extrude": True})},
     "Filament (M82/M83): relative in the file, absolute in"),
    ({"state": state(coordinates={"absolute_coordinates": False})},
     "Coordinates (G90/G91): absolute in the file, relative in"),
    ({"state": state(heaters={"heater_bed": 70.0})},
     "[heater_bed], °C: 60 in the file, 70 in"),
    ({"state": state(fans={"fan": 0.0})}, "[fan], %: 50 in the file, 0 in"),
    ({"state": state(objects={"current": "D"})}, "Object: C in the file, D in"),
])  # fmt: skip
def test_both_values_are_named(changes: dict[str, Any], said: str) -> None:
    found = list(differences(record(**{**MATCHING, **changes}), HEAD))
    assert len([text for text in found if text.startswith(said)]) == 1, found


def test_a_file_that_does_not_speak_does_not_disagree() -> None:
    silent = replace(HEAD, heaters={}, fans={}, feedrate=None, current_object=None,
                     position=Point4(None, None, None, None), retracted=0.0,
                     coordinates_stated=False, extrude_stated=False)  # fmt: skip
    rec = record(state=state(coordinates={"absolute_extrude": True}))
    assert list(differences(rec, silent)) == []


def test_relative_filament_may_be_counted_from_anywhere() -> None:
    rec = record(position=(150.0, 150.0, 0.4, 777.0), **MATCHING)
    assert list(differences(rec, HEAD)) == []
    absolute = replace(
        HEAD, absolute_extrude=True, position=HEAD.position._replace(e=10.0)
    )
    assert any(text.startswith("E here") for text in differences(rec, absolute))


def test_a_record_made_from_the_file_has_nobody_to_disagree_with() -> None:
    rec = record(from_file=True, speed=1.0)
    assert list(differences(rec, HEAD)) == []
