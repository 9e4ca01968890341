# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What goes to Moonraker, and what is refused before it does."""
from __future__ import annotations

from typing import Any

import pytest

from klippy_extras.power_loss_recovery.commands import REMOTE_COMMANDS, Commands
from tests.unit.extra.fake_printer import CommandError, Config, Printer


class Bench(Printer):
    def __init__(self, values: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.layers: list[tuple[int | None, float | None]] = []
        Commands(Config(self, values), lambda *told: self.layers.append(told))


@pytest.mark.parametrize("name", sorted(REMOTE_COMMANDS))
def test_every_command_goes_to_moonraker(name: str) -> None:
    bench = Bench()
    assert bench.run(name) == []
    assert bench.remote == [("plr_command", {"command": name, "params": {}})]
    assert bench.help[name]


@pytest.mark.parametrize("name", sorted(REMOTE_COMMANDS))
def test_without_moonraker_the_console_says_what_to_do(name: str) -> None:
    bench = Bench()
    bench.moonraker = False
    with pytest.raises(CommandError, match="Moonraker is not connected.*log"):
        bench.run(name)


@pytest.mark.parametrize("name", sorted(REMOTE_COMMANDS))
def test_without_moonraker_a_printing_file_goes_on(name: str) -> None:
    bench = Bench()
    bench.moonraker, bench.from_file = False, True
    assert "Moonraker is not connected" in bench.run(name)[0]


@pytest.mark.parametrize(("given", "params"), [
    ("LAYER=12", {"LAYER": 12}), ("Z=4.25", {"Z": 4.25}),
    ("POSITION=123456", {"POSITION": 123456}),
])  # fmt: skip
def test_a_place_is_passed_as_a_number(given: str, params: dict[str, Any]) -> None:
    bench = Bench()
    bench.run("PLR_RESUME_PRINT " + given)
    command = {"command": "PLR_RESUME_PRINT", "params": params}
    assert bench.remote == [("plr_command", command)]


@pytest.mark.parametrize(("given", "said"), [
    ("LAYER=0", "LAYER=0: expected a whole number from 1 up"),
    ("LAYER=1.5", "LAYER=1.5: expected a whole number"),
    ("Z=-1", "expected a number from 0 up"), ("Z=nan", "expected a number"),
    ("Z=inf", "expected a number"), ("POSITION=-1", "expected a whole number"),
    ("POSITION=x", "POSITION=x"), ("LAYER=", "LAYER=:"),
    ("LAYER=1 Z=2", "LAYER and Z: give one of"), ("LAYR=5", "LAYR: give one of"),
])  # fmt: skip
def test_another_place_is_refused(given: str, said: str) -> None:
    bench = Bench()
    with pytest.raises(CommandError, match=said):
        bench.run("PLR_RESUME_PRINT " + given)
    assert bench.remote == []


def test_a_layer_is_noted_and_saved() -> None:
    bench = Bench()
    bench.run("PLR_SAVE_PRINT_STATE_WITH_LAYER LAYER=3 LAYER_HEIGHT=0.6")
    assert bench.layers == [(3, 0.6)] and len(bench.remote) == 1


def test_a_layer_of_the_file_is_saved_when_the_motors_come_to_it() -> None:
    """Not now, when the line is only read; see history.urgent."""
    bench = Bench()
    bench.from_file = True
    bench.run("PLR_SAVE_PRINT_STATE_WITH_LAYER LAYER=3 LAYER_HEIGHT=0.6")
    assert bench.layers == [(3, 0.6)] and bench.remote == []


def test_without_save_on_layer_the_command_saves() -> None:
    bench = Bench({"save_on_layer": False})
    bench.from_file = True
    bench.run("PLR_SAVE_PRINT_STATE_WITH_LAYER LAYER=3")
    assert bench.layers == [(3, None)] and len(bench.remote) == 1


@pytest.mark.parametrize("given", ["LAYER=[layer_num]", "LAYER=-1", "LAYER_HEIGHT=x"])
def test_a_snippet_that_no_slicer_has_filled_in_stops_no_print(given: str) -> None:
    bench = Bench()
    bench.from_file = True
    assert bench.run("PLR_SAVE_PRINT_STATE_WITH_LAYER " + given)
    assert bench.layers == []
    bench.from_file = False
    with pytest.raises(CommandError):
        bench.run("PLR_SAVE_PRINT_STATE_WITH_LAYER " + given)
