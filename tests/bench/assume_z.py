# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""How true Z is after a power cut on lead screws, without Z+ switches, as a table.

    python -m tests.bench.assume_z [--cuts N] [--workers N]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment.
Seeded cuts of real prints, half with slow layers and half with many Z-hops.  Each
rotor snaps to its cycle at the next boot; the nozzle is measured when the resume has
lifted it.  A cut counts as known when the owner was told a doubt of KNOWN or less.
"""
from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.virtual_printer import screw_trial, variants
from tests.virtual_printer.klippy_tree import prepare
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

KNOWN, MAX_KNOWN = 0.01, 0.01  # mm
# A product that never knows would never be wrong: of the slow layers it must know.
MIN_KNOWN_SHARE = 1 / 3
# Seconds after the first plastic
FIRST, LAST = 3.0, 18.0
# Cuts on one machine: each machine has its own lattice of cycles
GROUP = 2
COUNT, DRIVER, NOT = "step count", "TMC2209", "not known"


@dataclass(frozen=True)
class Job:
    row: str
    variant: Variant
    history: str
    seed: int
    cuts: int


@dataclass(frozen=True)
class Cut:
    """outcome is None when there was none: then `trouble` says why."""

    slow: bool
    outcome: Outcome | None
    trouble: str = ""


def jobs(cuts: int) -> list[Job]:
    """The rows with a known phase share the cuts; the others have half of that."""
    each, few = max(cuts // 4, 1), max(cuts // 8, 1)
    four, one = variants.LEAD_SCREWS, variants.ONE_SCREW
    four_tmc, one_tmc = variants.LEAD_SCREWS_TMC, variants.ONE_SCREW_TMC
    rows = [
        (f"{COUNT}, 4 motors", four, POWER_ON, each),
        (f"{COUNT}, 1 motor", one, POWER_ON, each),
        (f"{DRIVER}, 4 motors, {FIRMWARE_RESTART}", four_tmc, FIRMWARE_RESTART, each),
        (f"{DRIVER}, 1 motor", one_tmc, POWER_ON, each),
        (f"{NOT}: 4 motors, {FIRMWARE_RESTART}", four, FIRMWARE_RESTART, few),
        (f"{NOT}: 1 motor, {KLIPPY_RESTART}", one, KLIPPY_RESTART, few),
        (f"{NOT}: 1 motor, {DRIVERS_OFF}", one, DRIVERS_OFF, few),
    ]
    return [
        Job(row, variant, history, 1000 * number + i, min(GROUP, count - i))
        for number, (row, variant, history, count) in enumerate(rows)
        for i in range(0, count, GROUP)
    ]


def run(job: Job) -> list[Cut]:
    source = random.Random(job.seed)
    found = []
    with Trial(job.variant, job.seed) as trial:
        for number in range(job.cuts):
            slow = number % 2 == 0
            part = screw_trial.FLAT if slow else screw_trial.HOPS
            when = source.uniform(FIRST, LAST)
            name = f"{job.row}, seed {job.seed}, {'slow' if slow else 'hops'}"
            try:
                outcome = trial.run(part, when, job.history)
                found.append(Cut(slow, outcome))
                say(f"{name}: {outcome.text()}")
            except PrinterError as e:
                found.append(Cut(slow, None, str(e)))
                say(f"{name}, cut {when:.2f} s: {e}")
    return found


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def is_known(outcome: Outcome) -> bool:
    return outcome.bound <= KNOWN


def beyond(outcomes: Sequence[Outcome]) -> int:
    """How many are further off than the owner was told, anywhere on the bed."""
    return sum(max(abs(o.z), o.worst) > o.bound for o in outcomes)


def row(name: str, cuts: Sequence[Cut]) -> str:
    outcomes = [cut.outcome for cut in cuts if cut.outcome is not None]
    known = [abs(o.z) for o in outcomes if is_known(o)]
    worst = max((abs(o.z) for o in outcomes), default=0.0)
    corner = max((o.worst for o in outcomes if is_known(o)), default=0.0)
    return (
        f"| {name} | {len(cuts)} | {len(cuts) - len(outcomes)} | {len(known)} |"
        f" {max(known, default=0.0) * 1000:.1f} | {corner * 1000:.1f} |"
        f" {worst * 1000:.1f} | {beyond(outcomes)} |"
    )


def problems(rows: dict[str, list[Cut]]) -> list[str]:
    """Figures that are missed, in words."""
    cuts = [cut for found in rows.values() for cut in found]
    outcomes = [cut.outcome for cut in cuts if cut.outcome is not None]
    found = [f"not resumed: {cut.trouble}" for cut in cuts if cut.outcome is None]
    worst = max((abs(o.z) for o in outcomes if is_known(o)), default=0.0)
    if worst > MAX_KNOWN:
        found.append(f"known phase: {worst:.4f} mm, asked at most {MAX_KNOWN} mm")
    if beyond(outcomes):
        found.append(f"{beyond(outcomes)} errors are larger than the owner was told")
    slow = [
        cut.outcome
        for name, found_here in rows.items()
        for cut in found_here
        if cut.slow and cut.outcome is not None and not name.startswith(NOT)
    ]
    if sum(map(is_known, slow)) < MIN_KNOWN_SHARE * len(slow):
        found.append(f"only {sum(map(is_known, slow))} of {len(slow)} in slow layers")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=40)
    parser.add_argument("--workers", type=int, default=4)
    args = parser.parse_args()
    rows: dict[str, list[Cut]] = {}
    with ThreadPoolExecutor(args.workers) as pool:
        started = [(job.row, pool.submit(run, job)) for job in jobs(args.cuts)]
        for name, future in started:
            rows.setdefault(name, []).extend(future.result())
    print(
        f"klippy: {prepare().name}\n\n"
        "| phase from | cuts | failed | known | known: max um | at a corner |"
        " all: max um | beyond bound |\n|---|---|---|---|---|---|---|---|"
    )
    for name, cuts in rows.items():
        print(row(name, cuts))
    missed = problems(rows)
    print("\n" + ("\n".join(missed) if missed else "all figures are met"))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
