# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The guide, word for word, on a real klippy and Moonraker.

Its example configuration, macros and slicer snippets as they are in the guide; see
virtual_printer/guide.py. The oracle looks at the part.
"""
from __future__ import annotations

import ast
import configparser
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.virtual_printer import faults, guide, oracle, outage, parts
from tests.virtual_printer.klippy_tree import prepare
from tests.virtual_printer.printer import PrinterError, VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 5
PART = parts.Part(size=20, layers=3)
# In the second layer: the guide saves at each layer, and every 30 s.
CUT = 23.0
SAVE_INTERVAL = 30.0


def variables(printer: VirtualPrinter) -> dict[str, Any]:
    found = configparser.RawConfigParser()
    found.read(printer.data / "config" / "variables.cfg")
    return {k: ast.literal_eval(v) for k, v in found.items("Variables")}


def answers(printer: VirtualPrinter, script: str, wait: float = 1.0) -> list[str]:
    """What the console says to it; also a little later, from Moonraker."""
    before = len(printer.console())
    printer.gcode(script)
    time.sleep(wait)
    return printer.console()[before + 1 :]


# A part that comes out whole


@pytest.fixture(scope="module", params=["relative", "absolute"])
def print_of_the_guide(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[outage.Outcome, oracle.Verdict, dict[str, Any]]:
    part = replace(PART, relative_e=request.param == "relative")
    path = guide.write(tmp_path_factory.mktemp("part") / "guide.gcode", part)
    tree, config = prepare(), guide.config()
    seen: dict[str, Any] = {}

    def between(printer: VirtualPrinter) -> None:
        seen["query"] = answers(printer, "PLR_QUERY_SAVED_STATE")

    def after(printer: VirtualPrinter) -> None:
        seen["info"] = variables(printer)["resume_meta_info"]
        seen["console"] = printer.console()

    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(outage.run_undisturbed, path, SEED, tree, config=config)
        outcome = pool.submit(
            outage.run_interrupted, path, (CUT,), SEED, tree,
            between=between, after=after, config=config,
        ).result()  # fmt: skip
        verdict = outage.judge(whole.result(), outcome)
    return outcome, verdict, seen


def test_the_part_comes_out_whole(
    print_of_the_guide: tuple[outage.Outcome, oracle.Verdict, dict[str, Any]],
) -> None:
    outcome, verdict, _ = print_of_the_guide
    assert outcome.trouble == "" and not outcome.original_changed
    # Laid twice is what the guide's save_interval costs.
    assert max(verdict.lost_s) <= SAVE_INTERVAL
    assert [why for why in verdict.reasons() if "was resumed" not in why] == []


def test_its_macros_ran_and_read_what_the_guide_says(
    print_of_the_guide: tuple[outage.Outcome, oracle.Verdict, dict[str, Any]],
) -> None:
    outcome, _, seen = print_of_the_guide
    (block,) = [b for b in guide.blocks() if b.heading == "State Data Structure"]

    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shape(item) for key, item in value.items()}
        return type(value) if isinstance(value, str) else float

    assert shape(seen["info"]) == shape(json.loads(block.text))
    assert seen["info"]["current_file"] == "guide.gcode"
    assert seen["info"]["layer"] == 1 and seen["info"]["layer_height"] == 0.4
    assert (seen["info"]["hotend_temp"], seen["info"]["bed_temp"]) == (210.0, 50.0)
    fans = "Setting parts cooling fan fan using M106"
    assert [line for line in seen["console"] if fans in line]
    assert [line for line in seen["query"] if "guide.gcode, layer 1" in line]


# Everything else on one machine, in the order that it is written


@pytest.fixture(scope="module")
def printer() -> Iterator[VirtualPrinter]:
    with VirtualPrinter(seed=6, config=guide.config()) as printer:
        printer.power_on()
        yield printer


def test_klippy_takes_its_whole_configuration(printer: VirtualPrinter) -> None:
    settings = printer.objects("configfile")["configfile"]["settings"]
    ours = settings["power_loss_recovery"]
    assert guide.options() <= set(ours)
    assert (ours["save_interval"], ours["history_size"], ours["save_delay"]) == (
        30.0, 3, 2
    )  # fmt: skip
    assert ours["restart_gcode"] == "_PLR_RESUME_PRINT_START"
    for name in guide.macros():
        assert f"gcode_macro {name.lower()}" in settings


def test_all_its_commands_are_there_with_a_help_text(printer: VirtualPrinter) -> None:
    known = printer.get("/printer/gcode/help")
    assert guide.commands() <= {name for name, text in known.items() if text}


def test_home_all_calibrates(printer: VirtualPrinter) -> None:
    said = answers(printer, "HOME_ALL", 3.0)
    assert [line for line in said if "Z+ switches calibrated" in line]
    said = answers(printer, "PLR_QUERY_SAVED_STATE")
    assert [line for line in said if "stepper_z3" in line]


@pytest.mark.parametrize(("command", "said"), [
    ("PLR_DISABLE", "no longer saved"), ("PLR_QUERY_SAVED_STATE", "Saving is off"),
    ("PLR_SAVE_PRINT_STATE", "saving is off"),
    ("PLR_ENABLE", "Prints are saved"), ("START_PRINT", "Prints are saved"),
    ("PLR_SAVE_PRINT_STATE", "nothing is being printed"),
    ("PLR_RESET_PRINT_DATA", "no interrupted print"),
    ("PLR_RESUME_PRINT", "no interrupted print"),
    ("RESTORE_FAN_SPEEDS", "No saved state found in variables"),
    ("PLR_LOAD_MESH", "no mesh is kept"),
])  # fmt: skip
def test_its_commands_answer(printer: VirtualPrinter, command: str, said: str) -> None:
    assert [line for line in answers(printer, command) if said in line]


@pytest.mark.parametrize(("button", "said"), [
    ("DISABLE_POWER_LOSS_RECOVERY", "no longer saved"),
    ("SHOW_INTERRUPTED_PRINT", "Saving is off"),
    ("ENABLE_POWER_LOSS_RECOVERY", "Prints are saved"),
    ("SAVE_PRINT_NOW", "nothing is being printed"),
    ("DISCARD_INTERRUPTED_PRINT", "no interrupted print"),
    ("RESUME_INTERRUPTED_PRINT", "no interrupted print"),
    ("RESUME_INTERRUPTED_PRINT LAYER=3", "no interrupted print"),
    ("RESUME_INTERRUPTED_PRINT LAYER=3 Z=1", "LAYER and Z: give one of"),
    ("CHOOSE_WHERE_TO_RESUME", "PLR_RESUME_FROM: "),
])  # fmt: skip
def test_the_shipped_buttons_answer(
    printer: VirtualPrinter, button: str, said: str
) -> None:
    try:
        lines = answers(printer, button)
    except PrinterError as e:
        lines = [str(e)]
    assert [line for line in lines if said in line]


def test_a_mesh_that_was_never_stored_survives_a_power_cut(
    printer: VirtualPrinter,
) -> None:
    """As an adaptive one, which lives in klippy's memory only."""
    printer.gcode("BED_MESH_PROFILE LOAD=default\nBED_MESH_PROFILE SAVE=of_today")
    mesh = printer.objects("bed_mesh")["bed_mesh"]
    assert mesh["profile_name"] == "of_today"
    said = answers(printer, "PLR_SAVE_MESH")
    assert [line for line in said if "of_today is kept, with its 3 x 3" in line]
    printer.cut_power()
    printer.power_on()
    assert "of_today" not in printer.objects("bed_mesh")["bed_mesh"]["profiles"]

    def again_in_use() -> bool:
        """Moonraker knows of a klippy that is ready before klippy knows of it."""
        said = answers(printer, "PLR_LOAD_MESH", 2.0)
        return any("of_today is in use again" in line for line in said)

    printer.wait("the mesh", again_in_use, 10)
    again = printer.objects("bed_mesh")["bed_mesh"]
    assert again["profile_name"] == "of_today"
    assert again["mesh_matrix"] == mesh["mesh_matrix"]


def test_its_custom_resume_runs(printer: VirtualPrinter) -> None:
    """On a bed without a part, for it homes Z; then all macros of the guide ran."""
    info = {
        "position": {"x": 100.0, "y": 100.0, "z": 20.0}, "hotend_temp": 200.0,
        "bed_temp": 40.0, "fan_speeds": {"fan": 0.5},
    }  # fmt: skip
    printer.gcode(f'SAVE_VARIABLE VARIABLE=resume_meta_info VALUE="{info}"')
    printer.gcode("_PLR_CUSTOM_RESUME", timeout=400)
    printer.gcode("M400")
    x, y, z = printer.machine("state")["nozzle"]
    assert (x, y, z) == pytest.approx((100.0, 100.0, 20.0), abs=0.1)

    def fan_is_back() -> bool:
        """After klippy's kick start, which is at full power."""
        return abs(printer.machine("state")["fan"] - 0.5) < 0.01

    printer.wait("the fan", fan_is_back, 5)
    printer.gcode("TURN_OFF_HEATERS")


def test_without_moonraker_the_console_says_what_to_do(
    printer: VirtualPrinter,
) -> None:
    faults.moonraker_crash(printer)
    from tests.virtual_printer.klippy_api import Klippy

    klippy = Klippy(printer)
    for name in sorted(guide.commands() - {"PLR_Z_HOME", "RESTORE_FAN_SPEEDS"}):
        with pytest.raises(PrinterError, match="Moonraker is not connected"):
            klippy.gcode(name)
    klippy.close()
