# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a file is printed of, as its slicer has written it into a comment."""
from __future__ import annotations

import re

from .text import Data

# PrusaSlicer and its kin write it last, Bambu Studio and Cura (where its start G-code
# is told to) first, after the thumbnails.
REACH = 1 << 18
# As named by PrusaSlicer, OrcaSlicer, Bambu Studio; Cura and ideaMaker; Simplify3D;
# FlashPrint and others.
_SAID = re.compile(
    rb"(?mi)^;[ \t]*(?:filament[_ ]type(?:[ \t]*#\d)?|printMaterial|material_type"
    rb"|makerBotModelMaterial|right_extruder_material)[ \t]*[=:,][ \t]*([^\r\n]{1,500})"
)
# PrusaSlicer calls PETG "PET".
_FAMILIES = (("PLA", "PLA"), ("PET", "PETG"), ("PCTG", "PETG"), ("ABS", "ABS"),
             ("ASA", "ABS"))  # fmt: skip


def family(data: Data, tool: int | None = None) -> str | None:
    """"PLA", "PETG" or "ABS" (ASA is like it), of a mixture too; None for another one,
    and if the file does not say it.  tool: where the file has several."""
    size = len(data)
    for piece in (data[max(size - REACH, 0) :], data[: min(REACH, size)]):
        said = _SAID.search(piece)
        if said is not None:
            names = [_family(name) for name in re.split(rb"[;,]", said[1])]
            if tool is not None and 0 <= tool < len(names):
                return names[tool]
            return names[0] if len(set(names)) == 1 else None
    return None


def _family(name: bytes) -> str | None:
    text = name.decode("ascii", "replace").strip(" \t\"'").upper()
    # "PETG-CF", "rPLA", "Generic ABS"
    words = re.split(r"[^A-Z0-9]+", text)
    for start, found in _FAMILIES:
        if any(word.removeprefix("R").startswith(start) for word in words):
            return found
    return None
