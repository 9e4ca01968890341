# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The shipped macros: every one rendered and run, with and without parameters."""
from __future__ import annotations

import re
from typing import Any

import pytest

from klippy_extras.power_loss_recovery.commands import REMOTE_COMMANDS
from tests.macros.bench import MACROS, Macros, sections

SHIPPED = MACROS / "power_loss_recovery.cfg"
VARIABLES = MACROS / "power_loss_recovery_variables.cfg"
BUTTONS = {
    "RESUME_INTERRUPTED_PRINT": "PLR_RESUME_PRINT",
    "CHOOSE_WHERE_TO_RESUME": "PLR_RESUME_FROM",
    "STOP_AUTO_RESUME": "PLR_STOP_AUTO_RESUME",
    "DISCARD_INTERRUPTED_PRINT": "PLR_RESET_PRINT_DATA",
    "SHOW_INTERRUPTED_PRINT": "PLR_QUERY_SAVED_STATE",
    "CHECK_POWER_LOSS_RECOVERY": "PLR_CHECK",
    "REHEARSE_A_RESUME": "PLR_TEST_RESUME",
    "SAVE_PRINT_NOW": "PLR_SAVE_PRINT_STATE",
    "ENABLE_POWER_LOSS_RECOVERY": "PLR_ENABLE",
    "DISABLE_POWER_LOSS_RECOVERY": "PLR_DISABLE",
    "CALIBRATE_Z_SWITCHES": "PLR_Z_HOME MODE=CALIBRATE",
}
HOOKS = {"_PLR_BEFORE_RESUME_GCODE", "_PLR_RESUME_PRINT_START", "_PLR_RESUME_READY"}
INFO = {"layer": 12, "current_file": "benchy.gcode", "fan_speeds": {"fan": 0.5}}
SAVED = {"save_variables": {"variables": {"resume_meta_info": INFO}}}


def shipped(status: dict[str, Any] | None = None, **variables: Any) -> Macros:
    made = Macros(SHIPPED, VARIABLES, status=status)
    made.status["gcode_macro _PLR_VARIABLES"].update(variables)
    return made


def test_all_macros_are_looked_at_here() -> None:
    names = set(Macros(SHIPPED, VARIABLES).sections)
    assert names == set(BUTTONS) | HOOKS | {"_PLR_VARIABLES"}


@pytest.mark.parametrize("name", sorted(BUTTONS))
@pytest.mark.parametrize("status", [None, SAVED], ids=["fresh", "saved"])
def test_a_button_is_one_command(name: str, status: dict[str, Any] | None) -> None:
    assert shipped(status).run(name) == [BUTTONS[name]]


def test_the_buttons_have_what_front_ends_show() -> None:
    found = Macros(SHIPPED).sections
    for name in BUTTONS:
        assert not name.startswith("_") and found[name]["description"]
    for name in HOOKS:
        assert found[name]["description"]


def test_all_of_moonrakers_commands_are_on_a_button() -> None:
    """But the slicer's."""
    called = {command.split()[0] for command in BUTTONS.values()} - {"PLR_Z_HOME"}
    assert called == set(REMOTE_COMMANDS) - {"PLR_SAVE_PRINT_STATE_WITH_LAYER"}


@pytest.mark.parametrize(("params", "done"), [
    ({"LAYER": "12"}, "PLR_RESUME_PRINT LAYER=12"),
    ({"Z": "4.2"}, "PLR_RESUME_PRINT Z=4.2"),
    ({"Z": "0"}, "PLR_RESUME_PRINT Z=0"),
    ({"POSITION": "1234"}, "PLR_RESUME_PRINT POSITION=1234"),
    ({"LAYER": ""}, "PLR_RESUME_PRINT"),
    ({"LAYER": "1", "Z": "2"}, "PLR_RESUME_PRINT LAYER=1 Z=2"),
])  # fmt: skip
def test_the_resume_button_takes_a_place(params: dict[str, str], done: str) -> None:
    assert shipped().run("RESUME_INTERRUPTED_PRINT", **params) == [done]


def test_front_ends_find_the_places_to_fill_in() -> None:
    """By this pattern, see Mainsail's and Fluidd's macro stores."""
    gcode = Macros(SHIPPED).sections["RESUME_INTERRUPTED_PRINT"]["gcode"]
    assert re.findall(r"params\.(\w+)\|default", gcode) == ["LAYER", "Z", "POSITION"]


@pytest.mark.parametrize("status", [None, SAVED], ids=["fresh", "saved"])
def test_hooks_do_nothing_that_could_hurt(status: dict[str, Any] | None) -> None:
    made = shipped(status)
    for name in HOOKS:
        words = {line.split()[0] for line in made.run(name)}
        assert words <= {"M117", "RESTORE_FAN_SPEEDS"}


def test_the_start_hook_says_what_is_resumed() -> None:
    assert shipped(SAVED).run("_PLR_RESUME_PRINT_START") == [
        "M117 Resuming layer 12 of benchy.gcode", "RESTORE_FAN_SPEEDS",
    ]  # fmt: skip


def test_what_the_owner_sets_is_done() -> None:
    made = shipped(SAVED, bed_soak=1.5, restart_macro="BRUSH", before_macro="LIGHT")
    assert made.run("_PLR_BEFORE_RESUME_GCODE") == ["LIGHT"]
    assert made.run("_PLR_RESUME_PRINT_START")[1:] == [
        "M117 Waiting 1.5 min for the bed", "G4 P90000", "BRUSH", "RESTORE_FAN_SPEEDS",
    ]  # fmt: skip


def test_without_the_variables_file_the_defaults_count() -> None:
    assert Macros(SHIPPED).run("_PLR_RESUME_PRINT_START") == ["RESTORE_FAN_SPEEDS"]
    assert Macros(SHIPPED).run("_PLR_BEFORE_RESUME_GCODE") == []


def test_every_variable_is_used_and_explained_with_its_default() -> None:
    text = VARIABLES.read_text()
    (options,) = sections(VARIABLES).values()
    names = [key for key in options if key.startswith("variable_")]
    assert len(names) == 3 == text.count("The default is")
    for name in names:
        used = rf"owner\.{name.removeprefix('variable_')}\|default"
        assert re.search(used, SHIPPED.read_text())
        assert re.search(rf"The default is \w+\.\n{name}:", text)


def test_the_readme_names_them_all() -> None:
    text = (MACROS / "README.md").read_text()
    for name in [*BUTTONS, *BUTTONS.values(), *(HOOKS - {"_PLR_RESUME_READY"})]:
        assert f"`{name}`" in text or f": {name}" in text or name in text
