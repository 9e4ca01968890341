# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Resume files without a printer: what scripts/plr does.  Standard library only."""
from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from .. import files, plan
from ..gcode.ahead import rest
from ..gcode.ends import check_point
from ..gcode.extent import Extent
from ..gcode.rewriter import fingerprint, line_at, read_stamp, write
from ..gcode.scan import Head, scan
from ..gcode.stamp import Stamp
from ..gcode.temperatures import of_start_macro
from ..planning import begun, prologue, reconstruct
from ..readers import beside
from ..record import Job, Record
from . import standalone
from .standalone import Bed

EDGE = 1 << 20
KEPT = (
    "SAVE_GCODE_STATE stands before this place, and Klipper alone cannot be given what"
    " it kept: if RESTORE_GCODE_STATE comes after it, the print stops there."
)
SECOND = (
    "This place is printed by [{}]. On a printer with two carriages on one axis (IDEX)"
    " do not run this file: it prepares and moves the first carriage."
)
# Where nothing says how high the machine goes: no reason to stop below it.
ANY_HEIGHT = 100_000.0


@dataclass(frozen=True)
class Asked:
    """A resume file as somebody wants it.

    out: where to write it; beside the file by default.  told: degrees C, for
    "extruder" and "heater_bed".  bed, height: of the machine, mm.  nozzle_z: where
    the nozzle stands now, mm; by default where the print is to go on.
    """

    file: Path
    place: files.Place
    out: Path | None = None
    standalone: bool = False
    told: Mapping[str, float] | None = None
    excluded: tuple[str, ...] = ()
    bed: Bed | None = None
    height: float | None = None
    nozzle_z: float | None = None


def resume_file(asked: Asked) -> tuple[Path, Record, tuple[str, ...]]:
    """Write it: where it is, where it goes on, and what is to be known.

    Raises files.FileProblem, GcodeError, plan.Refusal, RecordError, OSError.
    """
    source = original_of(asked.file)
    place = files.in_original(source, asked.place)
    with files.mapped(source.path) as (f, data), beside(f) as readers:
        # Only a purge must know where the part stands; a travel, how high.
        extent = Extent(data, flat=asked.standalone, helpers=readers)
        head = scan(data, files.locate(data, place), extent)
        check_point(data, head)
        line = line_at(f, head.end)
        start = data[: min(head.first_extrusion or 0, EDGE)]
        objects = _objects(head)
        record = reconstruct.record(
            head, line, objects, of_start_macro(start), asked.told, asked.excluded
        )
        setup = files.setup(source.path, head)
        if asked.standalone:
            made = _standalone(asked, extent, head, record, line, objects, setup)
            lines, warnings = made.prologue, made.warnings
        else:
            lines = _prologue(head, record, objects, setup)
            warnings = ()
        out = asked.out or asked.file.with_name(
            f"{asked.file.stem}-resume-{head.end}.gcode"
        )
        write(
            f, out, original=source.job.name, original_size=source.job.size,
            original_fingerprint=source.job.fingerprint, header_end=head.header_end,
            file_position=head.end, prologue=lines,
        )  # fmt: skip
    return out, record, warnings


def _objects(head: Head) -> frozenset[str]:
    """What a printer needs to have printed this: nobody can be asked."""
    found = {"extruder", "heater_bed", "fan"}
    found |= {name for name in head.heaters if name.startswith("extruder")}
    found |= {
        f"heater_generic {name}" for name in head.heaters
        if not name.startswith("extruder") and name not in ("heater_bed", "chamber")
    }  # fmt: skip
    found |= {
        f"fan_generic {name}" for name in head.fans
        if not re.fullmatch(r"fan\d*", name)
    }  # fmt: skip
    if head.object_definitions or head.current_object:
        found.add("exclude_object")
    if head.firmware_retracted:
        found.add("firmware_retraction")
    return frozenset(found)


def _prologue(
    head: Head, record: Record, objects: frozenset[str], setup: list[bytes]
) -> tuple[bytes, ...]:
    """For a machine that is hot, homed and purged, as the component prepares it."""
    safe_z = max(head.top_z or 0.0, record.motor_position(2)) + plan.CLEARANCE
    place, _ = begun.split(record, head, b"")
    return tuple(prologue.build(
        place, safe_z, head.object_definitions, objects, head.firmware_retracted,
        setup=setup, settings=head.settings,
    ))  # fmt: skip


def _standalone(
    asked: Asked, extent: Extent, head: Head, record: Record, line: bytes,
    objects: frozenset[str], setup: list[bytes],
) -> plan.Plan:  # fmt: skip
    data = extent.data
    ends = data[:EDGE] + data[-EDGE:]
    bed = asked.bed or standalone.stated_bed(ends)
    if bed is None:
        raise files.FileProblem(
            "The file does not say how large the bed is, and the nozzle must be purged"
            " beside the part: pass --bed X,Y, such as --bed 250,210."
        )
    height = asked.height or standalone.stated_height(ends) or ANY_HEIGHT
    z = record.toolhead_z if asked.nozzle_z is None else asked.nozzle_z
    facts = standalone.facts(bed, height, z, objects)
    job = Job(asked.file.name, len(data), 0.0, "", 0.0)
    plain = replace(record, state={**record.state, "gcode": {}})
    made = plan.make(
        plain, job, head, line, facts, setup, rest(extent)
    )
    lines = [*standalone.preparation(made, record, z), *made.prologue]
    warnings = made.warnings
    if record.gcode.get("states"):
        warnings += (KEPT,)
    if record.extruder != "extruder":
        warnings += (SECOND.format(record.extruder),)
    return replace(made, prologue=tuple(lines), warnings=warnings)


def original_of(path: Path) -> files.Source:
    """The file, or what it was made from if it is a resume file of ours."""
    with files.mapped(path) as (f, data):
        stamp = read_stamp(f)
        if stamp is None:
            mark = fingerprint(f, len(data))
            mtime = os.fstat(f.fileno()).st_mtime
            job = Job(path.name, len(data), mtime, mark, mtime)
            return files.Source(job, path, None)
    # In the .plr folder of the gcodes root, or beside its original
    for root in (path.resolve().parent.parent, path.resolve().parent):
        candidate = root / stamp.original
        if _is_original(candidate, stamp):
            mtime = candidate.stat().st_mtime
            job = Job(stamp.original, stamp.original_size, mtime, stamp.fingerprint,
                      mtime)  # fmt: skip
            return files.Source(job, candidate, stamp)
    raise files.FileProblem(
        f"{path.name} is a resume file of {stamp.original!r}, which is not there or was"
        f" changed: put the same file back, or name it instead, with --position"
        f" {stamp.file_position}."
    )


def _is_original(path: Path, stamp: Stamp) -> bool:
    try:
        with open(path, "rb") as f:
            size = os.fstat(f.fileno()).st_size
            return (
                size == stamp.original_size
                and fingerprint(f, size) == stamp.fingerprint
            )
    except OSError:
        return False
