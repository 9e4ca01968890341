# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The recovery page in a browser, with a Moonraker that says what a test wants."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.unit.faces.page.opened import PATH, Open
from tests.unit.faces.test_page_server import Server
from tests.unit.fake_moonraker import FakeMoonraker
from tests.virtual_printer import browser
from tests.virtual_printer.browser import Tab


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Not for the session: asyncio cannot run beside it in one thread."""
    if browser.unavailable():
        pytest.skip(browser.unavailable())
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

