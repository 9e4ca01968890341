# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Is an interrupted and resumed print the same part as an undisturbed one?

Only plastic counts: what the motors did, not what any program believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .cuts import cut_reports
from .matching import Follower
from .measures import (
    SEAM_MM,
    Cells,
    Print,
    astray,
    astray_on_part,
    coverage,
    errors,
    filament,
    resolution,
    stretches,
)
from .path import BeadPath, laid_only, resample
from .plastic import Deposit, Machine, Motion, deposit, deposit_of, motion
from .surface import Collision, Surface, hot_dwell, new_collisions, run_session
from .trace import Geometry, Session
from .verdict import CutReport, Limits, Stretch, Verdict

__all__ = ["Deposit", "Limits", "Verdict", "compare", "deposit"]

REFERENCE_STEP = 0.01
TEST_STEP = 0.05
# A longer reference is kept more coarsely, so that memory stays bounded.
MOST_POINTS = 3_000_000
# How far back a resume is expected to begin; it only decides between layers that
# fit equally well.
OVERLAP_S = 0.3


def compare(
    reference: Sequence[Session], test: Sequence[Session], geometry: Geometry
) -> Verdict:
    """Judge `test`, in which each session but the last ended in a power cut, by the
    undisturbed print. ValueError when the reference laid no plastic."""
    machines = [Machine(session, geometry) for session in reference]
    moved = [motion(machine) for machine in machines]
    deposits = [deposit_of(one) for one in moved]
    total = sum(laid.length for laid in deposits)
    ref = resample(deposits, max(REFERENCE_STEP, total / MOST_POINTS))
    if len(ref) < 2:
        raise ValueError("the reference print laid no plastic: nothing to compare with")
    native, _ = _surface(machines, moved, geometry)
    prints = _placed(ref, test, geometry)
    collided, dwell = _surface(
        [one.machine for one in prints], [one.moved for one in prints], geometry
    )
    return _judge(
        ref,
        moved,
        prints,
        resolution(machines, ref),
        new_collisions(collided, native),
        dwell,
    )


def _placed(ref: BeadPath, test: Sequence[Session], geometry: Geometry) -> list[Print]:
    follower = Follower(ref)
    prints: list[Print] = []
    expected = (0.0, 1.0)
    for number, session in enumerate(test):
        machine = Machine(session, geometry)
        moved = motion(machine)
        path = laid_only(resample([deposit_of(moved)], TEST_STEP))
        match = follower.follow(path, expected)
        prints.append(Print(number, machine, moved, path, match))
        rows = np.flatnonzero(match.run >= 0)
        if len(rows):
            last = int(match.where[rows[-1]])
            back = int(np.searchsorted(ref.t, ref.t[last] - OVERLAP_S))
            expected = (float(ref.s[back]), float(ref.s[last]) + 1.0)
    return prints


def _surface(
    machines: Sequence[Machine], moved: Sequence[Motion], geometry: Geometry
) -> tuple[list[Collision], list[float]]:
    """Collisions of all sessions; seconds of hot dwell of each but the first."""
    surface = Surface(geometry)
    found: list[Collision] = []
    dwell: list[float] = []
    for number, (machine, one) in enumerate(zip(machines, moved, strict=True)):
        if number:
            dwell.append(hot_dwell(surface, machine, one))
        found += run_session(surface, machine, one, number)
    return found, dwell


def _judge(
    ref: BeadPath,
    moved: Sequence[Motion],
    prints: Sequence[Print],
    shortest: float,
    collided: Sequence[Collision],
    dwell: Sequence[float],
) -> Verdict:
    touched = np.zeros(len(ref), dtype=np.int32)
    laid = np.zeros(len(ref), dtype=np.int32)
    for one in prints:
        touched += coverage(ref, one, np.ones(len(one.path), dtype=bool))
        laid += coverage(ref, one, one.path.solid)
    missing, noise = stretches(ref, (touched == 0).astype(np.int32), shortest)
    doubled, more = stretches(ref, np.maximum(laid - 1, 0), shortest)
    reports, stray = cut_reports(ref, prints, doubled, dwell)
    lost = [stretch for one in prints for stretch in astray(one)]
    before, after = errors(ref, moved, prints[:1]), errors(ref, moved, prints[1:])
    fill_before, _ = filament(ref, prints[:1], 0.0)
    fill, fill_total = filament(ref, prints[1:], SEAM_MM)
    return Verdict(
        reference_mm=float(ref.s[-1]),
        test_mm=float(sum(one.path.s[-1] for one in prints if len(one.path))),
        resolution_mm=shortest,
        missing_mm=_length(missing),
        missing=_plain(missing),
        doubled_mm=_length(doubled),
        doubled=_plain(doubled),
        stray_doubled_mm=_length(stray),
        noise_mm=noise + more,
        astray_mm=sum(stretch.length for stretch in lost),
        astray_on_part_mm=astray_on_part(ref, prints),
        astray=tuple(lost),
        doubled_s=_seconds(reports),
        z_error_mm=after.z,
        z_error_before_mm=before.z,
        z_corner_error_mm=after.corner,
        xy_error_mm=after.xy,
        xy_error_before_mm=before.xy,
        filament_error=fill,
        filament_error_before=fill_before,
        filament_total_error=fill_total,
        collisions=len(collided),
        collided=tuple(collided),
        hot_dwell_s=tuple(dwell),
        per_cut=tuple(reports),
    )


def _length(cells: Iterable[Cells]) -> float:
    return sum(one.stretch.length for one in cells)


def _plain(cells: Iterable[Cells]) -> tuple[Stretch, ...]:
    return tuple(one.stretch for one in cells)


def _seconds(reports: Iterable[CutReport]) -> float:
    return sum(report.doubled_s for report in reports)
