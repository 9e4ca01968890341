# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

import ast
import shlex
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.planning import meta_info
from tests.unit.samples import JOB, record, state

# "State Data Structure" of the guide.
GUIDE = {
    "position": {"x": 150.0, "y": 150.0, "z": 0.2},
    "xyz_offsets": {"x": 0.0, "y": 0.0, "z": 0.1},
    "fan_speeds": {"fan": 0.5},
    "layer": 1,
    "layer_height": 0.2,
    "file_progress": {
        "position": 10000, "total_size": 100000, "progress_pct": 10.0,
    },
    "active_extruder": "extruder",
    "hotend_temp": 240.0,
    "bed_temp": 110.0,
    "current_file": "benchy.gcode",
}  # fmt: skip


def value_of(command: str) -> str:
    """As klippy takes a command's parameters apart."""
    name, *words = shlex.split(command)
    params = dict(word.split("=", 1) for word in words)
    assert name == "SAVE_VARIABLE" and params["VARIABLE"] == "resume_meta_info"
    return params["VALUE"]


def test_it_has_the_structure_of_the_guide() -> None:
    rec = record(
        file_position=10000, position=(150.0, 150.0, 0.2, 7.0),
        state=state(
            coordinates={"homing_origin": [0.0, 0.0, 0.1]}, fans={"fan": 0.5},
            heaters={"extruder": 240.0, "heater_bed": 110.0},
            progress={"layer": 1, "layer_height": 0.2},
        ),
    )  # fmt: skip
    job = replace(JOB, name="benchy.gcode", size=100000)
    assert meta_info.structure(job, rec) == GUIDE
    assert ast.literal_eval(value_of(meta_info.save_command(job, rec))) == GUIDE


@given(st.text(max_size=80))
def test_no_name_can_break_the_command(name: str) -> None:
    command = meta_info.save_command(replace(JOB, name=name), record())
    assert not set("\n\r%#*;\0") & set(command)
    found = ast.literal_eval(value_of(command))
    assert len(found["current_file"]) == len(name)


@pytest.mark.parametrize("fans", [{}, {"fan_generic nevermore": 1.0, "fan": 0.0}])
def test_fans_have_the_names_that_set_fan_speed_takes(fans: dict[str, float]) -> None:
    made = meta_info.structure(JOB, record(state={**state(), "fans": fans}))
    assert list(made["fan_speeds"]) == [name.split()[-1] for name in fans]


def test_a_g92_of_the_file_is_not_in_the_position() -> None:
    """A macro moves there before the resume file has set that G92 again."""
    rec = record(
        position=(10.0, 20.0, 0.2, 0.0),
        state=state(coordinates={"g92": [5.0, -5.0, 1.0],
                                 "homing_origin": [1.0, 2.0, 0.1]}),
    )  # fmt: skip
    position = meta_info.structure(JOB, rec)["position"]
    assert position == pytest.approx({"x": 15.0, "y": 15.0, "z": 1.2})


def test_fans_are_as_they_were_asked_for() -> None:
    rec = record(state={**state(), "fans": {"fan": 0.4, "fan_generic a": 0.9}})
    made = meta_info.structure(JOB, rec, {"fan": 0.8, "fan_generic a": 0.5})
    assert made["fan_speeds"] == {"fan": 0.5, "a": 1.0}


@pytest.mark.parametrize("junk", [None, "3", True, -1, float("nan"), 1e9, [1]])
def test_progress_that_is_no_number_breaks_nothing(junk: Any) -> None:
    rec = record(state=state(progress={"layer": junk, "layer_height": junk}))
    found = ast.literal_eval(value_of(meta_info.save_command(JOB, rec)))
    assert 0 <= found["layer"] <= 1 and 0 <= found["layer_height"] <= 1
