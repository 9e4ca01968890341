# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""How true Z is after a power cut on lead screws, without Z+ switches, as a table.

    python -m tests.bench.assume_z [--cuts N] [--workers N]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment.  Each
cut is on a machine of its own, that is: with its own lattice of electrical cycles.
Each rotor snaps to its cycle at the next boot; the nozzle is measured when the resume
has lifted it.

A cut counts as known when the owner was told a doubt of KNOWN or less.  The rows where
the phase can be known go on until N such cuts were seen: a rotor that stood halfway
between two cycles, or a cut close to a layer change, leaves more doubt.
"""
from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from tests.bench.ending import ended
from tests.virtual_printer import busy, screw_trial, variants
from tests.virtual_printer.klippy_tree import prepare
from tests.virtual_printer.parts import Part
from tests.virtual_printer.printer import PrinterError
from tests.virtual_printer.screw_trial import (
    DRIVERS_OFF,
    FIRMWARE_RESTART,
    KLIPPY_RESTART,
    POWER_ON,
    Outcome,
    Trial,
)
from tests.virtual_printer.variants import Variant

# Cuts that are done again in a row of the table: the machine was too busy
MAX_STARVED = 4
KNOWN, MAX_KNOWN = 0.01, 0.01  # mm
# With four motors one cut of three is not known: a row gives up after so many for
# each that it wants.
MAX_TRIES = 3
# Seconds after the first plastic
FIRST, LAST = 2.5, 7.0
ROUNDED = 0.0051  # mm: what the owner reads has two places
COUNT, DRIVER, NOT = "step count", "TMC2209", "not known"


@dataclass
class Row:
    """wanted: how many known cuts if `knows`, else how many cuts.  apart: the board
    was restarted or powered apart from its drivers, and nobody can see that."""

    name: str
    variant: Variant
    history: str
    part: Part
    wanted: int
    knows: bool = False
    apart: bool = False
    started: int = 0
    starved: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def known(self) -> list[Outcome]:
        return [o for o in self.outcomes if o.bound <= KNOWN]

    def wants_more(self) -> bool:
        done = len(self.outcomes) + len(self.failures)
        missing = self.wanted - (len(self.known) if self.knows else done)
        limit = self.wanted * (MAX_TRIES if self.knows else 1)
        started = self.started - self.starved
        return started - done < missing and started < limit


def rows(cuts: int) -> list[Row]:
    """Four rows share the cuts with a known phase; the others have a few each."""
    shares = [cuts // 4 + (i < cuts % 4) for i in range(4)]
    few = max(cuts // 16, 1)
    four, one = variants.LEAD_SCREWS, variants.ONE_SCREW
    four_tmc, one_tmc = variants.LEAD_SCREWS_TMC, variants.ONE_SCREW_TMC
    flat, hops = screw_trial.FLAT, screw_trial.HOPS
    found = [
        Row(f"{COUNT}, 4 motors", four, POWER_ON, flat, shares[0], knows=True),
        Row(f"{DRIVER}, 4 motors, {FIRMWARE_RESTART}", four_tmc, FIRMWARE_RESTART,
            flat, shares[1], knows=True),
        Row(f"{COUNT}, 1 motor", one, POWER_ON, flat, shares[2], knows=True),
        Row(f"{DRIVER}, 1 motor", one_tmc, POWER_ON, flat, shares[3], knows=True),
        Row(f"{COUNT}, 4 motors, Z-hops", four, POWER_ON, hops, few),
        Row(f"{DRIVER}, 1 motor, Z-hops", one_tmc, POWER_ON, hops, few),
        Row(f"{NOT}: 4 motors, {FIRMWARE_RESTART}", four, FIRMWARE_RESTART, flat, few),
        Row(f"{NOT}: 1 motor, {KLIPPY_RESTART}", one, KLIPPY_RESTART, flat, few,
            apart=True),
        Row(f"{NOT}: 1 motor, {DRIVERS_OFF}", one, DRIVERS_OFF, flat, few, apart=True),
    ]  # fmt: skip
    return [row for row in found if row.wanted]


def run(row: Row, seed: int) -> Outcome:
    with Trial(row.variant, seed) as trial:
        when = random.Random(seed).uniform(FIRST, LAST)
        return trial.run(row.part, when, row.history)


def run_all(wanted: Sequence[Row], workers: int) -> None:
    running: dict[Future[Outcome], tuple[Row, int]] = {}
    with ThreadPoolExecutor(workers) as pool:
        while True:
            for number, row in enumerate(wanted):
                while row.wants_more() and len(running) < workers:
                    seed = 1000 * number + row.started
                    running[pool.submit(run, row, seed)] = row, seed
                    row.started += 1
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                collect(future, *running.pop(future))


def collect(future: Future[Outcome], row: Row, seed: int) -> None:
    try:
        outcome = future.result()
        row.outcomes.append(outcome)
        text = outcome.text()
    except PrinterError as e:
        text = str(e)
        if busy.was_starved(e) and row.starved < MAX_STARVED:
            row.starved += 1
        else:
            row.failures.append(f"{row.name}, seed {seed}: {text}")
    print(f"{row.name}, seed {seed}: {text}", file=sys.stderr, flush=True)


def beyond(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those that are further off than the owner was told, anywhere on the bed."""
    return [o for o in outcomes if o.error > o.bound]


def was_told(outcome: Outcome) -> bool:
    """Whether the figures are in the words that the owner reads before the yes."""
    figures = [mm for mm in (outcome.bound, outcome.apart) if mm is not None]
    return len(outcome.told) == len(figures) and all(
        abs(said - mm) <= ROUNDED
        for said, mm in zip(outcome.told, figures, strict=True)
    )


def line(row: Row) -> str:
    worst = max((o.error for o in row.outcomes), default=0.0)
    z = max((abs(o.z) for o in row.known), default=0.0)
    corner = max((o.worst for o in row.known), default=0.0)
    said = sum(o.apart is not None for o in row.outcomes)
    true = sum(o.error <= MAX_KNOWN for o in row.outcomes)
    cuts = row.started - row.starved
    return (
        f"| {row.name} | {cuts} | {len(row.failures)} | {len(row.known)} |"
        f" {z * 1000:.1f} | {corner * 1000:.1f} | {worst * 1000:.1f} |"
        f" {true} | {len(beyond(row.outcomes))} | {said} |"
    )


def problems(done: Sequence[Row]) -> list[str]:
    """Figures that are missed, in words."""
    found = [f"not resumed: {text}" for row in done for text in row.failures]
    for row in done:
        if row.knows and len(row.known) < row.wanted:
            found.append(f"{row.name}: {len(row.known)} known, asked {row.wanted}")
        if not all(map(was_told, row.outcomes)):
            found.append(f"{row.name}: the owner was not told how wrong Z can be")
        wrong = beyond(row.outcomes)
        if row.apart:
            wrong = [o for o in wrong if o.apart is None or o.error > o.apart]
        elif any(o.error > MAX_KNOWN for o in row.known):
            found.append(f"{row.name}: known, and further off than {MAX_KNOWN} mm")
        found += [f"{row.name}: beyond what was told: {o.text()}" for o in wrong]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=40, help="with a known phase")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    done = rows(args.cuts)
    run_all(done, args.workers)
    print(
        f"klippy: {prepare().name}\n\n"
        "| phase from | cuts | failed | known | known: Z max um | at a corner |"
        " all: max um | within 10 um | beyond bound | condition said |\n"
        "|---|---|---|---|---|---|---|---|---|---|"
    )
    for row in done:
        print(line(row))
    known = sum(len(row.known) for row in done if row.knows)
    print(f"\n{known} cuts with a known phase, {args.cuts} asked")
    starved = sum(row.starved for row in done)
    print(f"{starved} cuts were done again: this machine was too busy for klippy")
    missed = problems(done)
    return ended(not missed, missed)


if __name__ == "__main__":
    raise SystemExit(main())
