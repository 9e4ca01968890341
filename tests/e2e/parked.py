# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What the tests of prints that stand still have in common: batch klippy, one place."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

from moonraker_components.power_loss_recovery import plan
from moonraker_components.power_loss_recovery.record import Job, Record
from tests.bench.batch_klippy import BatchKlippy
from tests.unit import samples

# What is left of the file when it stands still, and where that is
AFTER = b"G1 X150 Y150 F6000\nG1 E5 F2100\nG1 X100 Y150 E10 F1800\n"
PLACE = [150.0, 100.0, 0.2, 4.2]
REACHED = "G4 P5000"  # the motors have come to what is queued
MACHINE = replace(
    samples.FACTS, axis_minimum=(-5.0, -5.0, -2.0), z_calibrated=False,
    objects=frozenset({"extruder", "heater_bed", "fan", "pause_resume"}),
)  # fmt: skip


class Parked(BatchKlippy):
    """MACROS: of the owner, who parks the head with them."""

    MACROS = ""

    def _config(self, extra: bool) -> str:
        return super()._config(extra) + self.MACROS

    def move(self) -> dict[str, Any]:
        return self.api.objects("gcode_move")["gcode_move"]


def planned(
    mark: dict[str, Any], gcode: bytes, objects: frozenset[str] = MACHINE.objects
) -> plan.Plan:
    at = mark["file_position"]
    line = gcode[at:].split(b"\n")[0]
    record = Record.from_dict({
        **mark, "line": line.decode(), "saved_at": 1.7e9, "boot_id": "boot",
        "z_range": None, "z_phases": None,
    })  # fmt: skip
    job = Job("part.gcode", len(gcode), 1.7e9, "0" * 64, 1.7e9)
    machine = replace(MACHINE, objects=objects)
    return plan.make(record, job, samples.head(gcode, at), line, machine)
