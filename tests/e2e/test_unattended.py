# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""auto_resume and hold_bed through three power cuts of one print, then a person's yes.

The tests run in the order they are written; the oracle looks at the part in the end.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.virtual_printer import outage, parts
from tests.virtual_printer.front_end import FrontEnd
from tests.virtual_printer.printer import VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 33
TITLE = "Print interrupted"
PART = parts.Part(size=20, layers=3)
COUNTDOWN = 10.0
OPTIONS = f"""
[power_loss_recovery]
auto_resume: if_bed_warm
auto_resume_bed_drop: 30
auto_resume_countdown: {COUNTDOWN}
hold_bed: 5
"""


@dataclass
class Scene:
    printer: VirtualPrinter
    mainsail: FrontEnd
    whole: Future[outage.Undisturbed]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    part: Path = parts.write(tmp_path_factory.mktemp("part") / "part.gcode", PART)
    with (
        ThreadPoolExecutor(1) as pool,
        VirtualPrinter(seed=SEED, config=OPTIONS) as printer,
        FrontEnd(printer.port) as mainsail,
    ):
        made = Scene(printer, mainsail, pool.submit(
            outage.run_undisturbed, part, SEED
        ))  # fmt: skip
        printer.power_on()
        outage.calibrate(printer)
        printer.print_file(part)
        cut(made, 4.0)
        yield made


def cut(scene: Scene, after: float) -> None:
    """That long after the next plastic, and the power comes back."""
    scene.printer.arm_cut(after)
    outage.wait_cut(scene.printer, after)
    scene.printer.power_on()


def status(scene: Scene) -> dict[str, Any]:
    return scene.printer.get("/server/plr/status")


def targets(scene: Scene) -> tuple[float, float]:
    told = scene.printer.objects("heater_bed", "extruder")
    return told["heater_bed"]["target"], told["extruder"]["target"]


def test_the_bed_is_held_and_the_countdown_shown(scene: Scene) -> None:
    dialog = scene.mainsail.wait(TITLE, 20)
    scene.printer.wait(
        "the countdown", lambda: status(scene)["auto_resume"]["seconds_left"], 5
    )
    dialog = scene.mainsail.dialog
    assert dialog is not None and dialog.text.startswith("It resumes by itself in 10 s")
    assert dialog.buttons["Stop"] == "PLR_STOP_AUTO_RESUME"
    scene.printer.wait("the bed", lambda: targets(scene) == (50.0, 0.0), 5)
    held = status(scene)["hold_bed"]
    assert held["target"] == 50.0 and 280 < held["seconds_left"] <= 300


def test_a_person_stops_it_and_it_stays_stopped(scene: Scene) -> None:
    before = scene.printer.machine("state")["nozzle"]
    scene.mainsail.press("Stop")
    scene.printer.wait(
        "the stop", lambda: status(scene)["auto_resume"]["why_not"] != "", 5
    )
    time.sleep(COUNTDOWN + 1)
    assert scene.printer.machine("state")["nozzle"] == before
    assert targets(scene) == (50.0, 0.0) and status(scene)["state"] == "interrupted"
    dialog = scene.mainsail.wait(TITLE)
    assert dialog is not None and "Later" in dialog.buttons


def test_moonraker_that_restarts_holds_it_for_the_rest_of_the_time(
    scene: Scene,
) -> None:
    scene.printer.kill(scene.printer.moonraker, 15)
    scene.printer.start_moonraker()
    scene.printer.wait_ready()
    scene.printer.wait("the bed again", lambda: status(scene)["hold_bed"], 10)
    assert status(scene)["hold_bed"]["seconds_left"] < 300 - COUNTDOWN
    scene.printer.wait("the bed", lambda: targets(scene) == (50.0, 0.0), 5)
    time.sleep(1)
    assert status(scene)["auto_resume"]["seconds_left"] is None


def test_after_the_next_cut_it_resumes_by_itself(scene: Scene) -> None:
    scene.printer.cut_power()
    scene.printer.power_on()
    dialog = scene.mainsail.wait(TITLE, 20)
    assert dialog is not None

    def printing() -> bool:
        return status(scene)["state"] == "printing"

    scene.printer.wait("the print to go on by itself", printing, 240)
    scene.mainsail.wait(None)


def test_a_loop_of_power_cuts_ends(scene: Scene) -> None:
    cut(scene, 3.0)
    scene.mainsail.wait(TITLE, 20)
    scene.printer.wait(
        "the refusal", lambda: status(scene)["auto_resume"]["why_not"] != "", 10
    )
    told = status(scene)
    assert "the power has failed after 2 attempts" in told["auto_resume"]["why_not"]
    assert told["hold_bed"] is None and told["auto_resume"]["seconds_left"] is None
    time.sleep(COUNTDOWN + 1)
    assert targets(scene) == (0.0, 0.0)


def test_with_a_yes_the_part_comes_out_whole(scene: Scene) -> None:
    outage.resume(scene.printer)
    outage.finish(scene.printer)
    verdict = outage.judge_printed(scene.whole.result(), scene.printer)
    assert verdict.reasons() == []
