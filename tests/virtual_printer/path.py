# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Beads as a path of evenly spaced points, so that an arc length is an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .plastic import Deposit
from .trace import FloatArray

# Shorter beads are drops: they have filament, but no path.
DROP_MM = 0.02


@dataclass(frozen=True)
class BeadPath:
    """Points along the beads, both ends of every stroke included.

    step: nominal mm between points.  s: mm of bead before each point; the end of a
    stroke and the start of the next have the same s.  fed: mm of filament before it.
    primed: mm laid standing still at the start of the point's stroke.
    cell: mm of bead from each point to the next, 0 where a stroke ends; solid, per
    cell: False where there is no bead, see plastic.Deposit.
    """

    step: float
    s: FloatArray
    xyz: FloatArray
    t: FloatArray
    fed: FloatArray
    primed: FloatArray
    corners: FloatArray
    stroke: NDArray[np.intp]
    cell: FloatArray
    solid: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.s)

    def index(self, s: FloatArray) -> NDArray[np.intp]:
        """The first point at or after arc length s, clipped to the path."""
        return np.minimum(np.searchsorted(self.s, s), len(self.s) - 1)

    def values(self, where: FloatArray, array: FloatArray) -> FloatArray:
        """`array` (per point) at fractional indices that lie inside strokes."""
        low = np.floor(where).astype(int)
        high = np.minimum(low + 1, len(self.s) - 1)
        part = where - low
        if array.ndim > 1:
            part = part[:, None]
        return np.where(
            part > 0.0, array[low] * (1 - part) + array[high] * part, array[low]
        )


def resample(deposits: Sequence[Deposit], step: float) -> BeadPath:
    """Join deposits in order into one path with a point about every `step` mm."""
    columns: dict[str, list[NDArray]] = {}
    base_s = base_fed = 0.0
    base_stroke = 0
    for laid in deposits:
        piece = _resample_one(laid, step)
        if piece is None:
            continue
        piece["s"] = piece["s"] + base_s
        piece["fed"] = piece["fed"] + base_fed
        piece["stroke"] = piece["stroke"] + base_stroke
        base_s, base_fed = piece["s"][-1], piece["fed"][-1]
        base_stroke = piece["stroke"][-1] + 1
        for name, values in piece.items():
            columns.setdefault(name, []).append(values)
    if not columns:
        empty = np.zeros(0)
        none = np.zeros(0, dtype=np.intp)
        return BeadPath(
            step, empty, np.zeros((0, 3)), empty, empty, empty, np.zeros((0, 4)),
            none, empty, none.astype(bool),
        )  # fmt: skip
    return BeadPath(step, **{name: np.concatenate(v) for name, v in columns.items()})


def laid_only(path: BeadPath) -> BeadPath:
    """The path without points where there is no bead; each gap is one cell then."""
    if not len(path):
        return path
    by_plastic = path.solid & (path.cell > 0.0)
    keep = np.flatnonzero(by_plastic | np.concatenate([[False], by_plastic[:-1]]))
    if not len(keep):
        return resample([], path.step)
    picked = {
        name: getattr(path, name)[keep]
        for name in ("s", "xyz", "t", "fed", "primed", "corners", "stroke", "solid")
    }
    cell = np.diff(picked["s"], append=picked["s"][-1:])
    cell[np.append(np.diff(picked["stroke"]), 1) != 0] = 0.0
    return BeadPath(step=path.step, cell=cell, **picked)


def _resample_one(laid: Deposit, step: float) -> dict[str, NDArray] | None:
    if not len(laid.t):
        return None
    first = np.flatnonzero(np.diff(laid.stroke, prepend=-1))
    last = np.append(first[1:], len(laid.t)) - 1
    length = laid.s[last] - laid.s[first]
    long = length >= DROP_MM
    if not long.any():
        return None
    kept_first, kept_length = first[long], length[long]
    # Where a drop was left out, the beads close up.
    kept_start = np.cumsum(kept_length) - kept_length
    count = np.maximum(1, np.round(kept_length / step)).astype(int)
    points = count + 1
    stroke = np.repeat(np.arange(len(count)), points)
    rank = np.arange(points.sum()) - np.repeat(np.cumsum(points) - points, points)
    along = rank / count[stroke] * kept_length[stroke]
    # One millimetre between strokes keeps the abscissa of interpolation unique.
    raw = laid.s + laid.stroke
    target = along + (laid.s[kept_first] + laid.stroke[kept_first])[stroke]
    target = np.minimum(target, (laid.s[last] + laid.stroke[last])[long][stroke])
    fed = np.cumsum(laid.filament)

    def at(values: FloatArray) -> FloatArray:
        return np.interp(target, raw, values)

    cell = np.append(np.diff(along), 0.0)
    cell[np.append(np.diff(stroke), 1) != 0] = 0.0
    middle = np.searchsorted(raw, target + cell / 2).clip(0, len(raw) - 1)
    fed_at = at(fed)
    start_point = np.cumsum(points) - points
    primed = fed_at[start_point] - fed[kept_first]
    return {
        "s": along + kept_start[stroke],
        "xyz": np.stack([at(laid.xyz[:, k]) for k in range(3)], axis=1),
        "t": at(laid.t),
        "fed": fed_at,
        "primed": primed[stroke],
        "corners": np.stack([at(laid.corners[:, k]) for k in range(4)], axis=1),
        "stroke": stroke,
        "cell": cell,
        "solid": laid.solid[middle],
    }
