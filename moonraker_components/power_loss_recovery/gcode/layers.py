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
# How a comment line that may speak of a layer begins, after its ";"
NOTE_START = (
    rb"[ \t]*(?:LAYER|BEFORE_LAYER|CHANGE_LAYER|BEGIN_LAYER|Z(?:_HEIGHT)?:|HEIGHT:"
    rb"|layer \d|[tT]otal layer|Layer count|[\d.])"
)
_NOTE = re.compile(
    # PrusaSlicer and its kin; Bambu Studio says it the other way round.
    rb";[ \t]*(?:(?P<change>LAYER_CHANGE|CHANGE_LAYER)|(?P<before>BEFORE_LAYER_CHANGE)"
    # Cura, ideaMaker
    rb"|LAYER:[ ]*(?P<cura>-?\d{1,9})|Z(?:_HEIGHT)?:[ ]*(?P<z>" + _NUMBER + rb")"
    rb"|(?:LAYER_)?HEIGHT:[ ]*(?P<height>" + _NUMBER + rb")"
    # Simplify3D
    rb"|layer (?P<s3d>\d{1,9}), Z ?= ?(?P<s3d_z>" + _NUMBER + rb")"
    # KISSlicer
    rb"|BEGIN_LAYER_[A-Z]{1,16} z=(?P<kiss_z>" + _NUMBER + rb")"
    rb"(?: z_thickness=(?P<kiss_height>" + _NUMBER + rb"))?"
    rb"|(?:LAYER_COUNT:|Layer count:|total layer number:|total layers count =)"
    rb"[ ]*(?P<total>\d{1,9})"
    rb"|(?P<bare>" + _NUMBER + rb"))[ \t]*\r?$"
)


@dataclass
class Layers:
    """number: None before the first layer.  z: as the slicer states it, NaN
    until it does.  thickness: likewise, of the layer's first path.  printed_z: of
    the layer's newest extrusion, NaN before."""

    number: int | None = None
    z: float = math.nan
    thickness: float = math.nan
    printed_z: float = math.nan
    total: int | None = None
    _has_change_notes: bool = False
    _bare_is_z: bool = False

    def note(self, comment: bytes) -> bool:
        """Read a whole comment line; True when a layer begins there."""
        match = _NOTE.match(comment)
        if match is None:
            return False
        kind, text = match.lastgroup or "", match[match.lastindex or 0]
        bare_is_z, self._bare_is_z = self._bare_is_z, False
        if kind in ("change", "before"):
            return self._change_note(kind)
        if kind == "cura":
            self._begin(int(text) + 1)
        elif kind == "s3d_z":
            self._begin(int(match["s3d"]))
            self.z = float(text)
        elif kind.startswith("kiss"):
            z = float(match["kiss_z"])
            # KISSlicer opens a layer once for each of its kinds of path.
            if z == self.z:
                return False
            self._begin((self.number or 0) + 1)
            self.z, self.thickness = z, float(match["kiss_height"] or math.nan)
        else:
            self._state(kind, text, bare_is_z)
            return False
        return True

    def _change_note(self, kind: str) -> bool:
        if kind == "before" and self._has_change_notes:
            return False
        # PrusaSlicer writes both; the start of a layer has only "before" when
        # the owner added that to an older slicer, with the bare Z after it.
        self._has_change_notes = self._has_change_notes or kind == "change"
        self._bare_is_z = kind == "before"
        self._begin((self.number or 0) + 1)
        return True

    def _state(self, kind: str, text: bytes, bare_is_z: bool) -> None:
        if kind == "z" or (kind == "bare" and bare_is_z):
            self.z = float(text)
        elif kind == "height" and math.isnan(self.thickness):
            self.thickness = float(text)
        elif kind == "total":
            self.total = int(text)

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
        self.z = self.thickness = self.printed_z = math.nan
