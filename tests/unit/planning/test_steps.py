# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The sequence on machines that are not like others."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from moonraker_components.power_loss_recovery import files, plan
from tests.unit.samples import (
    FACTS,
    GCODE,
    JOB,
    LINE,
    POSITION,
    head,
    record,
    state,
)


def test_a_bed_heater_that_is_gone_is_said_and_not_waited_for() -> None:
    facts = replace(FACTS, objects=FACTS.objects - {"heater_bed"})
    made = plan.make(record(), JOB, head(GCODE, POSITION), LINE, facts)
    assert all("heater_bed" not in step.wait for step in made.steps)
    assert any("[heater_bed] was at 60" in text for text in made.warnings)


def test_a_part_at_the_top_of_the_machine_is_said() -> None:
    top = record(position=(150.0, 150.0, 231.7, 10.0), toolhead_z=231.7)
    gcode = GCODE.replace(b"Z0.4", b"Z231.7").replace(b"Z0.2", b"Z231.5")
    at = gcode.index(LINE)
    made = plan.make(
        replace(top, file_position=at), JOB, head(gcode, at), LINE, FACTS
    )
    lift = next(step.script for step in made.steps if step.name == "lift")
    assert "_PLR_LIFT DISTANCE=0.000" in lift
    said = "homed 0.2 mm above it"
    assert any(said in text for text in made.warnings)
    risen = replace(FACTS, toolhead_z=231.9)
    made = plan.make(record(), JOB, head(GCODE, POSITION), LINE, risen)
    assert not any("top of the machine" in text for text in made.warnings)


def test_the_purge_stays_off_what_lies_beside_the_bed() -> None:
    facts = replace(FACTS, axis_minimum=(-20.0, -15.0, -2.0))
    made = plan.make(record(), JOB, head(GCODE, POSITION), LINE, facts)
    assert (made.strip.x, made.strip.y) == (6.0, 6.0)


@pytest.mark.parametrize(("coordinates", "points", "z"), [
    ({"homing_origin": [0.0, 0.0, 1.5]}, None, 2.7),
    ({"homing_origin": [0.0, 0.0, -0.5]}, None, 1.2),
    ({"g92": [0.0, 0.0, 0.8]}, None, 2.0),
    ({}, [[-0.2, 0.1], [0.9, 0.0]], 2.1),
    ({"homing_origin": [0.0, 0.0, 0.5]}, [[-0.2, -0.1]], 1.7),
])  # fmt: skip
def test_the_purge_is_above_the_bed_wherever_that_is(
    coordinates: dict[str, list[float]], points: list[list[float]] | None, z: float
) -> None:
    # Neither offset nor mesh is in force then: at 1.2 mm the nozzle would dig in.
    saved = state(coordinates=coordinates)
    if points is not None:
        saved["rare"] = {"mesh": {"points": points, "name": "a", "params": {}}}
    made = plan.make(
        record(state=saved), JOB, head(GCODE, POSITION), LINE,
        replace(FACTS, axis_maximum=(250.0, 250.0, 300.0)),
    )  # fmt: skip
    purged = next(step for step in made.steps if step.name == "purge")
    assert f"\nG1 Z{z:.3f} " in purged.script and purged.lowest_z == pytest.approx(z)


def test_the_motor_that_was_feeding_feeds_before_the_purge() -> None:
    # One feeder for two hot ends: T1's macro has given it to extruder1
    saved = state(tool={"active": "extruder1"})
    saved["rare"] = {"extruders": {"extruder": ["extruder1", 22.5]}}
    saved["heaters"]["extruder1"] = 215.0
    facts = replace(FACTS, objects=FACTS.objects | {"extruder", "extruder1"})
    made = plan.make(record(state=saved), JOB, head(GCODE, POSITION), LINE, facts)
    moves = [line for s in made.steps for line in s.script.split("\n")]
    purged = next(i for i, line in enumerate(moves) if line.startswith("G1 E"))
    sync = "SYNC_EXTRUDER_MOTION EXTRUDER=extruder MOTION_QUEUE=extruder1"
    synced = moves.index(sync)
    assert moves[synced - 1] == "ACTIVATE_EXTRUDER EXTRUDER=extruder1"
    assert moves[synced + 1].startswith("SET_EXTRUDER_ROTATION_DISTANCE EXTRUDER=extr")
    assert synced < purged


COLD = state(tool={"active": "extruder1"}, heaters={"extruder1": 150.0})


def test_a_tool_that_was_not_hot_yet_ends_no_print() -> None:
    # A cut while M109 waits for the tool that was just chosen
    saved = record(state=COLD, retracted=5.0, line="M109 S215")
    facts = replace(FACTS, objects=FACTS.objects | {"extruder1"})
    with pytest.raises(plan.Refusal, match="nothing was printed yet"):
        plan.outline(saved, JOB, facts)
    made = plan.make(
        saved, JOB, head(GCODE, POSITION), b"M109 S215", replace(facts, begun=True)
    )
    moves = [line for s in made.steps for line in s.script.split("\n")]
    moves += [line.decode() for line in made.prologue]
    assert not any(line.startswith("G1") and " E" in line for line in moves)
    assert "G92 E10.000000 ; filament as the file counts it, from the saved state" in (
        moves
    )
    assert any("too cold to push filament" in text for text in made.warnings)
    assert [step.name for step in made.steps] == [
        "bed", "soften", "lift", "home_xy", "true_z", "travel", "heat", "purge",
    ]  # fmt: skip


def test_a_heater_that_is_off_is_not_waited_for() -> None:
    off = state(tool={"active": "extruder1"}, heaters={"extruder1": 0.0})
    facts = replace(FACTS, objects=FACTS.objects | {"extruder1"}, begun=True)
    made = plan.make(record(state=off), JOB, head(GCODE, POSITION), LINE, facts)
    assert all("extruder1" not in step.wait for step in made.steps)


def test_a_cold_print_in_its_preparation_is_refused_still() -> None:
    unhomed = state(coordinates={"homed_axes": "xy"}, heaters={"extruder": 150.0})
    with pytest.raises(plan.Refusal, match="nothing was printed yet"):
        plan.outline(record(state=unhomed), JOB, replace(FACTS, begun=True))


def test_plastic_before_a_place_is_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "part.gcode"
    path.write_bytes(b"M109 S150\n" + GCODE)
    first = path.read_bytes().index(b"G1 X150 Y100 E5")
    assert not files.has_begun(path, 10) and not files.has_begun(path, first)
    assert files.has_begun(path, first + 1)
