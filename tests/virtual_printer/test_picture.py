# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The picture shows three stages, marks the seam, and is quick."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from .oracle import compare
from .picture import MISSING, SEAM, draw
from .synthetic import (
    GEOMETRY,
    block,
    lines,
    move_times,
    position_before,
    resumed,
    simulate,
)

MOVES = block()
REFERENCE = [simulate(MOVES)]


def drawn(path: Path, skip: int) -> np.ndarray:
    number = lines(MOVES, 2)[18]
    start = position_before(MOVES, number)
    first = simulate(MOVES, cut_at=float(move_times(MOVES)[number]))
    steps = resumed(MOVES, number + skip, start, purge_at=(70.0, 76.0))
    test = [first, simulate(steps, start, 1000.0, phase=0.3)]
    verdict = compare(REFERENCE, test, GEOMETRY)
    begin = time.process_time()
    draw(path, REFERENCE, test, GEOMETRY, verdict)
    assert time.process_time() - begin < 5.0
    return imread(path)


def pixels(image: np.ndarray, colour: str, first: int, last: int) -> int:
    """How many pixels of a colour lie in columns [first, last)."""
    near = np.abs(image[90:510, first:last, :3] - to_rgb(colour)).max(axis=2) < 0.08
    return int(near.sum())


def test_the_seam_is_marked_where_there_is_one(tmp_path: Path) -> None:
    image = drawn(tmp_path / "whole.png", 0)
    assert image.shape[:2] == (600, 1500)
    assert pixels(image, SEAM, 0, 500) == 0
    assert pixels(image, SEAM, 500, 1000) > 20
    assert pixels(image, SEAM, 1000, 1500) > 20
    assert pixels(image, MISSING, 0, 1500) == 0


def test_missing_plastic_is_marked(tmp_path: Path) -> None:
    image = drawn(tmp_path / "missing.png", 8)
    assert pixels(image, MISSING, 1000, 1500) > 10
