# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Run by a model of klippy's gcode_move.py: the printer ends where the tail begins."""
from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.gcode.replay import Setting
from moonraker_components.power_loss_recovery.planning.prologue import (
    RETRACT,
    build,
    retraction,
)
from moonraker_components.power_loss_recovery.record import Record
from tests.unit.samples import OBJECTS, record, state

START = (150.0, 120.0, 0.4, 12.5)


class Model:
    """gcode_move.py, with the filament counted from the purge."""

    def __init__(self, rec: Record) -> None:
        self.last = [10.0, 10.0, 6.0, 0.0]
        self.base = [0.0] * 4
        self.origin = [0.0] * 3
        self.absolute, self.absolute_e = True, True
        self.flow, self.speed_factor, self.speed = 1.0, 1.0, 0.0
        self.pulled = retraction(rec)  # as the purge leaves it
        self.path: list[tuple[float, ...]] = [tuple(self.last[:3])]
        self.retracts: list[str] = []

    def run(self, lines: list[bytes]) -> Model:
        for line in lines:
            self.command(line.decode().partition(";")[0].strip())
        return self

    def command(self, text: str) -> None:
        name, _, rest = text.partition(" ")
        found = re.findall(r"([A-Z_]+)=?(-?[\d.]+)", rest)
        words = {k: float(v) for k, v in found}
        if name in ("G0", "G1"):
            self.move(words)
        elif name in ("G90", "G91"):
            self.absolute = name == "G90"
        elif name in ("M82", "M83"):
            self.absolute_e = name == "M82"
        elif name == "G92":
            for axis, value in words.items():
                i = "XYZE".index(axis)
                factor = self.flow if axis == "E" else 1.0
                self.base[i] = self.last[i] - value * factor
        elif name == "SET_GCODE_OFFSET":
            for axis, value in words.items():
                i = "XYZ".index(axis)
                self.base[i] += value - self.origin[i]
                self.origin[i] = value
        elif name == "M221":
            e = (self.last[3] - self.base[3]) / self.flow
            self.flow = words["S"] / 100
            self.base[3] = self.last[3] - e * self.flow
        elif name == "M220":
            self.speed_factor = words["S"] / 100
        elif name in ("G10", "G11"):
            self.retracts.append(name)

    def move(self, words: dict[str, float]) -> None:
        for axis, value in words.items():
            if axis == "F":
                assert value > 0
                self.speed = value
                continue
            i = "XYZE".index(axis)
            if axis == "E":
                value *= self.flow
                if not self.absolute or not self.absolute_e:
                    self.last[3] += value
                    self.pulled -= value
                    continue
                raise AssertionError("absolute filament on the way there")
            self.last[i] = value + (self.base[i] if self.absolute else self.last[i])
        self.path.append(tuple(self.last[:3]))

    @property
    def position(self) -> list[float]:
        x, y, z, e = (a - b for a, b in zip(self.last, self.base, strict=True))
        return [x, y, z, e / self.flow]


def built(rec: Record, safe_z: float = 6.0, **changes: Any) -> list[bytes]:
    given: dict[str, Any] = {
        "definitions": [], "objects": OBJECTS, "firmware_retracted": False,
    }  # fmt: skip
    return build(replace(rec, position=START), safe_z, **{**given, **changes})


def texts(lines: list[bytes]) -> list[str]:
    return [line.decode().partition(" ; ")[0] for line in lines]


offsets = st.tuples(*[st.floats(-20, 20)] * 3)


@given(offsets, offsets, st.booleans(), st.booleans(), st.floats(0.5, 1.5),
       st.floats(0, 6))  # fmt: skip
def test_the_printer_ends_where_the_tail_begins(
    g92: tuple[float, ...], origin: tuple[float, ...], absolute: bool,
    absolute_e: bool, flow: float, retracted: float,
) -> None:  # fmt: skip
    rec = record(retracted=retracted, state=state(coordinates={
        "g92": list(g92), "homing_origin": list(origin), "extrude_factor": flow,
        "absolute_coordinates": absolute, "absolute_extrude": absolute_e,
        "speed_factor": 1.25,
    }))  # fmt: skip
    model = Model(rec).run(built(rec, safe_z=60.0))
    assert model.position == pytest.approx(START, abs=2e-6)
    assert model.origin == pytest.approx(origin, abs=1e-4)
    assert (model.absolute, model.absolute_e) == (absolute, absolute_e)
    assert model.flow == pytest.approx(flow, rel=1e-5)
    assert model.speed_factor == pytest.approx(1.25)
    assert model.speed == rec.speed
    expected = retracted if retracted > 0.01 else 0.0
    assert model.pulled == pytest.approx(expected, abs=1e-4)
    on_motors = [s + a + b for s, a, b in zip(START, g92, origin, strict=False)]
    assert model.last[:3] == pytest.approx(on_motors, abs=2e-6)


def test_the_way_there_is_over_everything_printed() -> None:
    rec = record()
    path = Model(rec).run(built(rec, safe_z=30.0)).path
    heights = [z for x, y, z in path if (x, y) != (10.0, 10.0)]
    assert path[1] == (10.0, 10.0, 30.0)
    assert heights == [30.0] * (len(heights) - heights.count(0.4)) + [0.4] * (
        heights.count(0.4)
    )
    assert heights[0] == 30.0 and heights[-1] == 0.4


def test_a_place_above_the_travel_height_is_reached_from_its_own_height() -> None:
    rec = record()
    path = Model(rec).run(built(rec, safe_z=0.1)).path
    assert min(z for _, _, z in path) == 0.4


def test_filament_that_was_pulled_back_stays_pulled_back() -> None:
    rec = record(retracted=3.0)
    assert retraction(rec) == 3.0
    assert not [t for t in texts(built(rec)) if t.startswith("G1 E")]


@pytest.mark.parametrize("retracted", [0.0, 3.0])
def test_the_nozzle_is_down_before_filament_moves(retracted: float) -> None:
    # With pressure advance klippy moves it up to 0.1 s before its line
    lines = texts(built(record(retracted=retracted)))
    down = max(i for i, t in enumerate(lines) if t.startswith("G0 Z"))
    assert [i for i, t in enumerate(lines) if t == "G4 P100"] == [down + 1]
    assert not [t for t in lines[: down + 1] if t.startswith("G1 E")]


def test_a_small_retraction_is_made_larger_for_the_travel_only() -> None:
    rec = record(retracted=0.3, state=state(coordinates={"extrude_factor": 0.8}))
    assert retraction(rec) == RETRACT
    assert "G1 E0.625000000 F1800" in texts(built(rec))


@pytest.mark.parametrize("noise", [0.0, 1e-13, 0.005])
def test_the_rounding_of_relative_filament_is_no_retraction(noise: float) -> None:
    rec = record(retracted=noise)
    assert retraction(rec) == RETRACT
    assert Model(rec).run(built(rec)).pulled == pytest.approx(0.0, abs=1e-6)


def test_firmware_retraction_is_done_by_the_firmware_again() -> None:
    rec = record(retracted=1.5, state=state(coordinates={"extrude_factor": 1.0}))
    lines = built(rec, firmware_retracted=True)
    model = Model(rec).run(lines)
    assert model.retracts == ["G10"] and model.pulled == pytest.approx(0.0)
    assert texts(lines).index("G10") > texts(lines).index("G1 E1.500000000 F1800")


def test_pressure_advance_is_of_the_tool_that_was_in_use_then() -> None:
    said = [Setting("SET_PRESSURE_ADVANCE", b"SET_PRESSURE_ADVANCE ADVANCE=.04", 0),
            Setting("SET_PRESSURE_ADVANCE", b"SET_PRESSURE_ADVANCE ADVANCE=.06", 1)]
    rec = replace(record(), from_file=True)
    two = texts(built(rec, settings=said, objects=OBJECTS | {"extruder1"}))
    assert [line for line in two if line.startswith("SET_PRESSURE_ADVANCE A")] == [
        "SET_PRESSURE_ADVANCE ADVANCE=.04 EXTRUDER=extruder",
        "SET_PRESSURE_ADVANCE ADVANCE=.06 EXTRUDER=extruder1",
    ]
    # One nozzle for all filaments: the last is in force.
    one = texts(built(rec, settings=said))
    assert [line for line in one if line.startswith("SET_PRESSURE_ADVANCE A")] == [
        "SET_PRESSURE_ADVANCE ADVANCE=.04", "SET_PRESSURE_ADVANCE ADVANCE=.06",
    ]


@pytest.mark.parametrize(("saved", "before_g10"), [
    # What a wipe had pulled back before G10 stays so.
    (replace(record(retracted=2.7), state={
        **state(), "rare": {"retraction": {"retract_length": 0.7}}}),
     2.7 - 0.7 * 0.95),
    (replace(record(retracted=2.0), from_file=True), 2.0),
    # Nobody knows: all of it by the firmware
    (record(retracted=2.7), 0.0),
])  # fmt: skip
def test_filament_pulled_back_twice_is_pushed_forward_once(
    saved: Record, before_g10: float
) -> None:
    model = Model(saved).run(built(saved, firmware_retracted=True))
    assert model.pulled == pytest.approx(before_g10, abs=1e-6)


def names_of(command: str, lines: list[bytes]) -> list[str]:
    """As klippy splits them."""
    found = []
    for line in lines:
        if not line.decode().startswith(command + " "):
            continue
        lexer = shlex.shlex(line.decode(), posix=True)
        lexer.whitespace_split, lexer.commenters = True, "#;"
        words = list(lexer)
        if words:
            assert len(words) == 2
            found.append(words[1].partition("=")[2])
    return found


AWKWARD = ["PLAIN", "WITH SPACE", "PART'S", "A#1", "BACK\\SLASH", "END\\", "Ä测"]


def test_objects_are_defined_excluded_and_entered_in_this_order() -> None:
    rec = record(state=state(objects={"excluded": ["A", "B"], "current": "C"}))
    lines = built(rec, definitions=[b"EXCLUDE_OBJECT_DEFINE NAME=A"])
    got = [t for t in texts(lines) if t.startswith("EXCLUDE")]
    assert got == [
        "EXCLUDE_OBJECT_DEFINE NAME=A", 'EXCLUDE_OBJECT NAME="A"',
        'EXCLUDE_OBJECT NAME="B"', 'EXCLUDE_OBJECT_START NAME="C"',
    ]  # fmt: skip


def test_the_way_to_an_excluded_object_is_not_left_out() -> None:
    rec = record(state=state(objects={"excluded": ["A"], "current": "A"}))
    lines = texts(built(rec))
    begin = lines.index('EXCLUDE_OBJECT_START NAME="A"')
    assert not [t for t in lines[begin + 1:] if t.startswith("G1")]


@pytest.mark.parametrize("name", AWKWARD)
def test_a_name_reaches_klippy_as_it_is(name: str) -> None:
    rec = record(state=state(
        objects={"excluded": [name], "current": name}, mesh={"profile": name},
    ))  # fmt: skip
    lines = built(rec, mesh_profiles=frozenset({name}))
    for command in ("EXCLUDE_OBJECT", "EXCLUDE_OBJECT_START", "BED_MESH_PROFILE"):
        assert names_of(command, lines) == [name]


def test_a_machine_without_objects_is_not_asked_to_exclude() -> None:
    rec = record(state=state(objects={"excluded": ["A"], "current": "A"}))
    lines = built(rec, definitions=[b"EXCLUDE_OBJECT_DEFINE NAME=A"],
                  objects=frozenset({"extruder"}))  # fmt: skip
    assert not [t for t in texts(lines) if t.startswith("EXCLUDE")]


def test_a_mesh_that_is_not_stored_is_not_asked_for() -> None:
    rec = record(state=state(mesh={"profile": "adaptive-1"}))
    assert not [t for t in texts(built(rec)) if "MESH" in t]
    loaded = texts(built(rec, mesh_profiles=frozenset({"adaptive-1"})))
    assert loaded[1] == 'BED_MESH_PROFILE LOAD="adaptive-1"'


@pytest.mark.parametrize("name", ["fan", "gcode_macro m106"])
def test_a_files_fans_are_set_as_the_file_did_and_in_its_order(name: str) -> None:
    fans = {"fan": 1.0, "fan2": 0.5, "fan_generic aux": 0.5}
    rec = record(from_file=True, state=state(fans=fans))
    lines = texts(build(
        rec, 5.0, [], frozenset({name, "fan_generic aux"}), False,
        fan_power={"fan": 0.5, "fan_generic aux": 0.5},
    ))  # fmt: skip
    assert [line for line in lines if "M106" in line or "FAN" in line] == [
        "M106 S255.00", "M106 P2 S127.50", "SET_FAN_SPEED FAN=aux SPEED=0.5000",
    ]  # fmt: skip
    assert not any("M106" in t for t in texts(build(rec, 5.0, [], frozenset(), False)))


def test_fans_get_the_speed_that_was_asked_of_them() -> None:
    """klippy tells speed times max_power."""
    rec = record(state=state(fans={"fan": 0.4, "fan_generic my aux": 0.5}))
    lines = texts(built(
        rec, objects=OBJECTS | {"fan_generic my aux"}, fan_power={"fan": 0.8},
    ))  # fmt: skip
    assert "M106 S127.50" in lines
    assert "SET_FAN_SPEED FAN=aux SPEED=0.5000" in lines


def test_what_this_machine_lacks_is_left_out() -> None:
    rec = record(state=state(
        fans={"fan": 1.0, "fan_generic gone": 1.0},
        tool={"pressure_advance": {"extruder": [0.05, 0.04], "extruder9": [1, 0.04]}},
    ))  # fmt: skip
    lines = "\n".join(texts(built(rec, objects=frozenset({"extruder"}))))
    assert "gone" not in lines and "M106" not in lines and "extruder9" not in lines
    assert "SET_PRESSURE_ADVANCE EXTRUDER=extruder ADVANCE=0.05" in lines


@pytest.mark.parametrize("speed", [0.0, 0.0004])
def test_a_speed_that_klippy_refuses_is_not_set(speed: float) -> None:
    lines = texts(built(record(speed=speed)))
    assert not [t for t in lines if re.fullmatch(r"G1 F[\d.]+", t)]


def test_each_line_is_one_line() -> None:
    rec = record(state=state(objects={"excluded": AWKWARD, "current": "C"}))
    assert not [line for line in built(rec) if b"\n" in line or b"\r" in line]


def test_layers_go_to_the_front_end() -> None:
    lines = texts(built(record()))
    assert "SET_PRINT_STATS_INFO TOTAL_LAYER=10" in lines
    assert "SET_PRINT_STATS_INFO CURRENT_LAYER=3" in lines


SETTINGS = [
    Setting("SET_GCODE_VARIABLE", b"SET_GCODE_VARIABLE MACRO=A VARIABLE=b VALUE=1"),
    Setting("M204", b"M204 S500"), Setting("SET_GCODE_OFFSET", b"SET_GCODE_OFFSET Z=1"),
    Setting("M117", b"M117 layer 3"), Setting("G18", b"G18"),
]  # fmt: skip


def test_what_klippy_does_not_tell_is_taken_from_the_file() -> None:
    lines = built(record(), settings=SETTINGS)
    assert lines[1:4] == [
        SETTINGS[0][1] + b" ; from the file", b"M117 layer 3", b"G18 ; from the file",
    ]  # fmt: skip
    assert b"M204" not in b"\n".join(lines)


def test_the_owners_setup_comes_before_all_that_is_restored() -> None:
    lines = built(record(), setup=[b"; asked for", b"SET_SOMETHING"], settings=SETTINGS)
    assert lines[1:3] == [b"; asked for", b"SET_SOMETHING"]


def test_klippy_is_taught_the_exclusions_before_the_way_to_the_part() -> None:
    """It prints five moves with filament before it leaves anything out."""
    excluded = record(state=state(objects={"excluded": ["A"], "current": "A"}))
    lines = texts(built(excluded))
    moves = [t for t in lines if t.startswith("G1 E") and "0.01" in t]
    assert len(moves) > 5 and sum(float(m.split()[1][1:]) for m in moves) == 0.0
    assert lines.index('EXCLUDE_OBJECT NAME="A"') < lines.index(moves[0])
    away = [i for i, t in enumerate(lines) if t.startswith("G0")][0]
    assert lines.index("M83") < lines.index(moves[0]) < away
    assert not [t for t in texts(built(record())) if "E-0.01" in t]


def test_each_line_says_what_it_restores_and_from_where() -> None:
    rec = record(speed=1500.0, state=state(
        objects={"excluded": ["A"], "current": "C"}, coordinates={"g92": [1, 2, 3]},
    ))  # fmt: skip
    for line in built(rec, definitions=[]):
        command, mark, why = line.partition(b" ; ")
        assert (mark and why) or line.startswith(b"; "), line
        if command.split(b" ")[0] not in (b"G0", b"G1", b"G4", b"G90", b"M83"):
            assert b"from the saved state" in why or line.startswith(b"; "), line


def test_no_travel_is_taken_for_the_height_of_the_part() -> None:
    """Moonraker takes the highest "G1 Z" for the height of the object."""
    assert not [t for t in texts(built(record())) if re.match(r"G1\sZ", t)]
