# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Which stored heights klippy uses, and which copy of them it takes back."""
from __future__ import annotations

import ast
import json
from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery import z_calibration
from klippy_extras.power_loss_recovery.z_calibration import ZCalibration, decode

NAMES = ["stepper_z", "stepper_z1"]
HEIGHTS = {"stepper_z": 231.987654321, "stepper_z1": 232.5}
CONFIG = {
    "power_loss_recovery": {"pin_stepper_z": "^ZP0", "pin_stepper_z1": "!ZP1"},
    "stepper_z": {"rotation_distance": "40", "endstop_pin": "LZ"},
    "probe": {"z_offset": "1.5"},
}


class Klippy:
    """save_variables, gcode and configfile, as far as the calibration asks."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.allVariables: dict[str, Any] = {"hours": 12}
        self.saves = 0
        self.told: list[dict[str, Any]] = []
        self.moonraker = True
        status = {"config": config}
        self.objects = {
            "save_variables": self,
            "gcode": SimpleNamespace(
                create_gcode_command=lambda name, line, params: params
            ),
            "webhooks": self,
            "configfile": SimpleNamespace(get_status=lambda eventtime: status),
        }

    def lookup_object(self, name: str, default: Any = None) -> Any:
        return self.objects.get(name, default)

    command_error = RuntimeError

    def call_remote_method(self, method: str, variables: dict[str, Any]) -> None:
        if not self.moonraker:
            raise self.command_error("not registered")
        assert method == z_calibration.REMOTE_METHOD
        self.told.append(json.loads(json.dumps(variables)))

    def cmd_SAVE_VARIABLE(self, params: dict[str, str]) -> None:
        self.saves += 1
        value = ast.literal_eval(params["VALUE"])
        self.allVariables[params["VARIABLE"]] = value


def calibration(
    config: dict[str, Any] = CONFIG, names: list[str] = NAMES
) -> tuple[ZCalibration, Klippy]:
    klippy = Klippy(config)
    made = ZCalibration(klippy)
    made.set_fingerprint(names, 232.0)
    return made, klippy


def measured(at: float = 1000.0) -> tuple[ZCalibration, Klippy]:
    made, klippy = calibration()
    now, z_calibration.time.time = z_calibration.time.time, lambda: at
    try:
        made.save(HEIGHTS, NAMES)
    finally:
        z_calibration.time.time = now
    return made, klippy


def test_what_is_saved_is_loaded() -> None:
    made, klippy = measured()
    heights, problem = made.load(NAMES)
    assert problem == "" and made.time() == 1000
    assert heights == pytest.approx(HEIGHTS, abs=2e-6)
    assert klippy.saves == 1 and klippy.allVariables["hours"] == 12


def test_moonraker_is_told_all_that_it_needs_to_give_it_back() -> None:
    _, before = measured()
    made, klippy = calibration()
    assert "restored" in made.restore(before.told[0], NAMES)
    assert klippy.allVariables == before.allVariables and klippy.told == []


def test_without_moonraker_it_is_saved_and_said() -> None:
    made, klippy = calibration()
    assert made.save(HEIGHTS, NAMES)
    klippy.moonraker = False
    assert not made.save(HEIGHTS, NAMES)
    assert made.load(NAMES)[1] == "" and klippy.saves == 2


def test_with_a_clock_that_was_set_back_it_is_still_the_later_one() -> None:
    made, _ = measured()
    now, z_calibration.time.time = z_calibration.time.time, lambda: 5.0
    try:
        made.save(HEIGHTS, NAMES)
    finally:
        z_calibration.time.time = now
    assert made.time() == 1001


@pytest.mark.parametrize("name", [
    "z_offset_stepper_z", "z_offset_stepper_z1", "z_endstop_position_stepper_z",
    "z_endstop_position_stepper_z1",
])  # fmt: skip
def test_half_a_number_is_noticed_wherever_a_file_was_cut(name: str) -> None:
    made, klippy = measured()
    text = repr(klippy.allVariables[name])
    noticed = 0
    for length in range(1, len(text)):
        try:
            value = ast.literal_eval(text[:length])
        except SyntaxError:
            continue  # klippy does not start
        klippy.allVariables[name] = value
        heights, problem = made.load(NAMES)
        if heights is None:
            assert "damaged" in problem and "PLR_Z_HOME MODE=CALIBRATE" in problem
            noticed += 1
        else:
            assert heights == pytest.approx(HEIGHTS, abs=3e-5)
    assert noticed or name == "z_offset_stepper_z"


@pytest.mark.parametrize("value", [None, "1", True, [], float("nan"), 1e9])
def test_what_is_not_a_length_is_refused(value: Any) -> None:
    for prefix in (z_calibration.HEIGHT, z_calibration.OFFSET):
        made, klippy = measured()
        klippy.allVariables[prefix + "stepper_z1"] = value
        heights, problem = made.load(NAMES)
        assert heights is None and "damaged" in problem


def test_any_config_in_the_file_is_an_answer_and_not_a_crash() -> None:
    made, klippy = measured()
    for config in ({1: 2, "a": 3, (4,): []}, {}, {"Z motors": {}}):
        klippy.allVariables["z_calibration_info"]["config"] = config
        assert "older than a change" in made.load(NAMES)[1]


CHANGES: dict[str, tuple[str, str, Any]] = {
    "[probe] z_offset": ("probe", "z_offset", "1.7"),
    "pin_stepper_z1": ("power_loss_recovery", "pin_stepper_z1", "ZP1"),
    "[stepper_z] rotation_distance": ("stepper_z", "rotation_distance", "8"),
    "[stepper_z] endstop_pin": ("stepper_z", "endstop_pin", "LX"),
    "[stepper_z] position_endstop": ("stepper_z", "position_endstop", "-0.2"),
}


@pytest.mark.parametrize("named", CHANGES)
def test_a_calibration_from_before_a_change_of_the_config_is_refused(
    named: str,
) -> None:
    section, option, value = CHANGES[named]
    config = {**CONFIG, section: {**CONFIG[section], option: value}}
    made, klippy = calibration(config)
    klippy.allVariables.update(measured()[1].allVariables)
    heights, problem = made.load(NAMES)
    assert heights is None and "PLR_Z_HOME MODE=CALIBRATE" in problem
    assert f"{named} was '{CONFIG[section].get(option, '')}', is '{value}'" in problem


@pytest.mark.parametrize("names", [NAMES[:1], [*NAMES, "stepper_z2"]])
def test_a_calibration_of_other_motors_is_refused(names: list[str]) -> None:
    made, klippy = calibration(names=names)
    klippy.allVariables.update(measured()[1].allVariables)
    heights, problem = made.load(names)
    assert heights is None and "PLR_Z_HOME MODE=CALIBRATE" in problem


def test_other_options_may_change() -> None:
    changed = {**CONFIG, "stepper_z": {**CONFIG["stepper_z"], "homing_speed": "9"},
               "fan": {"pin": "ZP1"}}  # fmt: skip
    made, klippy = calibration(changed)
    klippy.allVariables.update(measured()[1].allVariables)
    assert made.load(NAMES)[0] == pytest.approx(HEIGHTS, abs=2e-6)


def test_a_copy_comes_back_when_the_variables_are_gone() -> None:
    _, before = measured()
    made, klippy = calibration()
    done = made.restore(before.allVariables, NAMES)
    assert "restored" in done and "no calibration is stored" in done
    assert made.load(NAMES)[1] == "" and made.time() == 1000
    assert klippy.allVariables["hours"] == 12 and klippy.saves == 1


def test_a_copy_does_not_replace_what_was_measured_later_or_is_the_same() -> None:
    for at in (1000.0, 2000.0):
        made, klippy = measured(at)
        assert made.restore(measured()[1].allVariables, NAMES) == ""
        assert klippy.saves == 1 and made.time() == at
    made, klippy = measured(500.0)
    assert "an older calibration" in made.restore(measured()[1].allVariables, NAMES)
    assert made.time() == 1000


def test_a_copy_from_before_a_change_of_the_config_is_refused() -> None:
    _, before = measured()
    made, klippy = calibration({**CONFIG, "probe": {"z_offset": "1.7"}})
    done = made.restore(before.allVariables, NAMES)
    assert "not used" in done and "PLR_Z_HOME MODE=CALIBRATE" in done
    assert "[probe] z_offset was '1.5', is '1.7'" in done
    assert klippy.saves == 0
    # Its own variables say the same: the owner has read it once
    klippy.allVariables.update(before.allVariables)
    assert made.restore(before.allVariables, NAMES) == "" and klippy.saves == 0


@pytest.mark.parametrize("changes", [
    {"z_offset_stepper_z1": 7.0}, {"z_calibration_info": 5},
    {"z_calibration_info": {"time": "1", "config": {}}}, {"z_offset_stepper_z": {}},
])  # fmt: skip
def test_a_copy_that_is_damaged_is_refused(changes: dict[str, Any]) -> None:
    _, before = measured()
    made, klippy = calibration()
    done = made.restore({**before.allVariables, **changes}, NAMES)
    assert "not used" in done and klippy.saves == 0
    assert made.load(NAMES)[0] is None


def test_of_a_copy_only_the_calibration_is_taken() -> None:
    _, before = measured()
    made, klippy = calibration()
    made.restore({**before.allVariables, "hours": 99, "x\n[y]": 1}, NAMES)
    assert klippy.allVariables["hours"] == 12
    assert len(klippy.allVariables) == 6


@pytest.mark.parametrize("text", ["", "0", "zz", "5b5d", "ff", "7b", "5B" * 9000])
def test_what_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode(text)


def test_a_table_is_read() -> None:
    text = json.dumps({"a": 1.5, "b": {"c": "ä"}}).encode().hex()
    assert decode(text) == {"a": 1.5, "b": {"c": "ä"}}
