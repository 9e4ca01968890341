# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What is drawn of a layer is what its lines lay, and nothing of it takes long."""
from __future__ import annotations

import math
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.gcode import drawing
from moonraker_components.power_loss_recovery.gcode.layers import Layers
from moonraker_components.power_loss_recovery.gcode.modal import Motion
from moonraker_components.power_loss_recovery.gcode.moves import run
from moonraker_components.power_loss_recovery.gcode.points import points
from tests.virtual_printer import parts

START = b"""G90
M83 ; relative
G1 X10 Y10 Z0.2 F6000
"""
SQUARE = b"""G1 X20 Y10 E1
G1 X20 Y20 E1
G1 X50 Y50 F9000
G1 E-0.8
G1 X60 Y50
G1 E0.8
G1 X70 Y50 E1 ; last
"""


def drawn(piece: bytes, before: bytes = START, **where: Any) -> drawing.Drawing:
    data = before + piece
    where = {"split": len(data), **where}
    return drawing.draw(data, len(before), len(data), **where)


def test_what_is_laid_is_drawn_and_travels_are_not() -> None:
    found = drawn(SQUARE)
    assert found.printed == [[10, 10, 20, 10, 20, 20], [60, 50, 70, 50]]
    assert found.rest == [] and found.begin == (10, 10)
    assert found.seam is None and found.whole


def test_the_line_at_which_it_stopped_is_divided() -> None:
    at = len(START) + SQUARE.index(b"G1 X20 Y20")
    found = drawn(SQUARE, split=at, fraction=0.25)
    assert found.printed == [[10, 10, 20, 10, 20, 12.5]]
    assert found.rest == [[20, 12.5, 20, 20], [60, 50, 70, 50]]
    assert found.seam == (20, 12.5) and found.begin == (10, 10)


def test_between_two_lines_nothing_is_divided() -> None:
    at = len(START) + SQUARE.index(b"G1 X20 Y20")
    found = drawn(SQUARE, split=at)
    assert found.printed == [[10, 10, 20, 10]] and found.seam == (20, 10)
    travel = len(START) + SQUARE.index(b"G1 X60")
    assert drawn(SQUARE, split=travel, fraction=0.5).seam == (60, 50)


@pytest.mark.parametrize(("split", "laid"), [(0, False), (10**9, True)])
def test_a_layer_above_or_below_the_seam_is_of_one_kind(split: int, laid: bool) -> None:
    found = drawn(SQUARE, split=split)
    paths = [[10, 10, 20, 10, 20, 20], [60, 50, 70, 50]]
    assert (found.printed, found.rest) == ((paths, []) if laid else ([], paths))
    assert found.seam is None and found.begin == (10, 10)


def test_absolute_filament_is_told_from_the_file_or_else_from_the_record() -> None:
    piece = b"G92 E0\nG1 X20 Y10 E1\nG1 X30 Y10 E0.5\nG1 X40 Y10 E1.5\n"
    absolute = [[10, 10, 20, 10], [30, 10, 40, 10]]
    relative = [[10, 10, 20, 10, 30, 10, 40, 10]]
    stated = START.replace(b"M83 ; relative", b"M82 ; absolute")
    assert drawn(piece, stated, absolute_extrude=False).printed == absolute
    assert drawn(piece, START, absolute_extrude=True).printed == relative
    open_ = START.replace(b"M83 ; relative", b"; M83 is not said")
    assert drawn(piece, open_, absolute_extrude=True).printed == absolute
    assert drawn(piece, open_, absolute_extrude=False).printed == relative


def test_the_mode_is_found_however_far_back_it_was_said() -> None:
    for filler in (drawing.WINDOW - 30, drawing.WINDOW - 2, 3 * drawing.WINDOW):
        long = b"M82\nM83\n" + b"; M82 in a comment\n" + b";" * filler + b"\n"
        piece = b"G1 X5 Y0 E1\nG1 X9 Y0 E1\n"
        found = drawn(piece, long + b"G1 X0 Y0\n")
        assert found.printed == [[0, 0, 5, 0, 9, 0]], filler


def test_an_arc_is_round() -> None:
    found = drawn(b"G3 X10 Y10 I5 J0 E3\nG2 X20 Y10 I5 E1\n")
    (path,) = found.printed
    points_ = list(zip(path[::2], path[1::2], strict=True))
    assert len(points_) > 20 and points_[0] == (10, 10)
    assert all(abs(math.dist(p, (15, 10)) - 5) < 0.02 for p in points_)
    half = len(points_) // 2
    assert min(y for _, y in points_[:half]) < 5.1  # the circle: counter-clockwise
    assert max(y for _, y in points_[half:]) > 14.9  # the half circle: clockwise


def test_a_g92_of_the_bed_moves_nothing() -> None:
    found = drawn(b"G1 X20 Y10 E1\nG92 X0 Y0\nG1 X5 Y0 E1\n")
    assert found.printed == [[10, 10, 20, 10, 25, 10]]


@pytest.mark.parametrize("line", [
    b"G1 X1.2.3 Y5 E1", b"G1 X- E1", b"G1 X. Y. E.", b"G20", b"G2 X5 Y5 R9 E1",
    b"G1 X99999999 Y5 E1", b"G2 X1 Y1 I" + b"9" * 300 + b" E1", b"\xff\xfe G1",
    b"SET_X A='", b"G1 X" + b"9" * 400 + b" E1", b"g1 x20 y20 e1 z",
])  # fmt: skip
def test_a_strange_line_spoils_nothing(line: bytes) -> None:
    tail = b"\nG90\nG1 X30 Y30 F600\nG1 X40 Y30 E1\n"
    found = drawn(line + tail)
    assert found.printed[-1][-4:] == [30, 30, 40, 30]
    flat = [value for path in found.printed for value in path]
    assert all(math.isfinite(v) and abs(v) <= drawing.FURTHEST for v in flat)


def test_an_empty_layer_is_empty() -> None:
    found = drawn(b"; nothing\n\nM107\n")
    assert (found.printed, found.rest, found.begin, found.seam) == ([], [], None, None)


@pytest.mark.parametrize("relative", [True, False])
def test_of_a_whole_part_it_agrees_with_the_scanner(relative: bool) -> None:
    """Each layer, read alone, lies in the box that all lines of it make."""
    data = parts.gcode(parts.Part(relative_e=relative, z_hop=0.4)).encode()
    found = points(data)
    starts = [p.file_position for p in found]
    for i, start in enumerate(starts):
        stop = starts[i + 1] if i + 1 < len(starts) else len(data)
        layer = drawing.draw(data, start, stop, 0)
        motion, layers = Motion(), Layers()
        run(data[:start], 0, motion, layers)
        motion.low, motion.high = [math.inf] * 3, [-math.inf] * 3
        run(data[start:stop], start, motion, layers)
        xs = [x for path in layer.rest for x in path[::2]]
        ys = [y for path in layer.rest for y in path[1::2]]
        box = (min(xs), min(ys), max(xs), max(ys))
        assert box == pytest.approx((*motion.low[:2], *motion.high[:2]), abs=0.011)


class Counted(bytes):
    """Counts the bytes that are taken out of it."""

    taken = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        if isinstance(found, bytes):
            type(self).taken += len(found)
        return found


def test_only_the_layer_is_read() -> None:
    """And what tells the state at its start, which stands near."""
    layer = b"M83\n" + SQUARE * 200
    data = Counted(START + layer * 2000)
    start = len(START) + 1000 * len(layer)
    found = drawing.draw(data, start, start + len(layer), len(data))
    assert len(found.printed) == 201 and len(data) > 30_000_000
    assert Counted.taken < 3 * drawing.WINDOW + len(layer)


def test_a_layer_of_any_size_has_a_bounded_answer() -> None:
    """Around the seam, when it is too long to be read."""
    lines = [b"G1 X%.3f Y%.3f E1\n" % (i % 977 / 7, i % 1013 / 7)
             for i in range(10_000)]  # fmt: skip
    piece = b"".join(lines) * 30
    at = len(START) + piece.index(lines[5000], 2 * len(piece) // 3)
    found = drawn(piece, split=at)
    count = sum(len(path) for path in found.printed + found.rest) // 2
    assert len(piece) > drawing.MAX_BYTES and not found.whole
    assert 100 < count <= drawing.MAX_POINTS and found.seam is not None
    islands = b"".join(b"G1 X%d Y0\nG1 X%d Y1 E1\n" % (i, i) for i in range(20_000))
    found = drawn(islands.replace(b"X1", b"X"), split=0)
    assert not found.whole
    assert sum(len(path) for path in found.rest) // 2 <= drawing.MAX_POINTS


def test_what_is_thinned_keeps_its_ends_and_its_shape() -> None:
    ring = b"".join(
        b"G1 X%.4f Y%.4f E0.01\n"
        % (100 + 50 * math.cos(a / 3000), 100 + 50 * math.sin(a / 3000))
        for a in range(18_850)
    )
    found = drawn(ring, START + b"G1 X150 Y100\n")
    (path,) = found.printed
    assert found.whole and len(path) // 2 <= drawing.MAX_POINTS
    assert path[:2] == [150, 100] and math.dist(path[-2:], (150, 100)) < 0.1
    reach = [math.dist(p, (100, 100)) for p in zip(path[::2], path[1::2], strict=True)]
    assert max(reach) - min(reach) < 0.1
