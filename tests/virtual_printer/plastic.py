# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""From motor steps to the nozzle's motion, and to the plastic that it leaves.

A bead is laid when the filament is further forward than it ever was in this
session; a retraction and its undoing lay nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .trace import Z_MOTORS, FloatArray, Geometry, Series, Session, TraceError

GRID_S = 0.002
SPACING_MM = 0.05
# A row further than this from the one before it is a snap or a sag, not a step.
JUMP_MM = 0.03
# Half the longest time over which one step is spread.
REACH_S = 0.025
# A step is spread over at most this much more than its neighbours: a longer gap
# means that the motor stood still.
STEADY = 1.6
# Pressure advance pulls the filament back at every corner and at the end of every
# bead, and the nozzle's pressure makes good for it.  While the filament is this little
# behind and moves together with X and Y, a bead is laid; it may pause for DIP_STILL_S.
DIP_LEAST_MM, DIP_MM = 0.004, 0.15
DIP_STILL_S = 0.02
MOVING_MM_S = 1.0
# Such a dip this short, travel in it included, does not end a stroke.
DIP_S = 0.2
DIP_PATH_MM = 6.0
DIP_Z_MM = 0.02
LAID_MM = 1e-7
CORNER_RAD = 0.35
CORNER_SPLIT = 8


class MotorPath:
    """Position of one motor as a continuous function of time.

    Klipper steps when the commanded position crosses the middle between two step
    positions, so a step is drawn as a ramp through its middle at its time; the error
    is then below half a step in steady motion, and one step always.
    """

    def __init__(self, series: Series) -> None:
        self.t = np.asarray(series[0], dtype=float)
        self.pos = np.asarray(series[1], dtype=float)
        if len(self.t) == 0:
            raise TraceError("a motor has no rows: the first row must be at t_on")
        if np.any(np.diff(self.t) < 0):
            raise TraceError("the rows of a motor are not sorted by time")
        move = np.diff(self.pos, prepend=self.pos[0])
        jump = np.abs(move) > JUMP_MM
        self.jump_times = self.t[jump]
        self._half = np.append(np.where(jump, 0.0, move), 0.0) / 2
        gap = np.concatenate([[np.inf], np.diff(self.t), [np.inf]])
        beside = np.full_like(gap, np.inf)
        beside[1:] = gap[:-1]
        beside[:-1] = np.minimum(beside[:-1], gap[1:])
        self._gap = gap
        self._reach = np.clip(np.minimum(gap, STEADY * beside) / 2, 1e-9, REACH_S)

    def at(self, times: FloatArray) -> FloatArray:
        """mm at each of `times` (any shape, seconds)."""
        after = np.searchsorted(self.t, times, side="right")
        before = np.maximum(after - 1, 0)
        upcoming = np.minimum(after, len(self.t) - 1)
        reach = self._reach[after]
        since = np.maximum(times - self.t[before], 0.0)
        until = np.maximum(self.t[upcoming] - times, 0.0)
        left = self._half[before] * np.maximum(0.0, 1.0 - since / reach)
        right = self._half[after] * np.maximum(0.0, 1.0 - until / reach)
        return self.pos[before] - left + right

    def busy(self, grid: FloatArray) -> NDArray[np.bool_]:
        """Which of the len(grid)-1 intervals hold a row."""
        return np.diff(np.searchsorted(self.t, grid, side="right")) > 0

    def edges(self) -> FloatArray:
        """Where the motor stops or starts between two steps (seconds)."""
        gap, reach = self._gap[1:-1], self._reach[1:-1]
        still = np.flatnonzero(gap > 2.02 * reach)
        return np.concatenate(
            [self.t[still] + reach[still], self.t[still + 1] - reach[still]]
        )

    def step_mm(self) -> float:
        """The usual distance between rows; 0 for a motor that never stepped."""
        steps = 2 * np.abs(self._half[self._half != 0.0])
        return float(np.median(steps)) if len(steps) else 0.0


class Machine:
    """A session's motors as nozzle and corner positions."""

    def __init__(self, session: Session, geometry: Geometry) -> None:
        self.session = session
        self.paths = {n: MotorPath(rows) for n, rows in session.motors.items()}
        (x0, y0), _, (x1, y1), _ = geometry.z_corners
        self._origin, self._size = (x0, y0), (x1 - x0, y1 - y0)

    def xy(self, times: FloatArray) -> tuple[FloatArray, FloatArray]:
        a, b = self.paths["a"].at(times), self.paths["b"].at(times)
        return (a + b) / 2, (a - b) / 2

    def corners(self, times: FloatArray) -> FloatArray:
        """Heights of the four corners, shape (n, 4)."""
        return np.stack([self.paths[name].at(times) for name in Z_MOTORS], axis=-1)

    def nozzle(self, times: FloatArray) -> FloatArray:
        """x, y, z of the nozzle, shape (n, 3)."""
        x, y = self.xy(times)
        return self._place(x, y, self.corners(times))

    def _place(self, x: FloatArray, y: FloatArray, corners: FloatArray) -> FloatArray:
        u = (x - self._origin[0]) / self._size[0]
        v = (y - self._origin[1]) / self._size[1]
        share = np.stack([(1 - u) * (1 - v), (1 - u) * v, u * v, u * (1 - v)], axis=-1)
        return np.stack([x, y, (share * corners).sum(axis=-1)], axis=-1)


@dataclass(frozen=True)
class Motion:
    """Samples of a session wherever anything moved.

    fed: the highest mark that the filament has reached, mm, 0 at power-on.
    laid, bridged: per interval (n - 1): a bead, and no bead but the same stroke.
    """

    t: FloatArray
    xyz: FloatArray
    corners: FloatArray
    fed: FloatArray
    laid: NDArray[np.bool_]
    bridged: NDArray[np.bool_]


@dataclass(frozen=True)
class Deposit:
    """Plastic of one session, a sample at least every 0.05 mm.

    filament: mm of filament laid between the sample before and this one, 0 at the
    start of a stroke.  s: mm along the strokes before the sample.  stroke: samples with
    the same number belong to one.  solid: False where the stroke goes on without a
    bead, over a short travel.  corners: heights of the four corners, (n, 4).
    """

    t: FloatArray
    xyz: FloatArray
    filament: FloatArray
    s: FloatArray
    stroke: NDArray[np.intp]
    solid: NDArray[np.bool_]
    corners: FloatArray

    @property
    def length(self) -> float:
        return float(self.s[-1]) if len(self.s) else 0.0


def motion(machine: Machine) -> Motion:
    """Sample a session where it moves, finely enough for every corner and bead."""
    times = _refine(machine, _active_times(machine))
    fed = _mark(machine, times)
    e = machine.paths["e"].at(times) - machine.paths["e"].pos[0]
    crossing = np.flatnonzero((e[:-1] < fed[:-1] - LAID_MM) & (e[1:] > fed[:-1]))
    if len(crossing):
        part = (fed[crossing] - e[crossing]) / (e[crossing + 1] - e[crossing])
        when = times[crossing] + part * (times[crossing + 1] - times[crossing])
        times = np.union1d(times, when)
        fed = _mark(machine, times)
        e = machine.paths["e"].at(times) - machine.paths["e"].pos[0]
    corners = machine.corners(times)
    xyz = machine._place(*machine.xy(times), corners)
    laid = _beads(times, xyz, fed, e)
    bridged = _bridges(times, xyz, fed - e, laid)
    return Motion(times, xyz, corners, fed, laid, bridged)


def deposit(session: Session, geometry: Geometry) -> Deposit:
    """The plastic that a session laid."""
    return deposit_of(motion(Machine(session, geometry)))


def deposit_of(moved: Motion) -> Deposit:
    """The plastic of an already sampled session."""
    bead = moved.laid | moved.bridged
    before = np.concatenate([[False], bead])
    after = np.concatenate([bead, [False]])
    keep = np.flatnonzero(before | after)
    inside = before[keep]
    span = np.zeros(len(moved.t))
    span[1:] = np.linalg.norm(np.diff(moved.xyz, axis=0), axis=1)
    filament = np.diff(moved.fed, prepend=moved.fed[:1])
    solid = np.concatenate([[True], moved.laid])
    return Deposit(
        t=moved.t[keep],
        xyz=moved.xyz[keep],
        filament=np.where(inside, filament[keep], 0.0),
        s=np.cumsum(np.where(inside, span[keep], 0.0)),
        stroke=np.cumsum(~inside) - 1,
        solid=solid[keep] | ~inside,
        corners=moved.corners[keep],
    )


def _active_times(machine: Machine) -> FloatArray:
    session = machine.session
    grid = np.append(np.arange(session.t_on, session.t_off, GRID_S), session.t_off)
    busy = np.zeros(len(grid) + 1, dtype=bool)
    for path in machine.paths.values():
        busy[1:-1] |= path.busy(grid)
    # One quiet interval on each side, so that motion begins and ends sampled.
    near = busy[1:] | busy[:-1]
    near[1:] |= near[:-1].copy()
    near[:-1] |= near[1:].copy()
    near[0] = near[-1] = True
    edges = machine.paths["e"].edges()
    edges = edges[(edges > session.t_on) & (edges < session.t_off)]
    return np.union1d(grid[near], edges)


def _refine(machine: Machine, times: FloatArray) -> FloatArray:
    x, y = machine.xy(times)
    parts = np.ceil(np.hypot(np.diff(x), np.diff(y)) / SPACING_MM)
    times = _split(times, parts)
    x, y = machine.xy(times)
    dx, dy = np.diff(x), np.diff(y)
    angle = np.arctan2(dy, dx)
    turn = np.abs(np.angle(np.exp(1j * np.diff(angle)))) > CORNER_RAD
    turn &= (np.hypot(dx, dy)[1:] > 0.01) | (np.hypot(dx, dy)[:-1] > 0.01)
    parts = np.ones(len(times) - 1)
    parts[1:][turn] = CORNER_SPLIT
    parts[:-1][turn] = CORNER_SPLIT
    return _split(times, parts)


def _split(times: FloatArray, parts: FloatArray) -> FloatArray:
    """Cut interval i into parts[i] equal ones."""
    count = np.maximum(parts, 1).astype(int)
    start = np.repeat(times[:-1], count)
    width = np.repeat(np.diff(times) / count, count)
    first = np.repeat(np.cumsum(count) - count, count)
    inner = start + (np.arange(len(start)) - first) * width
    return np.append(inner, times[-1])


def _mark(machine: Machine, times: FloatArray) -> FloatArray:
    path = machine.paths["e"]
    return np.maximum.accumulate(np.maximum(path.at(times) - path.pos[0], 0.0))


def _beads(
    times: FloatArray, xyz: FloatArray, fed: FloatArray, e: FloatArray
) -> NDArray[np.bool_]:
    """Intervals in which the mark rises, or that lead there or away, see DIP_MM."""
    rising = np.diff(fed) > LAID_MM
    span = np.diff(times)
    still = np.abs(np.diff(e)) <= LAID_MM
    number, seconds = _groups(still, span)
    pause = still & (seconds[number] <= DIP_STILL_S)
    across = np.hypot(*np.diff(xyz[:, :2], axis=0).T)
    level = np.abs(np.diff(xyz[:, 2])) <= DIP_Z_MM * np.maximum(1.0, across)
    behind = np.maximum((fed - e)[1:], (fed - e)[:-1])
    dip = ~rising & (~still | pause) & level & (behind <= DIP_MM)
    dip &= across > MOVING_MM_S * span
    # Exactly at the mark all the way: a travel without retraction.
    number, _ = _groups(rising, span)
    first = np.flatnonzero(np.diff(number, prepend=-1))
    dip &= np.maximum.reduceat(behind, first)[number] > DIP_LEAST_MM
    either = rising | dip
    number, risen = _groups(either, rising.astype(float))
    return either & (risen[number] > 0.0)


def _groups(
    on: NDArray[np.bool_], weight: FloatArray
) -> tuple[NDArray[np.intp], FloatArray]:
    """Number of the group of equal neighbours in `on`; total weight of each group."""
    number = np.cumsum(np.diff(on.astype(np.int8), prepend=on[:1]) != 0)
    return number, np.bincount(number, weights=weight).astype(float)


def _bridges(
    times: FloatArray, xyz: FloatArray, depth: FloatArray, laid: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Intervals between two beads that do not end the stroke."""
    bridged = np.zeros_like(laid)
    flip = np.flatnonzero(np.diff(laid.astype(np.int8)))
    # From the end of each bead (sample index) to the start of the next.
    ends = flip[laid[flip]] + 1
    starts = flip[~laid[flip]] + 1
    if len(starts) and len(ends) and starts[0] < ends[0]:
        starts = starts[1:]
    way = np.linalg.norm(np.diff(xyz, axis=0), axis=1)
    path = np.concatenate([[0.0], np.cumsum(way)])
    for end, start in zip(ends, starts, strict=False):
        if times[start] - times[end] > DIP_S or path[start] - path[end] > DIP_PATH_MM:
            continue
        z = xyz[end : start + 1, 2]
        if np.ptp(z) <= DIP_Z_MM and depth[end : start + 1].max() <= DIP_MM:
            bridged[end:start] = True
    return bridged
