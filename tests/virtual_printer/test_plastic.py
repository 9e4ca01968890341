# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Motor steps become the plastic that was commanded, within a step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .path import resample
from .plastic import Machine, MotorPath, deposit
from .synthetic import (
    FILAMENT_PER_MM,
    GEOMETRY,
    RETRACT,
    STEP_MM,
    Fault,
    Pen,
    block,
    simulate,
)
from .trace import Session, TraceError, load, save


def one_line(**options: float) -> Session:
    pen = Pen()
    pen.hop_to(50.0, 50.0, 0.2)
    pen.line(80.0, 90.0)
    pen.feed(-RETRACT)
    return simulate(pen.moves, **options)


def test_a_line_is_one_stroke_of_its_length_and_filament() -> None:
    laid = deposit(one_line(), GEOMETRY)
    assert laid.stroke.max() == 0
    assert laid.length == pytest.approx(50.0, abs=0.06)
    assert laid.filament.sum() == pytest.approx(50.0 * FILAMENT_PER_MM, abs=0.003)
    assert np.diff(laid.s).max() <= 0.06
    assert laid.xyz[0] == pytest.approx([50.0, 50.0, 0.2], abs=0.06)
    assert laid.xyz[-1] == pytest.approx([80.0, 90.0, 0.2], abs=0.06)


def test_samples_lie_on_the_line_within_a_step() -> None:
    laid = deposit(one_line(phase=0.3), GEOMETRY)
    across = (laid.xyz[:, 0] - 50.0) * 0.8 - (laid.xyz[:, 1] - 50.0) * 0.6
    assert np.abs(across).max() <= STEP_MM["a"]
    assert np.abs(laid.xyz[:, 2] - 0.2).max() <= STEP_MM["z"]


def test_retraction_lays_nothing_and_undoing_it_lays_nothing() -> None:
    pen = Pen()
    for _ in range(3):
        pen.feed(-RETRACT)
        pen.add(pen.at[0] + 10.0, pen.at[1], pen.at[2], 0, 100.0, "travel")
        pen.feed(RETRACT)
    laid = deposit(simulate(pen.moves, phase=0.4), GEOMETRY)
    assert laid.length == 0.0
    assert laid.filament.sum() <= 2 * STEP_MM["e"]


def test_a_travel_without_retraction_is_no_bead() -> None:
    pen = Pen()
    pen.line(30.0, 20.0)
    pen.add(30.0, 20.4, 5.0, 0, 150.0, "travel")
    pen.line(20.0, 20.4)
    laid = deposit(simulate(pen.moves), GEOMETRY)
    bead = np.diff(laid.s)[laid.solid[1:]].sum()
    assert bead == pytest.approx(20.0, abs=0.2)


def test_pressure_advance_leaves_the_same_beads() -> None:
    """The filament runs ahead and falls back; the bead has the line's length."""
    pen = Pen()
    for x, y in ((40, 20), (40, 40), (41, 40), (41, 20)):
        pen.line(x, y)
    pen.hop_to(60.0, 60.0, 5.0)
    pen.line(70.0, 60.0)
    laid = deposit(simulate(pen.moves, accel=3000.0, advance=0.04), GEOMETRY)
    bead = np.diff(laid.s)[laid.solid[1:]].sum()
    assert bead == pytest.approx(71.0, abs=0.3)


def test_filament_fed_standing_still_has_no_length() -> None:
    pen = Pen()
    pen.feed(2.0)
    laid = deposit(simulate(pen.moves), GEOMETRY)
    assert laid.length == 0.0
    assert laid.filament.sum() == pytest.approx(2.0, abs=2 * STEP_MM["e"])
    assert len(resample([laid], 0.05)) == 0


def test_a_new_session_lays_plastic_from_whatever_its_filament_is_at() -> None:
    session = one_line()
    t, pos = session.motors["e"]
    session.motors["e"] = (t, pos - 123.4)
    laid = deposit(session, GEOMETRY)
    assert laid.length == pytest.approx(50.0, abs=0.06)


def test_a_session_that_only_waits_lays_nothing() -> None:
    motors = {
        name: (np.array([1.0]), np.array([0.0]))
        for name in ("a", "b", "z", "z1", "z2", "z3", "e")
    }
    laid = deposit(Session(1.0, 600.0, motors), GEOMETRY)
    assert laid.length == 0.0


def test_nozzle_height_is_that_of_the_nearest_corner_at_that_corner() -> None:
    pen = Pen(x=275.0, y=270.0)
    pen.add(274.0, 270.0, 5.0, 0, 50.0, "travel")
    fault = Fault(-1, 9, corners=(0.0, 0.0, 0.4, 0.0))
    session = simulate(pen.moves, (275.0, 270.0, 5.0), faults=[fault])
    machine = Machine(session, GEOMETRY)
    end = machine.nozzle(np.array([session.t_off]))[0]
    assert end[2] == pytest.approx(5.4 - 0.4 / 300, abs=0.004)


def test_a_jump_is_at_once_and_a_pause_is_a_pause() -> None:
    t = np.array([0.0, 1.0, 1.001, 1.002, 9.0, 9.5])
    pos = np.array([0.0, 0.01, 0.02, 0.03, 0.04, 0.4])
    path = MotorPath((t, pos))
    assert path.at(np.array([5.0]))[0] == pytest.approx(0.03)
    assert path.at(np.array([9.4999]))[0] == pytest.approx(0.04)
    assert path.at(np.array([9.5001]))[0] == pytest.approx(0.4)
    assert path.at(np.array([1.0005]))[0] == pytest.approx(0.01, abs=1e-4)
    assert list(path.jump_times) == [9.5]


def test_unsorted_and_empty_rows_are_refused() -> None:
    with pytest.raises(TraceError, match="sorted"):
        MotorPath((np.array([1.0, 0.5]), np.array([0.0, 0.1])))
    with pytest.raises(TraceError, match="no rows"):
        MotorPath((np.zeros(0), np.zeros(0)))


def test_a_path_keeps_both_ends_of_every_stroke() -> None:
    laid = deposit(simulate(block(layers=1)), GEOMETRY)
    path = resample([laid], 0.01)
    assert path.s[-1] == pytest.approx(laid.length, abs=0.01)
    for stroke in np.unique(path.stroke):
        own = path.xyz[path.stroke == stroke]
        step = np.linalg.norm(np.diff(own, axis=0), axis=1)
        assert step.max() < 0.02
    assert path.cell.sum() == pytest.approx(path.s[-1])


def test_a_trace_survives_the_disk(tmp_path: Path) -> None:
    session = one_line()
    session.events.append((101.5, "snap", '{"a": 0.1}'))
    file = tmp_path / "trace.npz"
    save(file, [session, session], GEOMETRY)
    sessions, geometry = load(file)
    assert geometry == GEOMETRY
    assert len(sessions) == 2
    assert sessions[1].events == session.events
    for name, (t, pos) in session.motors.items():
        assert np.array_equal(sessions[1].motors[name][0], t)
        assert np.array_equal(sessions[1].motors[name][1], pos)
    assert np.array_equal(
        sessions[0].temps["extruder"][1], session.temps["extruder"][1]
    )


def test_a_file_that_is_no_trace_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.npz"
    np.savez(file, x=np.zeros(3))
    with pytest.raises(TraceError, match="not a trace"):
        load(file)
