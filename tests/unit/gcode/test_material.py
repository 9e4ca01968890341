# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moonraker_components.power_loss_recovery import files
from moonraker_components.power_loss_recovery.gcode.material import REACH, family
from tests.unit.samples import GCODE, record, state


@pytest.mark.parametrize(("line", "found"), [
    (b"; filament_type = PLA", "PLA"),
    (b"; filament_type = PET\r", "PETG"),
    (b"; filament_type = PLA;PLA;PLA", "PLA"),
    (b'; filament_type = "PETG-CF"', "PETG"),
    (b";Filament type = rPLA+", "PLA"),
    (b";Filament Type #1: ASA", "ABS"),
    (b";   makerBotModelMaterial,abs", "ABS"),
    (b";right_extruder_material: Generic PCTG", "PETG"),
    (b"; filament_type = TPU", None),
    (b"; filament_type = PLA;PETG", None),
    (b"; support_material = 0", None),
    (b"M117 filament_type = PLA", None),
    (b"; filament_type = \xff\xfe", None),
    (b"", None),
])  # fmt: skip
def test_each_slicer_names_it_in_its_way(line: bytes, found: str | None) -> None:
    assert family(line + b"\n" + GCODE) == found
    assert family(GCODE + b"\n" + line) == found


def test_of_several_tools_it_is_the_one_that_printed() -> None:
    data = GCODE + b"; filament_type = PLA;PETG;TPU\n"
    assert [family(data, tool) for tool in (0, 1, 2, None)] == [
        "PLA", "PETG", None, None,
    ]  # fmt: skip
    assert family(GCODE + b"; filament_type = ABS\n", 3) == "ABS"


def test_a_long_file_is_read_at_both_ends_only() -> None:
    said = b"; filament_type = PLA\n"
    filler = b"G1 X1\n" * REACH
    assert family(said + filler) == family(filler + said) == "PLA"
    assert family(filler + said + filler) is None


@pytest.mark.parametrize(("changes", "found"), [
    ({"tool": {"active": "extruder1"}, "heaters": {"extruder1": 240.0}}, "PETG"),
    ({"heaters": {"extruder1": 240.0}}, "PLA"),
    ({"tool": {"changer": {"number": 1, "name": "tool T1"}}}, "PETG"),
    # One extruder and several filaments: nobody knows which one it had.
    ({}, None),
])  # fmt: skip
def test_the_tool_of_the_record_is_asked_for(
    changes: dict[str, Any], found: str | None, tmp_path: Path
) -> None:
    data = GCODE + b"; filament_type = PLA;PETG\n"
    (tmp_path / "part.gcode").write_bytes(data)
    job = files.identify(tmp_path, str(tmp_path / "part.gcode"), 1.0).job
    rec = record(state=state(**changes))
    assert files.material_of(tmp_path, job, rec) == found
