# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""PLR_Z_HOME with faulty switches and motors: named, harmless, and over afterwards.

Each failure is made, seen and put right, and then the printer must work again.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.virtual_printer import busy, z_trial
from tests.virtual_printer.klippy_api import Klippy
from tests.virtual_printer.klippy_tree import prepare
from tests.virtual_printer.printer import PrinterError, VirtualPrinter
from tests.virtual_printer.z_trial import Trial

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 3
MAX_ERROR = 0.015
# slow_homing_speed and sample_retract_dist, as they are by default
SAMPLE_SPEED, SAMPLE_DIST = 1.0, 1.0
PINS = ("ZP0", "ZP1", "ZP2", "ZP3")
DROPS = [0.5, 1.0, 2.0, 0.2]
NUDGE = 0.4
HEATERS = {"extruder": 60.0, "heater_bed": 45.0}
# Name, mode, pins and what is wrong with them
SWITCHES: list[tuple[str, str, tuple[str, ...], dict[str, Any]]] = [
    ("never", "RESUME", ("ZP1",), {"kind": "never"}),
    ("none", "RESUME", PINS, {"kind": "never"}),
    ("pressed", "RESUME", ("ZP3",), {"kind": "pressed"}),
    ("sticky", "RESUME", ("ZP2",), {"kind": "sticky"}),
    ("once", "RESUME", ("ZP1",), {"kind": "once"}),
    ("noisy", "RESUME", ("ZP0",), {"sigma": 0.3}),
    ("noisy calibration", "CALIBRATE", ("ZP3",), {"sigma": 0.3}),
]
WORDS = {
    "never": ("stepper_z1", "5.0 mm", "did not close", "motor turns"),
    "none": ("no Z+ switch closed within 15.0 mm", "stepper_z, stepper_z1,", "wired"),
    "pressed": ("stepper_z3", "already pressed", "inverted"),
    "sticky": ("stepper_z2", "does not release", "4 tries"),
    "once": ("stepper_z1", "not again 1.0 mm above", "4 tries", "wiring"),
    "noisy": ("stepper_z ", "does not repeat", "samples_tolerance"),
    "noisy calibration": ("stepper_z3 ", "does not repeat", "samples_tolerance"),
    "sag": ("stepper_z2 ", "max_adjustment"),
    "dead": ("stepper_z2 ", "motor turns"),
}
Story = dict[str, Any]


def trial_on(printer: VirtualPrinter) -> Trial:
    trial = Trial(printer)
    trial.calibrate()
    trial.klippy.gcode(f"M104 S{HEATERS['extruder']}\nM140 S{HEATERS['heater_bed']}")
    return trial


def stored(trial: Trial) -> tuple[Any, Any]:
    status = trial.status()
    return status["heights"], status["calibration_time"]


def failure(trial: Trial, mode: str, heal: Callable[[], None]) -> Story:
    machine = trial.printer.machine
    known, before = stored(trial), machine("state")
    message = z_trial.refused(trial.klippy, f"PLR_Z_HOME MODE={mode}")
    after = machine("state")
    ranges = machine("range", since=before["clock"]).values()
    bent = [b - a for a, b in zip(before["corners"], after["corners"], strict=True)]
    objects = trial.klippy.objects("toolhead", "gcode_move", *HEATERS)
    moved = nudge(trial)
    heal()
    outcome = trial.resume()
    return {
        "message": message,
        "bent": max(bent) - min(bent),
        "went down": min(
            bottom - start
            for (bottom, _), start in zip(ranges, before["corners"], strict=True)
        ),
        "homed": objects["toolhead"]["homed_axes"],
        "positions": (
            objects["toolhead"]["position"], objects["gcode_move"]["position"]
        ),
        "targets": {name: objects[name]["target"] for name in HEATERS},
        "moved": moved,
        "kept": stored(trial) == known,
        "plane": outcome.plane,
    }  # fmt: skip


def nudge(trial: Trial) -> list[float]:
    """How far each corner goes when klippy moves Z by NUDGE, down and up again."""
    machine, klippy = trial.printer.machine, trial.klippy
    klippy.gcode("SET_KINEMATIC_POSITION Z=100\nG91")
    before = machine("state")["corners"]
    klippy.gcode(f"G1 Z-{NUDGE} F600\nM400")
    after = machine("state")["corners"]
    klippy.gcode(f"G1 Z{NUDGE}\nG90\nM400")
    return [a - b for a, b in zip(after, before, strict=True)]


def switch_failures() -> dict[str, Story]:
    stories: dict[str, Story] = {}
    with VirtualPrinter(seed=SEED, config=z_trial.CONFIG) as printer:
        trial = trial_on(printer)

        def repair() -> None:
            for pin in PINS:
                printer.machine("switch", pin=pin)
            if "none" in stories or min(printer.machine("state")["corners"]) < 232.5:
                return
            # Too high for any switch to be open: turned down by hand
            printer.machine("sag", drops=[9.0] * 4)

        for name, mode, pins, fault in SWITCHES:
            trial.sag(DROPS)
            for pin in pins:
                printer.machine("switch", pin=pin, **fault)
            stories[name] = failure(trial, mode, repair)
        trial.sag(DROPS)
        printer.machine("switch", pin="ZP0", kind="bounce")
        stories["bounce"] = {"plane": trial.resume().plane}
    return stories


def motion_failures() -> dict[str, Story]:
    """Sagged too far, dead, and stopped in the middle of a sample."""
    stories = {}
    with VirtualPrinter(seed=SEED, config=z_trial.CONFIG) as printer:
        trial = trial_on(printer)
        trial.sag([0.0, 0.0, 6.5, 0.0], z=215.0)
        stories["sag"] = failure(
            trial, "RESUME", lambda: printer.machine("sag", drops=[4.0, 4.0, 0.0, 4.0])
        )
        # So near that the three others are not bent further than a sag
        trial.sag([1.0] * 4, z=229.0)
        printer.machine("disconnect", motor="z2")
        stories["dead"] = failure(
            trial, "RESUME", lambda: printer.machine("connect", motor="z2")
        )
        config = printer.data / "config" / "printer.cfg"
        for mode in ("common", "individual"):
            with open(config, "a") as f:
                f.write(f"\n[power_loss_recovery]\nprobe_mode: {mode}\n")
            restart(trial, "RESTART")
            trial.klippy.gcode("_PLR_ASSUME_Z Z=225")
            trial.sag(DROPS)
            stories[f"stopped {mode}"] = stopped(trial, 4 if mode == "common" else 1)
    return stories


def stopped(trial: Trial, moving: int) -> Story:
    """M112 while `moving` motors go up to their switches for a sample."""
    number = trial.klippy.send("gcode/script", script="PLR_Z_HOME MODE=RESUME")
    state = wait_sample(trial.printer, moving)
    trial.klippy.request("emergency_stop")
    with pytest.raises(PrinterError) as e:
        trial.klippy.answer(number)
    restart(trial, "FIRMWARE_RESTART")
    problem = trial.status()["calibration_problem"]
    return {
        "message": str(e.value),
        "below": min(
            s - c for s, c in zip(state["switches"], state["corners"], strict=True)
        ),
        "problem": problem,
        "plane": trial.resume().plane,
    }


def wait_sample(printer: VirtualPrinter, moving: int) -> dict[str, Any]:
    """Until this many corners rise at the speed of a sample, and the others stand.

    Returns the machine's state then.
    """
    deadline = time.monotonic() + 120
    before, good = printer.machine("state"), 0
    while good < 2:
        assert time.monotonic() < deadline, "no sample was taken"
        time.sleep(0.08)
        now = printer.machine("state")
        took = now["clock"] - before["clock"]
        speeds = sorted(
            (b - a) / took
            for a, b in zip(before["corners"], now["corners"], strict=True)
        )
        rising = [s for s in speeds if abs(s - SAMPLE_SPEED) < 0.2]
        standing = [s for s in speeds if s == 0]
        full = len(rising) == moving and len(standing) == len(speeds) - moving
        good = good + 1 if full else 0
        before = now
    return before


def restart(trial: Trial, command: str) -> None:
    trial.klippy.gcode(command)
    trial.klippy.close()
    time.sleep(0.5)
    trial.klippy = Klippy(trial.printer)


@pytest.fixture(scope="module")
def stories() -> Iterator[Callable[[str], Story]]:
    prepare()
    with ThreadPoolExecutor(2) as pool:
        switches: Future = pool.submit(busy.again, switch_failures)
        motion: Future = pool.submit(busy.again, motion_failures)
        names = {*(name for name, *_ in SWITCHES), "bounce"}
        yield lambda name: (switches if name in names else motion).result()[name]


@pytest.mark.parametrize("name", WORDS)
def test_a_failure_is_named_and_leaves_the_machine_whole(
    stories: Callable[[str], Story], name: str
) -> None:
    story = stories(name)
    for word in WORDS[name]:
        assert word in story["message"]
    assert story["went down"] >= -0.01
    assert story["targets"] == HEATERS
    assert ("z" in story["homed"]) == (name == "pressed")
    toolhead, gcode_move = story["positions"]
    assert toolhead == pytest.approx(gcode_move)
    # Every motor follows klippy again, but for one that cannot
    expected = [-NUDGE] * 4
    if name == "dead":
        expected[2] = 0.0
    else:
        assert story["bent"] <= 0.01
    assert story["moved"] == pytest.approx(expected, abs=0.005)
    assert story["kept"]
    assert story["plane"] <= MAX_ERROR


def test_a_bouncing_switch_is_measured(stories: Callable[[str], Story]) -> None:
    assert stories("bounce")["plane"] <= 0.03


@pytest.mark.parametrize("mode", ["common", "individual"])
def test_an_emergency_stop_in_a_sample_leaves_a_printer_that_restarts(
    stories: Callable[[str], Story], mode: str
) -> None:
    story = stories(f"stopped {mode}")
    assert -0.1 <= story["below"] <= SAMPLE_DIST + 0.1
    assert "internal error" not in story["message"].lower()
    assert story["problem"] == ""
    assert story["plane"] <= MAX_ERROR
