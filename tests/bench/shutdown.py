# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""How much motion is lost when klippy shuts down and its host lives on.

    python -m tests.bench.shutdown [--stops 12] [--seed N]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment. Stops
at seeded instants of real-time prints: M112, a fault of the board (ADC out of range,
as at a thermal fault), and a board without power. The place is the extra's last mark;
the stop is where the motors of the simulated board stand. What a board without power
has done is an interval: its figure is shown, asked is only that the truth is inside.
Exit status 1 if a figure is missed.
"""
from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tests.virtual_printer import mark_watch
from tests.virtual_printer.klippy_tree import prepare
from tests.virtual_printer.mark_watch import Watch
from tests.virtual_printer.printer import VirtualPrinter
from tests.virtual_printer.stop_trial import (
    Stop,
    Stopped,
    board_fault,
    emergency_stop,
    stop_at,
    unplugged,
)

from .ending import ended

MAX_LOST = 0.3  # s
FIRST, LAST = 0.3, 5.0  # s after the first motion
KINDS: dict[str, tuple[Stop, bool]] = {
    "M112": (emergency_stop, True),
    "fault of the board": (board_fault, True),
    "board without power": (unplugged, False),
}


def run(kind: str, count: int, seed: int) -> list[Stopped]:
    rng = random.Random(seed)
    with VirtualPrinter(seed=seed, config=mark_watch.CONFIG) as printer:
        printer.power_on(moonraker=False, wait=False)
        watch = Watch(printer)
        return [
            stop_at(watch, rng.uniform(FIRST, LAST), KINDS[kind][0])
            for _ in range(count)
        ]


def row(kind: str, stops: Sequence[Stopped]) -> str:
    lost = [stop.lost_s for stop in stops]
    exact = sum(stop.exact for stop in stops)
    return (
        f"| {kind} | {len(stops)} | {exact} | {np.median(lost):.3f} |"
        f" {np.percentile(lost, 95):.3f} | {max(lost):.3f} |"
    )


def missed(kind: str, stops: Sequence[Stopped]) -> list[str]:
    found = [f"{kind}: {text}" for stop in stops for text in stop.problems]
    most = max(stop.lost_s for stop in stops)
    if KINDS[kind][1] and most > MAX_LOST:
        found.append(f"{kind}: {most:.3f} s lost, at most {MAX_LOST} s was asked")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stops", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    print(f"klippy: {prepare().name}, seed {args.seed}\n")
    with ThreadPoolExecutor(args.workers) as pool:
        started = {
            kind: pool.submit(run, kind, args.stops, args.seed + n)
            for n, kind in enumerate(KINDS)
        }
        found = {kind: future.result() for kind, future in started.items()}
    print("| klippy shut down by | stops | to the instant | median s | p95 s | max s |")
    print("|---|---|---|---|---|---|")
    wrong = []
    for kind, stops in found.items():
        print(row(kind, stops))
        wrong += missed(kind, stops)
    print(f"\nasked: at most {MAX_LOST} s, but for a board without power")
    return ended(not wrong, wrong)


if __name__ == "__main__":
    raise SystemExit(main())
