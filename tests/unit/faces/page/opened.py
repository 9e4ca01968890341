# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What the tests of the recovery page know of it."""
from __future__ import annotations

from collections.abc import Callable

from tests.unit.fake_moonraker import FakeMoonraker
from tests.virtual_printer.browser import Tab

PATH = "/server/plr/"
Open = Callable[..., tuple[Tab, FakeMoonraker]]


def planned(tab: Tab) -> None:
    tab.wait("document.querySelectorAll('#steps li').length > 0")
