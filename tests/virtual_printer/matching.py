# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Which millimetre of the reference a millimetre of plastic stands for.

A point says little: infill lines lie 0.4 mm apart and the perimeters of two layers
differ by 0.2 mm in Z alone.  A sequence says all.  So a bead is followed along the
reference by arc length, each point free only to move a little along the path; the
place is looked for anew, by how the next millimetres fit, when that stops being true.
A steady displacement (layer shift, wrong Z) is learnt and followed: it is an error of
position, not plastic missing here and astray there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .path import BeadPath
from .trace import FloatArray

Indices = NDArray[np.intp]

BLOCK = 200  # points followed between two looks at the drift
WINDOW_MM = 0.6  # freedom along the path
SUSPECT_XY_MM = 0.06  # a deviation that makes us look whether we are lost
SUSPECT_Z_MM = 0.04
LOST_MM = 1.0  # nothing further away is ever the same plastic
GRACE = 10  # points without a new look after one
SKIP_MM = 0.25  # between two attempts to find plastic that is astray
NEAR_TREE_MM = 0.1  # spacing of the points in the search tree
HORIZON_MM, HORIZON_POINTS = 2.0, 20  # how far ahead a place must fit
FAR_MM, FAR_POINTS = 40.0, 160  # when several places fit
SAME_LAYER_MM = 0.15
OTHER_LAYER_MM = 0.45
FIT_MM = 0.2  # mean distance of a fit that needs no further proof
PERFECT_MM = 0.05
# A height that is not the reference's costs this much, and how wrong it is hardly
# matters: between the layer above, 0.08 mm too low, and the expected one, 0.12 mm too
# high, order decides.
WRONG_HEIGHT, WRONG_HEIGHT_MM, Z_WEIGHT = 0.06, 0.03, 0.02
# What a place must fit better by when it is not the expected one, or far from it.
ELSEWHERE, FAR_ELSEWHERE, FAR_ELSEWHERE_MM = 0.02, 0.02, 200.0


@dataclass(frozen=True)
class Match:
    """For each point of a session's path, its place in the reference.

    where: fractional index into the reference, nan for plastic astray.  run: number
    of the unbroken stretch it belongs to, -1 astray.  xy_error: mm to the reference's
    path, across.  at_end: the place is an end of a reference stroke.
    """

    where: FloatArray
    run: Indices
    xy_error: FloatArray
    at_end: NDArray[np.bool_]


@dataclass(frozen=True)
class _Place:
    """offset: reference s minus own s.  bias: own position minus the reference's."""

    offset: float
    bias: FloatArray


NO_BIAS = np.zeros(3)


class Follower:
    """Follows sessions along one reference."""

    def __init__(self, reference: BeadPath) -> None:
        self.ref = reference
        self._stride = max(1, round(NEAR_TREE_MM / reference.step))
        self._scale = np.array([1.0, 1.0, LOST_MM / OTHER_LAYER_MM])
        self._tree = cKDTree(reference.xyz[:: self._stride] * self._scale)
        self._half = round(WINDOW_MM / reference.step)

    def follow(self, path: BeadPath, expected: tuple[float, float]) -> Match:
        """Place every point; `expected` is the range of reference s where a session
        should begin: it only decides between places that fit equally well."""
        where = np.full(len(path), np.nan)
        run = np.full(len(path), -1)
        number, j, grace = -1, 0, 0
        place: _Place | None = None
        while j < len(path):
            if place is None:
                place = self._find(path, j, expected)
                if place is None:
                    j = _after_gap(path, j)
                    continue
                number, grace = number + 1, GRACE
            end = min(j + BLOCK, len(path))
            index, off = self._project(path, j, end, place)
            bad = (np.hypot(off[:, 0], off[:, 1]) > SUSPECT_XY_MM) | (
                np.abs(off[:, 2]) > SUSPECT_Z_MM
            )
            bad[:grace] = False
            bad |= np.hypot(off[:, 0], off[:, 1]) > LOST_MM
            good = int(np.argmax(bad)) if bad.any() else len(bad)
            where[j : j + good], run[j : j + good] = index[:good], number
            if good:
                recent = slice(max(0, good - 20), good)
                drift = self.ref.s[index[recent]] - path.s[j : j + good][recent]
                place = _Place(float(np.median(drift)), place.bias)
            j, grace = j + good, max(0, grace - good)
            here = path.s[min(j, len(path) - 1)] + place.offset
            expected = (here - 0.5, here + 0.5)
            if bad.any():
                place, moved = self._reconsider(path, j, place, expected)
                number, grace = number + moved, GRACE
        return self._measured(path, where, _split_runs(self.ref, where, run))

    def _project(
        self, path: BeadPath, j: int, end: int, place: _Place
    ) -> tuple[Indices, FloatArray]:
        """Nearest reference points around the prediction, and the offsets to them."""
        ahead = path.s[j:end] + place.offset
        points = path.xyz[j:end] - place.bias
        columns = self.ref.index(ahead)[:, None] + np.arange(
            -self._half, self._half + 1
        )
        np.clip(columns, 0, len(self.ref) - 1, out=columns)
        off = points[:, None, :] - self.ref.xyz[columns]
        # Where the path folds back on itself, the predicted one of two equals.
        cost = np.hypot(off[:, :, 0], off[:, :, 1]) + np.abs(off[:, :, 2])
        cost += 0.1 * np.abs(self.ref.s[columns] - ahead[:, None])
        best = np.argmin(cost, axis=1)
        rows = np.arange(len(best))
        return columns[rows, best], off[rows, best]

    def _reconsider(
        self, path: BeadPath, j: int, place: _Place, expected: tuple[float, float]
    ) -> tuple[_Place | None, int]:
        """Go on displaced, or be somewhere else (1: a new run), or be lost."""
        here = path.s[j] + place.offset
        xy, z = self._fit(path, j, np.array([here]))
        stay = (xy + _height_cost(z))[0]
        other = self._search(path, j, expected)
        if other is not None:
            start, cost, other_xy = other
            if other_xy < PERFECT_MM and cost < stay - 0.05:
                return self._settle(path, j, start), 1
        if xy[0] < 0.95 * LOST_MM and z[0] <= SAME_LAYER_MM:
            return self._settle(path, j, here), 0
        return self._find(path, j, expected), 1

    def _find(
        self, path: BeadPath, j: int, expected: tuple[float, float]
    ) -> _Place | None:
        found = self._search(path, j, expected)
        if found is None:
            return None
        start, _, xy = found
        if xy <= FIT_MM or self._shifted(path, j, start):
            return self._settle(path, j, start)
        return None

    def _search(
        self, path: BeadPath, j: int, expected: tuple[float, float]
    ) -> tuple[float, float, float] | None:
        """(reference s, cost, mean XY distance) of the place that fits best."""
        near = self._tree.query_ball_point(path.xyz[j] * self._scale, LOST_MM * 1.05)
        if not near:
            return None
        starts = self.ref.s[np.sort(near) * self._stride]
        xy, z = self._fit(path, j, starts)
        best_of = _valleys(starts, xy + _height_cost(z))
        around = np.arange(-0.12, 0.121, 0.01)
        starts = np.unique((starts[best_of][:, None] + around).ravel())
        xy, z = self._fit(path, j, starts)
        for limit, most in ((SAME_LAYER_MM, LOST_MM), (OTHER_LAYER_MM, FIT_MM / 2)):
            usable = np.flatnonzero((z <= limit) & (xy < most))
            if len(usable):
                break
        else:
            return None
        starts, xy, z = starts[usable], xy[usable], z[usable]
        away = np.maximum(expected[0] - starts, starts - expected[1])
        cost = xy + _height_cost(z) + ELSEWHERE * (away > 0.0)
        cost += FAR_ELSEWHERE * np.clip(away / FAR_ELSEWHERE_MM, 0.0, 1.0)
        keep = _valleys(starts, cost)
        keep = keep[cost[keep] <= cost[keep].min() + 0.06]
        if len(keep) > 1:
            far, far_z = self._fit(path, j, starts[keep], FAR_MM, FAR_POINTS)
            chosen = keep[np.argmin(cost[keep] + far + _height_cost(far_z))]
        else:
            chosen = keep[0]
        return float(starts[chosen]), float(cost[chosen]), float(xy[chosen])

    def _gaps(
        self, path: BeadPath, j: int, starts: FloatArray, ahead: float, points: int
    ) -> FloatArray:
        """Own positions minus the reference's from each start on, (starts, n, 3)."""
        arcs = np.linspace(0.0, min(ahead, path.s[-1] - path.s[j]), points)
        rows = np.maximum(path.index(path.s[j] + arcs), j)
        # Not inside a gap of a stroke, where the path has no points.
        rows = rows[path.s[rows] - path.s[j] - arcs < 1.5 * path.step]
        places = self.ref.index(starts[:, None] + path.s[rows] - path.s[j])
        return path.xyz[rows] - self.ref.xyz[places]

    def _fit(
        self,
        path: BeadPath,
        j: int,
        starts: FloatArray,
        ahead: float = HORIZON_MM,
        points: int = HORIZON_POINTS,
    ) -> tuple[FloatArray, FloatArray]:
        """Mean XY and Z distance over the horizon, each point's capped."""
        gaps = self._gaps(path, j, starts, ahead, points)
        xy = np.minimum(np.hypot(gaps[:, :, 0], gaps[:, :, 1]), LOST_MM).mean(axis=1)
        return xy, np.minimum(np.abs(gaps[:, :, 2]), LOST_MM).mean(axis=1)

    def _shifted(self, path: BeadPath, j: int, start: float) -> bool:
        """Far from the reference, yet of its shape: the whole part is displaced."""
        gaps = self._gaps(path, j, np.array([start]), FAR_MM, FAR_POINTS)[0]
        until = path.index(np.array([path.s[j] + FAR_MM]))[0] + 1
        extent = np.ptp(path.xyz[j:until, :2], axis=0)
        spread = np.median(np.abs(gaps - np.median(gaps, axis=0)), axis=0)
        return bool((extent > 3.0).all() and (spread[:2] < 0.08).all())

    def _settle(self, path: BeadPath, j: int, start: float) -> _Place:
        """The offset near `start` for which one displacement explains the most."""
        trials = start + np.arange(-1.0, 1.001, 0.05)
        gaps = self._gaps(path, j, trials, 2 * HORIZON_MM, 2 * HORIZON_POINTS)
        bias = np.median(gaps, axis=1)
        spread = np.abs(gaps - bias[:, None, :]).sum(axis=2).mean(axis=1)
        size = np.hypot(bias[:, 0], bias[:, 1])
        best = int(np.argmin(spread + 0.05 * size + 0.02 * np.abs(trials - start)))
        if size[best] < SUSPECT_XY_MM and abs(bias[best, 2]) < SUSPECT_Z_MM:
            return _Place(start - path.s[j], NO_BIAS)
        return _Place(float(trials[best] - path.s[j]), bias[best])

    def _measured(self, path: BeadPath, where: FloatArray, run: Indices) -> Match:
        """Refine places to fractions of a point and measure the distance across."""
        error = np.full(len(path), np.nan)
        at_end = np.zeros(len(path), dtype=bool)
        for begin in range(0, len(path), BLOCK):
            rows = begin + np.flatnonzero(run[begin : begin + BLOCK] >= 0)
            if not len(rows):
                continue
            index = where[rows].astype(int)
            columns = index[:, None] + np.arange(-2 * self._half, 2 * self._half + 1)
            np.clip(columns, 0, len(self.ref) - 1, out=columns)
            points = path.xyz[rows]
            off = points[:, None, :] - self.ref.xyz[columns]
            cost = np.hypot(off[:, :, 0], off[:, :, 1]) + np.abs(off[:, :, 2])
            nearest = columns[np.arange(len(rows)), np.argmin(cost, axis=1)]
            error[rows] = _across(self.ref, nearest, points)[1]
            where[rows] = index + _across(self.ref, index, points)[0]
            at_end[rows] = _stroke_end(self.ref, nearest)
        return Match(where, run, error, at_end)


def _height_cost(z: FloatArray) -> FloatArray:
    return WRONG_HEIGHT * np.clip(z / WRONG_HEIGHT_MM - 1.0, 0.0, 1.0) + Z_WEIGHT * z


def _across(
    ref: BeadPath, index: Indices, points: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Fraction of a cell from `index` to the foot of the point; XY distance there."""
    fraction = np.zeros(len(index))
    off = points[:, :2] - ref.xyz[index, :2]
    distance = np.hypot(off[:, 0], off[:, 1])
    for way in (1, -1):
        beside = np.clip(index + way, 0, len(ref) - 1)
        along = ref.xyz[beside, :2] - ref.xyz[index, :2]
        square = (along**2).sum(axis=1)
        same = (ref.stroke[beside] == ref.stroke[index]) & (square > 0.0)
        part = np.clip((off * along).sum(axis=1) / np.where(same, square, 1.0), 0, 1)
        foot = np.hypot(*(off - part[:, None] * along).T)
        better = same & (foot < distance)
        distance = np.where(better, foot, distance)
        fraction = np.where(better, way * part, fraction)
    return fraction, distance


def _stroke_end(ref: BeadPath, index: Indices) -> NDArray[np.bool_]:
    before, after = np.maximum(index - 2, 0), np.minimum(index + 2, len(ref) - 1)
    return (
        (ref.stroke[before] != ref.stroke[index])
        | (ref.stroke[after] != ref.stroke[index])
        | (before == 0)
        | (after == len(ref) - 1)
    )


def _valleys(starts: FloatArray, cost: FloatArray) -> Indices:
    """The cheapest of each group of neighbouring starts (sorted, mm)."""
    group = np.cumsum(np.diff(starts, prepend=starts[0]) > 3.5 * NEAR_TREE_MM)
    order = np.lexsort((cost, group))
    first = np.diff(group[order], prepend=-1) != 0
    return order[first]


def _after_gap(path: BeadPath, j: int) -> int:
    """Where to try again: a little further on, or where the next stroke starts."""
    further = int(np.searchsorted(path.s, path.s[j] + SKIP_MM))
    following = int(np.searchsorted(path.stroke, path.stroke[j], side="right"))
    return max(j + 1, min(further, following))


def _split_runs(ref: BeadPath, where: FloatArray, run: Indices) -> Indices:
    """A step back along the reference begins a new run: it lays plastic twice."""
    out = np.full_like(run, -1)
    number = 0
    for old in range(int(run.max(initial=-1)) + 1):
        rows = np.flatnonzero(run == old)
        while len(rows):
            s = ref.s[where[rows].astype(int)]
            back = s < np.maximum.accumulate(s) - 0.1
            end = int(np.argmax(back)) if back.any() else len(rows)
            out[rows[:end]] = number
            number, rows = number + 1, rows[end:]
    return out
