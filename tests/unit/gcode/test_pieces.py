# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What others have looked for in parts of a file changes nothing that is found."""
from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.gcode import pieces as module
from moonraker_components.power_loss_recovery.gcode import skim as skim_module
from moonraker_components.power_loss_recovery.gcode.ahead import Reach, rest
from moonraker_components.power_loss_recovery.gcode.errors import ScanError
from moonraker_components.power_loss_recovery.gcode.extent import Extent
from moonraker_components.power_loss_recovery.gcode.pieces import (
    Digest,
    Helper,
    Limits,
    Piece,
    digest,
    own,
    shared,
)
from moonraker_components.power_loss_recovery.gcode.scan import (
    Footprint,
    Head,
    footprint_exactly,
    scan,
)
from tests.unit.gcode.random_print import random_print
from tests.unit.gcode.test_ahead import assert_reaches, reach_exactly
from tests.unit.gcode.test_extent import FILES, assert_contains
from tests.unit.gcode.test_skim import FILL, LINES, START, assert_same

Found = tuple[Head, Reach | None]


class Neighbour:
    """A Helper in this process.  tires: after how many pieces of a part; slow: how
    often it is not ready when it is looked at."""

    def __init__(
        self, data: bytes, window: int, tires: int = 99, slow: float = 0.0
    ) -> None:
        self.data, self.window, self.tires, self.slow = data, window, tires, slow
        self.answers: list[Digest | None] = []
        self.asked: list[Limits | None] = []
        self.given = 0
        self.source = random.Random(tires)

    def ask(self, start: int, end: int, limits: Limits | None) -> None:
        self.asked.append(limits)
        try:
            for count, piece in enumerate(own(self.data, start, end, self.window)):
                if count == self.tires:
                    break
                self.answers.append(digest(piece, limits))
        except ScanError:
            pass
        self.answers.append(None)

    def ready(self) -> bool:
        return self.source.random() >= self.slow

    def next(self) -> Digest | None:
        self.given += self.answers[0] is not None
        return self.answers.pop(0)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts as of files that are a thousand times as long."""
    monkeypatch.setattr(module, "_PART", 1000)


def examine(
    data: bytes, cut: int, window: int, helpers: Sequence[Helper] = ()
) -> Found | str:
    extent = Extent(data, window, helpers=helpers)
    try:
        head = scan(data, cut, extent)
        return head, rest(extent)
    except ScanError as error:
        return str(error)


def assert_alike(found: Found | str, wanted: Found | str) -> None:
    if isinstance(found, str) or isinstance(wanted, str):
        assert found == wanted
        return
    assert_same(comparable(found[0]), comparable(wanted[0]))
    assert found[1] == wanted[1]


def comparable(head: Head) -> Head:
    """Relative E adds up from another place on: see test_skim.py."""
    if head.absolute_extrude:
        return head
    return replace(head, position=head.position._replace(e=None))


def without_box(head: Head) -> Head:
    """Pieces that begin elsewhere may make it larger, never smaller."""
    return replace(comparable(head), footprint=None)


def footprint_of(found: Found) -> Footprint:
    assert found[0].footprint is not None
    return found[0].footprint


def some_line(source: random.Random, data: bytes) -> int:
    return data.rfind(b"\n", 0, source.randrange(len(data))) + 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_real_files_are_found_alike_with_help(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As certain as long files are.
    monkeypatch.setattr(skim_module, "FURTHEST_RETRACTION", 20.0)
    data = path.read_bytes()
    source = random.Random(path.name)
    for tires, slow in ((99, 0.3), (1, 0.9)):
        cut, window = some_line(source, data), source.choice([512, 4096])
        helpers = [Neighbour(data, window, tires, slow) for _ in range(2)]
        wanted = examine(data, cut, window)
        assert_alike(examine(data, cut, window, helpers), wanted)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(LINES), max_size=60),
    st.lists(st.sampled_from(LINES), max_size=60),
    st.integers(1, 3),
    st.sampled_from([99, 0, 1]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_any_mixture_is_found_no_smaller_with_help(
    before: list[str], after: list[str], count: int, tires: int,
    slow: float,
) -> None:  # fmt: skip
    first, second = ("".join(line + "\n" for line in part).encode()
                     for part in (before, after))  # fmt: skip
    data = START + FILL[:2000] + first
    cut = len(data)
    data += FILL[:2000] + second
    wanted = examine(data, cut, 1 << 18)
    helpers = [Neighbour(data, 256, tires, slow) for _ in range(count)]
    found = examine(data, cut, 256, helpers)
    if isinstance(found, str) or isinstance(wanted, str):
        assert isinstance(found, str) and isinstance(wanted, str)
        return
    assert_same(without_box(found[0]), without_box(wanted[0]))
    assert_contains(footprint_of(found), footprint_exactly(data, cut))
    assert_reaches(found[1], reach_exactly(data, cut))


@pytest.mark.parametrize("seed", range(12))
def test_a_print_that_goes_astray_is_found_alike(seed: int) -> None:
    source = random.Random(seed)
    data = random_print(source, source.randrange(500, 3000))
    cut = some_line(source, data)
    helpers = [Neighbour(data, 1024, slow=0.5), Neighbour(data, 1024, 1)]
    wanted = examine(data, cut, 1024)
    found = examine(data, cut, 1024, helpers)
    if isinstance(found, str) or isinstance(wanted, str):
        assert found == wanted
        return
    assert_same(without_box(found[0]), without_box(wanted[0]))
    assert_contains(footprint_of(found), footprint_exactly(data, cut))
    assert_reaches(found[1], reach_exactly(data, cut))


def test_most_is_left_to_the_helpers() -> None:
    data = START + FILL * 20
    helpers = [Neighbour(data, 512), Neighbour(data, 512)]
    assert_alike(examine(data, len(data), 512, helpers), examine(data, len(data), 512))
    pieces_of_all = len(data) / 512
    assert sum(helper.given for helper in helpers) > 0.6 * pieces_of_all


def test_the_bytes_are_not_touched_where_a_digest_says_all() -> None:
    data = START + FILL + b"M106 S9\n"
    limits = ((-1.0, 99.0), (-1.0, 99.0))
    piece = Piece(b"", 0, len(data), digest(Piece(data, 0, len(data)), limits))
    assert piece.lines() == [b"M83", b"G92 E0", b"M106 S9"]
    assert piece.heights() == [1.0]
    assert piece.beyond(0, -1.0, 99.0) == piece.beyond(1, -5.0, 1e6) == []


def test_limits_that_have_grown_since_leave_fewer_words() -> None:
    data = b"G1 X5 Y5\nG1 X15 Y5\nG1 X25 Y5\n"
    found = digest(Piece(data, 0, len(data)), ((0.0, 9.0), (0.0, 9.0)))
    piece = Piece(b"", 0, len(data), found)
    assert [value for _, value in piece.beyond(0, 0.0, 9.0)] == [15.0, 25.0]
    assert piece.beyond(0, 0.0, 20.0) == [(data.index(b"X25"), 25.0)]


def test_limits_that_are_narrower_are_looked_for_anew() -> None:
    data = b"G1 X5 Y5\nG1 X15 Y5\n"
    found = digest(Piece(data, 0, len(data)), ((0.0, 99.0), (0.0, 9.0)))
    piece = Piece(data, 0, len(data), found)
    assert [value for _, value in piece.beyond(0, 0.0, 9.0)] == [15.0]
    assert len(piece.beyond(0, float("inf"), float("-inf"))) == 2


def test_too_much_is_not_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 3)
    data = b"M106 S1\nM106 S2\n;LAYER:1\nM106 S3\nG1 X1 Y1 Z1\nG1 X2 Y2 Z2\n"
    found = digest(Piece(data, 0, len(data)), ((5.0, 6.0), (5.0, 6.0)))
    assert found.lines is None and found.sides is None
    assert found.heights is not None and sorted(found.heights) == [1.0, 2.0]
    piece = Piece(data, 0, len(data), found)
    assert len(piece.lines()) == 4
    assert len(piece.beyond(0, 5.0, 6.0)) == 2


@given(
    st.lists(st.binary(max_size=40), max_size=400),
    st.lists(st.sampled_from([99, 1, 0]), min_size=1, max_size=3),
    st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(deadline=None)
def test_pieces_are_all_of_the_file_in_order(
    lines: list[bytes], tires: list[int], slow: float
) -> None:
    data = b"\n".join(lines).replace(b"\0", b"0")
    helpers = [Neighbour(data, 64, count, slow) for count in tires]
    found = list(shared(data, 0, len(data), 64, helpers, lambda: None))
    assert b"".join(piece.text for piece in found) == data
    assert [piece.start for piece in found] == sorted(piece.start for piece in found)
    assert all(not helper.answers for helper in helpers)


@pytest.mark.parametrize("slow", [0.0, 0.5, 1.0])
def test_damage_is_told_after_all_that_stands_before_it(slow: float) -> None:
    data = FILL * 2 + b"G1 X1\0\n" + FILL * 2
    helpers = [Neighbour(data, 512, slow=slow)]
    found, wanted = [], data.index(b"\0")
    with pytest.raises(ScanError, match=f"NUL byte at offset {wanted}"):
        for piece in shared(data, 0, len(data), 512, helpers, lambda: None):
            found.append(piece.text)
    assert b"".join(found) == data[: len(b"".join(found))]
    assert len(b"".join(found)) > wanted - 1024


def test_helpers_look_with_the_limits_of_the_moment() -> None:
    data = START + FILL * 20
    helper = Neighbour(data, 512)
    extent = Extent(data, 512, helpers=[helper])
    extent.read(len(data))
    assert helper.asked[-1] == ((1.0, 20.0), (1.0, 10.0))


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUEUE", 8)
    data = START + FILL * 20
    helper = Neighbour(data, 64, slow=1.0)
    limits: list[None] = []
    found = shared(data, 0, len(data), 64, [helper], lambda: limits.append(None))
    next(found)
    assert len(limits) <= 8
