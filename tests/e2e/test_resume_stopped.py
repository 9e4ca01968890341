# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Boards and klippy that go while a resume prepares the machine: what its owner reads,
and that it can be tried again.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.virtual_printer import outage, parts
from tests.virtual_printer.printer import VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 43
End = Callable[[VirtualPrinter], object]


def unplugged(printer: VirtualPrinter) -> None:
    """A board on USB: klippy waits for ever for what it has asked it."""
    printer.machine("brown_out", usb=True)


def thermal(printer: VirtualPrinter) -> None:
    printer.machine("shutdown", reason="ADC out of range")


def restart(printer: VirtualPrinter) -> None:
    printer.post("/printer/restart")


ENDS: list[tuple[End, str, str]] = [
    (unplugged, "Lost communication with MCU 'mcu'", "the cable of that board"),
    (thermal, "ADC out of range", "A heater or its sensor has failed"),
    (restart, "Klipper was restarted", "offered again"),
]


@pytest.fixture(scope="module")
def printer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualPrinter]:
    """With an interrupted print."""
    folder = tmp_path_factory.mktemp("part")
    part = parts.write(folder / "part.gcode", parts.Part(size=20, layers=4))
    with VirtualPrinter(seed=SEED) as printer:
        outage.interrupt(printer, part, 4.0)
        yield printer


def told(printer: VirtualPrinter) -> dict[str, Any]:
    return printer.get("/server/plr/status")


@pytest.mark.parametrize(("end", "why", "todo"), ENDS, ids=lambda x: (
    x.__name__ if callable(x) else ""
))  # fmt: skip
def test_the_owner_reads_why_and_what_to_do(
    printer: VirtualPrinter, end: End, why: str, todo: str
) -> None:
    # After a restart of klippy both need a moment.
    printer.wait("the resume", lambda: printer.post("/server/plr/resume"), 60)
    printer.wait(
        "the lift", lambda: (told(printer)["step"] or {}).get("name") == "lift", 120,
        0.02,
    )  # fmt: skip
    time.sleep(0.5)
    before = len(printer.console())
    end(printer)
    # A board that is silent is lost after some seconds.
    printer.wait(
        "the end of the resume", lambda: told(printer)["state"] == "interrupted", 20
    )
    last = told(printer)["last_errors"][0]["text"]
    assert last.startswith("The resume was stopped: Klipper") and why in last
    assert todo in last
    said = printer.console()[before:]
    assert any(last in line for line in said)
    assert "TURN_OFF_HEATERS" not in said  # nobody listens
    if end is not restart:
        printer.http("POST", "/printer/firmware_restart", timeout=20)
    time.sleep(1.0)
    printer.wait_ready()
    assert told(printer)["state"] == "interrupted"
