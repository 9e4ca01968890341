# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""One resume: examine, plan, prepare the machine, write the file, start it."""
from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import files, plan, sequence, tools
from ..gcode.ahead import Reach
from ..gcode.scan import Head
from ..planning import cooling, reconstruct
from ..planning.facts import Facts
from ..planning.steps import Step
from ..record import Phases
from ..saving.lineage import Pending
from ..saving.tracker import InThread
from .machine_facts import Klippy, facts

NoteZ = Callable[[float, Phases], Awaitable[None]]

MOVED_SINCE = (
    "Another print has run since, so the nozzle is not at the saved height any more."
    " Let Klipper know Z first: PLR_Z_HOME MODE=RESUME, or G28 if nothing is in the"
    " way. Then resume."
)


class Interrupted(Exception):
    """Somebody else took the machine; nothing more is sent to it."""


@dataclass(frozen=True)
class Ready:
    """A resume that nothing speaks against, before its file is read."""

    pending: Pending
    path: Path
    facts: Facts
    outline: plan.Outline


@dataclass(frozen=True)
class Found:
    """What the file says: before the saved place, there, of its setup and after."""

    head: Head
    line: bytes
    setup: list[bytes]
    rest: Reach | None


@dataclass(frozen=True)
class Prepared:
    """A resume that could start now."""

    pending: Pending
    path: Path
    head: Head
    plan: plan.Plan


async def check(
    pending: Pending, root: Path, klippy: Klippy, in_thread: InThread,
    z_strategy: str | None = None, outage: cooling.Outage | None = None,
) -> Ready:  # fmt: skip
    """All checks that take no time, however long the file is.  Raises
    files.FileProblem, plan.Refusal."""
    path, machine = await asyncio.gather(
        in_thread(files.verify, root, pending.job, pending.record),
        facts(klippy, pending.record.extruder, z_strategy),
    )
    record = pending.record
    lines = await in_thread(files.lines_to_come, path, record)
    changer = tools.expecting(machine.changer, record.state, lines)
    begun = machine.cold(record) and await in_thread(
        files.has_begun, path, record.file_position)
    machine = replace(machine, outage=outage, changer=changer, begun=begun)
    if pending.aside and machine.toolhead_z is None:
        raise plan.Refusal([MOVED_SINCE])
    outline = plan.outline(pending.record, pending.job, machine)
    return Ready(pending, path, machine, outline)


async def read(ready: Ready, in_thread: InThread) -> Found:
    """The whole file, so this takes its time.  Raises files.FileProblem."""
    position = ready.pending.record.file_position
    head, line, rest = await in_thread(files.examine, ready.path, position)
    return Found(head, line, await in_thread(files.setup, ready.path, head), rest)


def planned(ready: Ready, found: Found) -> Prepared:
    """The rest of the checks.  Raises plan.Refusal."""
    pending, record, head = ready.pending, ready.pending.record, found.head
    made = plan.make(
        record, pending.job, head, found.line, ready.facts, found.setup, found.rest
    )
    return Prepared(pending, ready.path, head, made)


async def prepare(
    pending: Pending, root: Path, klippy: Klippy, in_thread: InThread
) -> Prepared:
    """Check everything; nothing moves.  Raises as check()."""
    ready = await check(pending, root, klippy, in_thread)
    return planned(ready, await read(ready, in_thread))


async def prepare_place(
    name: str, place: files.Place, root: Path, klippy: Klippy, in_thread: InThread,
    temperatures: Mapping[str, float] | None = None, excluded: tuple[str, ...] = (),
) -> Prepared:  # fmt: skip
    """As prepare(), for a print of which nothing was saved.  Raises GcodeError too.

    name: below the gcodes root.  temperatures: for "extruder" and "heater_bed", what
    the owner says of heaters that a macro sets.  excluded: names of objects.
    """
    path = files.inside(root, name)
    source = await in_thread(files.identify, root, str(path), time.time())
    place = files.in_original(source, place)
    found = await in_thread(files.examine_place, source.path, place)
    setup = await in_thread(files.setup, source.path, found.head)
    objects = frozenset(await klippy.list_objects())
    record = reconstruct.record(
        found.head, found.line, objects, found.temperatures, temperatures, excluded
    )
    machine = await facts(klippy, record.extruder)
    made = plan.make(
        record, source.job, found.head, found.line, machine, setup, found.rest
    )
    pending = Pending(secrets.token_bytes(16), source.job, record)
    return Prepared(pending, source.path, found.head, made)


async def _ignore(z: float, phases: Phases) -> None:
    """The default for what is told about Z."""


async def carry_out(
    first: Step,
    making: asyncio.Future[Prepared],
    root: Path,
    scratch: Path,
    klippy: Klippy,
    in_thread: InThread,
    report: sequence.Report,
    note_z: NoteZ = _ignore,
) -> str:
    """Returns the name of the file that now prints.

    first: the first step of the plan; if it is the bed's, it is done while the file
    is read (`making`) and the resume file written.
    note_z is given, before and after each step that moves Z, where the motors would
    be found if the power failed, never higher than they are, and their phases.
    Raises sequence.SequenceError, OSError, and what `making` raises; the machine is
    safe then and the record as it was.
    """

    async def write() -> str:
        name: str = await in_thread(_write, await making, root, scratch)
        return name

    writing = asyncio.ensure_future(write())

    def check_files() -> None:
        if writing.done():
            writing.result()

    fresh = True

    async def run_gcode(script: str) -> None:
        nonlocal fresh
        if not fresh:
            _check_alone(await klippy.query({"print_stats": ["state"]}))
        # The facts are from a moment ago: an answer takes up to a quarter of a second.
        fresh = False
        await klippy.run_gcode(script)

    async def before(step: Step) -> None:
        check_files()
        if step.lowest_z is not None:
            await note_z(step.lowest_z, {})

    async def after(step: Step) -> None:
        if step.lowest_z is not None:
            await _note_where(klippy, note_z)

    try:
        if first.name != "bed":
            # A nozzle that is soft must not stand on the part until the file is read.
            await making
        await sequence.run(
            (first,), run_gcode, _reader(klippy, (first,), check_files), report,
            before, after,
        )  # fmt: skip
        rest = (await _or_safe(making, run_gcode)).plan.steps[1:]
        await sequence.run(
            rest, run_gcode, _reader(klippy, rest, check_files), report, before,
            after, done=1,
        )  # fmt: skip
    except BaseException:
        await _note_where(klippy, note_z)
        making.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await in_thread(files.remove_resume_files, root)
        if making.done() and not making.cancelled():
            # If the file is the reason, no step is.
            making.result()
        raise
    try:
        name = await writing
        _check_alone(await klippy.query({"print_stats": ["state"]}))
        await klippy.start_print(name)
    except BaseException:
        # Also when cancelled: the nozzle is hot.
        await sequence.make_safe(run_gcode)
        await _note_where(klippy, note_z)
        raise
    return name


def _write(prepared: Prepared, root: Path, scratch: Path) -> str:
    files.remove_resume_files(root)
    return files.write_resume_file(
        root, prepared.path, prepared.pending.job, prepared.pending.record,
        prepared.head, prepared.plan, secrets.token_hex(8), scratch,
    )  # fmt: skip


async def _or_safe(
    making: asyncio.Future[Prepared], run_gcode: sequence.RunGcode
) -> Prepared:
    try:
        return await making
    except BaseException:
        await sequence.make_safe(run_gcode)
        raise


def _check_alone(status: Mapping[str, Any]) -> None:
    if status["print_stats"]["state"] in ("printing", "paused"):
        raise Interrupted("another print was started meanwhile")


def _reader(
    klippy: Klippy, steps: Sequence[Step], check_files: Callable[[], None]
) -> sequence.ReadTemperatures:
    names = {name for step in steps for name in step.wait}

    async def temperatures() -> dict[str, float]:
        check_files()
        # A heater that somebody has turned off is left out.
        wanted: dict[str, list[str] | None] = {"print_stats": ["state"]}
        wanted |= {name: ["temperature", "target"] for name in names}
        status = await klippy.query(wanted)
        _check_alone(status)
        return {n: status[n]["temperature"] for n in names if status[n]["target"] > 0}

    return temperatures


async def _note_where(klippy: Klippy, note_z: NoteZ) -> None:
    """Best effort, as all that concerns the next power cut."""
    try:
        status = await klippy.query({
            "toolhead": ["homed_axes", "position"],
            "power_loss_recovery": ["z_motors"],
        })  # fmt: skip
        toolhead = status["toolhead"]
        motors = status["power_loss_recovery"]["z_motors"]
        phases = {name: (m["phase"], m["cycle"]) for name, m in motors.items()}
        if "z" in toolhead["homed_axes"]:
            await note_z(float(toolhead["position"][2]), phases)
    except Exception as e:
        logging.info(f"power_loss_recovery: where Z is: {e}")
