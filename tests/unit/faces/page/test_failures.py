# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What is lost while the page is open is said, and comes back."""
from __future__ import annotations

import time

from tests.unit.faces.page.opened import Open, planned
from tests.unit.fake_moonraker import PLACE, FakeMoonraker


def test_a_klippy_that_is_down_is_said_and_comes_back(open_page: Open) -> None:
    tab, fake = open_page()
    planned(tab)
    fake.klippy, fake.message = "shutdown", "MCU 'mcu' shutdown: Timer too close"
    fake.notify("notify_klippy_shutdown")
    tab.wait_text("trouble", "Klipper is shut down")
    assert "Timer too close" in tab.text("trouble")
    assert not tab.can_press("resume") and tab.can_press("discard")
    assert "has to be ready" in tab.text("resume-note")
    fake.klippy = "disconnected"
    fake.notify("notify_klippy_disconnected")
    tab.wait_text("trouble", "Klipper is not running")
    fake.klippy = "ready"
    fake.notify("notify_klippy_ready")
    tab.wait("document.getElementById('trouble').hidden")
    planned(tab)
    assert tab.can_press("resume")


def test_a_lost_connection_is_said_and_comes_back(open_page: Open) -> None:
    tab, fake = open_page()
    planned(tab)
    fake.away = True
    fake.hang_up()
    tab.wait_text("trouble", "No connection")
    assert tab.text("connection") == "No connection"
    assert not tab.can_press("resume") and not tab.can_press("discard")
    fake.away = False
    tab.wait("document.getElementById('trouble').hidden")
    tab.wait_text("connection", "Connected")
    planned(tab)
    assert tab.can_press("resume")


def test_without_a_websocket_it_asks(open_page: Open) -> None:
    fake = FakeMoonraker()
    fake.refuse = {"/access/oneshot_token": (500, "no")}
    tab, fake = open_page(fake)
    tab.wait_text("connection", "asking every 2 s")
    fake.status = {**fake.status, "state": "printing", "meaning": "It prints."}
    tab.wait_text("state-title", "Printing")


def test_an_answer_that_never_comes_does_not_stop_the_rest(open_page: Open) -> None:
    tab, fake = open_page()
    planned(tab)
    fake.hang = {"/server/info"}
    time.sleep(0.1)
    fake.change(last_error="The resume failed: Home X and Y")
    tab.wait_text("trouble", "The resume failed: Home X and Y")


def test_temperatures_that_nobody_tells_are_unknown(open_page: Open) -> None:
    fake = FakeMoonraker(record={**PLACE, "bed_now": None})
    fake.refuse = {"/printer/objects/query": (503, "Klippy Disconnected")}
    tab, _ = open_page(fake)
    planned(tab)
    assert tab.text("hotend-now") == tab.text("bed-now") == "unknown"
    assert tab.text("trouble") == "" and tab.can_press("resume")
