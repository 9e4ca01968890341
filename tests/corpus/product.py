# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What the product makes of a cut: the way there, the prologue, the first line.

The one place where the comparison touches the code under test.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from moonraker_components.power_loss_recovery import files, plan
from moonraker_components.power_loss_recovery.gcode.ends import check_point
from moonraker_components.power_loss_recovery.gcode.rewriter import read_stamp
from moonraker_components.power_loss_recovery.gcode.scan import (
    Footprint,
    Head,
    footprint,
    scan,
)
from moonraker_components.power_loss_recovery.gcode.temperatures import of_start_macro
from moonraker_components.power_loss_recovery.offline import offline
from moonraker_components.power_loss_recovery.planning import reconstruct
from moonraker_components.power_loss_recovery.record import Job, Record

from .klipper_model import Klipper
from .klipper_settings import PREHEATED

COLD_BED = 0.0

# Machines that hold any file of the corpus, with all that a file can name.
OBJECTS = frozenset(
    "toolhead gcode_move extruder heater_bed fan exclude_object bed_mesh"
    " firmware_retraction gcode_arcs print_stats display_status".split()
) | {"fan_generic nevermore", "heater_generic chamber"}
FACTS = plan.Facts(
    axis_minimum=(-500.0, -500.0, -50.0), axis_maximum=(1000.0, 1000.0, 1000.0),
    min_extrude_temp=0.0, z_switches=True, z_calibrated=True, objects=OBJECTS,
    toolhead_z=180.0,
)  # fmt: skip


@dataclass(frozen=True)
class Resume:
    """steps: scripts that prepare the machine.  tail: byte of the original from
    which on its bytes follow as they are."""

    steps: tuple[str, ...]
    prologue: tuple[bytes, ...]
    first_line: bytes | None
    fraction: float
    tail: int

    def prepare(self, machine: Klipper) -> None:
        """What the sequence does before the resume file is started."""
        for script in self.steps:
            machine.lines(line.encode() for line in script.split("\n"))

    def restore(self, machine: Klipper) -> None:
        """What the resume file does before it comes to bytes of the original."""
        machine.lines(self.prologue)


def published(machine: Klipper, offset: int, fraction: float) -> dict[str, Any]:
    """The mark that our klippy extra would publish with Klipper in this state.

    From snapshot.py and marks.py, by Klipper's own names.
    """
    state = machine.state()
    heaters = {"heater_bed": 0.0, "extruder": 0.0, **_full_names(machine.heaters)}
    return {
        "file_position": offset,
        "fraction": fraction,
        "position": [*state["gcode_position"], state["e"]],
        "toolhead_z": machine.head[2],
        "speed": machine.speed,
        "retracted": max(machine.behind(), 0.0),
        "state": {
            "coordinates": {
                "absolute_coordinates": machine.absolute,
                "absolute_extrude": machine.absolute_e,
                "speed_factor": machine.speed_factor,
                "extrude_factor": machine.extrude_factor,
                "homing_origin": machine.homing[:3],
                "homed_axes": "xyz",
                "g92": [machine.base[i] - machine.homing[i] for i in range(3)],
            },
            "heaters": heaters,
            "fans": {"fan": 0.0, **_full_names(machine.fans)},
            "limits": dict(machine.limits),
            "tool": {
                "active": machine.extruder,
                "pressure_advance": {k: list(v) for k, v in machine.advance.items()},
            },
            "mesh": {"profile": None},
            "objects": {
                "current": machine.object,
                "excluded": sorted(machine.excluded),
            },
            "progress": {
                "layer": machine.info.get("CURRENT_LAYER"),
                "layers": machine.info.get("TOTAL_LAYER"),
            },
            "gcode": {"states": {
                name: _saved_state(*saved) for name, saved in machine.saved.items()
            }},
            "rare": {"retraction": {
                key.lower(): value for key, value in machine.retraction.items()
            }},
        },
    }


def _saved_state(
    absolute: bool, absolute_e: bool, base: list[float], last: list[float],
    homing: list[float], speed: float, speed_factor: float, extrude_factor: float,
) -> dict[str, Any]:  # fmt: skip
    return {
        "absolute_coord": absolute, "absolute_extrude": absolute_e,
        "base_position": base, "last_position": last, "homing_position": homing,
        "speed": speed * speed_factor / 60.0, "speed_factor": speed_factor / 60.0,
        "extrude_factor": extrude_factor,
    }  # fmt: skip


def _full_names(values: Mapping[str, float]) -> dict[str, float]:
    """By the names of klippy's objects: "heater_generic chamber"."""
    full = {name.split()[-1]: name for name in OBJECTS}
    return {full.get(name, name): value for name, value in values.items()}


@lru_cache(maxsize=1)
def _footprint(data: bytes) -> Footprint:
    """Of the whole file, for all its cuts: it only makes the way there higher."""
    # klippy does not run a last line that does not end.
    return footprint(data, data.rfind(b"\n") + 1)


def line_at(data: bytes, offset: int) -> bytes:
    end = data.find(b"\n", offset)
    return data[offset : len(data) if end < 0 else end].removesuffix(b"\r")


def objects(tools: int) -> frozenset[str]:
    return OBJECTS | {f"extruder{i}" for i in range(1, tools)}


def from_record(data: bytes, mark: Mapping[str, Any], tools: int = 1) -> Resume:
    """As the component resumes.  mark: what klippy published last, see published()."""
    offset = mark["file_position"]
    line = line_at(data, offset)
    saved = {"line": line.decode("utf-8", "replace")[:120], "boot_id": "boot"}
    record = Record.from_dict({**mark, **saved, "saved_at": 1.7e9})
    head = replace(scan(data, offset), footprint=_footprint(data))
    return _resume(data, record, head, line, tools)


def from_file(data: bytes, offset: int, tools: int = 1) -> Resume:
    """With no record.  Raises GcodeError, or plan.Refusal, for a place where nothing
    can be resumed."""
    head = scan(data, offset)
    check_point(data, head)
    line = line_at(data, offset)
    stated = {"extruder": PREHEATED, "heater_bed": COLD_BED, **of_start_macro(data)}
    record = reconstruct.record(head, line, objects(tools), stated)
    head = replace(head, footprint=_footprint(data))
    return _resume(data, record, head, line, tools)


def write(path: Path, offset: int, out: Path) -> int:
    """As scripts/plr writes it: where in it the original's bytes begin."""
    told = {"extruder": PREHEATED, "heater_bed": COLD_BED}
    stated = of_start_macro(path.read_bytes())
    offline.resume_file(offline.Asked(
        path, files.Place(position=offset), out, told={**told, **stated}
    ))  # fmt: skip
    with open(out, "rb") as f:
        stamp = read_stamp(f)
    assert stamp is not None and stamp.tail_position == offset
    return stamp.tail_offset


def _resume(
    data: bytes, record: Record, head: Head, line: bytes, tools: int
) -> Resume:
    job = Job("part.gcode", len(data), 1.7e9, "0" * 64, 1.7e9)
    facts = replace(FACTS, objects=objects(tools), begun=True)
    made = plan.make(record, job, head, line, facts)
    tail = record.file_position
    if made.first_line is not None:
        tail = min(tail + len(line_at(data, tail)), len(data))
        tail = data.find(b"\n", tail) + 1 or len(data)
    scripts = tuple(step.script for step in made.steps)
    return Resume(scripts, tuple(made.prologue), made.first_line, made.fraction, tail)
