# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Bad input on a real klippy and Moonraker: a clear error, nothing lost.

One print is interrupted once; the tests then run in the order they are written.
"""
from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.virtual_printer import faults, outage, parts
from tests.virtual_printer.printer import PrinterError, VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PART = parts.Part(size=20, layers=3)


@pytest.fixture(scope="module")
def printer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualPrinter]:
    with VirtualPrinter(seed=7) as printer:
        printer.power_on()
        outage.calibrate(printer)
        yield printer


def refused(printer: VirtualPrinter) -> str:
    with pytest.raises(PrinterError) as e:
        printer.post("/server/plr/resume")
    return str(e.value)


def state(printer: VirtualPrinter) -> str:
    return printer.get("/server/plr/status")["state"]


def test_without_a_record_there_is_nothing_to_resume(printer: VirtualPrinter) -> None:
    assert "404" in refused(printer) and "no interrupted print" in refused(printer)
    printer.gcode("PLR_RESUME_PRINT")
    printer.wait(
        "the answer on the console",
        lambda: any("no interrupted print" in line for line in printer.console()),
        5,
    )


def test_a_running_print_is_left_alone(
    printer: VirtualPrinter, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("part")
    printer.print_file(parts.write(folder / "part.gcode", PART))
    printer.arm_cut(8.0)
    time.sleep(1.0)
    assert "print is running" in refused(printer)
    printer.wait_cut(120)
    printer.power_on()
    outage.wait_offer(printer)
    assert state(printer) == "interrupted"


def test_a_dry_run_moves_and_heats_nothing(printer: VirtualPrinter) -> None:
    before = printer.machine("state")
    answer = printer.post("/server/plr/resume", dry_run=True)
    assert [s for s in answer["steps"] if "Z+" in s]
    time.sleep(0.5)
    after = printer.machine("state")
    assert after["nozzle"] == before["nozzle"]
    heaters = printer.objects("extruder", "heater_bed")
    assert all(h["target"] == 0 for h in heaters.values())
    assert state(printer) == "interrupted"


def test_an_edited_file_is_refused(printer: VirtualPrinter) -> None:
    path = printer.gcodes / "part.gcode"
    original = path.read_bytes()
    path.write_bytes(original + b"; edited\n")
    assert "changed" in refused(printer)
    middle = len(original) // 2
    swapped = bytes([original[middle] ^ 1])
    path.write_bytes(original[:middle] + swapped + original[middle + 1 :])
    assert "changed" in refused(printer)
    path.write_bytes(original)
    assert printer.post("/server/plr/resume", dry_run=True)["steps"]


def test_a_deleted_file_is_refused(printer: VirtualPrinter) -> None:
    path = printer.gcodes / "part.gcode"
    aside = printer.root / "aside.gcode"
    path.rename(aside)
    assert "is gone" in refused(printer)
    aside.rename(path)
    assert printer.post("/server/plr/resume", dry_run=True)["steps"]


def test_a_klippy_that_is_down_is_said(printer: VirtualPrinter) -> None:
    faults.klippy_crash(printer)
    printer.wait(
        "Moonraker to notice",
        lambda: not printer.get("/server/info")["klippy_connected"],
        10,
    )
    assert "503" in refused(printer) and "not ready" in refused(printer)
    assert state(printer) == "interrupted"
    printer.start_klippy()
    printer.wait_ready()
    outage.wait_offer(printer)


def test_a_discarded_print_stays_discarded(printer: VirtualPrinter) -> None:
    printer.post("/server/plr/discard")
    assert state(printer) == "idle"
    faults.moonraker_crash(printer)
    printer.start_moonraker()
    printer.wait_ready()
    time.sleep(1.0)
    assert state(printer) == "idle"
    assert "404" in refused(printer)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("save_interval: 301", "must have maximum of 300"),
        ("history_size: 1", "must have minimum of 2"),
        ("save_delay: 5", "must have maximum of 4"),
        ("max_adjustment: 0", "must be above 0"),
        ("no_such_option: 1", "no_such_option"),
    ],
)
def test_a_bad_option_is_named_with_its_range(option: str, said: str) -> None:
    config = f"\n[power_loss_recovery]\n{option}\n"
    with VirtualPrinter(seed=1, config=config) as printer:
        printer.power_on(wait=False)
        printer.wait(
            "klippy to refuse the configuration",
            lambda: printer.get("/printer/info")["state"] == "error",
            30,
        )
        message = printer.get("/printer/info")["state_message"]
        assert option.split(":")[0] in message
        assert said in message
