# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Whether what is still to be printed fits the machine."""
from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..gcode.ahead import Reach
from ..gcode.scan import Footprint

Span = tuple[float | None, float | None]

MARGIN = 0.5  # mm beyond the machine's limits that are rounding


def outside(
    reach: Reach,
    offset: Sequence[float],
    minimum: Sequence[float],
    maximum: Sequence[float],
    printed: Footprint | None = None,
) -> Iterator[str]:
    """Reasons, for a person.  offset: SET_GCODE_OFFSET, x, y, z; limits by axis.
    printed: by this very machine, so that it can go as far, whatever it says."""
    done = printed or Footprint(None, None)
    been = _spans(done.printed_box or (None,) * 4, done.top_z)
    for i, (low, high) in enumerate(_spans(reach.box, reach.top_z)):
        # Of what the file leaves open nobody can say that it does not fit.
        least = minimum[i] if low is None else low + offset[i]
        most = maximum[i] if high is None else high + offset[i]
        limits = [minimum[i], maximum[i]]
        limits += [value + offset[i] for value in been[i] if value is not None]
        if least < min(limits) - MARGIN or most > max(limits) + MARGIN:
            yield (
                f"The rest of the print goes in {'XYZ'[i]} from {least:.2f} to"
                f" {most:.2f}, this machine from {minimum[i]:.2f} to {maximum[i]:.2f}:"
                " the file is for another printer."
            )


def _spans(box: Sequence[float | None], top_z: float | None) -> list[Span]:
    """From where to where, by axis."""
    return [(box[0], box[2]), (box[1], box[3]), (None, top_z)]
