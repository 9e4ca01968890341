# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The owner's speeds, distances, corrections and G-code, seen on the motors.

One printer, a CALIBRATE and a RESUME.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from tests.virtual_printer import z_trial
from tests.virtual_printer.printer import VirtualPrinter
from tests.virtual_printer.z_trial import Outcome, Trial

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CONFIG = """
fast_travel_upto_z_height: 224
fast_travel_speed: 20
fast_move_speed: 8
slow_homing_speed: 2
retract_dist: 1.5
sample_size: 2
sample_retract_dist: 0.6
stepper_z1_adjust_offset: 2.5
before_calibrate_gcode: M118 before calibrate
after_calibrate_gcode: M118 after calibrate
before_resume_gcode: M118 before resume
after_resume_gcode: M118 after resume
"""
DROPS = [0.1, 0.3, 0.2, 0.4]
MAX_ERROR = 0.02


@dataclass(frozen=True)
class Run:
    """A way in one direction, mm; speed: the fastest, mm/s."""

    way: float
    speed: float


@dataclass(frozen=True)
class Story:
    runs: list[Run]
    outcome: Outcome
    errors: list[float]
    below: list[float]
    console: list[str]


def runs(times: np.ndarray, places: np.ndarray) -> list[Run]:
    steps = np.diff(places)
    up = np.flatnonzero(np.diff(np.sign(steps))) + 1
    found = []
    for t, p in zip(np.split(times[1:], up), np.split(places[1:], up), strict=True):
        if len(p) > 20:
            # Over some steps: one alone is rounded to klippy's clock
            speed = np.max(np.abs(p[10:] - p[:-10]) / (t[10:] - t[:-10]))
            found.append(Run(float(p[-1] - p[0]), float(speed)))
    return found


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with VirtualPrinter(seed=3, config=z_trial.CONFIG + CONFIG) as printer:
        trial = Trial(printer)
        trial.calibrate()
        trial.sag(DROPS, z=205.0)
        since = printer.machine("state")["clock"]
        outcome = trial.resume()
        state = printer.machine("state")
        z = trial.klippy.objects("toolhead")["toolhead"]["position"][2]
        times, places = printer.sessions()[0][-1].motors["z"]
        late = times >= since
        yield Story(
            runs(times[late], places[late]),
            outcome,
            [corner - z - trial.base[-1] for corner in state["corners"]],
            [s - c for s, c in zip(state["switches"], state["corners"], strict=True)],
            list(trial.klippy.console),
        )


def test_each_move_has_the_speed_and_the_distance_of_its_option(story: Story) -> None:
    approach, retract, first, between, second, level = story.runs
    # The fast travel and the rest of the approach are one run up
    assert approach.way == pytest.approx(25.0, abs=1.0)
    assert approach.speed == pytest.approx(20.0, rel=0.03)
    assert retract.way == pytest.approx(-1.5, abs=0.06)
    assert first.way == pytest.approx(1.5, abs=0.06)
    assert between.way == pytest.approx(-0.6, abs=0.06)
    assert second.way == pytest.approx(0.6, abs=0.06)
    for run in (first, second):
        assert run.speed == pytest.approx(2.0, rel=0.03)
    for run in (retract, between, level):
        assert run.speed == pytest.approx(8.0, rel=0.03)


def test_the_corner_that_goes_higher_stays_below_its_switch(story: Story) -> None:
    z, z1, z2, z3 = story.errors
    assert [z, z2, z3] == pytest.approx([0.0] * 3, abs=MAX_ERROR)
    assert z1 == pytest.approx(2.5, abs=MAX_ERROR)
    assert min(story.below) >= 1.5 - MAX_ERROR
    assert story.outcome.overrun <= 0.08  # at 8 mm/s


def test_the_owners_gcode_runs_around_each_mode(story: Story) -> None:
    said = [line.removeprefix("echo: ") for line in story.console]
    assert [line for line in said if line.startswith(("before", "after"))] == [
        "before calibrate", "after calibrate", "before resume", "after resume",
    ]  # fmt: skip
