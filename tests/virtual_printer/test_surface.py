# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Collisions and a hot nozzle on the part are seen, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from .scenario import INFILL, MOVES, at_cut, cut_session, judged, resume_session
from .synthetic import Pen, simulate


def test_a_nozzle_dragged_through_the_part_is_one_collision() -> None:
    pen = Pen(*at_cut(INFILL))
    pen.add(*pen.at[:2], 10.0, 0, 20.0, "lift")
    pen.add(62.0, 83.0, 10.0, 0, 100.0, "travel")
    pen.add(62.0, 83.0, 0.5, 0, 100.0, "descend")
    pen.add(65.0, 86.0, 0.5, 0, 100.0, "drag")
    pen.add(65.0, 86.0, 10.0, 0, 100.0, "lift")
    end = simulate(pen.moves, at_cut(INFILL), 1000.0)
    verdict = judged(simulate(MOVES), end)
    assert verdict.collisions == 1
    hit = verdict.collided[0]
    # The part ends at 0.8, the nozzle runs at 0.5.
    assert hit.depth == pytest.approx(0.3, abs=0.01)
    assert hit.dragged == pytest.approx(np.hypot(3, 3), abs=0.4)
    assert any("collision" in reason for reason in verdict.reasons())


def test_dragging_a_tenth_deep_is_a_collision_and_at_the_top_is_none() -> None:
    for z, expected in ((0.7, 1), (0.8, 0), (0.76, 0)):
        pen = Pen(62.0, 83.0, 10.0)
        pen.add(62.0, 83.0, z, 0, 20.0, "descend")
        pen.add(66.0, 83.0, z, 0, 100.0, "drag")
        end = simulate(pen.moves, (62.0, 83.0, 10.0), 1000.0)
        assert judged(simulate(MOVES), end).collisions == expected


def test_a_nozzle_driven_into_the_bed_is_a_collision() -> None:
    pen = Pen(150.0, 150.0, 10.0)
    pen.add(150.0, 150.0, -0.3, 0, 20.0, "descend")
    end = simulate(pen.moves, (150.0, 150.0, 10.0), 1000.0)
    assert judged(simulate(MOVES), end).collisions == 1


@pytest.mark.parametrize("celsius, expected", [(210.0, 3.0), (120.0, 0.0)])
def test_a_hot_nozzle_left_on_the_part_is_timed(
    celsius: float, expected: float
) -> None:
    verdict = judged(
        cut_session(INFILL),
        resume_session(INFILL, INFILL, wait=3.0, celsius=celsius),
    )
    assert verdict.hot_dwell_s == (pytest.approx(expected, abs=0.1),)
