# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""How much of a line is done, from where the motors are."""
from __future__ import annotations

import math
from typing import Any

import pytest

from klippy_extras.power_loss_recovery import fraction
from klippy_extras.power_loss_recovery.fraction import STRAIGHT

Point = tuple[float, float]
RADIUS = 20.0


def on_circle(degrees: float) -> Point:
    angle = math.radians(degrees)
    return RADIUS * math.cos(angle), RADIUS * math.sin(angle)


def of_arc(start: float, end: float, at: float, clockwise: bool, late: bool) -> float:
    x, y = on_circle(start)
    shape = (-x, -y, clockwise)
    return fraction.done(shape, (x, y), on_circle(end), on_circle(at), late)


def margin(travel: float) -> float:
    return fraction.MARGIN / RADIUS / math.radians(travel)


@pytest.mark.parametrize(
    ("word", "line", "shape"),
    [
        ("G1", "G1 X1", STRAIGHT),
        ("G2", "G2 X1 I-2.5 J3 ; J9", (-2.5, 3.0, True)),
        ("G03", "g03x1i1", (1.0, 0.0, False)),
        ("G2", "G2 X1 I1.2.3", None),
        ("M204", "M204 S1", None),
    ],
)
def test_the_shape_of_a_line(word: str, line: str, shape: Any) -> None:
    assert fraction.shape_of(word, line) == shape


def test_a_straight_line_is_done_short_of_where_the_motors_are() -> None:
    done = fraction.done(STRAIGHT, (0, 0), (100, 0), (60, 0.01), False)
    assert done == pytest.approx(0.6 - fraction.MARGIN / 100)


@pytest.mark.parametrize("at", [(-1, 0), (0.1, 0), (50, 3)])
def test_nothing_is_done_before_the_start_or_off_the_line(at: Point) -> None:
    assert fraction.done(STRAIGHT, (0, 0), (100, 0), at, False) == 0


def test_a_short_line_and_a_line_that_stands_are_not_split() -> None:
    assert fraction.done(STRAIGHT, (0, 0), (0.5, 0), (0.4, 0), True) == 0
    assert fraction.done(STRAIGHT, (7, 7), (7, 7), (7, 7), True) == 0


@pytest.mark.parametrize("clockwise", [False, True])
def test_an_arc_is_done_by_the_angle_swept(clockwise: bool) -> None:
    sign = -1 if clockwise else 1
    done = of_arc(30, 30 + sign * 180, 30 + sign * 90, clockwise, False)
    assert done == pytest.approx(0.5 - margin(180))
    done = of_arc(30, 30 + sign * 270, 30 + sign * 240, clockwise, True)
    assert done == pytest.approx(240 / 270 - margin(270))


def test_a_full_circle_is_not_taken_for_done_at_its_start() -> None:
    assert of_arc(30, 30, 30, False, False) == 0
    assert of_arc(30, 30, 29.9, False, False) == 0
    assert of_arc(30, 30, 30.1, False, True) == pytest.approx(1 - margin(360))
    assert of_arc(30, 30, 120, False, False) == pytest.approx(0.25 - margin(360))


def test_past_its_end_an_arc_is_done_and_before_its_start_not() -> None:
    assert of_arc(0, 90, 90.1, False, True) == pytest.approx(1 - margin(90))
    assert of_arc(0, 90, -0.1, False, False) == 0


def test_motors_off_the_arc_have_done_nothing_of_it() -> None:
    shape = (-RADIUS, 0.0, False)
    done = fraction.done(shape, (RADIUS, 0.0), (0.0, RADIUS), (1.0, 1.0), True)
    assert done == 0
