# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The oracle sees each way in which a resumed part can differ, and only those."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from .oracle import compare, deposit
from .scenario import (
    INFILL,
    MOVES,
    PERIMETER,
    REFERENCE,
    START,
    TIMES,
    at_cut,
    cut_session,
    judged,
    resume_session,
)
from .synthetic import (
    FILAMENT_PER_MM,
    GEOMETRY,
    LAYER,
    Fault,
    Pen,
    lines,
    move_times,
    part,
    position_before,
    resumed,
    simulate,
    split,
    without,
)
from .verdict import Limits


@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5, 0.81])
def test_identical_prints_differ_in_nothing(phase: float) -> None:
    verdict = judged(simulate(MOVES, t_on=7.00071, phase=phase))
    assert verdict.whole(), verdict.reasons()
    assert verdict.missing_mm == verdict.doubled_mm == verdict.astray_mm == 0.0
    assert verdict.z_error_before_mm <= 0.0025
    assert verdict.xy_error_before_mm <= 0.0125
    assert verdict.filament_error_before < 0.03


def test_noise_at_the_ends_of_beads_stays_below_the_resolution() -> None:
    worst = 0.0
    for phase in np.linspace(0.05, 0.95, 7):
        verdict = judged(simulate(MOVES, t_on=7.0003, phase=float(phase)))
        assert verdict.missing == verdict.doubled == ()
        worst = max(worst, verdict.noise_mm)
    # 12 beads with two ends each; an extruder step is 0.043 mm of bead.
    assert worst <= 24 * 0.043


def test_a_missing_stretch_is_measured() -> None:
    moves = split(MOVES, START, 0.1, PERIMETER)
    rest = 1 - 7.3 / (0.9 * MOVES[PERIMETER].seconds * 80.0)
    moves = split(moves, START, 1 - rest, PERIMETER + 1)
    verdict = judged(simulate(without(moves, PERIMETER + 1, PERIMETER + 2)))
    assert verdict.missing_mm == pytest.approx(7.3, abs=0.1)
    assert len(verdict.missing) == 1
    assert verdict.missing[0].z == pytest.approx(0.6, abs=0.003)
    assert verdict.doubled_mm == 0.0
    assert not verdict.whole()


@pytest.mark.parametrize("length", [0.3, 0.5, 0.7, 3.5])
@pytest.mark.parametrize("number", [PERIMETER, INFILL])
def test_a_doubled_stretch_is_measured(number: int, length: float) -> None:
    move = MOVES[number]
    fraction = length / (move.seconds * 80.0)
    moves = split(MOVES, START, 1 - fraction, number)
    last = moves[number + 1]
    x, y, z = position_before(moves, number + 1)
    back = replace(last, x=x, y=y, z=z, e=0.0, kind="travel")
    moves = [*moves[: number + 2], back, last, *moves[number + 2 :]]
    verdict = judged(simulate(moves))
    assert verdict.doubled_mm == pytest.approx(length, abs=0.1)
    assert verdict.missing_mm == 0.0
    assert verdict.astray_mm == 0.0
    assert not verdict.whole()


@pytest.mark.parametrize("overlap", [0, 1, 4])
def test_a_clean_resume_is_whole(overlap: int) -> None:
    verdict = judged(cut_session(INFILL), resume_session(INFILL, INFILL - 2 * overlap))
    assert verdict.whole(), verdict.reasons()
    assert verdict.missing_mm == 0.0
    expected = sum(
        MOVES[n].seconds * 80.0 * (0.5 if n == INFILL else 1.0)
        for n in range(INFILL - 2 * overlap, INFILL + 1)
        if MOVES[n].kind == "line"
    )
    assert verdict.doubled_mm == pytest.approx(expected, abs=0.1)
    assert verdict.stray_doubled_mm == 0.0
    assert verdict.astray_mm == pytest.approx(30.0, abs=0.1)
    assert verdict.astray_on_part_mm == 0.0
    assert abs(verdict.per_cut[0].seam_filament_mm_error) < 0.004


def test_the_time_done_twice_is_that_of_the_reference() -> None:
    begin = INFILL - 8
    when = float(TIMES[begin]) + 0.8
    number = int(np.searchsorted(TIMES, when)) - 1
    fraction = (when - TIMES[number]) / (TIMES[number + 1] - TIMES[number])
    assert MOVES[number].kind == "line"
    verdict = judged(
        simulate(MOVES, cut_at=when),
        resume_session(number, begin, part_of_it=float(fraction)),
    )
    assert verdict.lost_s == (pytest.approx(0.8, abs=0.02),)
    assert verdict.whole(), verdict.reasons()
    assert not verdict.whole(Limits(doubled_s_per_cut=0.7))


@pytest.mark.parametrize("dz", [0.05, 0.12, -0.12])
@pytest.mark.parametrize("number", [PERIMETER, INFILL])
def test_a_displaced_height_is_measured_and_followed(number: int, dz: float) -> None:
    fault = Fault(5, 20, corners=(dz, dz, dz, dz))
    verdict = judged(cut_session(number), resume_session(number, number, (fault,)))
    assert verdict.z_error_mm == pytest.approx(abs(dz), abs=0.004)
    assert verdict.missing_mm == 0.0
    assert verdict.stray_doubled_mm == 0.0
    assert not verdict.whole()


@pytest.mark.parametrize("dz", [0.05, 0.12, -0.12])
def test_a_resume_at_a_wrong_height_is_measured(dz: float) -> None:
    fault = Fault(-1, 999, corners=(dz, dz, dz, dz))
    verdict = judged(cut_session(INFILL), resume_session(INFILL, INFILL, (fault,)))
    assert verdict.z_error_mm == pytest.approx(abs(dz), abs=0.004)
    assert verdict.missing_mm == 0.0
    assert not verdict.whole()


@pytest.mark.parametrize("dx", [0.05, 0.15, 0.35, 0.6])
@pytest.mark.parametrize("number", [PERIMETER, INFILL])
def test_a_layer_shift_is_measured_and_followed(number: int, dx: float) -> None:
    fault = Fault(-1, 999, dx=dx)
    verdict = judged(cut_session(number), resume_session(number, number, (fault,)))
    assert verdict.xy_error_mm == pytest.approx(dx, abs=0.02)
    # A displaced line leaves its own end bare, by as much as it is displaced.
    assert verdict.missing_mm < 2.0
    assert not verdict.whole()


def test_a_shift_within_a_session_is_measured() -> None:
    verdict = judged(
        cut_session(PERIMETER),
        resume_session(PERIMETER, PERIMETER, (Fault(3, 30, dx=0.15),)),
    )
    assert verdict.xy_error_mm == pytest.approx(0.15, abs=0.02)
    assert verdict.missing_mm < 0.4
    assert not verdict.whole()


def test_one_corner_that_hangs_is_seen_though_the_nozzle_is_near_true() -> None:
    fault = Fault(-1, 999, corners=(0.0, 0.0, 0.1, 0.0))
    verdict = judged(cut_session(INFILL), resume_session(INFILL, INFILL, (fault,)))
    assert verdict.z_corner_error_mm == pytest.approx(0.1, abs=0.004)
    assert verdict.z_error_mm < 0.02
    assert any("corner" in reason for reason in verdict.reasons())


def test_a_purge_line_off_the_part_is_astray_not_doubled() -> None:
    verdict = judged(
        cut_session(INFILL), resume_session(INFILL, INFILL, purge_at=(100.0, 150.0))
    )
    assert verdict.astray_mm == pytest.approx(30.0, abs=0.1)
    assert verdict.stray_doubled_mm == 0.0
    assert verdict.whole(), verdict.reasons()


def test_a_purge_line_over_the_part_is_not_whole() -> None:
    verdict = judged(
        cut_session(INFILL), resume_session(INFILL, INFILL, purge_at=(50.0, 84.0))
    )
    assert verdict.astray_on_part_mm > 5.0
    assert not verdict.whole()


def test_purging_on_the_first_purge_line_is_not_where_the_print_resumed() -> None:
    verdict = judged(
        cut_session(INFILL), resume_session(INFILL, INFILL, purge_at=(30.0, 20.0))
    )
    assert verdict.stray_doubled_mm == pytest.approx(30.0, abs=0.2)
    assert verdict.per_cut[0].doubled_s < 0.2


@pytest.mark.parametrize("wrong", [LAYER, -LAYER])
@pytest.mark.parametrize("number", [PERIMETER, INFILL])
def test_a_resume_one_layer_off_in_height_is_not_whole(
    number: int, wrong: float
) -> None:
    fault = Fault(-1, 999, corners=(wrong,) * 4)
    verdict = judged(cut_session(number), resume_session(number, number, (fault,)))
    assert not verdict.whole()
    assert verdict.z_error_mm > 0.15 or verdict.missing_mm > 10.0


def test_a_skipped_layer_is_missing() -> None:
    cut = lines(MOVES, 1)[0]
    following = lines(MOVES, 2)[0]
    verdict = judged(cut_session(cut, 0.0), resume_session(cut, following))
    length = sum(MOVES[n].e for n in lines(MOVES, 1)) / FILAMENT_PER_MM
    assert verdict.missing_mm == pytest.approx(length, rel=0.005)
    assert verdict.per_cut[0].skipped_s > 1.0
    assert verdict.z_error_mm < 0.005
    assert not verdict.whole()


def test_a_layer_printed_twice_is_doubled() -> None:
    verdict = judged(
        cut_session(lines(MOVES, 3)[0], 0.0),
        resume_session(lines(MOVES, 3)[0], lines(MOVES, 2)[0], part_of_it=0.0),
    )
    length = sum(MOVES[n].e for n in lines(MOVES, 2)) / FILAMENT_PER_MM
    assert verdict.doubled_mm == pytest.approx(length, rel=0.005)
    assert verdict.missing_mm == 0.0
    assert not verdict.whole()


@pytest.mark.parametrize("kind", ["travel", "descend", "retract", "unretract"])
def test_a_cut_between_two_beads_is_whole(kind: str) -> None:
    start = lines(MOVES, 2)[3]
    number = next(n for n in range(start, len(MOVES)) if MOVES[n].kind == kind)
    line = next(n for n in range(number, len(MOVES)) if MOVES[n].kind == "line")
    verdict = judged(cut_session(number), resume_session(number, line))
    assert verdict.whole(), verdict.reasons()
    assert verdict.missing_mm == verdict.doubled_mm == verdict.doubled_s == 0.0


def test_a_cut_before_any_plastic_is_whole() -> None:
    first = lines(MOVES, -1)[0]
    verdict = judged(
        simulate(MOVES, cut_at=0.6), simulate(MOVES, t_on=500.0, phase=0.6)
    )
    assert MOVES[first].kind == "line" and TIMES[first] > 0.6
    assert verdict.whole(), verdict.reasons()
    assert verdict.missing_mm == verdict.doubled_mm == verdict.astray_mm == 0.0
    assert verdict.per_cut[0].resumed


def test_a_print_that_is_never_resumed_is_missing() -> None:
    verdict = judged(cut_session(INFILL))
    left = sum(m.e for m in MOVES[INFILL:] if m.kind == "line") / FILAMENT_PER_MM
    assert verdict.missing_mm == pytest.approx(left, rel=0.02)
    assert not verdict.whole()


def test_two_cuts_and_one_during_the_resume_itself() -> None:
    begin = INFILL - 2
    second = resume_session(INFILL, begin, cut_at=0.8)
    steps = resumed(MOVES, begin, at_cut(INFILL))
    again = lines(MOVES, 3)[2]
    when = move_times(steps)[again - begin + len(steps) - len(MOVES[begin:])]
    third = resume_session(INFILL, begin, t_on=2000.0, cut_at=float(when) + 0.05)
    fourth = resume_session(again, again, t_on=3000.0)
    verdict = judged(cut_session(INFILL), second, third, fourth)
    assert verdict.whole(), verdict.reasons()
    assert verdict.missing_mm == 0.0
    assert [cut.resumed for cut in verdict.per_cut] == [False, True, True]
    assert verdict.per_cut[0].doubled_s == 0.0
    assert verdict.per_cut[1].doubled_s > 0.1
    assert verdict.per_cut[2].doubled_s == pytest.approx(0.05, abs=0.02)


def test_too_little_filament_is_seen() -> None:
    moves = [
        replace(m, e=m.e * 0.85) if n > INFILL and m.kind == "line" else m
        for n, m in enumerate(MOVES)
    ]
    verdict = judged(cut_session(INFILL), resume_session(INFILL, INFILL, moves=moves))
    assert verdict.filament_error == pytest.approx(0.15, abs=0.04)
    assert verdict.filament_total_error == pytest.approx(0.15, abs=0.02)
    assert not verdict.whole()


def test_a_blob_at_the_seam_is_reported() -> None:
    moves = list(MOVES)
    blob = replace(moves[INFILL - 1], kind="unretract", e=0.5, seconds=0.05)
    moves.insert(INFILL, blob)
    session = resume_session(INFILL, INFILL, moves=moves)
    verdict = judged(cut_session(INFILL), session)
    seam = verdict.per_cut[0].seam_filament_mm_error
    assert seam == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("late", [0, 2])
def test_beads_under_pressure_advance_are_all_accounted_for(late: int) -> None:
    """Filament that runs ahead and falls back hides no line, not even a short one."""
    motion = {"accel": 3000.0, "advance": 0.04}
    reference = simulate(MOVES, **motion)
    infill = lines(MOVES, 2)[8:]
    number = infill[0]
    half = (reference.t_off - reference.t_on) / 2
    # Ramps only stretch time: find when the line begins by where its plastic is.
    whole = deposit(reference, GEOMETRY)
    x, y, z = position_before(MOVES, number)
    near = np.linalg.norm(whole.xyz - (x, y, z), axis=1)
    begins = float(whole.t[np.argmin(near)]) - reference.t_on
    assert begins > half / 2
    first = simulate(MOVES, cut_at=begins, **motion)
    steps = resumed(MOVES, infill[late], (x, y, z))
    second = simulate(steps, (x, y, z), 1000.0, phase=0.4, **motion)
    verdict = compare([reference], [first, second], GEOMETRY)
    skipped = sum(MOVES[n].e for n in infill[:late]) / FILAMENT_PER_MM
    assert verdict.missing_mm == pytest.approx(skipped, abs=0.2)
    assert verdict.whole() is (late == 0), verdict.reasons()


def test_a_tower_of_equal_layers_is_followed_by_height_and_order() -> None:
    """Every layer has the same XY: only Z and the sequence tell them apart."""
    pen = Pen()
    for layer in range(6):
        pen.hop_to(60.0, 60.0, (layer + 1) * LAYER)
        for x, y in ((70, 60), (70, 70), (60, 70), (60, 60)):
            pen.line(x, y)
    moves = pen.moves
    reference = simulate(moves)
    cut = [n for n, m in enumerate(moves) if m.kind == "line"][13]
    start = position_before(moves, cut)
    first = simulate(moves, cut_at=float(move_times(moves)[cut]))
    for dz in (0.0, 0.05, 0.12, -0.12):
        steps = resumed(moves, cut, start)
        fault = Fault(0, len(steps), corners=(dz,) * 4)
        second = simulate(steps, start, 1000.0, phase=0.3, faults=[fault])
        verdict = compare([reference], [first, second], GEOMETRY)
        assert verdict.z_error_mm == pytest.approx(abs(dz), abs=0.004)
        assert verdict.missing_mm == verdict.doubled_mm == 0.0
        assert verdict.whole() is (dz == 0.0)


def test_the_verdict_is_plain_data() -> None:
    verdict = judged(cut_session(INFILL), resume_session(INFILL, INFILL))
    plain = json.loads(json.dumps(verdict.to_dict()))
    assert plain["per_cut"][0]["resumed"] is True
    assert plain["lost_s"] == [verdict.per_cut[0].doubled_s]


def test_a_reference_without_plastic_is_refused() -> None:
    pen = Pen()
    pen.add(30.0, 30.0, 5.0, 0, 50.0, "travel")
    with pytest.raises(ValueError, match="no plastic"):
        compare([simulate(pen.moves)], [REFERENCE], GEOMETRY)


@pytest.mark.slow
def test_a_minute_of_printing_is_compared_in_seconds() -> None:
    pen = Pen()
    part(pen, size=22.0, layers=4)
    moves = [replace(m, seconds=m.seconds * 0.8) for m in pen.moves]
    assert sum(m.seconds for m in moves) > 50.0
    cut = [n for n, m in enumerate(moves) if m.kind == "line"][90]
    start = position_before(moves, cut)
    first = simulate(moves, cut_at=float(move_times(moves)[cut]))
    second = simulate(resumed(moves, cut, start), start, 1000.0, phase=0.3)
    reference = simulate(moves)
    begin = time.process_time()
    verdict = compare([reference], [first, second], GEOMETRY)
    assert time.process_time() - begin < 10.0
    assert verdict.whole(), verdict.reasons()
