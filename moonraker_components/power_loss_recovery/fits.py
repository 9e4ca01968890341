# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Whether what is still to be printed fits the machine."""
from __future__ import annotations

from collections.abc import Iterator, Sequence

from .gcode.ahead import Reach

MARGIN = 0.5  # mm beyond the machine's limits that are rounding


def outside(
    reach: Reach,
    offset: Sequence[float],
    minimum: Sequence[float],
    maximum: Sequence[float],
) -> Iterator[str]:
    """Reasons, for a person.  offset: SET_GCODE_OFFSET, x, y, z; limits by axis."""
    x_min, y_min, x_max, y_max = reach.box
    spans = (("X", x_min, x_max), ("Y", y_min, y_max), ("Z", None, reach.top_z))
    for i, (axis, low, high) in enumerate(spans):
        # Of what the file leaves open nobody can say that it does not fit.
        least = minimum[i] if low is None else low + offset[i]
        most = high + offset[i]
        if least < minimum[i] - MARGIN or most > maximum[i] + MARGIN:
            yield (
                f"The rest of the print goes in {axis} from {least:.2f} to {most:.2f},"
                f" this machine from {minimum[i]:.2f} to {maximum[i]:.2f}: the file is"
                " for another printer."
            )
