# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Every way for a print to end early, on real processes: is it told for what it was?

One printer; each test starts the print anew and discards what it leaves.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.virtual_printer import faults, parts
from tests.virtual_printer.printer import VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 37
PART = parts.Part(size=20, layers=6)
TERM = 15
End = Callable[[VirtualPrinter], None]


def power_cut(printer: VirtualPrinter) -> None:
    faults.power_cut(printer)
    printer.power_on()


def reboot(printer: VirtualPrinter) -> None:
    """klippy ends first, as it may."""
    printer.kill(printer.klippy, TERM)
    time.sleep(0.5)
    printer.kill(printer.moonraker, TERM)
    power_cut(printer)


def reboot_moonraker_first(printer: VirtualPrinter) -> None:
    printer.kill(printer.moonraker, TERM)
    power_cut(printer)


def emergency_stop(printer: VirtualPrinter) -> None:
    printer.post("/printer/emergency_stop")
    time.sleep(1.0)
    printer.post("/printer/firmware_restart")


def restart(printer: VirtualPrinter) -> None:
    printer.post("/printer/restart")


def firmware_restart(printer: VirtualPrinter) -> None:
    printer.post("/printer/firmware_restart")


def klippy_crash(printer: VirtualPrinter) -> None:
    faults.klippy_crash(printer)
    # systemd waits 10 s. By then the board stands still, and has shut down if a heater
    # was on: nobody told it to heat on.
    time.sleep(7.0)
    printer.start_klippy()
    printer.wait("klippy", lambda: klippy_state(printer) in ("ready", "error"), 20)
    if klippy_state(printer) == "error":
        printer.post("/printer/firmware_restart")


def failed_line(printer: VirtualPrinter) -> None:
    (printer.gcodes / "bad.gcode").write_text(
        "PRINT_START BED=50 EXTRUDER=210\nG1 X50 Y50 Z0.2 F6000\nM83\n"
        "G1 X100 E5 F1200\nG1 X150 E5\nG1 X9999\n"
    )
    printer.gcode("CANCEL_PRINT")
    printer.wait("no print", lambda: printer.state() != "printing", 20)
    printer.post("/printer/print/start", filename="bad.gcode")


ENDS: list[tuple[End, str, str]] = [
    (power_cut, "power_loss", "Power loss"),
    (reboot, "reboot", "shut down or restarted"),
    (reboot_moonraker_first, "reboot", "shut down or restarted"),
    (emergency_stop, "klippy_shutdown", "Klipper shut down: "),
    (restart, "restart", "Klipper was restarted"),
    (klippy_crash, "klippy_crash", "Klipper ended (a crash"),
    (failed_line, "print_error", "out of range"),
    (firmware_restart, "restart", "Klipper was restarted"),
]


def klippy_state(printer: VirtualPrinter) -> str:
    return printer.get("/server/info")["klippy_state"]


def told(printer: VirtualPrinter) -> dict[str, Any]:
    return printer.get("/server/plr/status")


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return parts.write(tmp_path_factory.mktemp("part") / "part.gcode", PART)


@pytest.fixture(scope="module")
def printer() -> Iterator[VirtualPrinter]:
    with VirtualPrinter(seed=SEED) as printer:
        printer.power_on()
        yield printer


def start(printer: VirtualPrinter, part: Path) -> None:
    printer.wait_ready()
    printer.print_file(part)

    def saved() -> bool:
        status = told(printer)
        return status["state"] == "printing" and status["record"] is not None

    printer.wait("the print in the journal", saved, 240)
    time.sleep(1.5)


def test_moonraker_alone_picks_the_print_up_again(
    printer: VirtualPrinter, part: Path
) -> None:
    start(printer, part)
    for signal in (9, TERM):
        before = told(printer)["record"]["file_position"]
        printer.kill(printer.moonraker, signal)
        time.sleep(1.0)
        printer.start_moonraker()
        printer.wait_ready()

        def goes_on(before: int = before) -> bool:
            status = told(printer)
            further = status["record"]["file_position"] > before
            return status["state"] == "printing" and further

        printer.wait("the print to be saved again", goes_on, 20)
        assert told(printer)["interruption"] is None
    shown = [x for x in printer.console() if "action:prompt_begin" in x]
    assert shown == []
    printer.gcode("CANCEL_PRINT")
    printer.wait("the end", lambda: told(printer)["state"] == "idle", 20)


@pytest.mark.parametrize(("end", "kind", "words"), ENDS, ids=lambda x: (
    x.__name__ if callable(x) else ""
))  # fmt: skip
def test_it_is_told_for_what_it_was(
    printer: VirtualPrinter, part: Path, end: End, kind: str, words: str
) -> None:
    start(printer, part)
    end(printer)

    def offered() -> bool:
        """What klippy's leaving looks like, before it is back, is never offered."""
        status = told(printer)
        why = status["interruption"]
        texts = [x for x in printer.console() if "action:prompt_text" in x]
        if status["state"] != "interrupted" or why is None or not texts:
            return False
        return why["words"] in texts[-1]

    printer.wait("the offer", offered, 60)
    found = told(printer)["interruption"]
    assert found["kind"] == kind and words in found["words"], found
    assert not found["thermal"]
    printer.post("/server/plr/discard")
    assert told(printer)["state"] == "idle"


def test_a_heater_that_fails_is_offered_with_a_warning(
    printer: VirtualPrinter, part: Path
) -> None:
    start(printer, part)
    printer.machine("shutdown", reason="ADC out of range")
    time.sleep(1.0)
    printer.post("/printer/firmware_restart")
    printer.wait("the offer", lambda: told(printer)["state"] == "interrupted", 60)
    status = told(printer)
    assert status["interruption"]["kind"] == "klippy_shutdown"
    assert status["interruption"]["thermal"]
    assert "find out why before you heat it again" in status["warnings"][0]
    printer.post("/server/plr/discard")


# Cuts before the first plastic and after the last


def test_a_cut_in_the_start_macro_leaves_a_word_and_no_offer(
    printer: VirtualPrinter, part: Path
) -> None:
    printer.wait_ready()
    printer.print_file(part)
    printer.wait(
        "the heat", lambda: printer.objects("extruder")["extruder"]["target"] > 0, 30
    )
    assert told(printer)["record"] is None
    time.sleep(1.0)
    power_cut(printer)
    printer.wait(
        "the word",
        lambda: any("still being prepared" in x for x in printer.console()), 20,
    )  # fmt: skip
    assert told(printer)["state"] == "idle"
    assert not any("action:prompt_begin" in x for x in printer.console())


def test_a_cut_in_the_end_gcode_offers_to_finish(printer: VirtualPrinter) -> None:
    lines = (
        "PRINT_START BED=50 EXTRUDER=210\nG1 X50 Y50 Z0.2 F6000\nM83\n"
        "G1 X100 E5 F1200\nG1 X150 E5\n"
    )
    name = "ends.gcode"
    (printer.gcodes / name).write_text(lines + "G1 E-1\nG4 P20000\nM107\n")
    printer.disk.settle(printer.gcodes / name)
    printer.post("/printer/print/start", filename=name)

    def laid() -> bool:
        record = told(printer)["record"]
        return record is not None and record["file_position"] >= len(lines)

    printer.wait("the last plastic in the journal", laid, 120)
    power_cut(printer)

    def offered() -> list[str]:
        shown = printer.console()
        missing = any("Nothing of the part is missing" in x for x in shown)
        return [x for x in shown if "footer_button" in x] if missing else []

    buttons = printer.wait("the offer", offered, 30)
    assert any("Finish|PLR_RESET_PRINT_DATA" in x for x in buttons)
    printer.gcode("PLR_RESUME_PRINT")
    printer.wait("the refusal", lambda: any(
        "Cannot resume: All plastic" in x for x in printer.console()
    ), 10)  # fmt: skip
    assert printer.objects("extruder")["extruder"]["target"] == 0
    printer.gcode("PLR_RESET_PRINT_DATA")
    printer.wait("the end", lambda: told(printer)["state"] == "idle", 10)
