# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""An arc that was begun, and its rest, are one arc to Klipper."""
from __future__ import annotations

import math
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.gcode.arcs import SHORT
from moonraker_components.power_loss_recovery.gcode.rewriter import Point4, remainder

PLANES = {"G17": (0, 1, 2), "G18": (0, 2, 1), "G19": (1, 2, 0)}
START = Point4(100.0, 50.0, 0.4, 7.0)


def klipper(
    line: bytes, start: Point4, absolute_e: bool, plane: str, resolution: float
) -> list[list[float]]:
    """The points x, y, z, e that Klipper makes of a move: cmd_G2 and planArc of
    klippy/extras/gcode_arcs.py, retold."""
    name, *words = line.decode().partition(";")[0].upper().split()
    values = {word[0]: float(word[1:]) for word in words}
    here = [float(value or 0.0) for value in start]
    target = [values.get(axis, here[i]) for i, axis in enumerate("XYZ")]
    e = values.get("E")
    end_e = here[3] if e is None else e if absolute_e else here[3] + e
    if name == "G1":
        return [[*target, end_e]]
    alpha, beta, helical = PLANES[plane]
    first, second = (values.get("IJK"[axis], 0.0) for axis in (alpha, beta))
    r_p, r_q = -first, -second
    center_p, center_q = here[alpha] - r_p, here[beta] - r_q
    rt_p, rt_q = target[alpha] - center_p, target[beta] - center_q
    angle = math.atan2(r_p * rt_q - r_q * rt_p, r_p * rt_p + r_q * rt_q)
    if angle < 0.0:
        angle += 2.0 * math.pi
    if name == "G2":
        angle -= 2.0 * math.pi
    if (angle == 0.0 and here[alpha] == target[alpha] and here[beta] == target[beta]):
        angle = 2.0 * math.pi
    length = math.hypot(math.hypot(r_p, r_q) * angle, target[helical] - here[helical])
    segments = int(max(1.0, math.floor(length / resolution)))
    points = []
    for i in range(1, segments + 1):
        share = i / segments
        cos, sin = math.cos(angle * share), math.sin(angle * share)
        point = [0.0] * 3
        point[alpha] = center_p + r_p * cos - r_q * sin
        point[beta] = center_q + r_p * sin + r_q * cos
        point[helical] = here[helical] + (target[helical] - here[helical]) * share
        if i == segments:
            point = target
        points.append([*point, here[3] + (end_e - here[3]) * share])
    return points


def length_of(points: list[list[float]]) -> float:
    pairs = zip(points, points[1:], strict=False)
    return sum(math.dist(a[:3], b[:3]) for a, b in pairs)


LENGTHS = st.floats(-40.0, 40.0).map(lambda v: round(v, 3))


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(["G2", "G3"]), plane=st.sampled_from(sorted(PLANES)),
    offset=st.tuples(LENGTHS, LENGTHS), sweep=st.floats(0.01, 6.27),
    rise=st.none() | LENGTHS, extrusion=st.none() | st.floats(0, 9),
    absolute_e=st.booleans(), fraction=st.floats(0.0, 1.0), whole=st.booleans(),
)  # fmt: skip
def test_what_was_laid_and_the_rest_are_the_whole_arc(
    name: str, plane: str, offset: tuple[float, float], sweep: float,
    rise: float | None, extrusion: float | None, absolute_e: bool, fraction: float,
    whole: bool,
) -> None:  # fmt: skip
    axes = PLANES[plane]
    radius = math.hypot(*offset)
    assume(radius > 0.1)
    words = [name]
    if not whole:
        centre = [(START[axes[i]] or 0.0) + offset[i] for i in (0, 1)]
        turn = -sweep if name == "G2" else sweep
        angle = math.atan2(-offset[1], -offset[0]) + turn
        for i, func in enumerate((math.cos, math.sin)):
            words.append(f"{'XYZ'[axes[i]]}{centre[i] + radius * func(angle):.3f}")
    if rise is not None:
        words.append(f"{'XYZ'[axes[2]]}{(START[axes[2]] or 0.0) + rise:.3f}")
    words += [f"{'IJK'[axes[i]]}{offset[i]}" for i in (0, 1)]
    if extrusion is not None:
        words.append(f"E{extrusion + (7.0 if absolute_e else 0.0):.5f}")
    line = " ".join(words).encode() + b" ; wall"

    split = remainder(line, START, fraction, True, absolute_e, plane)
    arc = klipper(line, START, absolute_e, plane, 0.01)
    if split is None:
        assert length_of([list(START), *arc]) * fraction < 2 * SHORT + abs(rise or 0.0)
        return
    inside, rest = split
    assert rest.endswith(b" ; wall") and not re.search(rb"[XYZIJKE][-\d.]*e", rest)
    tail = klipper(rest, inside, absolute_e, plane, 0.01)
    assert tail[-1][:3] == pytest.approx(arc[-1][:3], abs=1e-9)
    assert tail[-1][3] == pytest.approx(arc[-1][3], abs=1e-8)
    total = length_of([list(START), *arc])
    left = length_of([list(inside), *tail])  # type: ignore[arg-type]
    # The end of an arc as written is a little off its circle.
    assert left == pytest.approx(total * (1.0 - fraction), abs=0.01 + 2e-3 * total)
    centre = [(START[axes[i]] or 0.0) + offset[i] for i in (0, 1)]
    for point in [list(inside), *tail[:-1]]:
        at = math.dist(centre, [float(point[axes[i]] or 0.0) for i in (0, 1)])
        assert at == pytest.approx(radius, abs=1e-6)
    expected_e = 7.0 + (arc[-1][3] - 7.0) * fraction
    assert inside.e == pytest.approx(expected_e, abs=1e-9)


def test_three_quarters_of_a_circle_leave_the_last_quarter() -> None:
    line = b"G3 X100 Y50 I-10 J0 E4 F1200 ; hole"
    inside, rest = remainder(line, START, 0.75, True, False) or pytest.fail("no split")
    assert inside == pytest.approx(Point4(90.0, 40.0, 0.4, 10.0))
    words = dict(re.findall(r"([XYIJEF])([-\d.]+)", rest.decode().partition(";")[0]))
    assert rest.startswith(b"G3 ") and rest.endswith(b" ; hole")
    assert {k: round(float(v), 9) for k, v in words.items()} == {
        "X": 100, "Y": 50, "I": 0, "J": 10, "E": 1, "F": 1200,
    }  # fmt: skip


def test_a_whole_circle_gets_the_end_that_its_line_left_out() -> None:
    _, rest = remainder(b"g2 i5", START, 0.5, True, True) or pytest.fail("no split")
    assert b" X100 " in rest and b" Y50 " in rest


def test_an_absolute_e_keeps_its_text_and_a_relative_one_shrinks() -> None:
    line = b"G2 X110 Y60 I10 J0 E8.50000"
    inside, rest = remainder(line, START, 0.5, True, True) or pytest.fail("no split")
    assert rest.endswith(b"E8.50000") and inside.e == pytest.approx(7.75)
    _, rest = remainder(line, START, 0.5, True, False) or pytest.fail("no split")
    assert rest.endswith(b"E4.25")


def test_the_last_bit_is_straight_and_never_another_turn() -> None:
    line = b"G2 X100 Y50 I10 E1 F900"
    for fraction in (1.0, 0.99999999):
        _, rest = remainder(line, START, fraction, True, True) or pytest.fail("none")
        assert rest == b"G1 X100 Y50 E1 F900"


def test_a_circle_hardly_begun_is_run_again() -> None:
    assert remainder(b"G2 I10 E1", START, 1e-6, True, True) is None


@pytest.mark.parametrize(
    "line",
    [b"G2 X1 Y1 R5", b"G2 X110 Y50", b"G2 X1 Y1 K3", b"G2 X1 Yq I1", b"G2 X1 I1 Fx"],
)
def test_what_klipper_refuses_is_not_split(line: bytes) -> None:
    assert remainder(line, START, 0.5, True, True) is None


def test_arcs_need_absolute_coordinates_a_known_start_and_a_plane() -> None:
    line = b"G2 X110 Y60 I10 J0 E1"
    assert remainder(line, START, 0.5, False, False) is None
    assert remainder(line, START._replace(z=None), 0.5, True, False) is None
    assert remainder(line, START, 0.5, True, False, "G16") is None
