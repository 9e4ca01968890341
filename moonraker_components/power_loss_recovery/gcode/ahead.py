# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a file prints after a point."""
from __future__ import annotations

import math
from dataclasses import dataclass

from .extent import Extent


@dataclass(frozen=True)
class Reach:
    """Extents of what is printed, mm, free of G92: (x_min, y_min, x_max, y_max) and
    the highest Z.  Not finite where the file does not tell."""

    box: tuple[float, float, float, float]
    top_z: float


def rest(extent: Extent) -> Reach | None:
    """Of all that is printed from where `extent` has read to; None when nothing is.

    May be larger than what is printed, but only by places to which the head goes.
    Raises ScanError as scan() does.
    """
    extent.moves_only = True
    extent.go_on(len(extent.data))
    (x, y, _), (x_max, y_max, top_z) = extent.finish()
    if x == math.inf and top_z == -math.inf:
        return None
    return Reach((x, y, x_max, y_max), top_z)
