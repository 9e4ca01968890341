# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The top of what is on the bed, and what the nozzle does to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from .plastic import Machine, Motion
from .trace import Z_MOTORS, Geometry

CELL_MM = 0.2
# A bead also covers the cells beside the nozzle's.
BEAD_CELLS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
MOTION_MM = 0.15
DRAG_DEPTH_MM = 0.05
DRAG_MM = 0.1
PRESS_DEPTH_MM = 0.15
# Motor noise is a step or two; a nozzle driven into something goes further.
DRIVEN_MM = 0.02
# Standing still this far above anything, filament falls instead of building up.
DROOP_MM = 0.5
# Dips below the surface closer together than this are one event.
EPISODE_S = 0.5
DWELL_GRID_S = 0.05
DWELL_CELSIUS = 170.0
DWELL_GAP_MM = 0.05
DWELL_STILL_MM = 0.01
RISE_MM = 0.5


@dataclass(frozen=True)
class Collision:
    """The nozzle, where something already was.

    session: index.  t: start, host seconds.  depth: deepest mm below the surface.
    dragged: mm moved in XY while below.  driven: mm pushed down by the motors there.
    """

    session: int
    t: float
    t_end: float
    x: float
    y: float
    z: float
    depth: float
    dragged: float
    driven: float

    @property
    def real(self) -> bool:
        pressed = self.depth > PRESS_DEPTH_MM and self.driven > DRIVEN_MM
        return self.dragged > DRAG_MM or pressed


@dataclass
class Surface:
    """Height of the plastic per cell; the bed is 0, and outside of it nothing is."""

    geometry: Geometry
    tops: dict[tuple[int, int], float] = field(default_factory=dict)

    def top(self, x: float, y: float) -> float:
        found = self.tops.get((math.floor(x / CELL_MM), math.floor(y / CELL_MM)))
        if found is not None:
            return found
        x0, y0, x1, y1 = self.geometry.bed
        return 0.0 if x0 <= x <= x1 and y0 <= y <= y1 else -math.inf

    def lay(self, x: float, y: float, z: float) -> None:
        i, j = math.floor(x / CELL_MM), math.floor(y / CELL_MM)
        for di, dj in BEAD_CELLS:
            cell = (i + di, j + dj)
            if z > self.tops.get(cell, 0.0):
                self.tops[cell] = z


def run_session(
    surface: Surface, machine: Machine, moved: Motion, session: int
) -> list[Collision]:
    """Lay a session's plastic onto `surface`; what the nozzle ran into meanwhile.

    A bead is compared with the surface as it was before it.
    """
    rows = _decimate(moved)
    z_jumps = np.sort(
        np.concatenate([machine.paths[name].jump_times for name in Z_MOTORS])
    )
    jumped = np.diff(np.searchsorted(z_jumps, moved.t[rows], side="right"), prepend=0)
    fed = np.diff(moved.fed[rows], prepend=moved.fed[rows[0]])
    track = zip(
        moved.t[rows].tolist(),
        moved.xyz[rows].tolist(),
        (fed > 1e-7).tolist(),
        (jumped > 0).tolist(),
        strict=True,
    )
    found: list[Collision] = []
    clear = True
    x0, y0, z0 = moved.xyz[rows[0]].tolist()
    for t, (x, y, z), laying, jump in track:
        across = math.hypot(x - x0, y - y0)
        top = surface.top(x, y)
        depth = top - z
        if depth > DRAG_DEPTH_MM:
            driven = 0.0 if jump else max(0.0, z0 - z)
            hit = Collision(session, t, t, x, y, z, depth, across, driven)
            _join(found, hit, clear)
        clear = depth <= DRAG_DEPTH_MM
        if laying and (across > 1e-6 or z - top < DROOP_MM):
            surface.lay(x, y, z)
        x0, y0, z0 = x, y, z
    return [hit for hit in found if hit.real]


def new_collisions(
    test: Sequence[Collision], native: Sequence[Collision]
) -> list[Collision]:
    """Those of the test that the undisturbed print does not have in that place."""

    def known(hit: Collision) -> bool:
        here = (hit.x, hit.y, hit.z)
        return any(
            math.dist(here, (old.x, old.y, old.z)) < 2.0
            and hit.depth < old.depth + DRAG_DEPTH_MM
            for old in native
        )

    return [hit for hit in test if not known(hit)]


def hot_dwell(surface: Surface, machine: Machine, moved: Motion) -> float:
    """Seconds that a hot nozzle rests on the part after power-on, until it is lifted.

    Hot: above 170 C, or not known.  Rests: within 0.05 mm of what is below it, still
    in XY.
    """
    session = machine.session
    z = moved.xyz[:, 2]
    risen = np.flatnonzero(z - np.minimum.accumulate(z) > RISE_MM)
    until = moved.t[risen[0]] if len(risen) else session.t_off
    grid = np.arange(session.t_on, until, DWELL_GRID_S)
    if len(grid) < 2:
        return 0.0
    points = machine.nozzle(grid)
    step = np.hypot(*np.diff(points[:, :2], axis=0).T)
    still = np.concatenate([step, step[-1:]]) < DWELL_STILL_MM
    when, celsius = session.temps.get("extruder", (grid[:0], grid[:0]))
    hot = np.ones(len(grid), dtype=bool)
    if len(when):
        hot = np.interp(grid, when, celsius) > DWELL_CELSIUS
    rows = np.flatnonzero(still & hot)
    near = sum(z - surface.top(x, y) < DWELL_GAP_MM for x, y, z in points[rows])
    return round(float(near) * DWELL_GRID_S, 3)


def _decimate(moved: Motion) -> NDArray[np.intp]:
    """Rows at most 0.15 mm apart, and every start and end of laying plastic."""
    way = np.linalg.norm(np.diff(moved.xyz, axis=0), axis=1)
    bucket = np.floor(np.concatenate([[0.0], np.cumsum(way)]) / MOTION_MM)
    keep = np.diff(bucket, prepend=-1.0, append=bucket[-1] + 1) != 0
    keep = keep[:-1] | keep[1:]
    flip = np.diff(moved.laid.astype(np.int8)) != 0
    keep[1:-1] |= flip
    return np.flatnonzero(keep)


def _join(found: list[Collision], hit: Collision, clear: bool) -> None:
    if not found or (clear and hit.t - found[-1].t_end > EPISODE_S):
        found.append(hit)
        return
    last = found[-1]
    found[-1] = replace(
        last,
        t_end=hit.t,
        depth=max(last.depth, hit.depth),
        dragged=last.dragged + hit.dragged,
        driven=last.driven + hit.driven,
    )
