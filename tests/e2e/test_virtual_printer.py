# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What the end-to-end tests stand on: real time, and faults that are no power cut."""
from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator

import pytest

from tests.virtual_printer import faults, outage, parts
from tests.virtual_printer.printer import VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SPEED = 150.0  # mm/s
SECONDS = 12.0
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@pytest.fixture
def printer() -> Iterator[VirtualPrinter]:
    with VirtualPrinter(seed=3) as printer:
        printer.power_on()
        yield printer


def test_its_klippy_makes_no_link_that_another_one_makes(
    printer: VirtualPrinter,
) -> None:
    assert (printer.data / "comms" / "klippy.serial").is_symlink()


def test_it_holds_real_time_at_150_mm_s_in_one_core(printer: VirtualPrinter) -> None:
    radius, steps = 40.0, 120  # 2.1 mm a move
    circle = [
        (125 + radius * math.cos(i * math.tau / steps),
         125 + radius * math.sin(i * math.tau / steps))
        for i in range(steps)
    ]  # fmt: skip
    laps = round(SECONDS * SPEED / (math.tau * radius))
    moves = "\n".join(f"G1 X{x:.3f} Y{y:.3f}" for x, y in circle * laps)
    printer.gcode("G28\nG1 Z10 F1200\nG1 X165 Y125 F9000\nM400")
    assert printer.klippy is not None
    pids = (printer.klippy.pid, printer.pid())
    before = sum(map(cpu_seconds, pids))
    started = time.monotonic()
    printer.gcode(f"G1 F{SPEED * 60:.0f}\n{moves}\nM400")
    took = time.monotonic() - started
    used = (sum(map(cpu_seconds, pids)) - before) / took
    print(f"\nklippy and machine: {100 * used:.1f} % of a core at {SPEED:.0f} mm/s")
    assert took == pytest.approx(laps * math.tau * radius / SPEED, abs=1.5)
    assert used < 1.0
    x, y, z = printer.machine("state")["nozzle"]
    assert (x, y, z) == pytest.approx((*circle[-1], 10.0), abs=0.01)


def interrupt(printer: VirtualPrinter, path: str) -> None:
    part = parts.write(printer.root / path, parts.Part(size=20, layers=3))
    printer.print_file(part)
    printer.wait(
        "plastic on the bed",
        lambda: printer.objects("virtual_sdcard")["virtual_sdcard"]["progress"] > 0.2,
        120,
    )


def bring_back(printer: VirtualPrinter) -> None:
    """FIRMWARE_RESTART, if the board is shut down; then wait for the offer."""
    printer.wait(
        "klippy to say how it is",
        lambda: printer.get("/printer/info")["state"] != "startup",
        30,
    )
    if printer.get("/printer/info")["state"] != "ready":
        printer.post("/printer/firmware_restart")
        time.sleep(1.0)
    printer.wait_ready()
    outage.wait_offer(printer)
    assert printer.get("/server/plr/status")["state"] == "interrupted"
    assert printer.post("/server/plr/resume", dry_run=True)["steps"]


def test_a_crash_of_klippy_is_offered(printer: VirtualPrinter) -> None:
    interrupt(printer, "crash.gcode")
    faults.klippy_crash(printer)
    # Long enough for a heater that was on to shut the board down.
    time.sleep(6.0)
    printer.start_klippy()
    bring_back(printer)
    record = printer.get("/server/plr/status")["record"]
    assert record["file"] == "crash.gcode"


def test_a_brown_out_of_the_board_is_offered(printer: VirtualPrinter) -> None:
    interrupt(printer, "brown.gcode")
    faults.brown_out(printer)
    printer.wait(
        "klippy to notice",
        lambda: printer.get("/printer/info")["state"] == "shutdown",
        30,
    )
    bring_back(printer)
