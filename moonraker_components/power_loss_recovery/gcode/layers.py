# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Layer numbers and heights, from the comments and commands of a slicer.

Layers are counted from 1 whatever the slicer counts from; a raft below Cura's
layer 0 has numbers of 0 and less.
"""
from __future__ import annotations

import math
import re
from dataclasses import dataclass

from .lexer import Command

_NUMBER = rb"(?:\d{1,6}(?:\.\d{0,9})?|\.\d{1,9})"
_NOTE = re.compile(
    rb";[ \t]*(?:(?P<change>LAYER_CHANGE)|(?P<before>BEFORE_LAYER_CHANGE)"
    rb"|LAYER:[ ]*(?P<cura>-?\d{1,9})|Z:[ ]*(?P<z>" + _NUMBER + rb")"
    rb"|layer (?P<s3d>\d{1,9}), Z ?= ?(?P<s3d_z>" + _NUMBER + rb")"
    rb"|(?:LAYER_COUNT|total layer number):[ ]*(?P<total>\d{1,9}))[ \t]*\r?$"
)


@dataclass
class Layers:
    """number: None before the first layer.  z: as the slicer states it, NaN
    until it does.  printed_z: of the layer's newest extrusion, NaN before."""

    number: int | None = None
    z: float = math.nan
    printed_z: float = math.nan
    total: int | None = None
    _has_change_notes: bool = False

    def note(self, comment: bytes) -> None:
        """Read a whole comment line; one that marks no layer does nothing."""
        match = _NOTE.match(comment)
        if match is None:
            return
        found = match.groupdict()
        if found["change"]:
            self._has_change_notes = True
            self._begin((self.number or 0) + 1)
        elif found["before"]:
            # PrusaSlicer writes both; its start has only this one, when the
            # owner added it to an older slicer.
            if not self._has_change_notes:
                self._begin((self.number or 0) + 1)
        elif found["cura"]:
            self._begin(int(found["cura"]) + 1)
        elif found["s3d"]:
            self._begin(int(found["s3d"]))
            self.z = float(found["s3d_z"])
        elif found["z"]:
            self.z = float(found["z"])
        else:
            self.total = int(found["total"])

    def print_stats(self, command: Command) -> None:
        """SET_PRINT_STATS_INFO: its number wins over our count."""
        total = command.number("TOTAL_LAYER")
        if total is not None:
            self.total = int(total) or None
        current = command.number("CURRENT_LAYER")
        if current is not None:
            self.number = int(current)

    def height(self) -> float:
        """Z of the layer in progress, NaN when nothing tells it."""
        return self.z if math.isfinite(self.z) else self.printed_z

    def _begin(self, number: int) -> None:
        self.number = number
        self.z = self.printed_z = math.nan
