# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Record, file and machine: the ordered steps of a resume, or a refusal."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import tools
from .gcode.ahead import Reach
from .gcode.scan import Head
from .planning import (
    carriages,
    hooks,
    objections,
    prologue,
    purge,
    rotor,
    spools,
    steps,
)
from .planning.begun import split
from .planning.disagree import differences
from .planning.facts import Facts
from .planning.fits import outside
from .record import Job, Record

CLEARANCE = 5.0  # of the travel above everything printed
LOW = 1.0  # mm that may not clear what stands up from the part


class Refusal(Exception):
    """Resuming is not possible; `reasons` says why, for a person."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(" ".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True)
class Plan:
    """pauses: it stands paused beside the part when it is ready.  z: "measured", and
    "estimate" and "bound" in mm: where the nozzle is believed to stand before anything
    moves, and how wrong that can be; "apart" as in rotor.Rest."""

    steps: tuple[steps.Step, ...]
    prologue: tuple[bytes, ...]
    first_line: bytes | None
    fraction: float
    warnings: tuple[str, ...]
    z: Mapping[str, Any]
    strip: purge.Strip
    pauses: bool = False


@dataclass(frozen=True)
class Outline:
    """What is known of a plan before the file is read.  first: its first step.
    strip: where it purges, None as long as that is not known."""

    first: steps.Step
    titles: tuple[str, ...]
    warnings: tuple[str, ...]
    z: Mapping[str, Any]
    strip: purge.Strip | None = None


def make(
    record: Record,
    job: Job,
    head: Head,
    line: bytes,
    facts: Facts,
    setup: Sequence[bytes] = (),
    rest: Reach | None = None,
) -> Plan:
    """Raises Refusal.  `line` is the text at record.file_position.  setup: lines of
    the file's start that are run again.  rest: where the rest is printed, if known."""
    reasons = objections.refusals(record, job, facts)
    origin = record.state["coordinates"]["homing_origin"]
    if rest is not None:
        here = None if record.from_file else head.footprint
        limits = tools.reach(
            *carriages.reach(facts.axis_minimum, facts.axis_maximum, facts.carriages),
            facts.changer,
        )
        reasons += outside(rest, origin, *limits, here)
    if reasons:
        raise Refusal(reasons)
    begun, first_line = split(record, head, line)
    if spools.empty(record, facts.spools):
        begun = replace(begun, paused=True)
    stands = _stands(record, facts)
    warnings = objections.warnings(record, facts, stands)
    warnings += tools.filament_in_file(facts.objects, head.tool)
    warnings += differences(record, head)
    top_z = head.top_z or 0.0
    safe_z, clear_z = _safe_z(record, top_z, facts), _clear_z(record, top_z)
    bed = _bed(record, facts)
    printed = head.first_extrusion is not None
    part = purge.shifted(head.printed_box, origin)
    top = top_z + origin[2]
    depth = top - purge.height(record, facts.measures_z)
    strip = purge.beside(bed, part, printed, record.purged, depth)
    if not strip.on_bed:
        warnings.append(
            "There is no free strip of bed beside the part to which the head could come"
            " down: the nozzle is purged in the air, above the height of the part. Take"
            " the filament away."
        )
    room = stands.z + steps.lift(stands, facts, safe_z) - top
    if printed and room < LOW:
        warnings.append(
            f"The part reaches to the top of the machine: X and Y are homed {room:.1f}"
            " mm above it."
        )
    todo = steps.build(begun, facts, stands, strip, safe_z, clear_z)
    lines = prologue.build(
        begun, safe_z - origin[2],
        head.object_definitions, facts.objects,
        head.firmware_retracted and "firmware_retraction" in facts.objects,
        facts.mesh_profiles, facts.fan_power, setup, head.settings, facts.cold(begun),
    )  # fmt: skip
    verify = tools.verify(record.state, facts.changer)
    if verify is not None:
        lines.append(prologue.commented(verify, "the tool stays on"))
    return Plan(
        tuple(hooks.insert(todo, job, record, head, facts)),
        tuple(lines), first_line, begun.fraction, tuple(warnings), _z(facts, stands),
        strip, begun.paused,
    )  # fmt: skip


def outline(record: Record, job: Job, facts: Facts) -> Outline:
    """Raises Refusal, for every reason that does not need the file."""
    reasons = objections.refusals(record, job, facts)
    if reasons:
        raise Refusal(reasons)
    stands = _stands(record, facts)
    strip = purge.in_the_air(_bed(record, facts))
    plain = steps.build(
        record, facts, stands, strip, _safe_z(record, 0.0, facts),
        _clear_z(record, 0.0),
    )  # fmt: skip
    todo = hooks.insert(plain, job, record, None, facts)
    return Outline(
        todo[0], tuple(step.title for step in todo),
        tuple(objections.warnings(record, facts, stands)), _z(facts, stands),
    )  # fmt: skip


def _z(facts: Facts, stands: rotor.Rest) -> dict[str, Any]:
    return {"measured": facts.measures_z, "estimate": stands.z,
            "bound": stands.bound, "apart": stands.apart}  # fmt: skip


def _stands(record: Record, facts: Facts) -> rotor.Rest:
    """Where the nozzle stands now, before anything moves."""
    if facts.toolhead_z is not None:
        return rotor.Rest(facts.toolhead_z, {}, 0.0)
    z = record.toolhead_z
    if facts.measures_z:
        # A gantry on belts sags: its rotors have turned.
        return rotor.Rest(z, {}, 0.0)
    return rotor.rest(z, record.z_range or (z, z), record.z_phases, facts.z_motors)


def _bed(record: Record, facts: Facts) -> purge.Box:
    """Where the nozzle can go: a tool has it beside where the motors are."""
    x, y = tools.offset(record.state, facts.changer)[:2]
    x_min, y_min, x_max, y_max = purge.bed(*carriages.bed(
        record, facts.axis_minimum, facts.axis_maximum, facts.carriages
    ))  # fmt: skip
    return (x_min + max(-x, 0.0), y_min + max(-y, 0.0), x_max - max(x, 0.0),
            y_max - max(y, 0.0))  # fmt: skip


def _printed_z(record: Record, top_z: float) -> float:
    """The top of everything printed, for the motors."""
    top = top_z + record.state["coordinates"]["homing_origin"][2]
    return max(top, record.motor_position(2))


def _clear_z(record: Record, top_z: float) -> float:
    """Above everything printed, wherever the motors have come to since."""
    return _printed_z(record, top_z) + CLEARANCE


def _safe_z(record: Record, top_z: float, facts: Facts) -> float:
    """Of the nozzle: above everything printed, as far as the machine goes."""
    offset = tools.offset(record.state, facts.changer)[2]
    printed = _printed_z(record, top_z)
    # A Z homing that failed has left any number.
    highest = max(printed, record.toolhead_z - offset)
    # A bed mesh wants some room at the end of travel.
    limit = facts.axis_maximum[2] - steps.TOP_MARGIN - max(offset, 0.0)
    return max(printed, min(highest + CLEARANCE, limit))
