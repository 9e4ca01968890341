# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Two tools, cuts in and around a change, and a pause: the oracle looks in the end.

The tests run in the order they are written, on one printer.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.virtual_printer import outage, parts, tool_changer
from tests.virtual_printer.printer import PrinterError, VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 71
PART = parts.Part(size=16, layers=5, long_line=60)
PAUSE_LAYER, WATCHED_LAYER = 2, 3
BEYOND = {
    PAUSE_LAYER: "M600",
    WATCHED_LAYER: "VERIFY_TOOLCHANGE_DURING_PRINT DURATION=120 FORCE=0",
}
PARKED = (10.0, 10.0)
M600 = f"""
[gcode_macro M600]
gcode:
    PAUSE
    G91
    G1 Z10 F1200
    G90
    G1 X{PARKED[0]} Y{PARKED[1]} F9000
"""


@dataclass
class Scene:
    printer: VirtualPrinter
    whole: Future[outage.Undisturbed]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("part")
    plain, part = folder / "plain.gcode", folder / "part.gcode"
    plain.write_text(tool_changer.gcode(PART))
    part.write_text(tool_changer.gcode(PART, BEYOND))
    tree = tool_changer.tree()
    config = tool_changer.config(folder / "mounted") + M600
    with (
        ThreadPoolExecutor(1) as pool,
        VirtualPrinter(seed=SEED, tree=tree, config=config) as printer,
    ):
        alone = tool_changer.config(folder / "mounted_alone")
        made = Scene(printer, pool.submit(
            outage.run_undisturbed, plain, SEED, tree, config=alone
        ))  # fmt: skip
        printer.power_on()
        outage.calibrate(printer)
        printer.print_file(part)
        yield made


def cut(scene: Scene) -> None:
    scene.printer.cut_power()
    scene.printer.power_on()
    outage.wait_offer(scene.printer)


def told(scene: Scene) -> dict[str, Any]:
    return scene.printer.get("/server/plr/status")


def steps(scene: Scene) -> list[str]:
    return scene.printer.post("/server/plr/resume", dry_run=True)["steps"]


def test_a_cut_in_a_layer_goes_on_with_the_tool_of_that_layer(scene: Scene) -> None:
    tool_changer.wait_for(scene.printer, tool_number=1, status="ready")
    time.sleep(3.0)
    cut(scene)
    assert tool_changer.status(scene.printer)["status"] == "uninitialized"
    assert "Go on with T1 [tool T1]" in steps(scene)
    outage.resume(scene.printer)
    tool_changer.wait_for(scene.printer, 5, tool="tool T1", status="ready")


def test_with_no_tool_mounted_the_one_to_mount_is_named(scene: Scene) -> None:
    """The power fails when T1 is docked and T0 not taken yet."""
    tool_changer.wait_for(scene.printer, status="changing", detected_tool=None)
    cut(scene)
    before = scene.printer.machine("state")["nozzle"]
    with pytest.raises(PrinterError, match="Mount T1 .tool T1. by hand"):
        scene.printer.post("/server/plr/resume")
    assert scene.printer.machine("state")["nozzle"] == before
    assert told(scene)["state"] == "interrupted"
    scene.printer.gcode("MOUNT_BY_HAND T=1")
    outage.resume(scene.printer)


def test_with_the_new_tool_mounted_it_changes_back(scene: Scene) -> None:
    tool_changer.wait_for(scene.printer, status="changing", detected_tool="tool T0")
    cut(scene)
    assert "Change from T0 [tool T0] to T1 [tool T1]" in steps(scene)
    outage.resume(scene.printer)
    tool_changer.wait_for(scene.printer, tool="tool T0", status="ready")


def test_a_print_cut_in_a_pause_is_paused_again_beside_the_part(scene: Scene) -> None:
    """In M600, parked, and the idle timeout has turned the heaters off."""
    printer = scene.printer
    printer.wait("the pause", lambda: printer.state() == "paused", 120)
    printer.gcode("SET_IDLE_TIMEOUT TIMEOUT=1")
    printer.wait(
        "the idle timeout",
        lambda: printer.objects("extruder")["extruder"]["target"] == 0, 30,
    )  # fmt: skip
    time.sleep(1.5)
    cut(scene)
    x, y, z, _ = told(scene)["record"]["position"]
    assert z == pytest.approx(parts.LAYER * PAUSE_LAYER) and (x, y) != PARKED
    assert any("It was paused" in w for w in told(scene)["warnings"])
    outage.resume(printer)
    printer.wait("the pause again", lambda: printer.state() == "paused", 60)
    assert printer.objects("extruder")["extruder"]["target"] == PART.hotend
    at = printer.machine("state")["nozzle"]
    half = PART.size / 2
    assert max(abs(at[i] - PART.centre[i]) for i in (0, 1)) > half + 5
    printer.gcode("RESUME")
    printer.wait("the print", lambda: printer.state() == "printing", 20)


def test_a_tool_that_is_lost_pauses_the_print(scene: Scene) -> None:
    printer = scene.printer
    tool_changer.wait_for(printer, tool="tool T1", status="ready")
    time.sleep(2.0)
    assert printer.state() == "printing"
    printer.gcode("MOUNT_BY_HAND T=-1")
    printer.wait("the pause", lambda: printer.state() == "paused", 10)
    said = [x for x in printer.console() if x.startswith("!! VERIFY_TOOLCHANGE")]
    assert "[tool T1] is selected" in said[-1] and "no single tool" in said[-1]
    printer.gcode("MOUNT_BY_HAND T=1")
    printer.gcode("RESUME")


def test_the_part_comes_out_whole_with_every_layer_by_its_tool(scene: Scene) -> None:
    outage.finish(scene.printer)
    verdict = outage.judge_printed(scene.whole.result(), scene.printer)
    print(f"\nXY {verdict.xy_error_mm:.4f} Z {verdict.z_error_mm:.4f} mm")
    assert verdict.reasons() == [], verdict.collided
