# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What is still to come after a point, without reading every move of it."""
from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.gcode.ahead import Reach, rest
from moonraker_components.power_loss_recovery.gcode.errors import ScanError
from moonraker_components.power_loss_recovery.gcode.extent import Extent
from moonraker_components.power_loss_recovery.gcode.layers import Layers
from moonraker_components.power_loss_recovery.gcode.modal import Motion
from moonraker_components.power_loss_recovery.gcode.moves import run
from moonraker_components.power_loss_recovery.gcode.scan import footprint, scan
from tests.unit.gcode.random_print import random_print
from tests.unit.gcode.test_extent import FILES
from tests.unit.gcode.test_skim import FILL, LINES, START

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


def reach(data: bytes, start: int, window: int = 1 << 18) -> Reach | None:
    extent = Extent(data, window)
    extent.read(start)
    extent.finish()
    return rest(extent)


def reach_exactly(data: bytes, start: int) -> Reach | None:
    """From every move of the file."""
    motion, layers = Motion(), Layers()
    run(data[:start], 0, motion, layers)
    motion.low, motion.high = [math.inf] * 3, [-math.inf] * 3
    if run(data[start:], start, motion, layers)[0] is None:
        return None
    (x, y, _), (x_max, y_max, top_z) = motion.low, motion.high
    gx, gy, gz = motion.frame
    return Reach((x + gx, y + gy, x_max + gx, y_max + gy), top_z + gz)


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


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_real_files_reach_as_far_as_when_every_move_is_read(path: Path) -> None:
    data = path.read_bytes()
    source = random.Random(path.name)
    for start in source.sample(starts(data), 2):
        try:
            wanted = reach_exactly(data, start)
        except ScanError:
            continue
        assert reach(data, start, source.choice([512, 4096, 65536])) == wanted


def assert_reaches(found: Reach | None, wanted: Reach | None) -> None:
    if wanted is None:
        return
    if found is None:
        assert not any(map(math.isfinite, (*wanted.box, wanted.top_z)))
        return
    for have, want in zip(found.box[:2], wanted.box[:2], strict=True):
        assert not have > want
    for have, want in zip(
        (*found.box[2:], found.top_z), (*wanted.box[2:], wanted.top_z), strict=True
    ):
        assert not have < want


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(LINES), max_size=60),
    st.lists(st.sampled_from(LINES), max_size=60),
    st.sampled_from([32, 99]),
)
def test_the_rest_of_any_mixture_is_found_no_smaller(
    before: list[str], after: list[str], window: int
) -> None:
    data = START + "".join(line + "\n" for line in before).encode()
    start = len(data)
    data += FILL[:600] + "".join(line + "\n" for line in after).encode()
    try:
        wanted = reach_exactly(data, start)
        found = reach(data, start, window)
    except ScanError:
        return
    assert_reaches(found, wanted)


@pytest.mark.parametrize("seed", range(24))
def test_the_rest_of_a_print_that_goes_astray_is_found_no_smaller(seed: int) -> None:
    source = random.Random(seed)
    data = random_print(source, source.randrange(200, 2000))
    start = source.choice(starts(data))
    window = source.choice([1024, 4096, 16384, 60000])
    assert_reaches(reach(data, start, window), reach_exactly(data, start))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_height_alone_is_that_of_the_footprint(path: Path) -> None:
    data = path.read_bytes()
    for end in random.Random(4).sample(starts(data), 3):
        try:
            wanted = footprint(data, end).top_z
        except ScanError:
            continue
        head = scan(data, end, Extent(data, 4096, flat=False))
        assert head.top_z == wanted and head.printed_box is None
