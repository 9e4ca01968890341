# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What is still to come after a point, and how high the print before it stands."""
from __future__ import annotations

import random
from pathlib import Path

import pytest

from moonraker_components.power_loss_recovery.gcode.ahead import (
    Reach,
    highest_z,
    reach,
)
from moonraker_components.power_loss_recovery.gcode.scan import footprint

FILES = sorted((Path(__file__).resolve().parents[2] / "data").glob("ps250_*.gcode"))
GCODE = b"""M83
G1 X10 Y10 Z.2 F600
G1 X20 E1
G1 Z.4
G1 Y30 E1
G1 E-1
G1 Z40 ; Z99
; G1 Z77
M84
"""


def starts(data: bytes) -> list[int]:
    return [0] + [i + 1 for i, byte in enumerate(data[:-1]) if byte == 10]


def test_after_the_last_extrusion_there_is_no_reach() -> None:
    last = GCODE.index(b"G1 Y30")
    for start in starts(GCODE):
        assert (reach(GCODE, start) is not None) is (start <= last)


def test_the_reach_is_that_of_the_rest_only() -> None:
    data = b"M83\nG1 X-50 Y-50 Z9\nG1 X-40 E1\nG1 X1 Y2 Z.4\n"
    rest = b"G92 X0 Z0\nG1 X100 Y30 E5\nG1 X300 Y300 Z300\n"
    assert reach(data + rest, len(data)) == Reach((1.0, 2.0, 101.0, 30.0), 0.4)


def test_the_highest_z_is_of_commands_only() -> None:
    assert highest_z(GCODE, len(GCODE)) == 40.0
    assert highest_z(GCODE, GCODE.index(b"G1 Z40")) == 0.4
    assert highest_z(b"M84\n", 4) is None
    odd = b"g1 x1 z 7.5\n; thumbnail\n; aZ9\n"
    assert highest_z(odd, len(odd)) == 7.5


@pytest.mark.parametrize(
    "line", [b"G91\n", b"g91\n", b"G92 X1 Z0\n", b"SET_GCODE_OFFSET Z=1\n"]
)
def test_after_a_shift_the_words_do_not_tell(line: bytes) -> None:
    data = GCODE + line + b"G1 Z1\n"
    assert highest_z(data, len(data)) is None
    unharmed = GCODE + b"; " + line + b"G92 E0\nG90\n"
    assert highest_z(unharmed, len(unharmed)) == 40.0


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_it_is_never_below_what_is_printed(path: Path) -> None:
    data = path.read_bytes()
    for end in random.Random(4).sample(starts(data), 5):
        top, bound = footprint(data, end).top_z, highest_z(data, end)
        assert top is None or (bound is not None and bound >= top)
