# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Two tools on a real klippy without a board: what a resume makes of the second.

A print is read up to a place; a klippy that was just started is then given the steps
and the first lines of the resume file. Both must be the same, heater by heater.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moonraker_components.power_loss_recovery import plan, tools
from moonraker_components.power_loss_recovery.planning.facts import Facts
from moonraker_components.power_loss_recovery.record import Job, Record
from tests.bench.batch_klippy import FLUSH, BatchKlippy
from tests.unit import samples
from tests.virtual_printer import tool_changer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

EXTRUDER = """
[extruder1]
step_pin: UZ0
dir_pin: UZ1
enable_pin: UZ2
rotation_distance: 22.6789511
microsteps: 16
nozzle_diameter: 0.4
filament_diameter: 1.75
max_extrude_only_distance: 100
max_extrude_cross_section: 5
heater_pin: AUX
sensor_type: virtual
sensor_pin: UZ3
control: watermark
min_temp: 0
max_temp: 300
pressure_advance: 0.05
"""
MACROS = """
[gcode_macro T0]
gcode:
    ACTIVATE_EXTRUDER EXTRUDER=extruder
    SET_GCODE_OFFSET X=0 Y=0

[gcode_macro T1]
gcode:
    ACTIVATE_EXTRUDER EXTRUDER=extruder1
    SET_GCODE_OFFSET X=12.5 Y=-1.5
"""
PRINT = b"""PRINT_START BED=60 EXTRUDER=215
G90
M82
G92 E0
G1 X100 Y100 Z0.2 F6000
G1 X150 Y100 E5 F1800
SET_PRESSURE_ADVANCE EXTRUDER=extruder1 ADVANCE=0.07
G1 E3.5 F2100
M104 S170 T0
M104 S225 T1
T1
G92 E0
G1 E1.5 F2100
M221 S96
G1 X150 Y150 E6 F1500
G1 X100 Y150 E11
G1 E10.2 F2100
T0
M104 S215 T0
M104 S140 T1
G92 E0
G1 E1.5 F2100
G1 X100 Y100 E7 F1800
G1 X150 Y100 E12
G1 E11 F2100
T1
M109 S225
G92 E0
G1 X100 Y100 E7 F1800
"""
PLACES = {
    "with the second extruder": b"G1 X100 Y150",
    "pulled back in the second": b"T0\nM104 S215",
    "with the first one again": b"G1 X150 Y100 E12",
    "with the second before it is hot": b"M109 S225",
}
CHANGER = ("status", "tool", "tool_number", "detected_tool")
WATCHED = ("toolhead", "gcode_move", "extruder", "extruder1", "heater_bed")
MACHINE = ("extruder", "extruder1", "heater_bed", "fan", "toolhead", "exclude_object")


TOOLS = """
[toolchanger]
memory: {memory}
[tool T0]
tool_number: 0
extruder: extruder
[tool T1]
tool_number: 1
extruder: extruder1
gcode_x_offset: 12.5
gcode_y_offset: -1.5
gcode_z_offset: -0.6
"""


class TwoExtruders(BatchKlippy):
    """With macros that change the extruder and its offset."""

    memory = Path()

    def _config(self, extra: bool) -> str:
        return super()._config(extra) + EXTRUDER + MACROS

    def changer(self) -> tools.Changer | None:
        return None


class TwoTools(TwoExtruders):
    """With a tool changer."""

    others = tool_changer.EXTRAS

    def _config(self, extra: bool) -> str:
        config = TOOLS.format(memory=self.memory)
        return BatchKlippy._config(self, extra) + EXTRUDER + config

    def changer(self) -> tools.Changer | None:
        names = self.api.request("objects/list")["objects"]
        wanted = tools.objects(names)
        assert sorted(wanted) == ["tool T0", "tool T1", "toolchanger"]
        return tools.read(self.api.objects(*wanted))


def state(klippy: BatchKlippy) -> dict[str, Any]:
    """As far as the next line depends on it."""
    told = klippy.api.objects(*WATCHED, "toolchanger")
    move = told["gcode_move"]
    found = {
        "tool": told["toolhead"]["extruder"],
        "modes": [move["absolute_coordinates"], move["absolute_extrude"]],
        "factors": [move["speed_factor"], move["extrude_factor"]],
        "offsets": pytest.approx(list(move["homing_origin"])[:3]),
        "place": pytest.approx(list(move["gcode_position"]), abs=1e-4),
    }
    if klippy.others:
        found["changer"] = {k: told["toolchanger"][k] for k in CHANGER}
    for name in ("extruder", "extruder1", "heater_bed"):
        found[name] = told[name]["target"]
    for name in ("extruder", "extruder1"):
        found[f"advance of {name}"] = told[name]["pressure_advance"]
    return found


@pytest.mark.parametrize("kind", [TwoExtruders, TwoTools])
@pytest.mark.parametrize("place", PLACES)
def test_the_print_goes_on_with_its_tool_and_all_temperatures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[TwoExtruders],
    place: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(kind, "memory", tmp_path / "mounted")
    (tmp_path / "mounted").write_text("tool T0")
    at = PRINT.index(PLACES[place])
    done = tmp_path / "done.gcode"
    done.write_bytes(PRINT[:at])
    with kind(done, True) as klippy:
        klippy.print_file()
        undisturbed = state(klippy)
        klippy.api.gcode(f"G4 P5000\n{FLUSH}")  # the motors have come to it
        mark = klippy.mark()
    assert mark["file_position"] == at
    empty = tmp_path / "empty.gcode"
    empty.write_bytes(b"G4 P1\n")
    with kind(empty, True) as klippy:
        made = resume(mark, at, klippy.changer())
        for step in made.steps:
            klippy.api.gcode(step.script)
            heated = klippy.api.objects("extruder", "extruder1")
            assert all(heated[n]["target"] > 0 for n in step.wait if n in heated)
        for line in made.prologue:
            klippy.api.gcode(line.decode())
        resumed = state(klippy)
    for key, value in undisturbed.items():
        told = getattr(resumed[key], "expected", resumed[key])
        assert told == value, key


def test_filament_that_another_extruder_has_moved_is_not_pulled_back_here(
    tmp_path: Path,
) -> None:
    # A resume has purged with the second; the file goes on and changes to the first
    file = tmp_path / "some.gcode"
    file.write_bytes(b"M83\nT0\nG1 X100 E5 F1800\nG1 E-1 F2100\n")
    with TwoExtruders(file, True) as klippy:
        klippy.api.gcode(f"{FLUSH}\nT1\nM83\nG1 X120 Y100 Z1 F6000\nG1 X150 E30 F900")
        klippy.print_file()
        klippy.api.gcode(f"G4 P5000\n{FLUSH}")
        mark = klippy.mark()
    assert mark["file_position"] == file.stat().st_size
    assert mark["retracted"] == pytest.approx(1.0)


def resume(mark: dict[str, Any], at: int, changer: tools.Changer | None) -> plan.Plan:
    job = Job("part.gcode", len(PRINT), 1.7e9, "0" * 64, 1.7e9)
    line = PRINT[at : PRINT.index(b"\n", at)]
    record = Record.from_dict({
        **mark, "line": line.decode(), "saved_at": 1.7e9, "boot_id": "boot",
        "toolhead_z": 0.2, "z_range": None, "z_phases": None,
    })  # fmt: skip
    facts = Facts(
        axis_minimum=(-5.0, -5.0, -2.0), axis_maximum=(250.0, 250.0, 232.0),
        min_extrude_temp=170.0, z_switches=False, z_calibrated=False,
        objects=frozenset(MACHINE), changer=changer, begun=True,
    )  # fmt: skip
    head = samples.head(PRINT, at)
    return plan.make(record, job, head, line, facts)
