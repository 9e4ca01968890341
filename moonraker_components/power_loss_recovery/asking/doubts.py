# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a person should know before they say yes, from what is known at once."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import tools
from ..planning import cooling, spools
from ..planning.restore import has_mesh
from ..record import Record
from ..saving.interruption import Interruption


@dataclass(frozen=True)
class Scene:
    """The machine as it is found.  off, bed, seen, material: as in cooling.Outage.
    attempts: as the record's, before this boot.  mesh_profiles: those that klippy has.
    complete: all plastic of the file is laid.  mmus: names of those that are there.
    spools: as in facts.Facts.
    """

    interruption: Interruption
    off: float | None
    bed: float | None
    measures_z: bool
    mesh_profiles: frozenset[str]
    aside: bool
    attempts: int
    complete: bool = False
    seen: cooling.Seen | None = None
    material: str | None = None
    mmus: tuple[str, ...] = ()
    spools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def outage(self) -> cooling.Outage:
        return cooling.Outage(self.off, self.bed, self.seen, self.material)


def warnings(record: Record, scene: Scene) -> list[str]:
    """Short sentences, the gravest first."""
    found = []
    if scene.complete:
        found.append(
            "Nothing of the part is missing: only the last commands of the file were"
            " not run. Finish forgets the print; nothing heats or moves then."
        )
    if scene.interruption.thermal:
        found.append(
            "A heater or its sensor has failed: find out why before you heat it again."
        )
    if scene.aside:
        found.append(
            "Another print has run since: this part must still be where it was, and"
            " nothing else on the bed."
        )
    if record.cancelling:
        found.append(
            "Somebody had cancelled it, and that was not done yet: Discard, unless you"
            " want it to go on after all."
        )
    if record.paused:
        found.append("It was paused, and will be paused again: then press Resume.")
    empty = spools.empty(record, scene.spools)
    if empty:
        found.append(spools.warning(empty))
    found += cooling.warnings(record, scene.outage)
    if not scene.measures_z:
        found.append("Z is taken from the record, not measured.")
    found += tools.mmu_warnings(scene.mmus)
    profile = record.state["mesh"].get("profile")
    if profile and profile not in scene.mesh_profiles and not has_mesh(record):
        found.append(f"The bed mesh {profile!r} was never stored and is lost.")
    return found
