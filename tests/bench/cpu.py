# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What the extra costs klippy, and the component Moonraker, in CPU time.

    python -m tests.bench.cpu [--file GCODE] [--starts N] [--prints N] [--seconds S]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment.

Per line: klippy without a board prints a file as fast as it can, again and again,
one with and one without the extra by turns in the order ABBA. Nobody reads its status
meanwhile: a second of this is twenty minutes of printing. A start counts with the
cheapest print of each of the two, because others at work only ever make one dearer;
then the same again with two new processes, whose memory is laid out otherwise, and
what counts is the median of the starts. Over a print: two virtual printers print the
same file in real time side by side, one of them without anything of ours; what counts
is the median of the pairs. CPU time is the processes' own. Exit status 1 if a figure
is missed.
"""
from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Barrier

from tests.virtual_printer import parts, quick
from tests.virtual_printer.klippy_tree import REPO, prepare
from tests.virtual_printer.printer import VirtualPrinter

from .batch_klippy import BatchKlippy, cpu_seconds, without_extra
from .ending import ended

FILE = REPO / "tests" / "data" / "ps250_cube_absE.gcode"
LINES = 20_000  # at least, in a print
LINE_PRINTS = 6
MIN_RATIO, MAX_KLIPPY, MAX_MOONRAKER = 0.98, 0.01, 0.02
PART = parts.Part(size=60, layers=20, long_line=0)


def lengthened(data: bytes) -> bytes:
    """The same print with its layers again and again, if it is a short one: what comes
    once in a print must not count for more than it does in one of hours."""
    head, first, rest = data.partition(b"\n;LAYER_CHANGE\n")
    layers, end, tail = rest.partition(b"\n;TYPE:Custom\n")
    if not end:
        return data
    times = -(-LINES // (layers.count(b"\n") + 1))
    return head + (first + layers) * times + end + tail


def line_costs(file: Path) -> tuple[float, float]:
    """(without, with): klippy's microseconds of CPU for one line, at the cheapest."""
    lines = file.read_bytes().count(b"\n")
    found = []
    with BatchKlippy(file, False) as without, BatchKlippy(file, True) as ours:
        for klippy in (without, ours):
            klippy.print_cpu()  # fills caches
        for number in range(LINE_PRINTS):
            order = (without, ours) if number % 2 == 0 else (ours, without)
            took = {klippy: klippy.print_cpu() / lines * 1e6 for klippy in order}
            found.append((took[without], took[ours]))
    cheapest = [min(column) for column in zip(*found, strict=True)]
    return cheapest[0], cheapest[1]


@dataclass(frozen=True)
class Load:
    """Shares of a core."""

    klippy: float
    moonraker: float


def load(part: Path, ours: bool, seconds: float, seed: int, start: Barrier) -> Load:
    with VirtualPrinter(seed=seed, config=quick.CONFIG) as printer:
        if not ours:
            for name in ("printer.cfg", "moonraker.conf"):
                path = printer.data / "config" / name
                path.write_text(without_extra(path.read_text()))
        printer.power_on()
        printer.print_file(part)
        printer.wait("a print", lambda: printer.state() == "printing", 30)
        assert printer.klippy is not None and printer.moonraker is not None
        pids = printer.klippy.pid, printer.moonraker.pid
        start.wait()
        time.sleep(3.0)
        before, began = [cpu_seconds(pid) for pid in pids], time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        klippy, moonraker = (
            (cpu_seconds(pid) - was) / took
            for pid, was in zip(pids, before, strict=True)
        )
        if printer.state() != "printing":
            raise SystemExit(f"The print was over within {seconds:.0f} s")
        return Load(klippy, moonraker)


def load_pair(part: Path, seconds: float, seed: int) -> tuple[Load, Load]:
    """(without, with), at the same time."""
    start = Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        without, ours = (
            pool.submit(load, part, ours, seconds, seed, start)
            for ours in (False, True)
        )
        return without.result(), ours.result()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--prints", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    print(f"klippy: {prepare().name}\n")
    good = True
    if args.starts:
        with tempfile.TemporaryDirectory(prefix="plr-cpu-") as folder:
            file = Path(folder) / "long.gcode"
            file.write_bytes(lengthened(args.file.read_bytes()))
            starts = [line_costs(file) for _ in range(args.starts)]
        good = report_lines(starts) and good
    if args.prints:
        with tempfile.TemporaryDirectory(prefix="plr-cpu-") as folder:
            part = parts.write(Path(folder) / "part.gcode", PART)
            pairs = [
                load_pair(part, args.seconds, seed)
                for seed in range(1, args.prints + 1)
            ]
        good = report_loads(pairs) and good
    return ended(good)


def report_lines(starts: Sequence[tuple[float, float]]) -> bool:
    print("| klippy, CPU per line | us, without | us, with | without / with |")
    print("|---|---|---|---|")
    ratio = median(without / ours for without, ours in starts)
    for number, (without, ours) in enumerate(starts, 1):
        row = f"| start {number} | {without:.1f} | {ours:.1f} |"
        print(f"{row} {without / ours:.3f} |")
    print(f"| median | | | {ratio:.3f} |")
    print(f"\nasked: at least {MIN_RATIO}\n")
    return ratio >= MIN_RATIO


def report_loads(pairs: Sequence[tuple[Load, Load]]) -> bool:
    print("| CPU over a print, % of a core | without | with | added |")
    print("|---|---|---|---|")
    good = True
    for name, most in (("klippy", MAX_KLIPPY), ("moonraker", MAX_MOONRAKER)):
        rows = [tuple(getattr(load, name) for load in pair) for pair in pairs]
        for without, ours in rows:
            print(f"| {name} | {_percent(without, ours, ours - without)} |")
        added = median(ours - without for without, ours in rows)
        middle = [median(column) for column in zip(*rows, strict=True)]
        print(f"| {name}, median | {_percent(*middle, added)} |")
        good = good and added <= most
    print(f"\nasked: at most {MAX_KLIPPY:.0%} and {MAX_MOONRAKER:.0%} added\n")
    return good


def _percent(*shares: float) -> str:
    return " | ".join(f"{share * 100:.2f}" for share in shares)


if __name__ == "__main__":
    raise SystemExit(main())
