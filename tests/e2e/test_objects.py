# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A file that starts objects without defining them, on a real klippy without a board:
klippy makes such an object, and a resume opens it again. What was excluded stays so.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moonraker_components.power_loss_recovery import plan
from moonraker_components.power_loss_recovery.planning import reconstruct
from moonraker_components.power_loss_recovery.record import Job
from tests.e2e.parked import MACHINE, REACHED, Parked, planned
from tests.unit import samples

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

BEFORE = b"""PRINT_START BED=60 EXTRUDER=215
M140 S60
M104 S215
G90
M83
EXCLUDE_OBJECT_START NAME=one
G1 X50 Y50 Z0.2 F6000
G1 X60 E1 F1800
EXCLUDE_OBJECT_END NAME=one
EXCLUDE_OBJECT_START NAME=two
G1 X100 Y100 F6000
G1 X150 E5 F1800
M25
"""
IN_TWO = b"G1 X150 Y150 E5\n"
IN_ONE = b"""EXCLUDE_OBJECT_END NAME=two
EXCLUDE_OBJECT_START NAME=one
G1 X50 Y50 F6000
G1 X60 E1 F1800
"""
PRINT = BEFORE + IN_TWO + IN_ONE
OBJECTS = MACHINE.objects | {"exclude_object"}


def objects(klippy: Parked) -> dict[str, Any]:
    return klippy.api.objects("exclude_object")["exclude_object"]


def check(made: Sequence[bytes], folder: Path) -> None:
    """The rest of the file is printed, but for the object that was excluded."""
    (folder / "empty.gcode").write_bytes(b"G4 P1\n")
    with Parked(folder / "empty.gcode", True) as again:
        again.api.gcode("M104 S215\nG28 X Y Z")
        for line in made:
            if not line.startswith((b"M25", b"PAUSE")):
                again.api.gcode(line.decode())
        status = objects(again)
        assert status["current_object"] == "TWO"
        assert status["excluded_objects"] == ["ONE"]
        assert "TWO" in [one["name"] for one in status["objects"]]
        again.api.gcode(IN_TWO.decode())
        there = again.api.objects("toolhead")["toolhead"]["position"]
        assert there[:2] == pytest.approx([150.0, 150.0])
        again.api.gcode(IN_ONE.decode())
        after = again.api.objects("toolhead")["toolhead"]["position"]
        assert after == pytest.approx(there), "an excluded object is printed"
        assert objects(again)["current_object"] == "ONE"


@pytest.mark.parametrize("paused", [False, True], ids=["printing", "paused"])
def test_from_a_record(tmp_path: Path, paused: bool) -> None:
    """paused: it was excluded while the print stood still."""
    text = PRINT
    if not paused:
        text = PRINT.replace(b"M83\n", b"M83\nEXCLUDE_OBJECT NAME=one\n")
    (tmp_path / "part.gcode").write_bytes(text)
    with Parked(tmp_path / "part.gcode", True) as klippy:
        klippy.print_file(until="paused")
        klippy.api.gcode(REACHED)
        if paused:
            klippy.api.gcode("EXCLUDE_OBJECT NAME=one")
        mark = klippy.mark()
    state = mark["state"]["objects"]
    assert state == {"current": "TWO", "excluded": ["ONE"]}
    check(planned(mark, text, OBJECTS).prologue, tmp_path)


def test_from_the_file_alone(tmp_path: Path) -> None:
    head = samples.head(PRINT, len(BEFORE))
    assert head.current_object == "TWO" and not head.object_definitions
    record = reconstruct.record(
        head, IN_TWO.strip(), OBJECTS, {}, {}, excluded=("ONE",)
    )
    job = Job("part.gcode", len(PRINT), 1.7e9, "0" * 64, 1.7e9)
    machine = replace(MACHINE, objects=OBJECTS, toolhead_z=10.0)
    made = plan.make(record, job, head, IN_TWO.strip(), machine)
    check(made.prologue, tmp_path)
