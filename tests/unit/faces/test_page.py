# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The recovery page in a browser, with a Moonraker that says what a test wants."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.unit.faces.test_page_server import Server
from tests.unit.fake_moonraker import PLACE, STATUS, STEPS, FakeMoonraker
from tests.virtual_printer import accessibility, browser
from tests.virtual_printer.browser import Tab

pytestmark = pytest.mark.skipif(
    bool(browser.unavailable()), reason=browser.unavailable() or "there is a browser"
)
PATH = "/server/plr/"
HOSTILE = "<img src=x onerror=alert(1)>&amp;\u202e${7*7}'\".gcode"
Open = Callable[..., tuple[Tab, FakeMoonraker]]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.chromium() as found:
        yield found


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server("")
    yield made
    made.close()


@pytest.fixture
def open_page(chromium: Any, server: Server) -> Iterator[Open]:
    """A page of that status; at its end nothing must have gone wrong in it."""
    with ExitStack() as stack:
        tabs = []

        def make(
            fake: FakeMoonraker | None = None, **options: Any
        ) -> tuple[Tab, FakeMoonraker]:
            fake = fake or FakeMoonraker()
            url = f"http://127.0.0.1:{server.port}{PATH}"
            tab = stack.enter_context(Tab(chromium, url, **options))
            tabs.append(tab)
            fake.serve(tab.page)
            tab.open()
            return tab, fake

        yield make
        for tab in tabs:
            assert tab.errors == [] and tab.outside == []


def planned(tab: Tab) -> None:
    tab.wait("document.querySelectorAll('#steps li').length > 0")


# What is seen


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


def test_the_layer_is_drawn_in_both_schemes(open_page: Open) -> None:
    for scheme in ("light", "dark"):
        tab, _ = open_page(color_scheme=scheme)
        planned(tab)
        found = tab.drawn()
        # What is printed is thicker: colour alone tells nobody.
        assert found["printed"] / 50 > 1.5 * found["rest"] / 150


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


# The first paint


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


# What is chosen


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


# Answers


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


# What fails


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


def test_the_nozzle_is_the_one_that_was_printing(open_page: Open) -> None:
    tab, _ = open_page(FakeMoonraker(record={**PLACE, "extruder": "extruder1"}))
    tab.wait_text("hotend-now", "190")


def test_temperatures_that_nobody_tells_are_unknown(open_page: Open) -> None:
    fake = FakeMoonraker(record={**PLACE, "bed_now": None})
    fake.refuse = {"/printer/objects/query": (503, "Klippy Disconnected")}
    tab, _ = open_page(fake)
    planned(tab)
    assert tab.text("hotend-now") == tab.text("bed-now") == "unknown"
    assert tab.text("trouble") == "" and tab.can_press("resume")


# Who asks


def test_a_wrong_password_is_said_and_the_right_one_opens(open_page: Open) -> None:
    fake = FakeMoonraker()
    fake.locked = True
    tab, fake = open_page(fake)
    tab.wait_text("login-title", "Log in")
    assert tab.page.evaluate("document.activeElement.id") == "username"
    assert tab.text("state-title") == "" and tab.text("resume") == ""
    tab.page.fill("#username", "owner")
    tab.page.fill("#password", "wrong")
    tab.page.keyboard.press("Enter")
    tab.wait_text("login-error", "Not logged in: Invalid Password")
    assert tab.page.evaluate("document.activeElement.id") == "password"
    assert tab.page.get_attribute("#password", "aria-invalid") == "true"
    tab.page.fill("#password", "right")
    tab.page.keyboard.press("Enter")
    planned(tab)
    assert tab.text("login-title") == "" and tab.text("connection") == "Connected"
    assert tab.page.input_value("#password") == ""
    stored = tab.page.evaluate("[{...sessionStorage}, {...localStorage}]")
    assert "right" not in str(stored) and "again" in str(stored[0]) and not stored[1]
    tab.page.reload()
    planned(tab)
    assert tab.text("login-title") == ""


def test_a_token_that_is_too_old_is_renewed(open_page: Open) -> None:
    fake = FakeMoonraker()
    fake.locked = True
    tab, fake = open_page(fake)
    tab.wait_text("login-title", "Log in")
    tab.page.fill("#username", "owner")
    tab.page.fill("#password", "right")
    tab.page.keyboard.press("Enter")
    planned(tab)
    fake.tokens = set()
    tab.page.click("#resume")
    tab.wait_text("state-title", "Resuming")
    assert fake.tokens == {"newer"} and tab.text("login-title") == ""
    assert fake.bodies("/access/refresh_jwt") == [{"refresh_token": "again"}]


def test_an_old_login_is_no_worse_than_none(open_page: Open) -> None:
    """From an address that is trusted by now."""
    fake = FakeMoonraker()
    fake.locked = True
    tab, fake = open_page(fake)
    tab.wait_text("login-title", "Log in")
    tab.page.fill("#apikey", "k" * 32)
    tab.page.keyboard.press("Enter")
    tab.wait_text("state-title", "part.gcode")
    fake.keys, fake.only_good = set(), True
    tab.page.click("#resume")
    tab.wait_text("state-title", "Resuming")
    assert tab.text("login-title") == ""


def test_who_is_logged_out_is_asked_again(open_page: Open) -> None:
    fake = FakeMoonraker()
    tab, fake = open_page(fake)
    planned(tab)
    fake.locked = True
    tab.wait_text("login-title", "Log in")
    assert tab.text("state-title") == "" and tab.text("actions") == ""
    tab.page.fill("#apikey", "x")
    tab.page.keyboard.press("Enter")
    tab.wait_text("login-error", "Not logged in")
    tab.page.fill("#apikey", "k" * 32)
    tab.page.keyboard.press("Enter")
    tab.wait_text("state-title", "part.gcode")
    tab.wait("document.getElementById('resume').ariaDisabled === 'false'")
    assert tab.text("login-title") == ""
