# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from moonraker_components.power_loss_recovery import prompts
from tests.unit.samples import JOB, record, state

NOW = 1.7e9 + 120
NASTY = "a|b\nc\r// action:prompt_end\x07.gcode"


@pytest.mark.parametrize(("seconds", "text"), [
    (-1, "at an unknown time"), (0, "0 s ago"), (89, "89 s ago"), (90, "2 min ago"),
    (5399, "90 min ago"), (5400, "2 h ago"), (172799, "48 h ago"),
    (172800, "2 days ago"),
])  # fmt: skip
def test_ages_are_told_in_plain_words(seconds: float, text: str) -> None:
    assert prompts.ago(seconds) == text


def test_the_summary_says_what_where_and_when() -> None:
    assert prompts.summary(JOB, record(), NOW) == (
        "part.gcode, layer 3 of 10, Z 0.40 mm, 75 %, saved 2 min ago"
    )


@pytest.mark.parametrize(("progress", "said"), [
    ({"layer": None}, "part.gcode, Z"), ({"layers": None}, "layer 3, Z"),
    ({"layers": 0}, "layer 3, Z"), ({"layers": "9\n// x|y"}, "layer 3, Z"),
    ({"layer": "3|x"}, "part.gcode, Z"),
])  # fmt: skip
def test_what_is_not_known_is_left_out(progress: dict[str, Any], said: str) -> None:
    rec = record(state=state(progress=progress))
    assert said in prompts.summary(JOB, rec, NOW)


def test_an_empty_file_has_no_percentage() -> None:
    assert "%" not in prompts.summary(replace(JOB, size=0), record(), NOW)


def test_the_console_gets_comments_only() -> None:
    text = prompts.console(["one", "two\nM112"])
    assert text == "// one\n// two M112"


def test_the_details_are_plain_values() -> None:
    told = prompts.details(JOB, record(), NOW, "boot")
    assert told["same_boot"] is True
    assert prompts.details(JOB, record(), NOW, "other")["same_boot"] is False
    assert (told["file"], told["layer"], told["hotend"], told["bed"]) == (
        "part.gcode", 3, 215.0, 60.0,
    )  # fmt: skip
    assert told["position"] == [150.0, 150.0, 0.4, 10.0]


@pytest.mark.parametrize(("enabled", "status", "summary", "said"), [
    (True, "idle", None, "Saving is on. There is no interrupted print."),
    (False, "idle", None, "Saving is off (PLR_ENABLE turns it on). There is no"),
    (True, "printing", "S", "Saving is on. Saved: S."),
    (True, "interrupted", "S", "Interrupted: S."),
])  # fmt: skip
def test_the_saved_state_is_told(
    enabled: bool, status: str, summary: str | None, said: str
) -> None:
    known = {
        "enabled": enabled, "state": status,
        "record": None if summary is None else {"summary": summary},
        "calibration": None,
    }  # fmt: skip
    assert said in prompts.saved_state(known)


Z_HOMING = {
    "available": True, "calibrated": True, "calibration_problem": "",
    "calibration_time": NOW - 3 * 86400, "z_position": 232.0,
    "heights": {"stepper_z": 231.9, "stepper_z1": 232.3, "stepper_z2": 231.85},
}  # fmt: skip
IDLE = {"enabled": True, "state": "idle", "record": None}


def test_the_calibration_is_told_with_its_heights_and_its_age() -> None:
    found = prompts.calibration(Z_HOMING, NOW, True)
    assert found is not None and found["calibrated"] and found["second_copy"]
    assert found["reference_height"] == 231.9
    said = prompts.saved_state({**IDLE, "calibration": found})
    assert said == (
        "Saving is on. There is no interrupted print. Z calibrated 3 days ago, switches"
        " at: stepper_z 231.900 mm (the reference), stepper_z1 232.300 mm (+0.400),"
        " stepper_z2 231.850 mm (-0.050)."
    )
    found = prompts.calibration(Z_HOMING, NOW, False)
    assert found is not None and "no second copy" in found["summary"]


def test_a_calibration_that_cannot_be_used_is_told_with_the_reason() -> None:
    broken = {
        **Z_HOMING, "calibrated": False, "heights": None,
        "calibration_problem": "no calibration is stored.\n// action:x",
    }  # fmt: skip
    found = prompts.calibration(broken, NOW, False)
    assert found is not None and not found["calibrated"]
    assert "Z calibration: no calibration is stored. // " in found["summary"]
    assert found["reference_height"] is None


def test_a_machine_without_switches_has_no_calibration() -> None:
    assert prompts.calibration({**Z_HOMING, "available": False}, NOW, True) is None
    assert prompts.calibration({}, NOW, True) is None
