# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Where each power cut left the print, and where it went on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .measures import Cells, Print, astray, seam_filament
from .path import BeadPath
from .verdict import CutReport

# Runs that follow each other this closely are one continuation of the print.
JOIN_MM = 1.0
RUN_MM = 0.5


def cut_reports(
    ref: BeadPath,
    prints: Sequence[Print],
    doubled: Sequence[Cells],
    dwell: Sequence[float],
) -> tuple[list[CutReport], list[Cells]]:
    """A report per cut, and the doubled stretches that no cut's overlap explains."""
    cuts: list[CutReport] = []
    explained: set[int] = set()
    last: float | None = None  # place of the last plastic before the cut
    for number, one in enumerate(prints):
        reached = -1.0 if last is None else float(ref.s[int(last)])
        first = _resume_row(ref, one, reached)
        if number:
            start = None if first is None else float(one.match.where[first])
            overlap = _overlap(ref, doubled, start, reached)
            explained.update(overlap)
            repeated = sum(doubled[k].stretch.length for k in overlap)
            cuts.append(_report(ref, prints, number, last, first, repeated, dwell))
        placed = np.flatnonzero(one.match.run >= 0)
        if len(placed):
            last = float(one.match.where[placed[-1]])
    stray = [cells for k, cells in enumerate(doubled) if k not in explained]
    return cuts, stray


def _report(
    ref: BeadPath,
    prints: Sequence[Print],
    number: int,
    last: float | None,
    first: int | None,
    repeated: float,
    dwell: Sequence[float],
) -> CutReport:
    one = prints[number]
    t_cut = t_go = None
    seam = None
    fed = 0.0
    if last is not None:
        t_cut = _time(ref, last)
    if first is not None:
        t_go = _time(ref, float(one.match.where[first]))
        x, y, z = (float(v) for v in one.path.xyz[first])
        seam = (x, y, z)
        fed = seam_filament(ref, one, first)
    back = 0.0 if t_cut is None or t_go is None else t_cut - t_go
    return CutReport(
        session=number - 1,
        t_cut=prints[number - 1].machine.session.t_off,
        resumed=first is not None,
        ref_t_cut=t_cut,
        ref_t_resume=t_go,
        doubled_s=max(0.0, back),
        skipped_s=max(0.0, -back),
        doubled_mm=repeated,
        seam=seam,
        seam_filament_mm_error=fed,
        hot_dwell_s=dwell[number - 1],
        astray_mm=sum(stretch.length for stretch in astray(one)),
    )


def _resume_row(ref: BeadPath, one: Print, reached: float) -> int | None:
    """First path row of the run that takes the print beyond `reached` (mm of bead).

    Runs before it elsewhere, such as purging where the print began with a purge
    line, are not where the print goes on.
    """
    match = one.match
    runs = []
    for number in range(int(match.run.max(initial=-1)) + 1):
        own = np.flatnonzero(match.run == number)
        if len(own):
            s = ref.s[match.where[own].astype(int)]
            runs.append((int(own[0]), float(s[0]), float(s[-1])))
    if not runs:
        return None
    beyond = [
        k for k, (_, a, b) in enumerate(runs) if b > reached + 0.05 and b - a > RUN_MM
    ]
    at = beyond[0] if beyond else len(runs) - 1
    while at and abs(runs[at][1] - runs[at - 1][2]) < JOIN_MM:
        at -= 1
    return runs[at][0]


def _overlap(
    ref: BeadPath, doubled: Sequence[Cells], start: float | None, reached: float
) -> list[int]:
    """Indices of the doubled stretches between the resume's start and the cut."""
    if start is None:
        return []
    low, high = float(ref.s[int(start)]) - JOIN_MM, reached + JOIN_MM
    return [
        k
        for k, cells in enumerate(doubled)
        if low <= ref.s[cells.first] and ref.s[cells.last] <= high
    ]


def _time(ref: BeadPath, where: float) -> float:
    return float(ref.values(np.array([where]), ref.t)[0])
