# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The prologue sets all that was saved, in an order in which nothing is undone."""
from __future__ import annotations

import json
from typing import Any

from moonraker_components.power_loss_recovery.gcode.replay import Setting
from moonraker_components.power_loss_recovery.planning.prologue import build
from moonraker_components.power_loss_recovery.record import Record
from tests.unit.samples import OBJECTS, record, state
from tests.unit.saving.test_machine_state import GCODE, RARE, full

EVERYTHING = OBJECTS | {
    "firmware_retraction", "input_shaper", "idle_timeout",
    "filament_switch_sensor spool", "temperature_fan board", "tmc2209 stepper_z",
    "tmc2660 extruder", "output_pin light", "pwm_tool laser", "servo lid",
    "neopixel strip", "dual_carriage", "extruder_stepper feeder", "gcode_arcs",
    "display_status",
}  # fmt: skip


def texts(rec: Record, objects: frozenset[str] = EVERYTHING, **more: Any) -> list[str]:
    lines = build(rec, 6.0, [b"EXCLUDE_OBJECT_DEFINE NAME=A"], objects, False, **more)
    return [line.decode().partition(" ; ")[0] for line in lines]


def restored(lines: list[str]) -> dict[str, Any]:
    """What goes to the extra, in one table."""
    found: dict[str, Any] = {}
    for line in lines:
        name, _, data = line.partition(" DATA=")
        if name == "_PLR_RESTORE":
            found |= json.loads(bytes.fromhex(data))
    return found


def test_klippys_own_commands_where_there_are_some() -> None:
    lines = texts(full())
    for line in (
        "SET_RETRACTION RETRACT_LENGTH=0.750000 RETRACT_SPEED=33.000000",
        "SET_INPUT_SHAPER SHAPER_TYPE_X=mzv SHAPER_FREQ_X=61.500000"
        " DAMPING_RATIO_X=0.100000",
        "BED_MESH_OFFSET X=1.500000 Y=-2.500000 ZFADE=0.250000",
        "SYNC_EXTRUDER_MOTION EXTRUDER=extruder MOTION_QUEUE=",
        "SYNC_EXTRUDER_MOTION EXTRUDER=feeder MOTION_QUEUE=extruder1",
        "SET_EXTRUDER_ROTATION_DISTANCE EXTRUDER=feeder DISTANCE=-7.000000",
        "SET_IDLE_TIMEOUT TIMEOUT=4321.000",
        'SET_FILAMENT_SENSOR SENSOR="spool" ENABLE=0',
        'SET_TEMPERATURE_FAN_TARGET TEMPERATURE_FAN="board" TARGET=52.00'
        " MIN_SPEED=0.2500 MAX_SPEED=0.9000",
        "SET_TMC_CURRENT STEPPER=stepper_z CURRENT=0.650000 HOLDCURRENT=0.400000",
        "SET_TMC_CURRENT STEPPER=extruder CURRENT=0.500000",
        'SET_PIN PIN="light" VALUE=1.000000', 'SET_PIN PIN="laser" VALUE=77.000000',
        'SET_SERVO SERVO="lid" WIDTH=0.0016667',
        'SET_LED LED="strip" RED=0.700000 GREEN=0.000000 BLUE=0.000000 WHITE=0.000000'
        " INDEX=1 TRANSMIT=0",
        'SET_LED LED="strip" RED=0.000000 GREEN=0.500000 BLUE=0.000000 WHITE=0.000000'
        " INDEX=2 TRANSMIT=1",
        "G18",
        "RESTORE_DUAL_CARRIAGE_STATE NAME=_plr MOVE=1 MOVE_SPEED=50",
    ):  # fmt: skip
        assert line in lines, line


def test_the_rest_goes_to_the_extra_as_it_came() -> None:
    found = restored(texts(full()))
    assert found["states"] == GCODE["states"]
    assert found["skew"] == RARE["skew"]
    assert found["variables"] == RARE["variables"]
    assert found["carriages"] == RARE["carriages"]
    assert found["mesh"] == {k: RARE["mesh"][k] for k in ("name", "points", "params")}


def test_nothing_is_undone_by_what_comes_after_it() -> None:
    settings = [Setting("SET_GCODE_VARIABLE", b"SET_GCODE_VARIABLE MACRO=X")]
    lines = texts(full(), setup=[b"SET_GCODE_OFFSET Z=1"], settings=settings)

    def at(start: str) -> int:
        return next(i for i, line in enumerate(lines) if line.startswith(start))

    def for_extra(what: str) -> int:
        return next(i for i, line in enumerate(lines) if what in restored([line]))

    in_order = (
        at("SET_GCODE_OFFSET Z=1"), at("SET_GCODE_VARIABLE"), for_extra("variables"),
        for_extra("mesh"), at("BED_MESH_OFFSET"), for_extra("skew"),
        at("SYNC_EXTRUDER_MOTION"), at("SET_GCODE_OFFSET X="), at("SET_VELOCITY_LIMIT"),
        at("SET_RETRACTION"), at("EXCLUDE_OBJECT_DEFINE"), at("G0 Z"),
        at("RESTORE_DUAL_CARRIAGE_STATE"), at("G0 X"), at("M106"), at("G10"),
    )  # fmt: skip
    assert list(in_order) == sorted(in_order)


def test_what_this_machine_lacks_is_left_out() -> None:
    lines = texts(full(), frozenset({"toolhead", "fan"}))
    assert set(restored(lines)) == {"variables", "states", "skew"}
    words = (
        "SET_PIN", "SET_LED", "SET_SERVO", "SET_TMC", "SET_INPUT", "SET_RETR", "SYNC_",
        "BED_MESH", "SET_IDLE", "SET_FIL", "SET_TEMP", "RESTORE_DUAL",
    )  # fmt: skip
    assert not [line for line in lines if line.startswith(words)]


def test_what_the_file_set_is_not_run_again_where_the_outcome_is_known() -> None:
    names = ("SET_RETRACTION", "SET_PIN", "G18", "SET_GCODE_VARIABLE", "M117")
    settings = [Setting(name, name.encode() + b" FROM=FILE") for name in names]
    known = full()
    known.state["progress"]["m73"] = None
    again = [line for line in texts(known, settings=settings) if "FROM=FILE" in line]
    assert again == ["SET_GCODE_VARIABLE FROM=FILE"]
    old = texts(record(), settings=settings)
    assert [line for line in old if "FROM=FILE" in line] == [
        f"{name} FROM=FILE" for name in names
    ]


def test_a_stored_mesh_of_which_only_the_name_is_known() -> None:
    rec = record(state=state(mesh={"profile": "bed"}))
    lines = texts(rec, mesh_profiles=frozenset({"bed"}))
    assert 'BED_MESH_PROFILE LOAD="bed"' in lines
    assert not [line for line in lines if line.startswith("BED_MESH_OFFSET")]


def test_the_firmware_has_retracted_if_it_said_so() -> None:
    made = full()
    assert "G10" in texts(made)
    made.state["gcode"]["retracted"] = False
    lines = build(made, 6.0, [], EVERYTHING, True)
    assert not [line for line in lines if line.startswith(b"G10")]


def test_the_message_comes_back_whatever_is_in_it() -> None:
    text = '15 % ; "half" # * äöü'
    rec = record(state=state(progress={"message": text, "m73": 0.42}))
    lines = texts(rec)
    assert restored(lines)["message"] == text and "M73 P42.00" in lines
    silent = texts(record(state=state(progress={"message": None, "m73": None})))
    assert restored(silent)["message"] == ""
    assert not [line for line in silent if line.startswith("M73")]


def test_lights_that_are_all_alike_take_one_command() -> None:
    made = full()
    made.state["rare"]["leds"] = {"strip": [[0.5, 0.5, 0.5, 0.0]] * 30}
    assert len([line for line in texts(made) if line.startswith("SET_LED")]) == 1
