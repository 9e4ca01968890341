# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The second carriage of an IDEX machine prints on, and the first one stays out of it.

Real klippy in its batch mode: a print is read up to a place; a klippy that was just
started is then given every step of the resume and the first lines of its file, and
after each line its motors are looked at.
"""
from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from moonraker_components.power_loss_recovery import plan
from moonraker_components.power_loss_recovery.record import Job, Record
from moonraker_components.power_loss_recovery.resuming import machine_facts
from moonraker_components.power_loss_recovery.saving import machine_state
from tests.bench.batch_klippy import FLUSH, BatchKlippy
from tests.e2e.test_state_carriages import TwoCarriages
from tests.e2e.test_two_tools import EXTRUDER
from tests.unit import samples
from tests.virtual_printer import variants
from tests.virtual_printer.klippy_tree import prepare

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

APART = 20.0  # safe_distance
LIMITS = {"first": (-5.0, 250.0), "second": (0.0, 240.0)}
STATE = "power_loss_recovery", "gcode_move", "toolhead", "dual_carriage"
# The first one is left in the middle, and the second one prints at its other side:
# the free strips of bed are beyond where the first one was left.
MACROS = """
[gcode_macro T1]
gcode:
    SET_GCODE_OFFSET X=0 Y=0 Z=0
    G90
    G1 X110 F9000
    ACTIVATE_EXTRUDER EXTRUDER=extruder1
    SET_DUAL_CARRIAGE CARRIAGE={second}
    SET_GCODE_OFFSET X=1.5 Y=-0.5 Z=0.1

[power_loss_recovery]
restart_gcode:
    G28 X Y
    SET_DUAL_CARRIAGE CARRIAGE={first}
    G91
    G1 Z2
"""
PRINT = b"""G28
M140 S60
M104 S215
G90
M83
G1 X113 Y20 Z0.2 F6000
G1 X117 Y20 E0.2 F1800
M104 S170 T0
M104 S225 T1
T1
G1 X10 Y10 F6000
G1 X10 Y240 E10 F1800
G1 X60 Y240 E2
G1 X60 Y10 E10
G1 X10 Y10 E2
G1 Z0.4
G1 X10 Y200 E9
G1 X50 Y200 E2
"""
PLACE = b"G1 X10 Y200"
EXTRUDES = re.compile(r"G1 .*\bE")
# Has them made, and changes nothing
ALL_STEPS = "M400\nSYNC_EXTRUDER_MOTION EXTRUDER=extruder MOTION_QUEUE=extruder"
STEPPER = """
[stepper {name}]
carriages: {carriage}
step_pin: S{pin}
dir_pin: D{pin}
enable_pin: E{pin}
rotation_distance: 40
microsteps: 16
"""
CARRIAGE = """
[{kind}{name}]
endstop_pin: {pin}
position_min: {low}
position_max: {high}
position_endstop: {endstop}
homing_speed: 50
"""


class Idex(TwoCarriages):
    """TwoCarriages is Cartesian, the first one homes to the right."""

    names = "0", "1"

    def _config(self, extra: bool) -> str:
        text = super()._config(extra) + EXTRUDER
        return text + MACROS.format(first=self.names[0], second=self.names[1])

    def carriages(self, line: str = "") -> dict[str, float]:
        """Where the motors have both, Y and Z, after a line, mm."""
        at = self.motors(line)
        return {
            "first": at["stepper_x"], "second": at["dual_carriage"],
            "y": at["stepper_y"], "z": at["stepper_z"],
        }  # fmt: skip

    def motors(self, line: str) -> dict[str, float]:
        self.api.console.clear()
        self.api.gcode("\n".join((line, ALL_STEPS, "GET_POSITION")))
        (said,) = re.findall(r"stepper: (.*)", "\n".join(self.api.console))
        found = re.findall(r"([\w ]+?):(-?[\d.]+) ?", said)
        return {name: float(mm) for name, mm in found}

    def facts(self, extruder: str) -> Any:
        async def query(wanted: Any) -> dict[str, Any]:
            return self.api.objects(*wanted)

        async def names() -> list[str]:
            return list(self.api.request("objects/list")["objects"])

        async def nothing(text: str) -> None:
            raise AssertionError(f"nothing is to be sent: {text}")

        klippy = machine_facts.Klippy(nothing, query, names, nothing)
        return asyncio.run(machine_facts.facts(klippy, extruder, "assume"))


class HybridIdex(Idex):
    """Each X motor carries Y as well."""

    def _config(self, extra: bool) -> str:
        text = super()._config(extra)
        return text.replace("kinematics: cartesian", "kinematics: hybrid_corexy")

    def carriages(self, line: str = "") -> dict[str, float]:
        at = self.motors(line)
        y = at["stepper_y"]
        return {"first": at["stepper_x"] + y, "second": at["dual_carriage"] - y,
                "y": y, "z": at["stepper_z"]}  # fmt: skip


class GenericIdex(Idex):
    """With carriages that have names."""

    names = "x", "u"

    def _config(self, extra: bool) -> str:
        text = BatchKlippy._config(self, extra) + EXTRUDER
        for name in ("x", "y", "z", "z1", "z2", "z3"):
            text = variants.without_section(text, f"stepper_{name}")
            text = text.replace(f"pin_stepper_{name}:", "#")
        text = text.replace("before_calibrate", "#").replace("fast_travel", "#")
        for name, low, high, end in (
            ("x", -5, 250, 250), ("y", -5, 250, 250), ("z", -2, 232, 0),
        ):  # fmt: skip
            text += CARRIAGE.format(kind="carriage ", name=name, pin=f"L{name.upper()}",
                                    low=low, high=high, endstop=end)  # fmt: skip
        text += CARRIAGE.format(kind="dual_carriage ", name="u", pin="ACOK", low=0,
                                high=240, endstop=0)  # fmt: skip
        text += f"primary_carriage: x\nsafe_distance: {APART}\n"
        for name, pin in (("x", "A"), ("y", "B"), ("z", "Z0"), ("u", "Z1")):
            text += STEPPER.format(name=f"s{name}", carriage=name, pin=pin)
        text += "\n[printer]\nkinematics: generic_cartesian\n"
        return text + MACROS.format(first="x", second="u")

    def carriages(self, line: str = "") -> dict[str, float]:
        at = self.motors(line)
        return {
            "first": at["stepper sx"], "second": at["stepper su"],
            "y": at["stepper sy"], "z": at["stepper sz"],
        }  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """A line of the resume, and the motors before and after it."""

    step: plan.steps.Step | None
    line: str
    before: dict[str, float]
    after: dict[str, float]


def told(klippy: Idex) -> dict[str, Any]:
    """All that the next line depends on."""
    status = klippy.api.objects(*STATE, "extruder", "extruder1", "heater_bed")
    move = status["gcode_move"]
    return {
        "extruder": status["toolhead"]["extruder"],
        "modes": [move["absolute_coordinates"], move["absolute_extrude"]],
        "carriages": status["dual_carriage"],
        "heat": [status[n]["target"] for n in ("extruder", "extruder1", "heater_bed")],
        "offsets": pytest.approx(list(move["homing_origin"])[:3]),
        "place": pytest.approx(list(move["gcode_position"])[:3], abs=1e-4),
        "motors": pytest.approx(klippy.carriages(), abs=0.02),
    }


def cut(kind: type[Idex], tmp_path: Path) -> tuple[Record, dict[str, Any]]:
    at = PRINT.index(PLACE)
    done = tmp_path / "done.gcode"
    done.write_bytes(PRINT[:at])
    with kind(done, True) as klippy:
        klippy.print_file()
        undisturbed = told(klippy)
        klippy.api.gcode("G4 P5000\n" + FLUSH.split()[0])
        extra = klippy.api.objects("power_loss_recovery")["power_loss_recovery"]
    assert not extra["trouble"] and extra["mark"]["file_position"] == at
    machine_state.attach(extra)
    record = Record.from_dict({
        **extra["mark"], "line": PLACE.decode(), "saved_at": 1.7e9, "boot_id": "boot",
        "toolhead_z": undisturbed["motors"].expected["z"], "z_range": None,
        "z_phases": None,
    })  # fmt: skip
    return record, undisturbed


def lines(made: plan.Plan) -> Iterator[tuple[plan.steps.Step | None, str]]:
    for step in made.steps:
        for line in step.script.split("\n"):
            yield step, line
    for text in made.prologue:
        yield None, text.decode()


@pytest.mark.parametrize("kind", [Idex, HybridIdex, GenericIdex])
def test_the_second_carriage_prints_on(kind: type[Idex], tmp_path: Path) -> None:
    tree = prepare()
    if tree.is_package:
        pytest.skip("PyPI's klippy cannot load kinematics with two carriages")
    generic = tree.root / "klippy" / "kinematics" / "generic_cartesian.py"
    if kind is GenericIdex and not generic.exists():
        pytest.skip("this klippy has no generic_cartesian")
    record, undisturbed = cut(kind, tmp_path)
    empty = tmp_path / "empty.gcode"
    empty.write_bytes(b"G4 P1\n")
    with kind(empty, True) as klippy:
        # As one that fails there, and is tried again by the same klippy
        attempt(klippy, record, "purge")
        attempt(klippy, record)
        resumed, start = told(klippy), klippy.carriages()
        end = klippy.carriages(PRINT[record.file_position :].decode())
    for key, value in resumed.items():
        found = getattr(value, "expected", value)
        assert undisturbed[key] == found, key
    assert end["first"] == start["first"]
    assert end["second"] == pytest.approx(51.5, abs=0.02)


def attempt(klippy: Idex, record: Record, until: str = "") -> None:
    """until: the name of the step before which it ends."""
    at = record.file_position
    job = Job("part.gcode", len(PRINT), 1.7e9, "0" * 64, 1.7e9)
    facts = klippy.facts(record.extruder)
    made = plan.make(record, job, samples.head(PRINT, at), PLACE, facts)
    seen, before = [], klippy.carriages()
    for step, line in lines(made):
        if step is not None and step.name == until:
            break
        after = klippy.carriages(line)
        if EXTRUDES.match(line):
            # klippy takes a quarter of a second to say it.
            tool = klippy.api.objects("toolhead")["toolhead"]["extruder"]
            assert tool == "extruder1", line
        seen.append(Seen(step, line, before, after))
        before = after
    assert_freed_first(seen)
    assert_the_second_alone(seen, made)
    assert_never_too_low(seen, record)
    assert_never_too_near(seen)


def index(seen: list[Seen], start: str) -> int:
    return next(i for i, one in enumerate(seen) if one.line.startswith(start))


def moves(one: Seen, what: str) -> bool:
    return abs(one.after[what] - one.before[what]) > 0.02


def assert_freed_first(seen: list[Seen]) -> None:
    """Its own nozzle is soft, and only Z has moved, and up, before all is homed."""
    home = index(seen, "G28 X Y")
    soften = index(seen, "SET_HEATER_TEMPERATURE HEATER=extruder1")
    up = [one for one in seen[:home] if moves(one, "z")]
    assert soften < seen.index(up[-1])
    # The first is klippy being told where Z is.
    assert up[-1].after["z"] > up[-1].before["z"] + 5
    for one in seen[:home]:
        assert not any(moves(one, what) for what in ("first", "second", "y"))
    # Kalico backs off the endstop in the end.
    assert 245 <= seen[home].after["first"] <= 250.02
    assert -0.02 <= seen[home].after["second"] <= 5.02


def assert_the_second_alone(seen: list[Seen], made: plan.Plan) -> None:
    """From its activation on.  The first one goes to its endstop before that, and in
    the end to where it stood."""
    chosen = index(seen, "SET_DUAL_CARRIAGE CARRIAGE=1")
    assert seen[chosen].step is not None and seen[chosen].step.name == "travel"
    # Where it purges the first one had stood in the way when the power failed.
    assert made.strip.on_bed and made.strip.x > 110 - APART
    away = [i + 1 for i, one in enumerate(seen)
            if one.line == "SET_DUAL_CARRIAGE CARRIAGE=0"]  # fmt: skip
    for i in away:
        assert 245 <= seen[i].after["first"] <= 250.02
        assert not moves(seen[i], "second")
        assert seen[i + 1].line == "SET_DUAL_CARRIAGE CARRIAGE=1"
    # The owner's hook homes it, and chooses it.
    hooks = [i for i, one in enumerate(seen) if "NAME=restart_gcode" in one.line]
    back = [i for i, one in enumerate(seen)
            if one.line.startswith("RESTORE_DUAL_CARRIAGE_STATE")]  # fmt: skip
    for i in range(chosen, len(seen)):
        if i not in away + hooks + back:
            assert not moves(seen[i], "first"), seen[i]
    travelled = [one.step.name for one in seen[chosen:] if one.step is not None
                 and moves(one, "second")]  # fmt: skip
    assert "travel" in travelled
    if seen[-1].step is None:
        assert "purge" in travelled
        assert away[0] < hooks[0] < away[1] < back[0]
        assert seen[back[0]].after["first"] == pytest.approx(110, abs=0.02)


def assert_never_too_low(seen: list[Seen], record: Record) -> None:
    for one in seen[index(seen, "G28 X Y") :]:
        if one.step is not None and one.step.lowest_z is not None:
            assert one.after["z"] >= one.step.lowest_z - 0.02, one
        sideways = any(moves(one, what) for what in ("first", "second", "y"))
        if sideways and (one.step is None or one.step.name != "purge"):
            assert one.after["z"] >= record.motor_position(2) + plan.CLEARANCE, one


def assert_never_too_near(seen: list[Seen]) -> None:
    for one in seen[index(seen, "G28 X Y") :]:
        assert one.after["first"] - one.after["second"] >= APART - 0.02, one
        for what, (low, high) in LIMITS.items():
            assert low - 0.02 <= one.after[what] <= high + 0.02, one
    for one in seen:
        if one.line.startswith("RESTORE_DUAL_CARRIAGE_STATE"):
            # Up to v0.12 one is moved after the other.
            assert one.before["second"] <= one.after["first"] - APART + 0.02
