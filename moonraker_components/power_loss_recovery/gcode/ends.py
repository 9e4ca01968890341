# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Whether there is anything to resume at a place: plastic before it, and after."""
from __future__ import annotations

import math

from .backward import STEP
from .errors import ScanError
from .layers import Layers
from .modal import Motion
from .moves import run
from .scan import Head
from .text import Data, windows


def check_point(data: Data, head: Head) -> None:
    """Raises ScanError for a place before the first plastic or after the last."""
    if head.first_extrusion is None:
        raise ScanError(
            f"nothing is printed before byte {head.end}: start the print from the"
            " beginning"
        )
    if next_extrusion(data, head) is None:
        raise ScanError(
            f"nothing is printed after byte {head.end}: the print is complete there"
        )


def next_extrusion(data: Data, head: Head) -> int | None:
    """Offset of the first line at or after `head.end` that lays plastic."""
    motion = Motion(
        absolute_coordinates=head.absolute_coordinates,
        absolute_extrude=head.absolute_extrude,
        position=[math.nan if v is None else v for v in head.position],
        retracted=head.retracted,
        printing=True,
        saved=dict(head.saved),
    )
    return first_plastic(data, head.end, motion)


def first_plastic(data: Data, begin: int, motion: Motion) -> int | None:
    """The same from `begin` on, where things stand as `motion` says; or of a piece of
    the file in which nobody can tell."""
    layers = Layers()
    for start, piece in windows(data, begin, len(data), STEP):
        first, _ = run(piece, start, motion, layers)
        if first is not None or motion.lost:
            return start if first is None else first
    return None
