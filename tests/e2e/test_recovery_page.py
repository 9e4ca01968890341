# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A power cut and its resume, as somebody sees them who has only the recovery page.

Real klippy and Moonraker, one print, cut once.  The tests run in the order they are
written; in one tab, but for those of other people.
"""
from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.gcode.rewriter import read_stamp
from tests.virtual_printer import accessibility, browser, faults, outage, parts
from tests.virtual_printer.browser import Tab
from tests.virtual_printer.printer import VirtualPrinter

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(browser.unavailable()), reason=browser.unavailable() or "there is one"
    ),
]
SEED = 38
PART = parts.Part(size=12, layers=4, long_line=60.0)
# How sure Z is has its own tests: here it only has to be found.
CONFIG = """
[power_loss_recovery]
sample_size: 1
"""
CUT = 10.0  # s after the first plastic: above the first layer, below the last
CAN_RESUME = "document.getElementById('resume').ariaDisabled === 'false'"
PLANNED = "document.querySelectorAll('#steps li').length > 0"
HEATING = 300.0
# An address that Moonraker does not trust, as a proxy would name it
ELSEWHERE = {"X-Forwarded-For": "10.11.12.13"}


@pytest.fixture(scope="module")
def printer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualPrinter]:
    part = parts.write(tmp_path_factory.mktemp("part") / "part.gcode", PART)
    with VirtualPrinter(seed=SEED, config=CONFIG) as printer:
        outage.interrupt(printer, part, CUT)
        yield printer


@pytest.fixture(scope="module")
def chromium(printer: VirtualPrinter) -> Iterator[Any]:
    with browser.chromium() as found:
        yield found


def page_of(printer: VirtualPrinter) -> str:
    return f"http://127.0.0.1:{printer.port}/server/plr/"


@pytest.fixture(scope="module")
def tab(printer: VirtualPrinter, chromium: Any) -> Iterator[Tab]:
    with Tab(chromium, page_of(printer)) as tab:
        tab.open()
        yield tab


def timeless(text: str) -> str:
    """The bed gets colder, and longer cold, from one look to the next."""
    return re.sub(r"\d+ (?:s|min|h|°C)", "", text)


def test_the_offer_is_there_with_its_layer_and_its_steps(
    printer: VirtualPrinter, tab: Tab
) -> None:
    tab.network = True
    tab.wait(PLANNED)
    assert tab.text("state-title") == "Print interrupted: part.gcode"
    assert tab.text("meaning").startswith("Power loss") and tab.can_press("resume")
    record = printer.get("/server/plr/status")["record"]
    assert 1 < record["layer"] < 4
    assert f"layer {record['layer']} of 4" in tab.text("summary")
    plan = printer.post("/server/plr/resume", dry_run=True)
    assert tab.text("steps").split("\n") == plan["steps"]
    said = timeless(f"{tab.text('warnings')}\n{tab.text('plan-warnings')}")
    assert all(timeless(warning) in said for warning in plan["warnings"])
    assert float(tab.text("hotend-now")) < float(tab.text("hotend-then")) == 210
    tab.drawn()
    words = tab.text("drawing-text")
    assert f"Layer {record['layer']}, " in words and "printed in part" in words
    tab.shot("1-offer")
    assert accessibility.problems(tab.page) == []
    assert accessibility.focus_order(tab.page) == []
    assert (tab.errors, tab.refused, tab.outside) == ([], [], [])
    tab.network = False


def test_on_a_phone_at_night_it_is_all_there(
    printer: VirtualPrinter, chromium: Any
) -> None:
    options = {"viewport": browser.PHONE, "color_scheme": "dark", "has_touch": True}
    with Tab(chromium, page_of(printer), **options) as tab:
        tab.network = True
        tab.open()
        tab.wait(PLANNED)
        tab.wait(CAN_RESUME)
        tab.shot("2-phone")
        assert accessibility.problems(tab.page) == []
        assert tab.errors == [] and tab.outside == []


def test_whoever_is_not_trusted_needs_the_right_password(
    printer: VirtualPrinter, chromium: Any
) -> None:
    printer.post("/access/user", username="owner", password="correct-horse")
    with Tab(
        chromium, page_of(printer), extra_http_headers=ELSEWHERE
    ) as tab:
        tab.open()
        tab.wait_text("login-title", "Log in")
        assert tab.text("state-title") == "" and not tab.can_press("resume")
        tab.page.fill("#username", "owner")
        tab.page.fill("#password", "battery-staple")
        tab.page.click("#login-send")
        tab.wait_text("login-error", "Not logged in: Invalid Password")
        tab.shot("3-wrong-password")
        tab.page.fill("#password", "correct-horse")
        tab.page.keyboard.press("Enter")
        tab.wait_text("state-title", "part.gcode")
        tab.wait(PLANNED)
        tab.wait_text("connection", "Connected")
        assert tab.can_press("resume") and tab.text("login-title") == ""
        assert tab.errors == []


def test_klippy_that_is_down_is_said_until_it_is_back(
    printer: VirtualPrinter, tab: Tab
) -> None:
    faults.klippy_crash(printer)
    tab.wait_text("trouble", "Klipper is not running")
    assert not tab.can_press("resume") and tab.can_press("discard")
    tab.shot("4-klippy-down")
    printer.start_klippy()
    tab.wait("document.getElementById('trouble').hidden", 60)
    tab.wait(CAN_RESUME)
    tab.wait(PLANNED)


def test_a_lost_connection_is_said_until_it_is_back(
    printer: VirtualPrinter, tab: Tab
) -> None:
    printer.kill(printer.moonraker)
    tab.wait_text("trouble", "No connection")
    assert not tab.can_press("resume") and not tab.can_press("discard")
    tab.shot("5-no-connection")
    printer.start_moonraker()
    tab.wait("document.getElementById('trouble').hidden", 60)
    tab.wait(CAN_RESUME, 60)
    # Until its websocket is there too it is "Connected, asking every 2 s".
    tab.wait("document.getElementById('connection').innerText === 'Connected'")


def test_a_resume_can_be_stopped(printer: VirtualPrinter, tab: Tab) -> None:
    tab.page.click("#resume")
    tab.wait_text("step", "Step ")
    assert tab.text("state-title").startswith("Resuming") and tab.text("resume") == ""
    tab.page.click("#cancel")
    tab.wait_text("trouble", "The resume was stopped", 30)
    tab.wait(CAN_RESUME)
    heaters = printer.objects("extruder", "heater_bed")
    assert {heater["target"] for heater in heaters.values()} == {0.0}


def test_another_layer_is_chosen_and_resumed(
    printer: VirtualPrinter, tab: Tab
) -> None:
    layer = printer.get("/server/plr/status")["record"]["layer"]
    points = printer.get("/server/plr/points")["points"]
    tab.wait(PLANNED)
    tab.page.focus("#slider")
    tab.page.keyboard.press("ArrowRight")
    tab.wait_text("slider-text", f"Layer {layer + 1}")
    tab.wait_text("plan-warnings", "stays unprinted", 30)
    tab.page.keyboard.press("ArrowLeft")
    tab.wait_text("drawing-text", f"Layer {layer}, ")
    tab.wait_text("plan-warnings", "is laid twice", 30)
    tab.wait(CAN_RESUME)
    tab.shot("6-another-layer")
    tab.page.click("#resume")
    tab.wait_text("state-title", "Resuming")
    seen: list[str] = []
    deadline = time.monotonic() + HEATING
    while tab.text("state-title") != "Printing":
        assert time.monotonic() < deadline, seen
        assert tab.text("trouble") == "", seen
        step = tab.text("step")
        if step.startswith("Step") and step not in seen:
            seen.append(step)
            tab.shot(f"7-step-{len(seen)}")
        tab.page.wait_for_timeout(50)
    # Some steps are over at once.
    numbers = [int(step.split()[1]) for step in seen]
    assert len(seen) >= 5 and numbers == sorted(set(numbers)), seen
    tab.wait_text("said", "The print goes on.")
    with open(next((printer.gcodes / ".plr").glob("*.gcode")), "rb") as f:
        stamp = read_stamp(f)
    byte = next(p["file_position"] for p in points if p["layer"] == layer)
    assert stamp is not None and stamp.file_position == byte


def test_the_end_is_seen(printer: VirtualPrinter, tab: Tab) -> None:
    outage.finish(printer)
    tab.wait_text("state-title", "Nothing to resume", 30)
    tab.wait_text("last", "it was resumed and is complete")
    assert "The last outage: part.gcode" in tab.text("last")
    assert tab.text("actions") == ""
    tab.shot("8-finished")
    assert accessibility.problems(tab.page) == []
    assert tab.errors == [] and tab.outside == []
