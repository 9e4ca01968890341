# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The pin of an AC detector, on a real klippy and Moonraker."""
from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from moonraker_components.power_loss_recovery.journal import Journal
from moonraker_components.power_loss_recovery.record import Record, from_payloads
from tests.virtual_printer import mark_watch
from tests.virtual_printer.mark_watch import START_X, Job, Watch
from tests.virtual_printer.printer import VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

DEBOUNCE = 0.4
CONFIG = mark_watch.CONFIG + f"""
[power_loss_recovery]
power_loss_pin: ^!ACOK
power_loss_debounce: {DEBOUNCE}
power_loss_gcode: M117 the mains have failed
save_interval: 0
"""


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    with VirtualPrinter(seed=6, config=CONFIG) as printer:
        printer.power_on()
        yield Watch(printer)


def saved(printer: VirtualPrinter) -> Record:
    state = Journal(str(printer.data / "plr" / "journal")).read()
    assert state is not None
    return from_payloads(state.job_payload, state.mark_payload)[1]


def pin(watch: Watch) -> dict[str, bool]:
    return watch.status["power_loss_recovery"]["power_loss"]


def message(watch: Watch) -> str | None:
    return watch.klippy.objects("display_status")["display_status"]["message"]


def watch_for(watch: Watch, seconds: float) -> None:
    end = time.monotonic() + seconds
    watch.until("some time", lambda: time.monotonic() > end)


def test_a_glitch_does_nothing_and_a_power_loss_saves_at_once(watch: Watch) -> None:
    printer = watch.printer
    job = Job(speed=12.0)
    job.add("M104 S45")
    job.moves(20)
    watch.start(job, "mains.gcode")
    watch.until("it moves", lambda: watch.x() > START_X + 2)
    assert pin(watch) == {"available": True, "lost": False}

    printer.machine("ac", ok=False)
    time.sleep(0.1)
    printer.machine("ac", ok=True)
    watch_for(watch, DEBOUNCE + 0.6)
    assert not any(s.mark is None for s in watch.samples[-3:])
    assert pin(watch)["lost"] is False and not message(watch)
    before = saved(printer)

    printer.machine("ac", ok=False)
    began = time.monotonic()
    printer.wait(
        "the save",
        lambda: printer.get("/server/plr/status")["last_save_reason"] == "power loss",
        5, 0.02,
    )  # fmt: skip
    took = time.monotonic() - began
    after = saved(printer)
    print(f"\nsaved {took - DEBOUNCE:.3f} s after the debounce")
    assert DEBOUNCE * 0.9 < took < DEBOUNCE + 0.5
    watch.sample()
    mark = watch.samples[-1].mark
    assert mark is not None
    assert before.file_position < after.file_position <= mark["file_position"]
    assert pin(watch)["lost"] is True
    watch.until("power_loss_gcode", lambda: message(watch) == "the mains have failed")

    # Whatever time is left, the newest place is in the journal.
    watch_for(watch, 1.5)
    assert saved(printer).file_position > after.file_position
    printer.machine("ac", ok=True)
    watch_for(watch, DEBOUNCE + 0.6)
    assert pin(watch)["lost"] is False
    watch.klippy.gcode("CANCEL_PRINT")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("power_loss_debounce: 9", "must have maximum of 5"),
        ("power_loss_gcode: PAUSE", "power_loss_pin"),
        ("power_loss_pin: nonsense:PA1", "nonsense"),
    ],
)
def test_a_bad_option_is_refused_by_name(option: str, said: str) -> None:
    config = f"\n[power_loss_recovery]\n{option}\n"
    with VirtualPrinter(seed=6, config=config) as printer:
        printer.power_on(moonraker=False, wait=False)
        info = mark_watch.Klippy(printer, ready=False).info
    assert info["state"] == "error"
    assert said in info["state_message"]
