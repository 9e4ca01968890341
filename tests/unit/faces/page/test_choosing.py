# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Where to resume: the saved place, or another layer."""
from __future__ import annotations

from tests.unit.faces.page.opened import PATH, Open, planned
from tests.unit.fake_moonraker import STEPS, FakeMoonraker


def test_the_saved_place_is_the_default(open_page: Open) -> None:
    tab, fake = open_page()
    planned(tab)
    tab.page.click("#resume")
    tab.wait_text("state-title", "Resuming")
    assert fake.bodies(PATH + "resume") == [{"dry_run": True}, {}]


def test_with_the_keyboard_another_layer_is_chosen(open_page: Open) -> None:
    tab, fake = open_page()
    planned(tab)
    tab.page.focus("#slider")
    tab.page.keyboard.press("ArrowLeft")
    assert tab.page.is_checked("#at-layer")
    assert tab.text("slider-text") == "Layer 2, Z 0.40 mm, 10 % done"
    assert tab.page.get_attribute("#slider", "aria-valuetext") == tab.text(
        "slider-text"
    )
    tab.wait_text("drawing-text", "Layer 2, Z 0.40 mm: printed; it goes on at X 100.0")
    planned(tab)
    tab.wait("document.getElementById('resume').ariaDisabled === 'false'")
    tab.page.focus("#resume")
    tab.page.keyboard.press("Enter")
    tab.wait_text("state-title", "Resuming")
    assert fake.bodies(PATH + "resume")[-2:] == [
        {"position": 1000, "dry_run": True}, {"position": 1000},
    ]  # fmt: skip


def test_who_chooses_before_the_file_is_read_again_has_chosen(open_page: Open) -> None:
    tab, fake = open_page()
    planned(tab)
    fake.hang = {PATH + "points", PATH + "layer"}
    fake.change(state="resuming")
    tab.wait_text("state-title", "Resuming")
    fake.change(state="interrupted")
    tab.wait_text("drawing-text", "being read")
    tab.page.focus("#slider")
    tab.page.keyboard.press("ArrowRight")
    fake.answer_now()
    tab.wait_text("drawing-text", "Layer 4")
    tab.wait("document.getElementById('resume').ariaDisabled === 'false'")
    assert tab.page.is_checked("#at-layer") and "Layer 4" in tab.text("slider-text")
    assert fake.bodies(PATH + "resume")[-1] == {"position": 3000, "dry_run": True}


def test_elsewhere_nothing_is_resumed_before_its_steps_are_seen(
    open_page: Open,
) -> None:
    tab, fake = open_page()
    planned(tab)
    fake.hang = {PATH + "resume"}
    tab.page.click("#higher")
    tab.wait_text("drawing-text", "Layer 4, Z 0.80 mm: not printed")
    assert not tab.can_press("resume") and "not known yet" in tab.text("resume-note")
    tab.page.click("#resume", force=True)
    assert fake.bodies(PATH + "resume")[-1]["dry_run"] is True
    tab.page.check("#at-saved")
    assert tab.can_press("resume")
    assert tab.text("steps").split("\n") == STEPS


def test_a_refusal_says_why(open_page: Open) -> None:
    tab, fake = open_page()
    planned(tab)
    fake.refuse = {PATH + "resume": (409, "Cannot resume: nothing is printed there")}
    tab.page.click("#lower")
    tab.wait_text("plan-state", "nothing is printed there")
    assert not tab.can_press("resume") and tab.text("steps") == ""
    assert tab.text("resume-note") == "It cannot go on there."
    tab.page.check("#at-saved")
    tab.page.click("#resume")
    tab.wait_text("trouble", "nothing is printed there")
    assert tab.text("state-title").startswith("Print interrupted")


def test_a_slider_that_is_pulled_asks_little(open_page: Open) -> None:
    tab, fake = open_page()
    planned(tab)
    before = len(fake.asked)
    tab.page.focus("#slider")
    for key in ["ArrowRight"] * 6 + ["ArrowLeft"] * 5:
        tab.page.keyboard.press(key)
    tab.wait_text("drawing-text", "Layer 4")
    tab.wait("document.getElementById('resume').ariaDisabled === 'false'")
    asked = [path for _, path, _ in fake.asked[before:]]
    assert asked.count(PATH + "layer") <= 4 and asked.count(PATH + "resume") <= 4
    assert fake.bodies(PATH + "resume")[-1] == {"position": 3000, "dry_run": True}
    known = asked.count(PATH + "layer")
    tab.page.click("#lower")
    tab.wait_text("drawing-text", "Layer 3")
    tab.page.click("#higher")
    tab.wait_text("drawing-text", "Layer 4")
    asked = [path for _, path, _ in fake.asked[before:]]
    assert asked.count(PATH + "layer") <= known + 1


def test_a_file_without_layers_has_its_saved_place(open_page: Open) -> None:
    fake = FakeMoonraker()
    fake.refuse = {PATH + "points": (409, "No layers: the file is binary"),
                   PATH + "layer": (409, "No layers: the file is binary")}  # fmt: skip
    tab, _ = open_page(fake)
    tab.wait_text("drawing-text", "the file is binary")
    planned(tab)
    assert tab.can_press("resume")
