# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery.fans import Fans
from tests.unit.extra.fake_printer import Config, Printer

SAVED = {"fan": 0.5, "part_t1": 0.25, "nevermore": 1.0}


def printer(
    saved: Any, option: str = "", there: tuple[str, ...] = (),
    other: dict[str, dict[str, str]] | None = None,
) -> Printer:  # fmt: skip
    made = Printer()
    for name in there or ("fan", "fan_generic part_t1", "fan_generic nevermore"):
        made.objects[name] = object()
    made.objects["save_variables"] = SimpleNamespace(allVariables=saved)
    values = {"part_cooling_fans": option} if option else {}
    Fans(Config(made, values, other))
    return made


def info(speeds: Any) -> dict[str, Any]:
    return {"resume_meta_info": {"fan_speeds": speeds}}


def test_every_saved_fan_is_restored() -> None:
    made = printer(info(SAVED))
    answers = made.run("RESTORE_FAN_SPEEDS")
    assert sorted(made.scripts) == [
        "M106 S127.50", "SET_FAN_SPEED FAN=nevermore SPEED=1.0000",
        "SET_FAN_SPEED FAN=part_t1 SPEED=0.2500",
    ]  # fmt: skip
    assert answers == [
        "Fans as in the interrupted print: fan 50 %, nevermore 100 %, part_t1 25 %"
    ]


def test_part_cooling_fans_names_those_of_every_extruder() -> None:
    made = printer(info(SAVED), "fan, fan_generic part_t1")
    made.run("RESTORE_FAN_SPEEDS")
    assert made.scripts == ["M106 S127.50", "SET_FAN_SPEED FAN=part_t1 SPEED=0.2500"]


def test_what_is_not_there_is_said_and_left_out() -> None:
    made = printer(info(SAVED), there=("fan",))
    answers = made.run("RESTORE_FAN_SPEEDS")
    assert made.scripts == ["M106 S127.50"]
    assert [a for a in answers if "no fan nevermore" in a]
    assert [a for a in answers if "no fan part_t1" in a]


def test_a_fan_without_a_saved_speed_is_said() -> None:
    made = printer(info({}), "fan")
    answers = made.run("RESTORE_FAN_SPEEDS")
    assert made.scripts == [] and "no speed is saved for fan fan" in answers[0]


@pytest.mark.parametrize("saved", [
    {}, {"resume_meta_info": 3}, {"resume_meta_info": {}}, info([]), info(None),
])  # fmt: skip
def test_without_a_saved_state_it_says_so(saved: Any) -> None:
    made = printer(saved)
    assert "no fan speeds are saved" in made.run("RESTORE_FAN_SPEEDS")[0]
    assert made.scripts == []


@pytest.mark.parametrize("speed", ["1", None, -0.5, 1.5, float("nan")])
def test_a_speed_that_is_none_is_not_sent(speed: Any) -> None:
    made = printer(info({"fan": speed}))
    made.run("RESTORE_FAN_SPEEDS")
    assert made.scripts == []


def test_a_macro_of_that_name_is_the_owners() -> None:
    made = printer({}, other={"gcode_macro restore_fan_speeds": {}})
    assert "RESTORE_FAN_SPEEDS" not in made.commands
    renaming = {"gcode_macro RESTORE_FAN_SPEEDS": {"rename_existing": "_OLD"}}
    assert "RESTORE_FAN_SPEEDS" in printer({}, other=renaming).commands
