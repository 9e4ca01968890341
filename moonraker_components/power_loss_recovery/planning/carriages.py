# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Machines with two carriages on one axis: what a resume cannot do on them.

It frees, homes, heats and purges with the first carriage, which is the one that moves
after G28.  A second nozzle that stands on its part would tear it off, or come cold.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..record import Record

BY_HAND = (
    "scripts/plr resume-file makes the rest of the file, for a machine that you prepare"
    ' by hand; see "Tools" in the README.'
)


def refusals(record: Record, objects: frozenset[str]) -> Iterator[str]:
    """For a person."""
    if "dual_carriage" not in objects:
        return
    used = _modes(record)
    both = next((mode for mode in used if mode in ("COPY", "MIRROR")), None)
    if both is not None:
        yield (
            f"The print was using both carriages ({both.lower()} mode): a resume frees"
            f" and purges one nozzle only. {BY_HAND}"
        )
    elif record.extruder != "extruder" or "PRIMARY" in used:
        yield f"Resuming on the second carriage is not possible yet. {BY_HAND}"


def _modes(record: Record) -> list[str]:
    """Of the second carriages: klippy names them after the first ones."""
    modes = (record.rare.get("carriages") or {}).get("carriage_modes") or ()
    told = list(modes.values() if isinstance(modes, Mapping) else modes)
    return [str(mode) for mode in told[len(told) // 2 :]]
