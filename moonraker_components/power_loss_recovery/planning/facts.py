# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The machine as klippy describes it, as far as a resume depends on it."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import tools
from ..record import Record
from . import carriages, cooling, purge, rotor

# Kinematics on which Z alone can be lifted before X and Y are known.
KINEMATICS = (
    "cartesian", "corexy", "corexz", "hybrid_corexy", "hybrid_corexz",
    "limited_cartesian", "limited_corexy", "limited_corexz", "generic_cartesian",
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """mm and degrees C.

    toolhead_z: of the motors now, if klippy knows it (a resume that failed half way,
    or a klippy that was not restarted).  hotend: its temperature now.  fan_power:
    max_power by fan.  purge_flow: mm of filament per mm of travel.  hooks: options of
    the owner's G-code that are set.  changer: None if the machine changes no tools.
    outage: None if there was none.  begun: whether the file has laid plastic before the
    saved place, as far as that had to be known.  carriages: None unless there are two
    on one axis, and it is known how far each goes; axis_minimum and axis_maximum are
    those of the first one, or of both.  spools: status of the filament
    sensors that watch.
    """

    axis_minimum: tuple[float, float, float]
    axis_maximum: tuple[float, float, float]
    min_extrude_temp: float
    z_switches: bool
    z_calibrated: bool
    objects: frozenset[str]
    toolhead_z: float | None = None
    hotend: float = 0.0
    mesh_profiles: frozenset[str] = frozenset()
    fan_power: Mapping[str, float] = field(default_factory=dict)
    purge_flow: float = purge.FLOW
    z_motors: Mapping[str, rotor.Motor] = field(default_factory=dict)
    z_strategy: str = "auto"
    hooks: frozenset[str] = frozenset()
    changer: tools.Changer | None = None
    outage: cooling.Outage | None = None
    begun: bool = False
    spools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    carriages: carriages.Pair | None = None

    def cold(self, record: Record) -> bool:
        """Whether klippy lets no filament be moved at what the nozzle had."""
        return record.hotend_target < max(self.min_extrude_temp, 1.0)

    @property
    def measures_z(self) -> bool:
        return self.z_calibrated and self.z_switches and self.z_strategy != "assume"
