# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What klippy tells of seldom set things: kept if it is sound, refused if it is not."""
from __future__ import annotations

import copy
import json
from dataclasses import asdict
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.record import (
    Record,
    RecordError,
    from_payloads,
    to_payloads,
)
from moonraker_components.power_loss_recovery.saving import machine_state
from moonraker_components.power_loss_recovery.store import payloads
from tests.unit import samples
from tests.unit.samples import JOB, record, state

RARE: dict[str, Any] = {
    "retraction": {"retract_length": 0.75, "retract_speed": 33.0},
    "shaper": {"X": ["mzv", 61.5, 0.1]},
    "skew": {"factors": [0.002, 0.0007, 0.0], "name": ""},
    "mesh": {
        "name": "today", "points": [[0.1, 0.2], [0.3, -0.4]],
        "params": {"x_count": 2, "y_count": 2, "min_x": 20.0, "algo": "lagrange"},
        "offsets": [1.5, -2.5], "tool_offset": 0.25,
    },
    "extruders": {"extruder": [None, 22.5], "feeder": ["extruder1", -7.0]},
    "idle_timeout": 4321.0,
    "sensors": {"spool": False},
    "temperature_fans": {"board": [52.0, 0.25, 0.9]},
    "tmc": {"stepper_z": [0.65, 0.4], "extruder": [0.5, None]},
    "pins": {"light": 1.0, "laser": 77.0},
    "servos": {"lid": 0.0016667},
    "leds": {"strip": [[0.7, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0]]},
    "variables": {"counter.names": "['a;b', (\"x\", 1.5)]"},
    "carriages": {"carriage_modes": ["PRIMARY", "COPY"], "axes_positions": [1.0, 2.0]},
}  # fmt: skip
GCODE: dict[str, Any] = {
    "states": {"mine": {
        "absolute_coord": True, "absolute_extrude": False,
        "base_position": [0.1, -0.2, 0.03, 0.0], "last_position": [1.0, 2.0, 3.0, 4.0],
        "homing_position": [0.1, -0.2, 0.03, 0.0], "speed": 22.5,
        "speed_factor": 0.015, "extrude_factor": 0.96,
    }},
    "retracted": True, "plane": 1,
}  # fmt: skip


def full() -> Record:
    made = {**state(), "rare": copy.deepcopy(RARE), "gcode": copy.deepcopy(GCODE)}
    return record(state=made)


def test_it_comes_back_whole_and_what_changes_seldom_is_in_the_job() -> None:
    job_payload, mark_payload = to_payloads(JOB, full())
    assert from_payloads(job_payload, mark_payload) == (JOB, full())
    assert json.loads(job_payload)["state"]["rare"] == RARE
    mark = json.loads(mark_payload)["state"]
    assert "rare" not in mark and mark["gcode"] == GCODE


def test_an_older_record_has_none_of_it() -> None:
    found = from_payloads(*to_payloads(JOB, record()))[1]
    assert dict(found.rare) == {} and dict(found.gcode) == {}


def test_what_is_far_too_large_is_left_out_and_the_print_saved() -> None:
    made = full()
    noise = [[hash((x, y)) / 1e13 for x in range(300)] for y in range(300)]
    made.state["rare"]["huge"] = noise
    job_payload, mark_payload = to_payloads(JOB, made)
    assert len(job_payload) <= payloads.MAX_JOB
    found = from_payloads(job_payload, mark_payload)[1]
    assert found.rare == RARE


BAD = [
    ("rare", 7), ("gcode", ["a"]), ("rare", {"pins": {"a\nM112": 1.0}}),
    ("rare", {"pins": {"a": float("nan")}}), ("rare", {"pins": {"a": "1"}}),
    ("rare", {"pins": [1]}), ("rare", {"leds": {"a": [[1, 0, 0]]}}),
    ("rare", {"leds": {"a": 3}}), ("rare", {"leds": {"a": [[2, 0, 0, 0]]}}),
    ("rare", {"sensors": {"a": 1}}), ("rare", {"servos": {"a": -1}}),
    ("rare", {"tmc": {"a": [1.0]}}), ("rare", {"tmc": {"a": [1.0, "x"]}}),
    ("rare", {"temperature_fans": {"a": [1.0, 2.0]}}),
    ("rare", {"idle_timeout": float("inf")}), ("rare", {"shaper": {"X": ["a", 1]}}),
    ("rare", {"shaper": {"X\n": ["a", 1, 0.1]}}),
    ("rare", {"shaper": {"X": ["a;b", 1, 0.1]}}),
    ("rare", {"skew": {"factors": [1, 2]}}), ("rare", {"skew": 5}),
    ("rare", {"extruders": {"a": ["x\ny", 1.0]}}), ("rare", {"extruders": {"a": [1]}}),
    ("rare", {"variables": {"a": 1}}), ("rare", {"carriages": 4}),
    ("rare", {"retraction": {"retract_length": None}}),
    ("rare", {"mesh": {**RARE["mesh"], "name": "a\"b"}}),
    ("rare", {"mesh": {**RARE["mesh"], "points": [[0.1, 0.2]]}}),
    ("rare", {"mesh": {**RARE["mesh"], "points": [[0.1, "x"], [0.1, 0.2]]}}),
    ("rare", {"mesh": {**RARE["mesh"], "params": {"x_count": 1e9, "y_count": 2}}}),
    ("rare", {"mesh": {**RARE["mesh"], "offsets": [1]}}),
    ("gcode", {"plane": 3}), ("gcode", {"plane": "G17"}), ("gcode", {"retracted": 1}),
    ("gcode", {"states": [1]}), ("gcode", {"states": {"a": 1}}),
    ("gcode", {"states": {"a": {**GCODE["states"]["mine"], "speed": "fast"}}}),
    ("gcode", {"states": {"a": {**GCODE["states"]["mine"], "absolute_coord": 1}}}),
    ("gcode", {"states": {"a": {**GCODE["states"]["mine"], "last_position": [None]}}}),
]  # fmt: skip


@pytest.mark.parametrize(("part", "value"), BAD)
def test_what_is_not_sound_is_refused(part: str, value: Any) -> None:
    raw = {**asdict(record()), "state": {**state(), part: value}}
    with pytest.raises(RecordError):
        Record.from_dict(raw)


def test_what_a_later_version_tells_is_kept_unread() -> None:
    raw = {**asdict(record()), "state": {**state(), "rare": {"later": {"a": [1]}}}}
    assert Record.from_dict(raw).rare == {"later": {"a": [1]}}


def test_what_is_told_beside_a_mark_becomes_a_part_of_it() -> None:
    mark = samples.mark()
    extra: dict[str, Any] = {"mark": mark, "rare": RARE}
    machine_state.attach(extra)
    assert extra["mark"]["state"]["rare"] == RARE
    assert "rare" not in mark["state"]  # klippy's own is as it was
    first = extra["mark"]
    machine_state.attach(extra)
    assert extra["mark"] is first
    # The next mark has the newer one; nothing is told anew of what has not changed.
    extra["mark"] = samples.mark(file_position=7)
    machine_state.attach(extra)
    assert extra["mark"]["state"]["rare"] == RARE


def test_whether_the_print_stands_still_is_told_beside_the_mark() -> None:
    extra: dict[str, Any] = {"mark": {"state": {}}, "pending_marks": 0}
    for now, pending, paused in (
        ("printing", 0, None), ("paused", 2, None), ("paused", 0, True),
    ):  # fmt: skip
        status = {
            "print_stats": {"state": now},
            "power_loss_recovery": {**extra, "pending_marks": pending},
        }
        machine_state.complete(status)
        told = status["power_loss_recovery"]["mark"]
        assert told.get("paused") is paused and "paused" not in extra["mark"]
    machine_state.complete({})
    machine_state.complete({"print_stats": {"state": "paused"}})


@pytest.mark.parametrize("extra", [{}, {"mark": None}, {"mark": {"state": 3}},
                                   {"mark": {"state": {}}}])  # fmt: skip
def test_without_a_mark_nothing_is_attached(extra: dict[str, Any]) -> None:
    machine_state.attach(extra)
    assert "rare" not in str(extra)
