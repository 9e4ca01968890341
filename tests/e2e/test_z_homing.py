# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""PLR_Z_HOME on real klippy: level and true, and harmless when something fails.

Several printers work at the same time, each for one of the tests below; the tests
then look at what their printer has told.
"""
from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.virtual_printer import variants, z_trial
from tests.virtual_printer.klippy_api import Klippy
from tests.virtual_printer.klippy_tree import prepare
from tests.virtual_printer.printer import VirtualPrinter
from tests.virtual_printer.variants import Variant
from tests.virtual_printer.z_trial import Outcome, Trial

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 3
WORKERS = 6
MAX_ERROR = 0.015
MAX_OVERRUN = 0.05
# Between two micro-controllers klippy must pass the stop on, and the virtual one
# with the switch decides 0.1 s late: this is 0.2 s at fast_move_speed.
MAX_PASSED_ON = 1.0
# How far a rotor may fall when its coils get power: half an electrical cycle.
SNAP = 0.081
FIGURES = {
    "common": (variants.VORON_24, "", 6),
    "individual": (variants.VORON_24, "probe_mode: individual\n", 2),
    "trident": (variants.TRIDENT, "", 2),
    "two motors": (variants.TWO_MOTORS, "", 2),
    "one motor": (variants.ONE_MOTOR, "", 2),
    "second mcu": (variants.SECOND_MCU, "", 2),
}


def sags(count: int, seed: int = SEED) -> list[list[float]]:
    source = random.Random(seed)
    return [[source.uniform(0.0, 3.0) for _ in range(4)] for _ in range(count)]


def figures(variant: Variant, config: str, count: int) -> list[Outcome]:
    text = z_trial.CONFIG + config
    with VirtualPrinter(seed=SEED, config=text, variant=variant) as printer:
        trial = Trial(printer)
        trial.calibrate()
        outcomes = []
        for drops in sags(count):
            trial.sag(drops)
            outcomes.append(trial.resume())
        return outcomes


Story = dict[str, Any]


def tops(printer: VirtualPrinter, since: float) -> int:
    """How often the first Z motor has turned round at its top."""
    times, places = printer.sessions()[0][-1].motors["z"]
    way = np.sign(np.diff(places[times >= since]))
    way = way[way != 0]
    return int(np.count_nonzero((way[:-1] > 0) & (way[1:] < 0)))


def power_cut() -> Story:
    """X and Y unknown, Z first as recorded, then as the guide's macro says it."""
    story = {}
    with VirtualPrinter(seed=SEED, config=z_trial.CONFIG) as printer:
        trial = Trial(printer)
        trial.calibrate()
        for name, believed in (
            ("recorded", "_PLR_ASSUME_Z Z=200"),
            ("zero", "SET_KINEMATIC_POSITION Z=0"),
        ):
            trial.klippy.gcode("G90\nG1 Z200 F2400\nM400")
            printer.cut_power()
            trial.boot()
            start = printer.machine("state")
            trial.klippy.gcode(believed)
            outcome = trial.resume()
            story["samples"] = tops(printer, start["clock"])
            ranges = printer.machine("range", since=start["clock"])
            fell = [
                bottom - corner
                for (bottom, _), corner in zip(
                    ranges.values(), start["corners"], strict=True
                )
            ]
            story[name] = {"outcome": outcome, "fell": min(fell)}
    return story


def stored() -> Story:
    """What is refused, and what the stored variables look like."""
    story: Story = {}
    with VirtualPrinter(seed=SEED, config=z_trial.CONFIG) as printer:
        trial = Trial(printer)
        story["none"] = z_trial.refused(trial.klippy, "PLR_Z_HOME MODE=RESUME")
        story["not homed"] = z_trial.refused(trial.klippy, "PLR_Z_HOME MODE=CALIBRATE")
        trial.calibrate()
        story["status"] = trial.status()
        story["switches"] = printer.machine("state")["switches"]
        file = printer.data / "config" / "variables.cfg"
        story["file"] = before = file.read_text()
        (printer.gcodes / "a.gcode").write_text(
            "PLR_Z_HOME MODE=CALIBRATE\nPAUSE\nG4 P1\n"
        )
        trial.klippy.gcode("SDCARD_PRINT_FILE FILENAME=a.gcode")
        time.sleep(1.5)
        story["paused"] = z_trial.refused(trial.klippy, "PLR_Z_HOME MODE=CALIBRATE")
        trial.klippy.gcode("CANCEL_PRINT")
        story["console"] = list(trial.klippy.console)
        story["kept"] = file.read_text() == before
        path = printer.data / "config" / "printer.cfg"
        path.write_text(path.read_text() + "\n[power_loss_recovery]\nz_position: 231\n")
        trial.klippy.gcode("RESTART")
        trial.klippy.close()
        time.sleep(0.5)
        trial.klippy = Klippy(printer)
        story["changed"] = z_trial.refused(trial.klippy, "PLR_Z_HOME MODE=RESUME")
    return story


def offsets() -> Story:
    """Corners and Z after RESUME with the owner's corrections, and twice so."""
    text = (
        "stepper_z1_adjust_offset: 0.2\nz_height_offset: 0.05\n"
        "probe_iteration_count: 2\nsample_size: 2\n"
    )
    with VirtualPrinter(seed=SEED, config=z_trial.CONFIG + text) as printer:
        trial = Trial(printer)
        trial.calibrate()
        story = {"calibrated": max(abs(e) for e in trial.errors())}
        for name in ("once", "twice"):
            trial.sag([0.5, 1.0, 2.0, 0.2])
            since = printer.machine("state")["clock"]
            trial.resume()
            story["samples"] = tops(printer, since)
            z = trial.klippy.objects("toolhead")["toolhead"]["position"][2]
            corners = printer.machine("state")["corners"]
            story[name] = [c - z - trial.base[-1] for c in corners]
    return story


JOBS: dict[str, Callable[[], Any]] = {
    "power cut": power_cut,
    "stored": stored,
    "offsets": offsets,
    # The one with two boards is the last: it needs the machine most
    **{n: lambda args=args: figures(*args) for n, args in FIGURES.items()},
}


@pytest.fixture(scope="module")
def jobs(request: pytest.FixtureRequest) -> Iterator[dict[str, Future]]:
    prepare()
    with ThreadPoolExecutor(WORKERS) as pool:
        yield {name: pool.submit(job) for name, job in JOBS.items()}


@pytest.mark.parametrize("name", FIGURES)
def test_a_sagged_machine_comes_back_level_and_true(
    jobs: dict[str, Future], name: str
) -> None:
    for outcome in jobs[name].result():
        assert outcome.plane <= MAX_ERROR, outcome
        assert abs(outcome.middle) <= MAX_ERROR
        limit = MAX_PASSED_ON if name == "second mcu" else MAX_OVERRUN
        assert outcome.overrun <= limit


def test_together_is_faster_than_one_after_the_other(jobs: dict[str, Future]) -> None:
    together = [o.duration for o in jobs["common"].result()][:2]
    apart = [o.duration for o in jobs["individual"].result()]
    assert sum(together) <= 0.45 * sum(apart)


@pytest.mark.parametrize("believed", ["recorded", "zero"])
def test_after_a_power_cut_z_only_goes_up(
    jobs: dict[str, Future], believed: str
) -> None:
    story = jobs["power cut"].result()[believed]
    assert story["fell"] >= -SNAP
    assert story["outcome"].plane <= MAX_ERROR
    assert story["outcome"].overrun <= MAX_OVERRUN


def test_each_iteration_is_measured_and_one_is_one(jobs: dict[str, Future]) -> None:
    """Once the approach, then sample_size samples for each iteration."""
    assert jobs["power cut"].result()["samples"] == 1 + 3
    assert jobs["offsets"].result()["samples"] == 1 + 2 * 2


def test_what_is_stored_is_what_the_guide_names(jobs: dict[str, Future]) -> None:
    story = jobs["stored"].result()
    heights = story["status"]["heights"]
    for height, switch in zip(heights.values(), story["switches"], strict=True):
        # klippy's Z is as true as its G28
        assert abs(height - switch) <= 0.03
    assert story["status"]["calibrated"]
    assert abs(story["status"]["calibration_time"] - time.time()) < 3600
    offset = heights["stepper_z"] - heights["stepper_z2"]
    assert f"z_offset_stepper_z2 = {round(offset, 6)}" in story["file"]
    assert "z_endstop_position_stepper_z = " in story["file"]


def test_refusals_say_what_to_run(jobs: dict[str, Future]) -> None:
    story = jobs["stored"].result()
    assert "no calibration is stored" in story["none"]
    assert "not homed" in story["not homed"]
    assert "z_position was '232.000', is '231.000'" in story["changed"]
    for message in (story["none"], story["changed"]):
        assert "PLR_Z_HOME MODE=CALIBRATE" in message


def test_a_print_keeps_the_calibration(jobs: dict[str, Future]) -> None:
    story = jobs["stored"].result()
    assert any("not done during a print" in line for line in story["console"])
    assert "not done during a print" in story["paused"]
    assert story["kept"]


def test_the_owners_corrections_are_for_resume_and_do_not_add_up(
    jobs: dict[str, Future],
) -> None:
    story = jobs["offsets"].result()
    assert story["calibrated"] <= MAX_ERROR
    for name in ("once", "twice"):
        z, z1, z2, z3 = story[name]
        for low in (z, z2, z3):
            assert low == pytest.approx(-0.05, abs=0.02)
        assert z1 == pytest.approx(0.15, abs=0.02)
