# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What the page shows of an interrupted print, and nothing else of it."""
from __future__ import annotations

from typing import Any

from tests.unit.faces.page.opened import PATH, Open, planned
from tests.unit.faces.test_page_server import Server
from tests.unit.fake_moonraker import PLACE, STATUS, STEPS, FakeMoonraker
from tests.virtual_printer.browser import Tab

HOSTILE = "<img src=x onerror=alert(1)>&amp;\u202e${7*7}'\".gcode"


def test_an_interrupted_print_is_shown_with_all_there_is(open_page: Open) -> None:
    tab, _ = open_page()
    planned(tab)
    assert tab.text("state-title") == "Print interrupted: part.gcode"
    assert "The power failed" in tab.text("meaning")
    assert "layer 3 of 10, Z 0.60 mm" in tab.text("summary")
    assert tab.text("warnings") == STATUS["warnings"][0]
    cells = [tab.text(f"{h}-{t}") for h in ("hotend", "bed") for t in ("then", "now")]
    assert cells == ["215", "25", "60", "31"]
    assert tab.text("steps").split("\n") == STEPS
    assert tab.text("connection") == "Connected" and tab.text("trouble") == ""
    assert tab.can_press("resume") and tab.can_press("discard")
    words = tab.text("drawing-text")
    assert "Layer 3, Z 0.60 mm: printed in part" in words
    assert "goes on at X 150.0, Y 100.0" in words and "purged on the bed" in words
    assert tab.refused == []


def test_the_nozzle_is_the_one_that_was_printing(open_page: Open) -> None:
    tab, _ = open_page(FakeMoonraker(record={**PLACE, "extruder": "extruder1"}))
    tab.wait_text("hotend-now", "190")


def test_the_layer_is_drawn_in_both_schemes(open_page: Open) -> None:
    for scheme in ("light", "dark"):
        tab, _ = open_page(color_scheme=scheme)
        planned(tab)
        found = tab.drawn()
        # What is printed is thicker: colour alone tells nobody.
        assert found["printed"] / 50 > 1.5 * found["rest"] / 150


def test_texts_of_the_printer_are_only_texts(open_page: Open) -> None:
    record = {**PLACE, "file": HOSTILE, "summary": HOSTILE}
    fake = FakeMoonraker(
        record=record, waiting=[HOSTILE] * 2, warnings=[HOSTILE],
        interruption={"kind": "unknown", "words": HOSTILE, "thermal": False},
        trouble=HOSTILE,
    )  # fmt: skip
    fake.plan_warnings = [HOSTILE, HOSTILE + "2"]
    tab, fake = open_page(fake)
    planned(tab)
    for id_ in ("state-title", "meaning", "summary", "warnings", "others", "trouble",
                "plan-warnings"):  # fmt: skip
        shown = tab.page.locator(f"#{id_}").text_content()
        assert HOSTILE in shown, id_
    fake.change(last_error=HOSTILE)
    fake.notify("notify_plr_resume_progress",
                {"number": 1, "of": 1, "name": "x", "title": HOSTILE})  # fmt: skip
    assert tab.page.evaluate("document.images.length") == 0


def test_behind_a_proxy_with_a_path_of_its_own_it_is_the_same(chromium: Any) -> None:
    server, fake = Server("/second-printer"), FakeMoonraker()
    fake.prefix = server.prefix
    url = f"http://127.0.0.1:{server.port}{fake.prefix}{PATH}"
    try:
        with Tab(chromium, url) as tab:
            fake.serve(tab.page)
            tab.open()
            planned(tab)
            tab.wait("document.getElementById('drawing-text').innerText.includes('Z')")
            assert len(fake.sockets) == 1
            assert fake.sockets[0].url.startswith(
                f"ws://127.0.0.1:{server.port}/second-printer/websocket?token=ONCE"
            )
            assert tab.errors == [] and tab.refused == []
    finally:
        server.close()
