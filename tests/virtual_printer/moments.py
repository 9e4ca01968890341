# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Instants of a print that a power cut should be tried at.

Found in the undisturbed print of a part of parts.py; all in seconds after its
first plastic.
"""
from __future__ import annotations

import random

import numpy as np

from .outage import Undisturbed
from .parts import LAYER, WIDTH, Part
from .plastic import deposit

KINDS = (
    "perimeter", "infill", "travel", "retracted", "layer change", "first layer",
    "long line", "first second", "near the end",
)  # fmt: skip
GAP_S = 0.08


def find(undisturbed: Undisturbed, part: Part, rng: random.Random) -> dict[str, float]:
    """One seeded instant of each kind."""
    d = deposit(undisturbed.sessions[0], undisturbed.geometry)
    t = d.t - d.t[0]
    x, y, z = d.xyz.T
    cx, cy = part.centre
    dx, dy = np.abs(x - cx), y - cy
    half = part.size / 2
    wall = dy < -half - 4
    edge = np.maximum(dx, np.abs(dy))
    later = z > 1.5 * LAYER
    along = (x - cx) / max(part.long_line, 1.0) + 0.5
    rows = {
        "perimeter": later & ~wall & (edge > half - WIDTH - 0.2),
        "infill": later & ~wall & (edge < half - 2 * WIDTH - 1.0),
        "first layer": ~later & ~wall & (t > 2.0),
        "long line": later & wall & (along > 0.5) & (along < 0.95),
    }
    found = {kind: float(rng.choice(t[where])) for kind, where in rows.items()}
    gap = np.flatnonzero((np.diff(t) > GAP_S) & (t[1:] > 2.0))
    rises = np.diff(z)[gap] > LAYER / 2
    found["travel"] = _within(rng, t, gap[~rises], 0.35, 0.65)
    # After the travel, before the filament is forward again.
    found["retracted"] = _within(rng, t, gap[~rises], 0.75, 0.9)
    found["layer change"] = _within(rng, t, gap[rises], 0.3, 0.7)
    found["first second"] = rng.uniform(0.2, 0.9)
    found["near the end"] = float(t[-1]) - rng.uniform(0.2, 1.5)
    return found


def _within(
    rng: random.Random, t: np.ndarray, gaps: np.ndarray, low: float, high: float
) -> float:
    i = int(rng.choice(gaps))
    return float(t[i] + (t[i + 1] - t[i]) * rng.uniform(low, high))
