# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""How soon the recovery page of a long file can be used.

    python -m tests.bench.page [--size MB] [--share 0.5] [--runs 4]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment, and
Chromium. The print is that of long_print.py; virtual printer and Moonraker boot, and
headless Chromium opens the page in a window of its own. Usable: Resume can be pressed
and the layer is drawn. Exit status 1 if a figure is missed.
"""
from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from tests.virtual_printer import browser
from tests.virtual_printer.browser import Tab
from tests.virtual_printer.printer import VirtualPrinter

from . import long_print
from .ending import ended

MAX_USABLE = 2.0  # s
TIMEOUT = 120.0
TEXT = "document.getElementById('{}').textContent"
CAN_RESUME = "document.getElementById('resume').ariaDisabled === 'false'"
DRAWN = TEXT.format("drawing-text") + ".startsWith('Layer')"
PLANNED = "document.querySelectorAll('#steps li').length > 0"


@dataclass(frozen=True)
class Run:
    """Seconds after the page was asked for; another, its_steps: after a layer was
    chosen then, to its drawing and to what would be done there."""

    offer: float
    resume: float
    drawn: float
    steps: float
    another: float
    its_steps: float

    @property
    def usable(self) -> float:
        return max(self.resume, self.drawn)


def look(chromium: Any, url: str) -> Run:
    with Tab(chromium, url) as tab:
        began = time.monotonic()
        tab.open()

        def seen(expression: str) -> float:
            tab.wait(expression, TIMEOUT)
            return time.monotonic() - began

        offer = seen(TEXT.format("state-title") + " !== ''")
        resume, drawn = seen(CAN_RESUME), seen(DRAWN)
        steps = seen(PLANNED)
        before = tab.text("drawing-text").split(",")[0]
        chosen = time.monotonic()
        tab.page.click("#lower")
        seen(f"!{TEXT.format('drawing-text')}.startsWith('{before},')")
        another = time.monotonic() - chosen
        # Also lest it goes on while the next page is opened.
        seen(PLANNED)
        return Run(offer, resume, drawn, steps, another, time.monotonic() - chosen)


def runs_of(printer: VirtualPrinter, path: Path, count: int) -> list[Run]:
    found = []
    with browser.chromium() as chromium:
        for number in range(count):
            long_print.begin_run(path, number)
            url = f"http://127.0.0.1:{printer.port}/server/plr/"
            found.append(look(chromium, url))
    return found


def report(runs: Sequence[Run]) -> bool:
    long_print.show(
        ["offer s", "Resume s", "layer drawn s", "steps s", "another layer s",
         "its steps s"],
        [[f"{value:.2f}" for value in astuple(run)] for run in runs],
    )  # fmt: skip
    worst = max(run.usable for run in runs)
    print(f"\nusable after {worst:.2f} s at worst; asked at most {MAX_USABLE} s")
    return worst <= MAX_USABLE


def main() -> int:
    args = long_print.arguments(__doc__, size=100, share=0.5)
    if browser.unavailable():
        raise SystemExit(browser.unavailable())
    with long_print.offered(args) as (printer, path):
        runs = runs_of(printer, path, args.runs)
    return ended(report(runs))


if __name__ == "__main__":
    raise SystemExit(main())
