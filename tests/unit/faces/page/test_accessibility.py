# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The page can be used by everybody, as far as that can be computed."""
from __future__ import annotations

import pytest

from tests.unit.faces.page.opened import Open, planned
from tests.unit.fake_moonraker import STEPS, FakeMoonraker
from tests.virtual_printer import accessibility, browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [browser.PHONE, browser.DESK], ids=["phone", "desk"])
def test_it_can_be_used_by_everybody(
    open_page: Open, scheme: str, size: dict[str, int]
) -> None:
    fake = FakeMoonraker()
    fake.plan_warnings = ["There is no free strip of bed beside the part."]
    tab, fake = open_page(fake, color_scheme=scheme, viewport=size)
    planned(tab)
    tab.shot(f"unit-{scheme}-{size['width']}")
    assert accessibility.problems(tab.page) == []
    assert accessibility.focus_order(tab.page) == []
    tab.page.click("#discard")
    assert accessibility.problems(tab.page) == []
    tab.page.keyboard.press("Escape")
    fake.change(state="resuming", step={"number": 3, "of": 8, "name": "lift",
                                        "title": STEPS[2]})  # fmt: skip
    tab.wait_text("step", "Step 3 of 8")
    assert accessibility.problems(tab.page) == []
    assert accessibility.focus_order(tab.page) == []
    fake.change(state="interrupted", step=None, last_error="The resume was stopped.")
    tab.wait_text("trouble", "stopped")
    tab.wait("!document.getElementById('actions').hidden")
    assert accessibility.problems(tab.page) == []
    fake.change(state="idle", record=None, waiting=[], warnings=[], last_error="")
    tab.wait_text("state-title", "Nothing to resume")
    assert accessibility.problems(tab.page) == []


@pytest.mark.parametrize("size", [browser.PHONE, browser.DESK], ids=["phone", "desk"])
def test_so_can_the_login(open_page: Open, size: dict[str, int]) -> None:
    fake = FakeMoonraker()
    fake.locked = True
    tab, _ = open_page(fake, viewport=size, color_scheme="dark")
    tab.wait_text("login-title", "Log in")
    assert accessibility.problems(tab.page) == []
    assert accessibility.focus_order(tab.page) == []


def test_the_checks_find_what_is_wrong(open_page: Open) -> None:
    """They are worth nothing if they cannot fail."""
    tab, _ = open_page()
    planned(tab)
    tab.page.evaluate("""() => {
      document.documentElement.style.setProperty("--muted", "#c0c0c0");
      document.documentElement.style.setProperty("--rest", "#f0e0c0");
      document.getElementById("slider-label").remove();
      document.getElementById("lower").removeAttribute("aria-label");
      document.getElementById("lower").textContent = "";
      document.getElementById("resume").tabIndex = 3;
      document.getElementById("where-title").outerHTML = "<h4>x</h4>";
      document.getElementById("discard").style.outline = "none";
    }""")
    found = "\n".join(accessibility.problems(tab.page))
    for part in ("text connection", "rest in the drawing", "a slider has no name",
                 "a button has no name", "headings"):  # fmt: skip
        assert part in found, (part, found)
    order = "\n".join(accessibility.focus_order(tab.page))
    assert "Tab goes" in order and "focus on discard is not seen" in order
