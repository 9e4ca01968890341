# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""One resume: examine, plan, prepare the machine, write the file, start it."""
from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import files, plan, sequence
from .gcode.scan import Head
from .tracker import InThread, Pending

Query = Callable[[Mapping[str, list[str] | None]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Klippy:
    """What a resume needs of klippy, all of it awaitable and injected."""

    run_gcode: sequence.RunGcode
    query: Query
    list_objects: Callable[[], Awaitable[list[str]]]
    start_print: Callable[[str], Awaitable[object]]


@dataclass(frozen=True)
class Prepared:
    """A resume that could start now."""

    pending: Pending
    path: Path
    head: Head
    plan: plan.Plan


async def facts(klippy: Klippy, extruder: str) -> plan.Facts:
    """The machine, from klippy.  Raises plan.Refusal if it is not as needed."""
    names = await klippy.list_objects()
    status = await klippy.query({
        "toolhead": ["axis_minimum", "axis_maximum"],
        "power_loss_recovery": ["z_homing"],
        "configfile": ["settings"],
    })  # fmt: skip
    settings = status["configfile"]["settings"]
    if extruder not in settings:
        raise plan.Refusal([f"This printer has no [{extruder}] any more."])
    z_homing = status["power_loss_recovery"]["z_homing"]
    low, high = (status["toolhead"][k] for k in ("axis_minimum", "axis_maximum"))
    return plan.Facts(
        axis_minimum=(low[0], low[1], low[2]),
        axis_maximum=(high[0], high[1], high[2]),
        min_extrude_temp=float(settings[extruder].get("min_extrude_temp", 170.0)),
        z_switches=bool(z_homing["available"]),
        z_calibrated=bool(z_homing["calibrated"]),
        objects=frozenset(names),
    )


async def prepare(
    pending: Pending, root: Path, klippy: Klippy, in_thread: InThread
) -> Prepared:
    """Check everything; nothing moves.  Raises files.FileProblem, plan.Refusal."""
    record = pending.record
    path = await in_thread(files.verify, root, pending.job, record)
    head, line = await in_thread(files.examine, path, record.file_position)
    machine = await facts(klippy, record.extruder)
    made = plan.make(record, pending.job, head, line, machine)
    return Prepared(pending, path, head, made)


async def carry_out(
    prepared: Prepared,
    root: Path,
    scratch: Path,
    klippy: Klippy,
    in_thread: InThread,
    report: sequence.Report,
) -> str:
    """Returns the name of the file that now prints.

    Raises sequence.SequenceError, files.FileProblem, OSError; the machine is safe
    then and the record as it was.
    """
    pending, made = prepared.pending, prepared.plan

    def write() -> str:
        files.remove_resume_files(root)
        return files.write_resume_file(
            root, prepared.path, pending.job, pending.record, prepared.head, made,
            secrets.token_hex(8), scratch,
        )  # fmt: skip

    # The file is made while the machine heats.
    writing = asyncio.ensure_future(in_thread(write))

    async def temperatures() -> dict[str, float]:
        names = {name for step in made.steps for name in step.wait}
        status = await klippy.query({name: ["temperature"] for name in names})
        return {name: values["temperature"] for name, values in status.items()}

    try:
        await sequence.run(made.steps, klippy.run_gcode, temperatures, report)
    except BaseException:
        await asyncio.gather(writing, return_exceptions=True)
        raise
    try:
        name: str = await writing
        await klippy.start_print(name)
    except Exception:
        await sequence.make_safe(klippy.run_gcode)
        raise
    return name
