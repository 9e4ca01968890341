# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The owner's own G-code in a resume: which of it, where, and what is known then.

Our sequence has homed, measured and heated when restart_gcode runs, at a safe height
beside the part; the way back there, the heat and the purge come again after it, so
it may leave the nozzle, the heaters and the filament as it likes. What it does to
klippy's modes and position is undone by klippy's side, which also keeps it out of
the part.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from .. import tools
from ..gcode.scan import Head
from ..record import Job, Record
from . import carriages, purge, restore
from .facts import Facts
from .meta_info import save_command
from .steps import HEAT_TIMEOUT, MOVE_TIMEOUT, Step

NAMES = ("before_resume_gcode", "after_resume_gcode", "restart_gcode")


def insert(
    plain: Sequence[Step], job: Job, record: Record, head: Head | None, facts: Facts
) -> list[Step]:
    """`plain` with what macros read and the owner's hooks in their places; the first
    step stays the first.  head: None if the file is not read yet: the names and
    titles are right then, the scripts of the hooks are not."""
    steps: list[Step] = []
    top = _top(record, head, facts)
    part = _part(record, head, facts, top)
    for step in plain:
        if step.name == "true_z":
            # Klippy's side runs the two around it.
            step = replace(step, script=f"{step.script} {part}")
        elif step.name == "travel" and not facts.measures_z:
            for name in ("before_resume_gcode", "after_resume_gcode"):
                steps += _hook(name, facts, part, top, [])
        elif step.name == "purge":
            before = list(_as_printed(record, facts))
            hook = _hook("restart_gcode", facts, part, top, before)
            steps += hook and [*hook, *_again(plain, facts)]
        steps.append(step)
    # SAVE_VARIABLE is not safe from a power cut: only where somebody reads it.
    if facts.hooks and "save_variables" in facts.objects:
        steps.insert(1, Step(
            "meta_info", "Tell the macros what was interrupted",
            save_command(job, record, facts.fan_power), MOVE_TIMEOUT,
        ))  # fmt: skip
    return steps


def _hook(
    name: str, facts: Facts, part: str, top: float, before: list[str]
) -> list[Step]:
    if name not in facts.hooks:
        return []
    script = [*before, f"_PLR_RUN_HOOK NAME={name} {part}", "M400"]
    # The owner may wait for heaters in it.
    return [Step(name, f"Run {name}", "\n".join(script), HEAT_TIMEOUT, lowest_z=top)]


def _again(steps: Sequence[Step], facts: Facts) -> list[Step]:
    """To where restart_gcode was begun, and as hot."""
    travel = next(step for step in steps if step.name == "travel")
    heating = [step for step in steps if step.name in ("bed", "bed_warm", "heat")]
    scripts = dict.fromkeys(step.script for step in heating)
    wait = {name: low for step in heating for name, low in step.wait.items()}
    return [
        replace(
            travel, name="travel_again", title="Travel beside the part again",
            script="\n".join([*_as_prepared(facts), travel.script]),
        ),
        Step("heat_again", "See that all is hot", "\n".join(scripts), HEAT_TIMEOUT,
             wait),
    ]  # fmt: skip


def _top(record: Record, head: Head | None, facts: Facts) -> float:
    """Of everything printed, as the motors count it, mm."""
    z = tools.offset(record.state, facts.changer)[2]
    offset = record.state["coordinates"]["homing_origin"][2] + z
    # The line that was cut may be the first one of its layer.
    top = head.top_z if head is not None else None
    return max(record.motor_position(2) + z, (top or 0.0) + offset)


def _part(record: Record, head: Head | None, facts: Facts, top: float) -> str:
    """What no hook may run into: its top, and its box with room for the nozzle."""
    offset = tools.offset(record.state, facts.changer)
    origin = [
        a + b for a, b in
        zip(record.state["coordinates"]["homing_origin"], offset, strict=True)
    ]  # fmt: skip
    box = None if head is None else purge.shifted(head.printed_box, origin)
    if box is None:
        low, high = carriages.reach(
            facts.axis_minimum, facts.axis_maximum, facts.carriages
        )
        box = (*low[:2], *high[:2])
    x_min, y_min, x_max, y_max = box
    room = purge.CLEARANCE
    return (
        f"PART_Z={top:.3f} PART={x_min - room:.2f},{y_min - room:.2f},"
        f"{x_max + room:.2f},{y_max + room:.2f}"
    )


def _as_printed(record: Record, facts: Facts) -> Iterator[str]:
    """So that a hook that goes to the saved position comes to the part, not into it."""
    x, y, z = record.state["coordinates"]["homing_origin"]
    yield f"SET_GCODE_OFFSET X={x:.6f} Y={y:.6f} Z={z:.6f}"
    for command, _ in restore.mesh(record, facts.objects, facts.mesh_profiles):
        yield command


def _as_prepared(facts: Facts) -> Iterator[str]:
    """What our own steps have set, and a hook may have changed."""
    if "exclude_object" in facts.objects:
        yield "EXCLUDE_OBJECT_END"
    if "bed_mesh" in facts.objects:
        yield "BED_MESH_CLEAR"
    yield from ("SET_GCODE_OFFSET X=0 Y=0 Z=0", "M220 S100", "M221 S100")
