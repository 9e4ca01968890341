# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""One print that sets everything, a power cut, a resume: what is as it was.

The machine has one of each thing (config/everything.cfg), a bed mesh that was probed
and never stored, and a hook of the owner's that sets much of it otherwise.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from moonraker_components.power_loss_recovery.gcode.rewriter import read_stamp

from . import outage, screw_trial, state_rows, variants
from .klippy_tree import KlippyTree
from .printer import VirtualPrinter
from .state_rows import Row

MACHINE = variants.Variant(
    "one of everything", 1, lead_screws=True,
    extra=("tmc2209.cfg", "everything.cfg"),
)  # fmt: skip
# In the file and not in the macro: '#' would end the line there.
IN_FILE = "#"
# Where the compensated Z is looked at: x, y, and z below, in and above the fade
PLACES = ((40, 40), (125, 110), (205, 66))
POINTS = [(x, y, z) for z in (0.5, 3.0, 7.2, 9.0) for x, y in PLACES]
TRAVELS = 30
RETRACTED = f"{state_rows.GCODE}.retracted"
# What RESTORE_GCODE_STATE brings, after the file has set something else
STATE_AT_END = ("speed_factor", "extrude_factor", "homing_origin", "absolute_extrude",
                "absolute_coordinates")  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """fresh, before, after: what klippy tells of each row, by its name: when it had
    started, before the power cut and after the resume.  z_before, z_after:
    of the motors at POINTS, mm.  saved, restored: STATE_AT_END and E, when the state
    was saved and when it was restored."""

    fresh: dict[str, Any]
    before: dict[str, Any]
    after: dict[str, Any]
    z_before: list[float]
    z_after: list[float]
    saved: dict[str, Any]
    restored: dict[str, Any]
    resume_file: str

    def differences(self) -> dict[str, tuple[Any, Any]]:
        return {
            name: (self.before[name], self.after[name])
            for name in self.before
            if not alike(self.before[name], self.after[name])
        }

    @property
    def z_error(self) -> float:
        """mm"""
        pairs = zip(self.z_before, self.z_after, strict=True)
        return max(abs(a - b) for a, b in pairs)


def alike(one: Any, other: Any) -> bool:
    """Numbers to the millionth: G-code has no more."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(alike(a, b) for a, b in pairs)
    if isinstance(one, float) and isinstance(other, (int, float)):
        return abs(one - other) <= 2e-6 * max(1.0, abs(one))
    return bool(one == other)


def gcode(is_package: bool) -> Iterator[str]:
    yield from (
        "; sets everything, then goes to and fro",
        "PRINT_START EXTRUDER=45", "G90", "M83",
        "EXCLUDE_OBJECT_DEFINE NAME=one CENTER=125,110"
        " POLYGON=[[100,90],[150,90],[150,130],[100,130]]",
        "EXCLUDE_OBJECT_DEFINE NAME=two CENTER=50,50",
        "EXCLUDE_OBJECT_START NAME=one",
        "G1 Z0.4 F1200", "G1 X100 Y100 F9000",
        "G1 X150 Y100 E2 F3000", "G1 X150 Y120 E2",
        "SET_ROWS",
    )  # fmt: skip
    yield from (
        line for line in state_rows.all_gcode(is_package) if IN_FILE in line
    )
    yield "G10"
    for n in range(TRAVELS):
        yield f"G1 X{100 + n % 2 * 50} Y{100 + n % 3} F3000"
    yield from (
        "G11", "G1 X125 Y110 E1 F3000",
        "M220 S55", "M221 S77", "SET_GCODE_OFFSET Z=0.2", "M82",
        "RESTORE_GCODE_STATE NAME=mine", "EXCLUDE_OBJECT_END",
    )  # fmt: skip


def run(tree: KlippyTree | None = None, seed: int = 5) -> Outcome:
    """Raises PrinterError."""
    with VirtualPrinter(
        seed=seed, tree=tree, config=screw_trial.CONFIG, variant=MACHINE
    ) as printer:
        _fill_in(printer)
        printer.power_on()
        fresh = rows(printer)
        printer.gcode("G28\nG1 X125 Y125 Z5 F9000\nM400")
        probe(printer)
        for row in state_rows.here(printer.tree.is_package):
            if "mesh" in row.name or "skew" in row.name:
                printer.gcode(row.gcode)
        z_before = heights(printer)
        part = printer.root / "rows.gcode"
        part.write_text("\n".join(gcode(printer.tree.is_package)) + "\n")
        printer.print_file(part)
        printer.wait("the retraction", lambda: look(printer, RETRACTED), 120, 0.1)
        # Late ones have been set, and then it has been saved.
        time.sleep(2.0)
        before = rows(printer)
        saved = look(printer, f"{state_rows.GCODE}.states.mine")
        time.sleep(3.0)
        printer.cut_power()
        printer.power_on()
        outage.wait_offer(printer)
        outage.resume(printer)
        text = _wait_beyond_prologue(printer)
        time.sleep(1.0)
        after = rows(printer)
        outage.finish(printer)
        restored = printer.objects("gcode_move")["gcode_move"]
        printer.gcode("SET_GCODE_OFFSET X=0 Y=0 Z=0\nM220 S100\nM221 S100")
        return Outcome(
            fresh, before, after, z_before, heights(printer), _as_status(saved),
            _told(restored), text,
        )  # fmt: skip


def _fill_in(printer: VirtualPrinter) -> None:
    sensor = printer.root / "celsius"
    sensor.write_text("40000")
    path = printer.data / "config" / "printer.cfg"
    is_package = printer.tree.is_package
    lines = [line for line in state_rows.all_gcode(is_package) if IN_FILE not in line]
    body = "\n".join(f"    {line}" for line in lines)
    text = path.read_text()
    if is_package:
        text = variants.without_section(text, "input_shaper")
    path.write_text(text.replace("{SENSOR}", str(sensor)).replace("{ROWS}", body))


def probe(printer: VirtualPrinter) -> None:
    """By hand: no probe is needed, and nothing is stored."""
    printer.gcode("BED_MESH_CALIBRATE METHOD=manual PROFILE=today")
    for n in range(9):
        printer.gcode(f"TESTZ Z={-1.9 + 0.031 * (n * 7 % 9):.3f}\nACCEPT")
    name = printer.objects("bed_mesh")["bed_mesh"]["profile_name"]
    assert name == "today", name


def heights(printer: VirtualPrinter) -> list[float]:
    found = []
    printer.gcode("G90\nG1 Z9 F2400")
    for x, y, z in POINTS:
        printer.gcode(f"G1 X{x} Y{y} F15000\nG1 Z{z} F2400\nM400")
        found.append(printer.objects("toolhead")["toolhead"]["position"][2])
    printer.gcode("G1 Z9 F2400\nM400")
    return found


def rows(printer: VirtualPrinter) -> dict[str, Any]:
    return {
        row.name: _told_of(printer, row)
        for row in state_rows.here(printer.tree.is_package)
    }


def _told_of(printer: VirtualPrinter, row: Row) -> dict[str, Any]:
    told = {path: look(printer, path) for path in row.status}
    told |= {command: said(printer, command) for command in row.console}
    return told


def look(printer: VirtualPrinter, path: str) -> Any:
    """A value of the status by its path."""
    name, *keys = path.split(".")
    value: Any = printer.objects(name).get(name, {})
    for key in keys:
        value = None if value is None else value.get(key)
    return value


def said(printer: VirtualPrinter, command: str) -> list[str]:
    """klippy's answer on the console, without what we say."""
    store = printer.get("/server/gcode_store", count=1000)["gcode_store"]
    last = store[-1]["time"] if store else 0.0
    printer.gcode(command)
    time.sleep(0.3)
    store = printer.get("/server/gcode_store", count=1000)["gcode_store"]
    return [
        entry["message"] for entry in store
        if entry["type"] == "response" and entry["time"] > last
        and "ower loss recovery" not in entry["message"]
    ]  # fmt: skip


def _as_status(saved: dict[str, Any]) -> dict[str, Any]:
    """A saved G-code state in the words of gcode_move's status."""
    e = saved["last_position"][3] - saved["base_position"][3]
    return {
        "speed_factor": saved["speed_factor"] * 60.0,
        "extrude_factor": saved["extrude_factor"],
        "homing_origin": saved["homing_position"][:3],
        "absolute_extrude": saved["absolute_extrude"],
        "absolute_coordinates": saved["absolute_coord"],
        "e": e / saved["extrude_factor"],
    }


def _told(status: dict[str, Any]) -> dict[str, Any]:
    told = {key: status[key] for key in STATE_AT_END}
    told["homing_origin"] = told["homing_origin"][:3]
    return {**told, "e": status["gcode_position"][3]}


def _wait_beyond_prologue(printer: VirtualPrinter) -> str:
    """Returns the lines that the resume has put before the print's own."""
    (path,) = (printer.gcodes / ".plr").glob("*.gcode")
    with open(path, "rb") as f:
        stamp = read_stamp(f)
    assert stamp is not None
    begin = stamp.first_line_offset
    printer.wait(
        "the print's own lines",
        lambda: look(printer, "virtual_sdcard.file_position") > begin, 120, 0.1,
    )  # fmt: skip
    return path.read_bytes()[:begin].decode()
