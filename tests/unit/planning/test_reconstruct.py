# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Without a record: what the file says, nothing invented; refused where it is mute."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from moonraker_components.power_loss_recovery import plan
from moonraker_components.power_loss_recovery.gcode.ahead import Reach
from moonraker_components.power_loss_recovery.gcode.scan import ScanError
from moonraker_components.power_loss_recovery.planning.reconstruct import record
from moonraker_components.power_loss_recovery.record import (
    Record,
    from_payloads,
    to_payloads,
)
from tests.unit.samples import FACTS, JOB, LINE, head

STATED = {"extruder": 210.0, "heater_bed": 55.0}
START = b"M104 S215\nM140 S60\nG90\nM83\nG1 X10 Y10 Z.2 F6000\nG1 X20 E1\n"


def made(text: bytes, **options: Any) -> Record:
    return record(head(text, len(text)), LINE, **options)


def test_everything_that_the_file_says_is_in_it() -> None:
    rec = made(
        START + b"M220 S120\nM221 S95\nSET_GCODE_OFFSET Z=0.1\nM106 S127.5\n"
        b"SET_PRINT_STATS_INFO TOTAL_LAYER=9 CURRENT_LAYER=4\nG92 X5\n"
        b"EXCLUDE_OBJECT_START NAME=c\nBED_MESH_PROFILE LOAD=pei\nG1 E-.8 F1200\n",
        excluded=("B",),
    )
    assert rec.from_file and rec.position == pytest.approx((5.0, 10.0, 0.1, 0.0))
    assert (rec.speed, rec.fraction) == (1200.0, 0)
    assert rec.retracted == pytest.approx(0.8 * 0.95)
    coordinates = rec.state["coordinates"]
    assert coordinates["speed_factor"] == 1.2 and coordinates["extrude_factor"] == 0.95
    assert coordinates["g92"] == [15.0, 0.0, 0.0]
    assert coordinates["homing_origin"] == [0.0, 0.0, 0.1]
    assert (coordinates["absolute_coordinates"], coordinates["absolute_extrude"]) == (
        True, False,
    )  # fmt: skip
    assert rec.heaters == {"extruder": 215.0, "heater_bed": 60.0}
    assert rec.state["fans"] == {"fan": 0.5}
    assert rec.state["objects"] == {"current": "C", "excluded": ["B"]}
    assert rec.state["progress"] == {"layer": 4, "layers": 9}
    assert rec.state["mesh"] == {"profile": "pei"}
    assert rec.toolhead_z == pytest.approx(0.2) and rec.prints
    assert from_payloads(*to_payloads(JOB, rec)) == (JOB, rec)


def test_klippys_names_are_found_for_the_files_short_ones() -> None:
    objects = frozenset({"extruder", "fan", "fan_generic aux", "heater_generic hot"})
    rec = made(
        START + b"SET_FAN_SPEED FAN=aux SPEED=.3\nSET_FAN_SPEED FAN=no SPEED=1\n"
        b"SET_HEATER_TEMPERATURE HEATER=hot TARGET=50\nT2\n", objects=objects,
        stated=STATED,
    )  # fmt: skip
    assert rec.state["fans"] == {"fan_generic aux": 0.3, "no": 1.0}
    assert rec.heaters["heater_generic hot"] == 50.0
    assert rec.extruder == "extruder"


def test_a_machine_with_several_extruders_uses_the_chosen_one() -> None:
    objects = frozenset({"extruder", "extruder1", "extruder2"})
    text = START + b"M104 T1 S230\nT1\n"
    assert made(text, objects=objects).hotend_target == 230.0
    text += b"ACTIVATE_EXTRUDER EXTRUDER=extruder2\n"
    rec = made(text, objects=objects, stated=STATED)
    assert (rec.extruder, rec.hotend_target) == ("extruder2", 210.0)


@pytest.mark.parametrize("line", [
    b"M220S80", b"m220 s80", b"M220 S 80", b"N7 M220 S80 *33", b"M220 B S80.0 ; slow",
])  # fmt: skip
def test_factors_are_read_as_klipper_reads_them(line: bytes) -> None:
    text = START + line + b"\n" + line.replace(b"220", b"221") + b"\n"
    coordinates = made(text).state["coordinates"]
    assert (coordinates["speed_factor"], coordinates["extrude_factor"]) == (0.8, 0.8)


@pytest.mark.parametrize("end", [b" ; the other one", b" # other", b";", b"\t"])
def test_a_comment_after_the_extruders_name_does_not_hide_it(end: bytes) -> None:
    objects = frozenset({"extruder", "extruder1"})
    text = START + b"ACTIVATE_EXTRUDER EXTRUDER=extruder1" + end + b"\n"
    rec = made(text, objects=objects, stated=STATED)
    assert rec.extruder == "extruder1"


@pytest.mark.parametrize(("line", "profile"), [
    (b'BED_MESH_PROFILE LOAD="my mesh"', "my mesh"),
    (b"bed_mesh_profile load=pei ; LOAD=other", "pei"),
    (b"BED_MESH_PROFILE REMOVE=old", None),
])  # fmt: skip
def test_a_mesh_has_the_name_that_klipper_sees(
    line: bytes, profile: str | None
) -> None:
    assert made(START + line + b"\n").state["mesh"] == {"profile": profile}


def test_a_machine_without_a_heated_bed_needs_no_temperature_of_it() -> None:
    objects = frozenset({"extruder", "fan"})
    assert made(START, objects=objects).bed_target == 0.0
    cold = START.replace(b"M140 S60\n", b"")
    assert made(cold, objects=objects).bed_target == 0.0
    # Some heat theirs in a macro.
    assert made(START, objects=objects | {"gcode_macro M140"}).bed_target == 60.0


def test_what_a_macro_heats_is_stated_by_the_owner() -> None:
    text = START.replace(b"M104 S215\nM140 S60\n", b"")
    with pytest.raises(ScanError, match="how hot the nozzle is.*State"):
        made(text)
    with pytest.raises(ScanError, match="how hot the bed is"):
        made(text, stated={"extruder": 200.0})
    assert made(text, stated=STATED).heaters == STATED
    assert made(text, stated={**STATED, "heater_bed": 0.0}).bed_target == 0.0
    assert made(START, stated=STATED).hotend_target == 215.0
    assert made(START, stated=STATED, told={"extruder": 240.0}).hotend_target == 240.0
    cold = START.replace(b"S215", b"S0")
    assert made(cold, stated=STATED).hotend_target == 210.0


@pytest.mark.parametrize(("text", "said"), [
    (START.replace(b" Z.2", b""), "where Z stands"),
    (START.replace(b"G1 X10 Y10 Z.2 F6000\nG1 X20 E1\n", b""), "X and Y and Z"),
    (START.replace(b"M83", b"M82").replace(b" E1", b""), "where E stands"),
    (b"G92 Z0\n" + START, "a G92 before byte"),
])  # fmt: skip
def test_what_must_be_known_and_is_not_is_refused(text: bytes, said: str) -> None:
    with pytest.raises(ScanError, match=said):
        made(text, stated=STATED)


def test_the_plan_wants_to_know_where_the_nozzle_is() -> None:
    rec = made(START)
    text = START + LINE
    with pytest.raises(plan.Refusal, match="home Z first, with PLR_Z_HOME MODE=RES"):
        plan.make(rec, JOB, head(text, len(START)), LINE, FACTS)


def test_the_plan_says_that_all_is_from_the_file() -> None:
    rec, facts = made(START), replace(FACTS, toolhead_z=50.0)
    what = head(START + LINE, len(START))
    planned = plan.make(rec, JOB, what, LINE, facts, rest=Reach((1, 1, 9, 9), 3.0))
    assert any("Nothing was saved" in text for text in planned.warnings)
    assert b"from the file" in b"\n".join(planned.prologue)
    assert b"saved state" not in b"\n".join(planned.prologue)
    with pytest.raises(plan.Refusal, match="another printer"):
        plan.make(rec, JOB, what, LINE, facts, rest=Reach((1, 1, 999, 9), 3.0))
