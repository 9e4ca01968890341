# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""How soon the recovery page of a long file can be used.

    python -m tests.bench.page [--size MB] [--share 0.5] [--runs 4]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment, and
Chromium. A journal says that the print of the file was cut at that share of it;
virtual printer and Moonraker boot, and headless Chromium opens the page in a window of
its own. Half of the runs find the file out of the page cache, and none finds anything
of it known to Moonraker. Usable: Resume can be pressed and the layer is drawn. Exit
status 1 if a figure is missed.
"""
from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from tests.virtual_printer import browser, outage
from tests.virtual_printer.browser import Tab
from tests.virtual_printer.disk import OrdinaryDisk
from tests.virtual_printer.printer import VirtualPrinter

from .resume_start import CONFIG, forget, interrupt

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
            forget(path)
            if number % 2:
                path.read_bytes()
            url = f"http://127.0.0.1:{printer.port}/server/plr/"
            found.append(look(chromium, url))
    return found


def report(runs: Sequence[Run]) -> bool:
    print("| run | file | offer s | Resume s | layer drawn s | steps s"
          " | another layer s | its steps s |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for number, run in enumerate(runs):
        cached = "in the cache" if number % 2 else "on the disk"
        figures = " | ".join(f"{value:.2f}" for value in astuple(run))
        print(f"| {number + 1} | {cached} | {figures} |")
    worst = max(run.usable for run in runs)
    print(f"\nusable after {worst:.2f} s at worst; asked at most {MAX_USABLE} s")
    good = worst <= MAX_USABLE
    print("all figures are met" if good else "NOT all figures are met")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=100, help="MB")
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--runs", type=int, default=4)
    args = parser.parse_args()
    if browser.unavailable():
        raise SystemExit(browser.unavailable())
    with VirtualPrinter(
        seed=1, config=CONFIG, make_disk=lambda *_: OrdinaryDisk("not needed")
    ) as printer:
        path = interrupt(printer, args.size * 10**6, args.share)
        printer.power_on()
        outage.wait_offer(printer)
        runs = runs_of(printer, path, args.runs)
    print(f"file: {args.size} MB, cut at {args.share:.0%}\n")
    return 0 if report(runs) else 1


if __name__ == "__main__":
    raise SystemExit(main())
