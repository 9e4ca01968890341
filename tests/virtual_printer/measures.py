# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Figures about plastic that has been placed along the reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .matching import Match
from .path import BeadPath
from .plastic import Machine, Motion
from .trace import FloatArray
from .verdict import Stretch

FILAMENT_WINDOW_MM = 5.0
# A nozzle that starts from a standstill is fed what pressure advance adds for the
# speed it reaches: that is right, and the undisturbed print has it elsewhere.
SEAM_MM = 2.5
ON_PART_MM = 0.5
NOISE_MM = 0.005
NEAR_S, NEAR_Z_MM = 0.3, 0.15
TEST_CELL_MM = 0.05


@dataclass(frozen=True)
class Print:
    """One session of the test, sampled and placed."""

    number: int
    machine: Machine
    moved: Motion
    path: BeadPath
    match: Match


@dataclass(frozen=True)
class Cells:
    """A stretch and the reference cells, first and last, that it lies on."""

    first: int
    last: int
    stretch: Stretch


@dataclass(frozen=True)
class Errors:
    """Largest deviations of matched plastic from the reference's, mm."""

    z: float
    corner: float
    xy: float


def resolution(machines: Sequence[Machine], ref: BeadPath) -> float:
    """mm of bead below which a difference between two strokes is noise.

    The extruder steps once per (step / filament per mm) of bead, about 0.04 mm. Where
    one stroke ends and the next starts, each may be known no better than that; the
    rest is sampling and what the XY motors' own steps allow.
    """
    step = max(machine.paths["e"].step_mm() for machine in machines)
    rate = ref.fed[-1] / ref.s[-1]
    return float(np.clip(2.0 * step / rate + 0.04, 0.05, 0.3))


def coverage(
    ref: BeadPath, one: Print, counted: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """How many runs of a session laid each reference cell, by `counted` cells."""
    path, match = one.path, one.match
    out = np.zeros(len(ref), dtype=np.int32)
    if len(path) < 2:
        return out
    joined = (match.run[:-1] >= 0) & (match.run[:-1] == match.run[1:])
    joined &= (path.stroke[:-1] == path.stroke[1:]) & counted[:-1]
    rows = np.flatnonzero(joined)
    begin = np.round(match.where[rows]).astype(int)
    end = np.round(match.where[rows + 1]).astype(int)
    way = ref.s[end] - ref.s[begin]
    fits = (end > begin) & (way <= path.cell[rows] + 0.1)
    begin, end, run = begin[fits], end[fits], match.run[rows][fits]
    for number in np.unique(run):
        a, b = begin[run == number], end[run == number]
        low, high = a.min(), b.max()
        edge = np.zeros(high - low + 1, dtype=np.int32)
        np.add.at(edge, a - low, 1)
        np.add.at(edge, b - low, -1)
        out[low : high + 1] += np.cumsum(edge) > 0
    return out


def stretches(
    ref: BeadPath, times: NDArray[np.integer], shortest: float
) -> tuple[list[Cells], float]:
    """Unbroken stretches of reference cells with times > 0, each cell's length
    counted that often; and the mm in stretches too short to be told from noise."""
    weight = ref.cell * times * ref.solid
    # Cells without plastic of their own join their neighbours.
    on = (times > 0) | (ref.cell * ref.solid == 0.0)
    edge = np.flatnonzero(np.diff(np.concatenate([[0], on.astype(np.int8), [0]])))
    total = np.concatenate([[0.0], np.cumsum(weight)])
    out: list[Cells] = []
    noise = 0.0
    for begin, end in edge.reshape(-1, 2):
        length = float(total[end] - total[begin])
        if length < shortest:
            noise += length
            continue
        marked = begin + np.flatnonzero(weight[begin:end])
        a, b = int(marked[0]), int(marked[-1])
        x, y, z = (float(v) for v in ref.xyz[a])
        stretch = Stretch(float(ref.t[a]), float(ref.t[b]), x, y, z, length)
        out.append(Cells(a, b, stretch))
    return out, noise


def errors(ref: BeadPath, motions: Sequence[Motion], prints: Iterable[Print]) -> Errors:
    """Z, corner heights and XY of matched plastic against its own place."""
    z, corner, xy = [0.0], [0.0], [0.0]
    for one in prints:
        rows = np.flatnonzero(one.match.run >= 0)
        if not len(rows):
            continue
        where = one.match.where[rows]
        z.append(np.abs(one.path.xyz[rows, 2] - ref.values(where, ref.xyz[:, 2])).max())
        heights = ref.values(where, ref.corners)
        corner.append(np.abs(one.path.corners[rows] - heights).max())
        across = one.match.xy_error[rows]
        # A bead may begin or end an extruder step off: still on the nozzle's path.
        for k in np.flatnonzero(one.match.at_end[rows] & (across > NOISE_MM)):
            t = float(ref.values(where[k : k + 1], ref.t)[0])
            point = one.path.xyz[rows[k]]
            across[k] = min(across[k], _from_motion(motions, t, point))
        xy.append(across.max(initial=0.0))
    return Errors(float(max(z)), float(max(corner)), float(max(xy)))


def _from_motion(motions: Sequence[Motion], t: float, point: FloatArray) -> float:
    """XY mm from `point` to where the nozzle went, near its height, around time t."""
    best = np.inf
    for moved in motions:
        low, high = np.searchsorted(moved.t, (t - NEAR_S, t + NEAR_S))
        track = moved.xyz[low:high]
        track = track[np.abs(track[:, 2] - point[2]) < NEAR_Z_MM, :2]
        if len(track) < 2:
            continue
        along, off = np.diff(track, axis=0), point[:2] - track[:-1]
        square = np.maximum((along**2).sum(axis=1), 1e-12)
        part = np.clip((off * along).sum(axis=1) / square, 0.0, 1.0)
        foot = off - part[:, None] * along
        best = min(best, float(np.hypot(foot[:, 0], foot[:, 1]).min()))
    return best


def filament(
    ref: BeadPath, prints: Iterable[Print], skip: float
) -> tuple[float, float]:
    """(worst 5 mm window, total): filament over the reference's, relative, absolute
    value; `skip` mm at the start of each session left out."""
    worst, own_sum, ref_sum = 0.0, 0.0, 0.0
    for one in prints:
        path, match = one.path, one.match
        rows = np.flatnonzero(match.run >= 0)
        if not len(rows):
            continue
        rows = rows[path.s[rows] >= path.s[rows[0]] + skip]
        end = path.index(path.s[rows] + FILAMENT_WINDOW_MM)
        own, there = _fed(ref, one, rows, end, FILAMENT_WINDOW_MM)
        worst = max(worst, np.abs(own / there - 1.0).max(initial=0.0))
        own, there = _fed(ref, one, rows[:-1], rows[1:], TEST_CELL_MM)
        own_sum, ref_sum = own_sum + own.sum(), ref_sum + there.sum()
    total = abs(own_sum / ref_sum - 1.0) if ref_sum > 0.0 else 0.0
    return float(worst), float(total)


def _fed(
    ref: BeadPath, one: Print, begin: NDArray, end: NDArray, span: float
) -> tuple[FloatArray, FloatArray]:
    """Filament over path rows begin to end, own and the reference's, where both
    walked the same `span` of bead."""
    path, match = one.path, one.match
    same = (match.run[begin] == match.run[end]) & (end > begin)
    begin, end = begin[same], end[same]
    way = ref.s[match.where[end].astype(int)] - ref.s[match.where[begin].astype(int)]
    own_way = path.s[end] - path.s[begin]
    alike = (np.abs(way - own_way) < 0.1) & (own_way > 0.5 * span)
    begin, end = begin[alike], end[alike]
    there = ref.values(match.where[end], ref.fed)
    there = there - ref.values(match.where[begin], ref.fed)
    own = path.fed[end] - path.fed[begin]
    some = there > 0.0
    return own[some], there[some]


def seam_filament(ref: BeadPath, one: Print, row: int) -> float:
    """mm of filament in the first SEAM_MM from path row `row` on, with what was primed
    standing still just before, minus what the reference has there."""
    path, place = one.path, float(one.match.where[row])
    end = int(path.index(np.array([path.s[row] + SEAM_MM]))[0])
    own = path.fed[end] - path.fed[row] + path.primed[row]
    start = int(round(place))
    stop = int(ref.index(np.array([ref.s[start] + path.s[end] - path.s[row]]))[0])
    there = ref.fed[stop] - ref.fed[start]
    begins = max(0, start - 10)
    if ref.stroke[begins] != ref.stroke[start] or begins == 0:
        there += ref.primed[start]
    return float(own - there)


def astray(one: Print) -> list[Stretch]:
    """Plastic of a session that is nowhere in the reference."""
    path, run = one.path, one.match.run
    if not len(path):
        return []
    lost = (run < 0).astype(np.int8)
    edge = np.flatnonzero(np.diff(np.concatenate([[0], lost, [0]])))
    cuts = np.flatnonzero(np.diff(path.stroke)) + 1
    out = []
    for begin, end in edge.reshape(-1, 2):
        inner = cuts[(cuts > begin) & (cuts < end)]
        for a, b in zip([begin, *inner], [*inner, end], strict=True):
            length = float((path.cell * path.solid)[a : b - 1].sum())
            if length > 0.0:
                x, y, z = (float(v) for v in path.xyz[a])
                t, t_end = float(path.t[a]), float(path.t[b - 1])
                out.append(Stretch(t, t_end, x, y, z, length, one.number))
    return out


def astray_on_part(ref: BeadPath, prints: Iterable[Print]) -> float:
    """mm of astray plastic within 0.5 mm (XY) of anything that the reference laid."""
    tree = None
    total = 0.0
    for one in prints:
        lost = np.flatnonzero(one.match.run < 0)
        if not len(lost):
            continue
        if tree is None:
            tree = cKDTree(ref.xyz[::20, :2])
        near, _ = tree.query(one.path.xyz[lost, :2], distance_upper_bound=ON_PART_MM)
        on = lost[np.isfinite(near)]
        total += float((one.path.cell * one.path.solid)[on].sum())
    return total
