# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Where the owner's own G-code stands in a plan, and what surrounds it."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from moonraker_components.power_loss_recovery import plan
from moonraker_components.power_loss_recovery.gcode.scan import Footprint
from moonraker_components.power_loss_recovery.planning import hooks
from moonraker_components.power_loss_recovery.planning.steps import Step
from tests.unit.samples import FACTS, JOB, LINE, OBJECTS, head, record, state

ALL = frozenset(hooks.NAMES)


def made(rec: Any = None, begun: Any = None, **facts: Any) -> dict[str, Step]:
    rec, begun = rec or record(), begun or head()
    machine = replace(FACTS, **facts)
    done = plan.make(rec, JOB, begun, LINE, machine).steps
    assert len({step.name for step in done}) == len(done)
    return {step.name: step for step in done}


def test_before_the_file_is_read_the_steps_are_known_by_name() -> None:
    machine = replace(FACTS, hooks=ALL, objects=OBJECTS | {"save_variables"})
    outline = plan.outline(record(), JOB, machine)
    plain = plan.make(record(), JOB, head(), LINE, machine)
    assert outline.titles == tuple(step.title for step in plain.steps)
    assert outline.first == plain.steps[0]


def test_without_hooks_only_the_part_is_named() -> None:
    steps = made()
    assert not set(steps) & {*hooks.NAMES, "meta_info", "travel_again"}
    assert steps["true_z"].script == (
        "PLR_Z_HOME MODE=RESUME PART_Z=0.400 PART=90.00,90.00,160.00,160.00"
    )


def test_what_macros_read_is_written_before_any_hook() -> None:
    there = OBJECTS | {"save_variables"}
    assert "meta_info" not in made(objects=there)
    steps = made(objects=there, hooks=frozenset({"restart_gcode"}))
    assert list(steps)[:2] == ["bed", "meta_info"]
    assert steps["meta_info"].script.startswith(
        'SAVE_VARIABLE VARIABLE=resume_meta_info VALUE="{'
    )


def test_restart_gcode_runs_beside_the_part_and_hot() -> None:
    steps = made(hooks=ALL)
    assert list(steps)[-6:] == [
        "travel", "heat", "restart_gcode", "travel_again", "heat_again", "purge",
    ]  # fmt: skip
    assert "_PLR_RUN_HOOK NAME=restart_gcode PART_Z=0.400" in (
        steps["restart_gcode"].script
    )


def test_after_restart_gcode_all_is_as_before_it() -> None:
    steps = made(hooks=ALL)
    again = steps["travel_again"].script.split("\n")
    assert "\n".join(again[-4:]) == steps["travel"].script
    assert again[:3] == [
        "EXCLUDE_OBJECT_END", "BED_MESH_CLEAR", "SET_GCODE_OFFSET X=0 Y=0 Z=0",
    ]  # fmt: skip
    hot = steps["heat_again"]
    assert hot.script == (
        "M140 S60.0\nSET_HEATER_TEMPERATURE HEATER=extruder TARGET=215.0"
    )
    assert hot.wait == {"heater_bed": 57.0, "extruder": 213.0}


def test_the_hook_finds_the_offsets_and_the_mesh_of_the_print() -> None:
    rec = record(state=state(coordinates={"homing_origin": [0.5, 0.0, 0.1]},
                             mesh={"profile": "pei \\ 2"}))  # fmt: skip
    steps = made(rec, hooks=ALL, mesh_profiles=frozenset({"pei \\ 2"}))
    assert steps["restart_gcode"].script.split("\n")[:2] == [
        "SET_GCODE_OFFSET X=0.500000 Y=0.000000 Z=0.100000",
        'BED_MESH_PROFILE LOAD="pei \\\\ 2"',
    ]
    assert "PART_Z=0.500 PART=90.50," in steps["restart_gcode"].script
    assert "BED_MESH_PROFILE" not in made(rec, hooks=ALL)["restart_gcode"].script


def test_with_switches_klippys_side_runs_the_hooks_around_homing() -> None:
    steps = made(hooks=ALL)
    assert "before_resume_gcode" not in steps and "after_resume_gcode" not in steps


def test_without_switches_they_run_where_z_would_be_measured() -> None:
    names = list(made(hooks=ALL, z_calibrated=False))
    at = names.index("home_xy")
    assert names[at + 1 : at + 4] == [
        "before_resume_gcode", "after_resume_gcode", "travel",
    ]  # fmt: skip


@pytest.mark.parametrize("name", hooks.NAMES)
def test_a_hook_that_is_not_set_does_not_run(name: str) -> None:
    assert name not in made(hooks=ALL - {name}, z_calibrated=False)
    assert name in made(hooks=frozenset({name}), z_calibrated=False)


def test_of_a_part_that_nobody_knows_the_whole_bed_is_protected() -> None:
    unknown = replace(head(), footprint=Footprint(None, None))
    script = made(begun=unknown)["true_z"].script
    assert script.endswith("PART=-10.00,-10.00,260.00,260.00")


def test_a_cut_in_a_hook_is_expected_at_the_top_of_the_part() -> None:
    assert made(hooks=ALL)["restart_gcode"].lowest_z == 0.4
