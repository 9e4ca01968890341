# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Headless Chromium for the tests of the recovery page, and what it complains about."""
from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from .klippy_tree import REPO

ARTIFACTS = REPO / "artifacts" / "page"
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
# What Chromium itself says of a request that is refused or finds nobody
NETWORK = ("Failed to load resource", "WebSocket connection to")
TIMEOUT = 15_000  # ms


def executable() -> str | None:
    named = os.environ.get("PLR_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


def unavailable() -> str:
    """Why there is no browser; empty when there is one."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError as e:
        return f"Playwright is not there for this architecture: {e}"
    if executable() is None:
        return (
            "no Chromium: apt-get install chromium-headless-shell, or PLR_CHROMIUM=path"
        )
    return ""


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=executable(), headless=True)
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """One page, and all that went wrong in it.

    errors: of scripts, of the console and of the page's own security policy;
    outside: requests to any other host; refused: answers of 400 and more.
    """

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.url = url
        self.context = browser.new_context(**{"viewport": DESK, **options})
        self.page = self.context.new_page()
        self.page.set_default_timeout(TIMEOUT)
        self.errors: list[str] = []
        self.outside: list[str] = []
        self.refused: list[str] = []
        self.network = False  # whether complaints about requests count as well
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._console)
        self.page.on("request", self._request)
        self.page.on("response", self._response)

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *exc: object) -> None:
        self.context.close()

    def open(self) -> Any:
        self.page.goto(self.url)
        return self.page

    def shot(self, name: str) -> None:
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        # What sticks to a window's edge would cover the middle of a long picture.
        stick = "document.getElementById('actions').style.position = "
        self.page.evaluate(stick + "'static'")
        self.page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)
        self.page.evaluate(stick + "''")

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            if self.network or not message.text.startswith(NETWORK):
                self.errors.append(message.text)

    def _request(self, request: Any) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.url).netloc:
            self.outside.append(request.url)

    def _response(self, response: Any) -> None:
        if response.status >= 400:
            self.refused.append(f"{response.status} {response.url}")

    # What a test asks

    def text(self, id_: str) -> str:
        """As it is seen; empty for what is hidden."""
        found = self.page.locator(f"#{id_}")
        return str(found.inner_text()) if found.is_visible() else ""

    def wait(self, expression: str, timeout: float = TIMEOUT / 1000) -> None:
        # Playwright's own way is an eval() in the page, which the page forbids.
        deadline = time.monotonic() + timeout
        while not self.page.evaluate(expression):
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not come to {expression}: {self.all()}")
            self.page.wait_for_timeout(50)

    def wait_text(self, id_: str, part: str, timeout: float = TIMEOUT / 1000) -> None:
        deadline = time.monotonic() + timeout
        while part not in self.text(id_):
            if time.monotonic() > deadline:
                raise AssertionError(f"{id_} does not say {part!r}: {self.all()}")
            self.page.wait_for_timeout(20)

    def all(self) -> str:
        """The page as one reads it."""
        return str(self.page.evaluate("document.body.innerText"))

    def can_press(self, id_: str) -> bool:
        found = self.page.locator(f"#{id_}")
        blocked = found.get_attribute("aria-disabled") == "true"
        return bool(found.is_visible()) and not blocked

    def drawn(self) -> dict[str, int]:
        """Pixels of the drawing by what they are of, once all is drawn."""
        deadline = time.monotonic() + TIMEOUT / 1000
        while min((found := self.page.evaluate(COLOURS)).values()) <= 20:
            if time.monotonic() > deadline:
                raise AssertionError(f"not all is drawn: {found}")
            self.page.wait_for_timeout(50)
        return dict(found)


COLOURS = """() => {
  const style = getComputedStyle(document.documentElement);
  const names = ["printed", "rest", "seam", "purge", "bed"];
  const wanted = names.map((name) => {
    const hex = style.getPropertyValue("--" + name).trim().slice(1);
    return [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
  });
  const canvas = document.getElementById("drawing");
  const copy = new OffscreenCanvas(canvas.width, canvas.height)
    .getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  const found = Object.fromEntries(names.map((name) => [name, 0]));
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] < 250) continue;
    wanted.forEach((rgb, n) => {
      if (rgb.every((c, k) => Math.abs(c - data[i + k]) <= 2)) found[names[n]] += 1;
    });
  }
  return found;
}"""
