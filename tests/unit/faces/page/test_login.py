# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Who may ask: passwords, keys and tokens."""
from __future__ import annotations

from tests.unit.faces.page.opened import Open, planned
from tests.unit.fake_moonraker import FakeMoonraker


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
