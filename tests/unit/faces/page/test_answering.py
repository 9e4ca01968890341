# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Resume, Discard, Cancel, and what is told of them."""
from __future__ import annotations

from tests.unit.faces.page.opened import PATH, Open, planned
from tests.unit.fake_moonraker import STEPS, FakeMoonraker


def test_it_can_be_answered_before_the_file_is_read(open_page: Open) -> None:
    fake = FakeMoonraker()
    fake.hang = {PATH + "points", PATH + "layer"}
    tab, fake = open_page(fake)
    tab.wait_text("state-title", "part.gcode")
    tab.wait("document.getElementById('resume').ariaDisabled === 'false'")
    assert "being read" in tab.text("drawing-text")
    tab.page.click("#resume")
    tab.wait_text("state-title", "Resuming")
    assert {} in fake.bodies(PATH + "resume")


def test_discard_asks_first(open_page: Open) -> None:
    tab, fake = open_page()
    planned(tab)
    for leave in ("Escape", "Enter"):
        tab.page.click("#discard")
        assert tab.page.evaluate("document.activeElement.id") == "sure-no"
        tab.page.keyboard.press(leave)
        tab.wait("!document.getElementById('sure').open")
        assert tab.page.evaluate("document.activeElement.id") == "discard"
    assert fake.bodies(PATH + "discard") == []
    tab.page.click("#discard")
    tab.page.click("#sure-yes")
    tab.wait_text("said", "Discarded.")
    assert fake.bodies(PATH + "discard") == [{}]
    assert tab.text("state-title") == "Nothing to resume"
    assert tab.text("resume") == ""


def test_the_progress_is_told_and_can_be_stopped(open_page: Open) -> None:
    tab, fake = open_page()
    planned(tab)
    tab.page.click("#resume")
    for number, title in enumerate(STEPS, 1):
        step = {"number": number, "of": len(STEPS), "name": "x", "title": title}
        fake.status["step"] = step
        fake.notify("notify_plr_resume_progress", step)
        tab.wait_text("step", f"Step {number} of {len(STEPS)}: {title}")
        assert tab.page.evaluate("document.getElementById('bar').value") == number - 1
    assert tab.text("cancel") == "Cancel" and tab.text("resume") == ""
    tab.page.click("#cancel")
    tab.wait_text("state-title", "Print interrupted")
    assert fake.bodies(PATH + "cancel") == [{}]
    tab.wait("document.getElementById('resume').ariaDisabled === 'false'")


def test_an_answer_that_is_older_than_what_was_heard_is_dropped(
    open_page: Open,
) -> None:
    tab, fake = open_page(FakeMoonraker(state="resuming"))
    tab.wait_text("connection", "Connected")
    old = fake.status
    fake.hang = {PATH + "status"}
    fake.notify("notify_klippy_ready")
    while not fake.waiting:
        tab.page.wait_for_timeout(20)
    fake.change(step={"number": 2, "of": 8, "name": "x", "title": STEPS[1]})
    tab.wait_text("step", "Step 2 of 8")
    fake.hang, (late,) = set(), fake.waiting
    late.fulfill(json={"result": old})
    tab.page.wait_for_timeout(300)
    assert tab.text("step").startswith("Step 2 of 8")


def test_the_print_that_goes_on_is_told(open_page: Open) -> None:
    tab, fake = open_page(FakeMoonraker(state="resuming"))
    tab.wait_text("state-title", "Resuming")
    fake.change(state="printing", waiting=[], warnings=[])
    tab.wait_text("said", "The print goes on.")
    tab.wait_text("state-title", "Printing")
    fake.outages = [{"file": "part.gcode", "z": 0.6, "ended": "complete"}]
    fake.change(state="idle", record=None)
    tab.wait_text("last", "part.gcode, Z 0.60 mm; it was resumed and is complete.")


def test_what_resumes_by_itself_can_be_stopped(open_page: Open) -> None:
    tab, fake = open_page(
        FakeMoonraker(auto_resume={"seconds_left": 41.6, "why_not": ""})
    )
    tab.wait_text("countdown", "by itself in 42 s")
    assert tab.text("cancel") == "Stop"
    tab.page.click("#cancel")
    tab.wait("document.getElementById('countdown').hidden")
    assert fake.bodies(PATH + "cancel") == [{}]
