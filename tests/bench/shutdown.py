# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""How much motion is lost when klippy shuts down and its host lives on.

    python -m tests.bench.shutdown [--stops 12] [--seed N]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment. Stops
at seeded instants of real-time prints: M112, a fault of the board (ADC out of range,
as at a thermal fault), a host that stands still so that its steps come too late, and a
board without power. The place is the extra's last mark; the stop is where the motors
of the simulated board stand. What a late host or a board without power has done is an
interval: its figure is shown, asked is only that the truth is inside.

Each stop has a deadline. One that a busy machine has spoilt (the simulated board was
not run, klippy was late with its steps) is done again, with the reason printed, a few
times at most. Exit status 1 if a figure is missed.
"""
from __future__ import annotations

import argparse
import random
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from tests.virtual_printer import mark_watch
from tests.virtual_printer.busy import was_starved
from tests.virtual_printer.klippy_tree import prepare
from tests.virtual_printer.mark_watch import Watch
from tests.virtual_printer.printer import PrinterError, VirtualPrinter
from tests.virtual_printer.stop_trial import (
    SLOW,
    SPEED,
    Stop,
    Stopped,
    board_fault,
    emergency_stop,
    frozen,
    stop_at,
    unplugged,
)

from .ending import ended

MAX_LOST = 0.3  # s
FIRST, LAST = 0.3, 5.0  # s after the first motion
DEADLINE = 60.0  # s, of one stop
REPEATS = 4  # of each kind
UNHEARD = 0.05  # s that the simulated board may be without the processor


@dataclass(frozen=True)
class Kind:
    """reason: what the board must say; None: nothing is asked of the figure.
    last: the latest instant to stop at, in seconds.  speed: mm/s."""

    stop: Stop
    reason: str | None = None
    last: float = LAST
    speed: float = SPEED


KINDS = {
    "M112": Kind(emergency_stop, "Command request"),
    "fault of the board": Kind(board_fault, "ADC out of range"),
    "host that stands still": Kind(frozen, last=3.0, speed=SLOW),
    "board without power": Kind(unplugged),
}


def spoilt(kind: Kind, stopped: Stopped) -> str:
    """How a busy machine has spoilt this stop; '' if it has not."""
    if kind.reason is None:
        return ""
    if stopped.reason != kind.reason:
        return f"the board had stopped before: {stopped.reason}"
    if stopped.unheard_s > UNHEARD and (stopped.problems or not stopped.exact):
        return f"the simulated board was not run for {stopped.unheard_s:.2f} s"
    return ""


@dataclass
class Trials:
    """The stops of one kind, and what went wrong apart from them."""

    name: str
    places: list[float]
    stops: list[Stopped] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    repeated: int = 0

    def take(self, stopped: Stopped) -> None:
        why = spoilt(KINDS[self.name], stopped)
        if not (why and self._again(why)):
            self.stops.append(stopped)
            self.places.pop(0)

    def fail(self, error: Exception, unheard_s: float) -> None:
        starved = unheard_s > UNHEARD or was_starved(PrinterError(str(error)))
        if not (starved and self._again(str(error))):
            self.failures.append(f"{error!s:.200}, after {self.places.pop(0):.2f} s")

    def _again(self, why: str) -> bool:
        if self.repeated == REPEATS:
            return False
        self.repeated += 1
        print(f"{self.name}, done again: {why:.200}", file=sys.stderr, flush=True)
        return True


def in_time(printer: VirtualPrinter, act: Callable[[], None]) -> None:
    """A klippy that takes too long is killed, which whoever waits for it hears of."""
    watchdog = threading.Timer(DEADLINE, lambda: printer.kill(printer.klippy))
    watchdog.start()
    try:
        act()
    finally:
        watchdog.cancel()


def run(name: str, count: int, seed: int) -> Trials:
    rng = random.Random(seed)
    last = KINDS[name].last
    trials = Trials(name, [rng.uniform(FIRST, last) for _ in range(count)])
    while trials.places:
        with VirtualPrinter(seed=seed, config=mark_watch.CONFIG) as printer:
            try:
                print_and_stop(printer, trials)
            except (PrinterError, OSError) as e:
                trials.fail(e, printer.machine("state")["unheard_s"])
    return trials


def print_and_stop(printer: VirtualPrinter, trials: Trials) -> None:
    printer.power_on(moonraker=False, wait=False)
    watch = Watch(printer)
    kind = KINDS[trials.name]

    def stop_once() -> None:
        trials.take(stop_at(watch, trials.places[0], kind.stop, kind.speed))

    while trials.places:
        in_time(printer, stop_once)


def row(trials: Trials) -> str:
    begins = f"| {trials.name} | {len(trials.stops)} |"
    if not trials.stops:
        return f"{begins} 0 | - | - | - |"
    lost = [stop.lost_s for stop in trials.stops]
    exact = sum(stop.exact for stop in trials.stops)
    return (
        f"{begins} {exact} | {np.median(lost):.3f} | {np.percentile(lost, 95):.3f} |"
        f" {max(lost):.3f} |"
    )


def missed(name: str, stops: Sequence[Stopped]) -> list[str]:
    found = [f"{name}: {text}" for stop in stops for text in stop.problems]
    most = max((stop.lost_s for stop in stops), default=0.0)
    if KINDS[name].reason is not None and most > MAX_LOST:
        found.append(f"{name}: {most:.3f} s lost, at most {MAX_LOST} s was asked")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stops", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this one")
    args = parser.parse_args()
    print(f"klippy: {prepare().name}, seed {args.seed}\n")
    with ThreadPoolExecutor(args.workers) as pool:
        started = [
            pool.submit(run, name, args.stops, args.seed + n)
            for n, name in enumerate(KINDS)
            if args.kind is None or name in args.kind
        ]
        found = [future.result() for future in started]
    print("| klippy shut down by | stops | to the instant | median s | p95 s | max s |")
    print("|---|---|---|---|---|---|")
    wrong = []
    for trials in found:
        print(row(trials))
        wrong += missed(trials.name, trials.stops)
        wrong += [f"{trials.name}: {text}" for text in trials.failures]
    print(
        f"\nasked: at most {MAX_LOST} s for M112 and a fault of the board;"
        " of the others that the truth is inside the interval"
    )
    return ended(not wrong, wrong)


if __name__ == "__main__":
    raise SystemExit(main())
