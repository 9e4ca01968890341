# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What was printed is measured without reading most of it, and never too small."""
from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.gcode import extent as extent_module
from moonraker_components.power_loss_recovery.gcode.errors import ScanError
from moonraker_components.power_loss_recovery.gcode.extent import extent
from moonraker_components.power_loss_recovery.gcode.scan import (
    Footprint,
    _footprint,
    footprint,
    footprint_exactly,
)
from tests.unit.gcode.conftest import Count
from tests.unit.gcode.random_print import random_print
from tests.unit.gcode.test_skim import CORPUS, DATA, FILL, LINES, START

FILES = sorted([*DATA.glob("*.gcode"), *CORPUS.rglob("*.gcode")])


def quick(data: bytes, end: int, window: int) -> Footprint:
    return _footprint(*extent(data, end, window))


def assert_contains(found: Footprint, wanted: Footprint) -> None:
    if found.printed_box is None:
        return  # unknown: the purge then hangs in the air
    if wanted.printed_box is not None:
        low, high = found.printed_box[:2], found.printed_box[2:]
        assert all(a <= b for a, b in zip(low, wanted.printed_box[:2], strict=True))
        assert all(a >= b for a, b in zip(high, wanted.printed_box[2:], strict=True))
    if wanted.top_z is not None:
        assert found.top_z is not None and found.top_z >= wanted.top_z


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_real_files_measure_as_when_every_move_is_read(path: Path) -> None:
    data = path.read_bytes()
    starts = [0] + [i + 1 for i, byte in enumerate(data) if byte == 10]
    source = random.Random(path.name)
    for offset in source.sample(starts, min(6, len(starts))):
        try:
            wanted = footprint_exactly(data, offset)
        except ScanError as error:
            with pytest.raises(ScanError) as caught:
                quick(data, offset, 4096)
            assert str(caught.value) == str(error)
            continue
        assert quick(data, offset, source.choice([512, 4096, 65536])) == wanted


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(LINES), max_size=80), st.sampled_from([32, 99]))
def test_any_mixture_is_measured_no_smaller(lines: list[str], window: int) -> None:
    data = START + "".join(line + "\n" for line in lines).encode()
    try:
        wanted = footprint_exactly(data, len(data))
    except ScanError:
        return
    assert_contains(quick(data, len(data), window), wanted)


@pytest.mark.parametrize(
    "line",
    [
        "G1 X-3 Y10 E1", "G1 X20.001 Y10 E1", "G1 x5 y-.5 e1", "G1 X+9 Y99 E1",
        "G1 X10 Y10 Z7 E1", "G3 X20 Y10 I5 J-20 E2", "G1 X5 Y70\nG1 X5 Y10 E1",
        "G1 E-1\nG1 X88 Y10 E5", "G1 Y 33.3 E1", "G1 X 5Y 44E1",
    ],
)  # fmt: skip
def test_one_path_outside_is_found_wherever_it_is(line: str) -> None:
    for back in (1, 40, 80):
        lines = (START + FILL * 3).decode().split("\n")
        lines.insert(len(lines) - back, line)
        data = "\n".join(lines).encode()
        assert_contains(quick(data, len(data), 512), footprint_exactly(data, len(data)))
        wanted = footprint_exactly(START + FILL, len(START + FILL))
        assert quick(data, len(data), 512) != wanted


def test_an_end_outside_belongs_to_the_path_that_starts_there() -> None:
    data = START + FILL + b"G1 X77 Y88\n" + FILL
    for window in range(300, 340):
        assert quick(data, len(data), window) == footprint_exactly(data, len(data))


@pytest.mark.parametrize("between", [b"", b"; for long\n" * 300, b"M106 S9\n" * 999])
def test_a_path_may_begin_outside_long_after_the_head_went_there(
    between: bytes,
) -> None:
    data = START + FILL * 3 + b"G1 X77 Y88\n" + between + b"G1 X15 Y10 E1\n" + FILL * 3
    wanted = footprint_exactly(data, len(data))
    assert wanted.printed_box == (1.0, 1.0, 77.0, 88.0)
    for window in (1024, 4096, 65536):
        assert quick(data, len(data), window) == wanted


def test_a_frame_that_is_unknown_stays_so() -> None:
    data = b"M83\nG92 X0\nG1 X5 Y1 Z1 E1\n" + FILL * 5 + b"G92 X9\n" + FILL
    assert quick(data, len(data), 512).printed_box is None
    assert footprint(data, len(data)).printed_box is None
    higher = b"G1 Z7\n" + FILL + b"G1 Z5\n" + FILL
    assert quick(data + higher, len(data + higher), 512) == Footprint(None, 7.0)


def test_most_of_a_file_is_not_read(count_run: Count) -> None:
    read = count_run(extent_module)
    hops = b"".join(
        b"G1 Z%.1f\nG1 X15\nG1 Z%.1f\n" % (z / 5 + 0.4, z / 5) + FILL
        for z in range(5, 100)
    )
    data = START + FILL + hops
    assert quick(data, len(data), 4096).top_z == 19.8
    assert sum(read) < len(data) / 10


@pytest.mark.parametrize(
    "between",
    [
        b"G17\nG3 Z%.1f I3 J3 P1\nTIMELAPSE_TAKE_FRAME\nG1 Z%.1f\n",  # a hop of Orca
        b"G1 X-90 Y-90 Z%.1f F9000\nM106 S9\nG1 X15 Y10\nG1 Z%.1f\n",  # to park
        b"G1 Z%.1f\nG1 X9\nG1 Z%.1f\nG3 X15 Y10 I1 J1 E1\n",  # an arc inside
    ],
)
def test_hops_parking_and_arcs_inside_cost_little(
    between: bytes, count_run: Count
) -> None:
    read = count_run(extent_module)
    data = START + b"G1 X5 Y-20 E1\nG1 X30 Y30 E1\nG1 X1 Y1 E1\n" + FILL
    for z in range(5, 100):
        data += between % (z / 5 + 0.4, z / 5) + FILL * 3
    found = quick(data, len(data), 16384)
    assert found == Footprint((1.0, -20.0, 30.0, 30.0), 19.8)
    assert sum(read) < len(data) / 5


@pytest.mark.parametrize("seed", range(24))
def test_a_print_that_goes_astray_is_measured_no_smaller(seed: int) -> None:
    source = random.Random(seed)
    data = random_print(source, source.randrange(200, 2000))
    window = source.choice([1024, 4096, 16384, 60000])
    assert_contains(quick(data, len(data), window), footprint_exactly(data, len(data)))
