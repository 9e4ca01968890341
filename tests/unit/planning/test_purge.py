# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.planning import purge
from moonraker_components.power_loss_recovery.planning.purge import (
    APART,
    CLEARANCE,
    EDGE,
    LENGTH,
    Box,
    Strip,
    choose,
    in_the_air,
    note,
    script,
)
from tests.unit.samples import record

SMALLEST = LENGTH + 2 * EDGE


def boxes(low: float, high: float, least: float) -> st.SearchStrategy[Box]:
    start, size = st.floats(low, high), st.floats(least, high)
    return st.builds(lambda x, y, w, h: (x, y, x + w, y + h), start, start, size, size)


@given(boxes(-50, 400, 30), boxes(-50, 400, 0))
@example((0, 0, SMALLEST, SMALLEST), (30, 30, 40, 40))
def test_a_strip_on_the_bed_keeps_its_distance_and_is_within_reach(
    bed: Box, part: Box
) -> None:
    strip = choose(bed, part)
    assert bed[0] <= strip.x <= strip.end_x <= bed[2]
    assert bed[1] <= strip.y <= strip.end_y <= bed[3]
    if strip.on_bed:
        x = max(part[0] - strip.end_x, strip.x - part[2])
        y = max(part[1] - strip.end_y, strip.y - part[3])
        assert max(x, y) >= CLEARANCE - 1e-6
        length = max(strip.end_x - strip.x, strip.end_y - strip.y)
        assert length == pytest.approx(LENGTH)


@given(boxes(0, 150, 1))
def test_a_bed_with_a_free_edge_is_used(part: Box) -> None:
    bed = (0.0, 0.0, 350.0, 350.0)
    free_in_front = part[1] >= EDGE + CLEARANCE
    assert choose(bed, part).on_bed or not free_in_front


@pytest.mark.parametrize(("low", "begins"), [
    ((-18.0, -5.0, -2.0), (0.0, 0.0)), ((-125.0, -125.0, 0.0), (-125.0, -125.0)),
    ((0.0, -20.0, 0.0), (0.0, 0.0)), ((10.0, 5.0, 0.0), (10.0, 5.0)),
])  # fmt: skip
def test_what_lies_beside_the_bed_is_no_bed(
    low: tuple[float, ...], begins: tuple[float, float]
) -> None:
    assert purge.bed(low, (125.0, 125.0, 200.0)) == (*begins, 125.0, 125.0)


def apart(one: Box, other: Box) -> float:
    """How far two strips are from each other, along the axis where they are farther."""
    x = max(one[0] - other[2], other[0] - one[2])
    return max(x, one[1] - other[3], other[1] - one[3])


def every_strip(bed: Box, part: Box | None) -> tuple[Box, ...]:
    used: tuple[Box, ...] = ()
    while (strip := choose(bed, part, used)).on_bed:
        assert note(used, strip) != used
        used = note(used, strip)
    assert strip == in_the_air(bed)
    return used


@given(boxes(-50, 400, 30), boxes(-50, 400, 0))
@example((0, 0, 250, 250), (95, 95, 155, 155))
def test_each_further_resume_has_a_strip_of_its_own_until_there_is_none(
    bed: Box, part: Box
) -> None:
    used = every_strip(bed, part)
    for i, one in enumerate(used):
        assert bed[0] <= one[0] <= one[2] <= bed[2]
        assert bed[1] <= one[1] <= one[3] <= bed[3]
        assert all(apart(one, other) >= APART - 1e-6 for other in used[:i])
        assert apart(one, part) >= CLEARANCE - 1e-6


@pytest.mark.parametrize(("part", "least"), [
    (None, 20), ((95, 95, 155, 155), 20), ((20, 20, 230, 200), 6),
])  # fmt: skip
def test_a_bed_of_250_mm_is_enough_for_many_cuts(
    part: Box | None, least: int
) -> None:
    assert len(every_strip((0, 0, 250, 250), part)) >= least


def test_what_is_purged_in_the_air_takes_no_strip() -> None:
    bed = (0.0, 0.0, 250.0, 250.0)
    first = choose(bed, None)
    used = note((), first)
    assert used == ((EDGE, EDGE, EDGE + LENGTH, EDGE),) and note(used, first) == used
    assert note(used, in_the_air(bed)) == used


def test_an_empty_bed_is_purged_in_front() -> None:
    strip = choose((0, 0, 250, 250), None)
    assert (strip.x, strip.y, strip.on_bed) == (EDGE, EDGE, True)


@pytest.mark.parametrize(("part", "edge"), [
    ((0, 0, 250, 120), "rear"), ((60, 0, 250, 250), "left"),
    ((0, 0, 190, 250), "right"),
])  # fmt: skip
def test_the_edge_that_is_free_is_found(part: Box, edge: str) -> None:
    strip = choose((0, 0, 250, 250), part)
    places = {"rear": strip.y > 200, "left": strip.end_x < 50, "right": strip.x > 200}
    assert strip.on_bed and places[edge]


@pytest.mark.parametrize("part", [(0, 0, 250, 250), (-9, -9, 999, 999)])
def test_a_full_bed_is_purged_in_the_air(part: Box) -> None:
    strip = choose((0, 0, 250, 250), part)
    assert not strip.on_bed and strip == in_the_air((0, 0, 250, 250))


@pytest.mark.parametrize(("part", "top", "strip"), [
    # Low parts: only the nozzle comes near.
    ((60, 20, 190, 230), 4.0, (6, 6, True)),
    # Ducts beside it (along the left edge, then); a beam from side to side above
    ((80, 40, 244, 244), 20.0, (6, 6, True)),
    ((80, 40, 244, 244), 40.0, (6, 6, False)),
    ((60, 80, 190, 250), 200.0, (6, 6, True)),
    ((60, 0, 190, 150), 200.0, (6, 244, True)),
    ((60, 20, 190, 230), 200.0, (6, 6, False)),
    ((60, 10, 190, 250), 200.0, (6, 6, False)),
])  # fmt: skip
def test_the_head_does_not_come_down_into_a_tall_part(
    part: Box, top: float, strip: tuple[float, float, bool]
) -> None:
    found = choose((0, 0, 250, 250), part, (), top - 1.2)
    assert (found.x, found.y, found.on_bed) == strip


@given(boxes(0, 350, 30), boxes(-50, 400, 0), st.floats(0, 400))
def test_the_deeper_it_comes_the_farther_away(
    bed: Box, part: Box, depth: float
) -> None:
    strip = choose(bed, part, (), depth)
    free = [strip.y - part[3], part[1] - strip.end_y]
    if depth <= 25:
        free += [strip.x - part[2], part[0] - strip.end_x]
    if strip.on_bed:
        assert max(free) >= (50 if depth > 3 else CLEARANCE) - 1e-6


def test_a_bed_too_small_for_a_strip_is_purged_in_the_air() -> None:
    assert not choose((0, 0, SMALLEST - 1, SMALLEST - 1), None).on_bed
    assert choose((0, 0, SMALLEST, 20), None).on_bed
    assert choose((0, 0, 20, SMALLEST), None).on_bed


@pytest.mark.parametrize("retracted", [0.0, 0.5, 0.8, 5.0, 85.0])
def test_a_strip_is_purged_however_far_the_filament_was_back(retracted: float) -> None:
    strip = in_the_air((0.0, 0.0, 200.0, 200.0))
    lines = script(strip, 9.0, 20.0, record(retracted=retracted), flow=0.2)
    moves = [float(e) for e in re.findall(r" E(-?[\d.]+)", "\n".join(lines))]
    back = -sum(move for move in moves if move < 0)
    assert back == pytest.approx(max(retracted, 0.8))
    laid = sum(moves) + back - retracted
    assert moves.count(11.4) == 1 and laid == pytest.approx(11.4, abs=0.801)
    assert all(abs(move) < 50.0 for move in moves)


@pytest.mark.parametrize("end", [(66.0, 6.0), (6.0, 66.0)])
def test_nothing_is_laid_where_the_nozzle_comes_down(end: tuple[float, float]) -> None:
    lines = list(script(Strip(6.0, 6.0, *end, True), 1.2, 20.0, record(), flow=0.2))
    ways = [line for line in lines if " X" in line]
    assert len(ways) == 3 and [" E" in line for line in ways] == [False, True, False]
    for line in (ways[0], ways[2]):
        x, y = (float(v) for v in re.findall(r"[XY]([\d.]+)", line))
        assert (x - 6.0) + (y - 6.0) == pytest.approx(3.0)
