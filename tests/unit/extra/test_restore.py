# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""_PLR_RESTORE sets what no command of klippy can, and trusts nothing of it."""
from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery import variables
from klippy_extras.power_loss_recovery.restore import Restore
from tests.unit.extra.fake_printer import CommandError, Config, Printer
from tests.unit.extra.test_mesh import KEPT

SAVED = {
    "absolute_coord": True, "absolute_extrude": False,
    "base_position": [0.1, 0.2, 0.3, 4.0], "last_position": [1.0, 2.0, 3.0, 5.5],
    "homing_position": [0.1, 0.2, 0.3, 0.0], "speed": 25.0, "speed_factor": 0.015,
    "extrude_factor": 0.96,
}  # fmt: skip


class Bench(Printer):
    def __init__(self) -> None:
        super().__init__()
        self.skew: list[tuple[float, ...]] = []
        self.loaded: list[str] = []
        self.gcode_move = SimpleNamespace(
            saved_states={"other": 1}, base_position=[0.0] * 4,
            last_position=[0.0] * 4, homing_position=[0.0] * 4,
        )  # fmt: skip
        self.macro = SimpleNamespace(variables={"a": 1, "b": 2})
        self.correction = SimpleNamespace(
            _update_skew=lambda *factors: self.skew.append(factors),
            current_profile_name="",
        )
        self.profiles = SimpleNamespace(profiles={}, load_profile=self.loaded.append)
        self.display = SimpleNamespace(message="old")
        self.carriages = SimpleNamespace(saved_states={})
        self.objects |= {
            "gcode_move": self.gcode_move, "gcode_macro COUNTER": self.macro,
            "skew_correction": self.correction, "display_status": self.display,
            "bed_mesh": SimpleNamespace(
                pmgr=self.profiles, update_status=lambda: None),
            "dual_carriage": self.carriages,
        }  # fmt: skip
        Restore(Config(self))

    def restore(self, **what: Any) -> list[str]:
        return self.run(f"_PLR_RESTORE DATA={json.dumps(what).encode().hex()}")


def test_saved_gcode_states_are_there_again_beside_the_others() -> None:
    bench = Bench()
    assert bench.restore(states={"mine; #2": SAVED}) == []
    assert bench.gcode_move.saved_states == {"other": 1, "mine; #2": SAVED}


def test_a_klippy_with_more_axes_takes_the_state_of_one_with_four() -> None:
    bench = Bench()
    bench.gcode_move.last_position = [9.0] * 5
    bench.restore(states={"mine": SAVED})
    made = bench.gcode_move.saved_states["mine"]
    assert made["last_position"] == [1.0, 2.0, 3.0, 5.5, 9.0]
    assert len(made["base_position"]) == 4


def test_the_rest() -> None:
    bench = Bench()
    bench.restore(
        skew={"factors": [0.001, 0, 0], "name": "cube"}, mesh=KEPT, message='a;b "c" #',
        variables={"counter.a": "['x;y', (1, None)]"},
        carriages={"carriage_modes": ["PRIMARY", "COPY"], "axes_positions": [1, 2.5]},
    )  # fmt: skip
    assert bench.skew == [(0.001, 0.0, 0.0)]
    assert bench.correction.current_profile_name == "cube"
    assert bench.loaded == ["adaptive"]
    assert bench.display.message == 'a;b "c" #'
    assert bench.macro.variables == {"a": ["x;y", (1, None)], "b": 2}
    assert bench.carriages.saved_states["_plr"]["axes_positions"] == [1, 2.5]
    bench.restore(message="")
    assert bench.display.message is None


def test_what_is_not_there_now_is_said() -> None:
    bench = Bench()
    said = bench.restore(variables={"counter.gone": "1", "other.a": "1",
                                    "counter.b": "7"})  # fmt: skip
    assert "counter.gone, other.a" in said[0]
    assert bench.macro.variables == {"a": 1, "b": 7}
    del bench.objects["bed_mesh"], bench.objects["skew_correction"]
    assert "no [bed_mesh]" in bench.restore(mesh=KEPT)[0]
    assert "no [skew_corr" in bench.restore(skew={"factors": [0, 0, 0]})[0]


BAD: list[dict[str, Any]] = [
    {"unknown": 1}, {"states": 5}, {"states": {"a": 5}}, {"states": {"a": {}}},
    {"states": {"a": {**SAVED, "speed": "x"}}},
    {"states": {"a": {**SAVED, "speed": float("nan")}}},
    {"states": {"a": {**SAVED, "extrude_factor": 0.0}}},
    {"states": {"a": {**SAVED, "last_position": [1.0]}}},
    {"states": {"a": {**SAVED, "last_position": ["1"] * 4}}},
    {"states": {"a" * 999: SAVED}},
    {"skew": {"factors": [1, 2]}}, {"skew": {"factors": [9, 0, 0]}}, {"skew": 7},
    {"mesh": {"name": "x"}}, {"mesh": None}, {"message": 7}, {"message": "x" * 999},
    {"variables": {"counter.a": 5}}, {"variables": 5},
    {"carriages": {"axes_positions": [float("inf")]}}, {"carriages": {"a": None}},
]  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_is_not_sound_is_refused_and_does_not_shut_klippy_down(
    what: dict[str, Any],
) -> None:
    with pytest.raises(CommandError, match="cannot be set"):
        Bench().restore(**what)


@pytest.mark.parametrize("data", ["", "zz", "5b5d", "7b"])
def test_what_is_no_data_is_refused(data: str) -> None:
    with pytest.raises(CommandError):
        Bench().run(f"_PLR_RESTORE DATA={data}")


def test_a_variable_that_is_no_literal_is_not_run() -> None:
    bench = Bench()
    said = bench.restore(variables={"counter.a": "__import__('os').getcwd()"})
    assert "counter.a" in said[0] and bench.macro.variables["a"] == 1


# restore_variables


def read(option: str) -> dict[str, str]:
    printer = Printer()
    printer.objects["gcode_macro COUNTER"] = SimpleNamespace(
        variables={"layers": 17, "last": (1, "a"), "mine": {"x": None}}
    )
    printer.objects["gcode_macro _Tool"] = SimpleNamespace(variables={"last": "é"})
    printer.objects["gcode_macro"] = object()
    patterns = variables.wanted(Config(printer, {"restore_variables": option}))
    find = variables.reader(patterns)(printer)
    return {} if find is None else find()


@pytest.mark.parametrize(("option", "names"), [
    ("", ()), ("counter.layers", ("counter.layers",)),
    ("COUNTER.LA*", ("counter.layers", "counter.last")),
    ("\n counter.mine,\n *.last", ("counter.mine", "counter.last", "_tool.last")),
    ("nothing.here", ()), ("counter.l?st", ("counter.last",)),
])  # fmt: skip
def test_only_the_variables_that_are_named_are_saved(
    option: str, names: tuple[str, ...]
) -> None:
    assert set(read(option)) == set(names)


def test_they_are_saved_as_literals() -> None:
    assert read("counter.*") == {
        "counter.layers": "17", "counter.last": "(1, 'a')",
        "counter.mine": "{'x': None}",
    }  # fmt: skip


@pytest.mark.parametrize("option", ["counter", "a.b.c", "counter.[a", "a b.c", ".x"])
def test_what_is_no_name_is_refused_at_the_start(option: str) -> None:
    with pytest.raises(CommandError, match="restore_variables"):
        variables.wanted(Config(Printer(), {"restore_variables": option}))


def test_a_huge_variable_is_left_out() -> None:
    printer = Printer()
    printer.objects["gcode_macro A"] = SimpleNamespace(
        variables={"big": "x" * 5000, "small": 1}
    )
    patterns = variables.wanted(Config(printer, {"restore_variables": "a.*"}))
    find = variables.reader(patterns)(printer)
    assert find is not None and find() == {"a.small": "1"}
