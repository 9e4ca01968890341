# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Whether the extra ever empties klippy's move queue, or makes it run dry.

    python -m tests.bench.stalls [--moves 50000] [--no-real-time]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment. Prints
one file of many short moves with and without the extra: as fast as klippy can, without
a board and with its status asked for all the time; then in real time, on two virtual
printers side by side, with Moonraker. Counted are klippy's own `stalls`, and how often
the lookahead queue was emptied to a standstill; a digest of all moves as they were
planned shows that the motion itself is the same. Exit status 1 if the extra has more
of either, or another motion.
"""
from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

from tests.virtual_printer import quick
from tests.virtual_printer.printer import VirtualPrinter

from .batch_klippy import BatchKlippy, watched, without_extra
from .ending import ended

LENGTH, SPEED, RADIUS = 0.4, 150.0, 40.0  # mm, mm/s, mm
E_PER_MM = 0.03
TIMEOUT = 900.0


def short_moves(count: int) -> Iterator[str]:
    """Rings of short moves, one above the other, as a slicer would write them."""
    each = int(2 * math.pi * RADIUS / LENGTH)
    yield from ("PRINT_START", "M83", f"G1 X{125 + RADIUS:.3f} Y125 Z0.2 F9000")
    for n in range(count):
        layer, step = divmod(n, each)
        if step == 0:
            yield from (
                ";LAYER_CHANGE", f"SET_PRINT_STATS_INFO CURRENT_LAYER={layer + 1}",
                "G92 E0", f"M204 S{2000 + layer % 2 * 1000}", f"M106 S{layer % 256}",
                f"G1 Z{0.2 + layer * 0.05:.3f} F{SPEED * 60:.0f}",
            )  # fmt: skip
        a = 2 * math.pi * (step + 1) / each
        x, y = 125 + RADIUS * math.cos(a), 125 + RADIUS * math.sin(a)
        yield f"G1 X{x:.3f} Y{y:.3f} E{LENGTH * E_PER_MM:.5f}"


@dataclass(frozen=True)
class Found:
    """`buffer`: least seconds of motion that were queued while it printed."""

    stalls: int
    flushes: int
    motion: str
    buffer: float


def in_batch(file: Path, ours: bool) -> Found:
    with BatchKlippy(file, ours, count=True) as klippy:
        asked = ["toolhead", *(["power_loss_recovery"] if ours else [])]
        before = klippy.api.objects("toolhead")["toolhead"]
        klippy.print_cpu(asked)
        after = klippy.api.objects("toolhead")["toolhead"]
    return _found(before, after, math.nan)


def _found(before: dict, after: dict, buffer: float) -> Found:
    stalls, flushes = (
        after[name] - before[name] for name in ("stalls", "lookahead_flushes")
    )
    return Found(stalls, flushes, after["motion"], buffer)


def in_real_time(file: Path, ours: bool, start: Barrier) -> Found:
    with VirtualPrinter(seed=1, config=quick.CONFIG, tree=watched()) as printer:
        if not ours:
            for name in ("printer.cfg", "moonraker.conf"):
                path = printer.data / "config" / name
                path.write_text(without_extra(path.read_text()))
        printer.power_on()
        start.wait()
        before = printer.objects("toolhead")["toolhead"]
        printer.print_file(file)
        buffers, deadline = [], time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            status = printer.objects("toolhead", "print_stats", "virtual_sdcard")
            toolhead = status["toolhead"]
            if status["print_stats"]["state"] == "complete":
                printer.gcode("M400")
                after = printer.objects("toolhead")["toolhead"]
                return _found(before, after, min(buffers))
            if 0.05 < status["virtual_sdcard"]["progress"] < 0.95:
                queued = toolhead["print_time"] - toolhead["estimated_print_time"]
                buffers.append(queued)
            time.sleep(0.25)
        raise SystemExit(f"Not printed within {TIMEOUT:.0f} s")


def side_by_side(file: Path) -> tuple[Found, Found]:
    start = Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        pair = [pool.submit(in_real_time, file, ours, start) for ours in (False, True)]
        return pair[0].result(), pair[1].result()


def report(name: str, without: Found, ours: Found) -> bool:
    same = without.motion == ours.motion
    added = max(ours.stalls - without.stalls, 0), max(ours.flushes - without.flushes, 0)
    for what, found in ((f"{name}, without", without), (f"{name}, with", ours)):
        buffer = "" if math.isnan(found.buffer) else f"{found.buffer:.2f}"
        print(
            f"| {what} | {found.stalls} | {found.flushes} | {buffer} |"
            f" {found.motion[:12]} |"
        )
    motion = "the same" if same else "NOT the same"
    print(f"| {name}, added | {added[0]} | {added[1]} | | {motion} |")
    return same and added == (0, 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=50_000)
    parser.add_argument("--no-real-time", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plr-stalls-") as folder:
        file = Path(folder) / "short.gcode"
        file.write_text("\n".join(short_moves(args.moves)) + "\n")
        print(f"klippy: {watched().name}, {args.moves} moves of {LENGTH} mm\n")
        print("| | stalls | queue emptied | least queued, s | motion |")
        print("|---|---|---|---|---|")
        good = report("batch", in_batch(file, False), in_batch(file, True))
        if not args.no_real_time:
            good = report("real time", *side_by_side(file)) and good
    print("\nasked: 0 added stalls, 0 added times emptied, the same motion")
    return ended(good)


if __name__ == "__main__":
    raise SystemExit(main())
