# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Files of any size in pieces, and files that are none."""
from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.gcode.ends import (
    check_point,
    next_extrusion,
)
from moonraker_components.power_loss_recovery.gcode.errors import ScanError
from moonraker_components.power_loss_recovery.gcode.points import points
from moonraker_components.power_loss_recovery.gcode.scan import scan
from moonraker_components.power_loss_recovery.gcode.text import Data, windows

PRINT = b"M83\nG1 X1 Y1 Z1 F600\nG1 X9 E1\nG1 X1 E1\nG1 Z9\nM84\n"


class Sparse:
    """Text with a long stretch of one line, without the memory that it would take."""

    LINE = b"G1 X2 Y2 Z1 E1 F600 ;" + b"." * 490 + b"\n"

    def __init__(self, before: bytes, length: int, after: bytes) -> None:
        assert length % len(self.LINE) == 0
        self.before, self.length, self.after = before, length, after

    def __len__(self) -> int:
        return len(self.before) + self.length + len(self.after)

    def __getitem__(self, key: slice) -> bytes:
        start, stop, _ = key.indices(len(self))
        tail = len(self.before) + self.length
        found = self.before[start:stop]
        begin, end = max(start, len(self.before)), min(stop, tail)
        if begin < end:
            skip = (begin - len(self.before)) % len(self.LINE)
            text = self.LINE * ((end - begin + skip) // len(self.LINE) + 1)
            found += text[skip : skip + end - begin]
        return found + self.after[max(start - tail, 0) : max(stop - tail, 0)]


def line_end(data: bytes) -> int:
    return data.rfind(b"\n") + 1


@given(
    st.lists(st.binary(max_size=9), max_size=30),
    st.integers(1, 40),
    st.sampled_from([1, 300]),
)
def test_pieces_are_whole_lines_and_all_of_them(
    lines: list, size: int, times: int
) -> None:
    data = b"\n".join(line * times for line in lines).replace(b"\0", b"0")
    size *= times
    found = list(windows(data, 0, len(data), size))
    assert b"".join(piece for _, piece in found) == data
    for offset, piece in found:
        assert data[offset : offset + len(piece)] == piece
        assert offset == 0 or data[offset - 1 : offset] == b"\n"


def test_offsets_beyond_4_gib() -> None:
    data = cast(Data, Sparse(PRINT[:30], 5 << 30, PRINT[30:]))
    end = len(data) - len(b"G1 Z9\nM84\n")
    assert len(data) > 1 << 32
    assert [o for o, _ in windows(data, end - 9, len(data))] == [end - 9]
    assert data[end - 9 : end] == b"G1 X1 E1\n"


@pytest.mark.slow
def test_a_file_of_4_gib_is_scanned() -> None:
    data = cast(Data, Sparse(PRINT[:30], 1 << 32, PRINT[30:]))
    head = scan(data, len(data) - len(b"G1 Z9\nM84\n"))
    assert head.end > 1 << 32
    assert head.position[:3] == (1.0, 2.0, 1.0)
    assert head.last_extrusion == head.end - len(b"G1 X1 E1\n")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"GCDE\1\0\0\0", "bgcode"),
        (b"PK\x03\x04rest", "3mf"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"\xff\xfeG\x001\x00", "UTF-16"),
        (b"G1 X1\n" + bytes(range(1, 9)) * 9 + b"\n", "control characters"),
        (b"G1 X1\nG1 \0X2\n", "NUL byte at offset 9"),
        (b"G20\n", "inches"),
        (b"G1 X1 Y1\nX5 Y6\nN7 Z1\n", "CAM programs"),
        (b"G1 X1\n;" + b"x" * (1 << 25) + b"\n", "line of more than 16777216 bytes"),
        (b"M117 " + b"x" * (1 << 25) + b"\nG1 X1\n", "line of more than 16777216"),
    ],
)
@pytest.mark.parametrize("reader", [lambda d: scan(d, line_end(d)), points])
def test_what_is_no_print_is_refused_by_name(
    data: bytes, reason: str, reader: Callable[[bytes], object]
) -> None:
    if reader is points and reason in ("inches", "CAM programs"):
        data += b"G1 X1 E1\n"
    with pytest.raises(ScanError, match=reason):
        reader(data)


@pytest.mark.parametrize(
    "rest", [b"G1 X2\n" * 9999 + b"\0\0", b";" + b"x" * ((1 << 24) + (1 << 21))]
)
def test_damage_after_the_cut_is_found_too(rest: bytes) -> None:
    with pytest.raises(ScanError, match="NUL byte|a line of more"):
        scan(PRINT + rest, len(PRINT))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"M83", "nothing is printed before"),
        (b"G1 X9", "nothing is printed before"),
        (b"G1 Z9", "nothing is printed after"),
        (b"M84", "nothing is printed after"),
    ],
)
def test_a_place_outside_the_print_is_refused(line: bytes, reason: str) -> None:
    with pytest.raises(ScanError, match=reason):
        check_point(PRINT, scan(PRINT, PRINT.index(line)))


def test_the_next_plastic_is_found_from_the_state_at_the_place() -> None:
    head = scan(PRINT, PRINT.index(b"G1 X1 E1"))
    check_point(PRINT, head)
    assert next_extrusion(PRINT, head) == head.end
    absolute = b"M82\nG92 E0\nG1 X1 Y1 Z1\nG1 X2 E5\nG1 E3\nG1 X3 E5\nG1 X4 E6\n"
    head = scan(absolute, absolute.index(b"G1 X3"))
    assert next_extrusion(absolute, head) == absolute.index(b"G1 X4")
