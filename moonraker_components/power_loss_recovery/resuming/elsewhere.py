# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A resume of the interrupted print at another place than the saved one.

The place is the file's; what people had set, and where the nozzle stands, is saved.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import files, plan
from ..files import Place
from ..gcode.scan import Footprint, footprint
from ..planning import carriages, reconstruct
from ..record import Record
from ..saving.keeper import InThread
from .recovery import Prepared, Ready

DEGREES = 0.5


async def prepare(ready: Ready, place: Place, in_thread: InThread) -> Prepared:
    """Reads the file; nothing moves.  Raises files.FileProblem, plan.Refusal,
    GcodeError."""
    saved, job = ready.pending.record, ready.pending.job
    found = await in_thread(files.examine_place, ready.path, place)
    setup = await in_thread(files.setup, ready.path, found.head)
    temperatures = {"heater_bed": saved.bed_target}
    if not ready.facts.cold(saved):
        temperatures["extruder"] = saved.hotend_target
    record = with_saved(
        reconstruct.record(
            found.head, found.line, ready.facts.objects,
            {**found.temperatures, **temperatures},
        ),
        saved,
    )  # fmt: skip
    reasons = list(carriages.other_place(record, saved, ready.facts.objects))
    if reasons:
        raise plan.Refusal(reasons)
    head, at = found.head, record.file_position
    if at < saved.file_position:
        # What stands on the bed is more than what comes before the place.
        printed = await in_thread(_printed, ready.path, saved.file_position)
        head = replace(head, footprint=printed)
    made = plan.make(record, job, head, found.line, ready.facts, setup, found.rest)
    warnings = (*made.warnings, *_warnings(record, saved))
    return Prepared(
        replace(ready.pending, record=record), ready.path, head,
        replace(made, warnings=warnings),
    )  # fmt: skip


def _printed(path: Path, file_position: int) -> Footprint:
    with files.mapped(path) as (_, data):
        return footprint(data, file_position)


def _warnings(place: Record, saved: Record) -> list[str]:
    at, warnings = place.file_position, []
    if at < saved.file_position:
        warnings.append(
            "The print had come further than this place: what follows is laid twice,"
            f" and the nozzle goes into plastic up to Z {saved.position[2]:.2f} mm."
        )
    if at > saved.file_position:
        warnings.append(
            "The print had not come to this place: what is between byte"
            f" {saved.file_position} and byte {at} stays unprinted."
        )
    for name, target in place.heaters.items():
        before = saved.heaters.get(name, target)
        if abs(target - before) > DEGREES:
            warnings.append(
                f"[{name}]: {target:.0f} °C at this place in the file, which is used;"
                f" it had {before:.0f} °C."
            )
    return warnings


def with_saved(place: Record, saved: Record) -> Record:
    """`place`, made from the file, with what only `saved` knows."""
    kept: dict[str, Mapping[str, Any]] = {
        part: saved.state[part]
        for part in ("limits", "mesh", "rare") if part in saved.state
    }  # fmt: skip
    kept["coordinates"] = {
        **place.state["coordinates"],
        **{key: saved.state["coordinates"][key]
           for key in ("speed_factor", "extrude_factor", "homing_origin")},
    }  # fmt: skip
    # Its tool is the place's.
    kept["tool"] = {**saved.state["tool"], **place.state["tool"]}
    excluded = saved.state["objects"].get("excluded") or ()
    kept["objects"] = {**place.state["objects"], "excluded": list(excluded)}
    return replace(
        place,
        state={**place.state, **kept},
        toolhead_z=saved.toolhead_z,
        z_range=saved.z_range,
        z_phases=saved.z_phases,
        saved_at=saved.saved_at,
        boot_id=saved.boot_id,
        from_file=False,
        purged=saved.purged,
    )
