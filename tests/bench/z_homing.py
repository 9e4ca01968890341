# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""How level and how true PLR_Z_HOME leaves a sagged machine, as a table.

    python -m tests.bench.z_homing [--sags N] [--workers N]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment.
Seeded sags of 0 to 3 mm at each corner, switches uneven by 0.5 mm either way and
repeatable to 4 um (one sigma), a calibration for every GROUP sags.
"""
from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median

from tests.bench.ending import ended
from tests.virtual_printer import busy, variants, z_trial
from tests.virtual_printer.klippy_tree import prepare
from tests.virtual_printer.printer import VirtualPrinter
from tests.virtual_printer.variants import Variant
from tests.virtual_printer.z_trial import Outcome, Trial

MAX_PLANE, MEDIAN_PLANE, MAX_Z = 0.015, 0.006, 0.015
MAX_RATIO, MAX_OVERRUN = 0.45, 0.05
# One calibration for all sags would show that calibration's error 40 times.
GROUP = 10
TOGETHER, APART = "4 motors, gantry", "4 motors, probe_mode: individual"


def run(variant: Variant, config: str, seed: int, count: int) -> list[Outcome]:
    source = random.Random(seed)
    text = z_trial.CONFIG + config
    with VirtualPrinter(seed=seed, config=text, variant=variant) as printer:
        trial = Trial(printer)
        trial.calibrate()
        outcomes = []
        for _ in range(count):
            trial.sag([source.uniform(0.0, 3.0) for _ in range(4)])
            outcomes.append(trial.resume())
        return outcomes


def row(name: str, outcomes: Sequence[Outcome]) -> str:
    planes = [o.plane for o in outcomes]
    middles = [abs(o.middle) for o in outcomes]
    seconds = median(o.duration for o in outcomes)
    overrun = max(o.overrun for o in outcomes)
    return (
        f"| {name} | {len(outcomes)} | {max(planes) * 1000:.1f} |"
        f" {median(planes) * 1000:.1f} | {max(middles) * 1000:.1f} |"
        f" {median(middles) * 1000:.1f} | {overrun * 1000:.1f} | {seconds:.1f} |"
    )


def meets(outcomes: Sequence[Outcome]) -> bool:
    planes = [o.plane for o in outcomes]
    return (
        max(planes) <= MAX_PLANE
        and median(planes) <= MEDIAN_PLANE
        and max(abs(o.middle) for o in outcomes) <= MAX_Z
        and max(o.overrun for o in outcomes) <= MAX_OVERRUN
    )


def jobs(sags: int) -> list[tuple[str, Variant, str, int, int]]:
    """(row, variant, config, seed, sags) for each printer that is started."""
    few = max(sags // 4, 1)
    main = variants.VORON_24
    found = [
        (TOGETHER, main, "", 100 + i, min(GROUP, sags - i))
        for i in range(0, sags, GROUP)
    ]
    found.append((APART, main, "probe_mode: individual\n", 100, min(few, 4)))
    # PyPI's klippy cannot load the cartesian kinematics
    kinds = [variants.TRIDENT, variants.TWO_MOTORS, variants.ONE_MOTOR]
    if not prepare().is_package:
        kinds.append(variants.CARTESIAN)
    return found + [(kind.name, kind, "", 200 + i, few) for i, kind in enumerate(kinds)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sags", type=int, default=40)
    parser.add_argument("--workers", type=int, default=8)
    args = parser.parse_args()
    wanted = jobs(args.sags)
    rows: dict[str, list[Outcome]] = {}
    with ThreadPoolExecutor(args.workers) as pool:
        started = [
            (name, pool.submit(busy.again, partial(run, *job))) for name, *job in wanted
        ]
        for name, future in started:
            rows.setdefault(name, []).extend(future.result())
    print(
        f"klippy: {prepare().name}\n\n"
        "| machine | sags | plane max um | median | Z max um | median |"
        " overrun um | measuring s |\n|---|---|---|---|---|---|---|---|"
    )
    for name, outcomes in rows.items():
        print(row(name, outcomes))
    pairs = list(zip(rows[TOGETHER], rows[APART], strict=False))
    ratio = sum(a.duration for a, _ in pairs) / sum(b.duration for _, b in pairs)
    good = ratio <= MAX_RATIO and all(meets(outcomes) for outcomes in rows.values())
    print(f"\ncommon / individual: {ratio:.2f} (at most {MAX_RATIO})")
    return ended(good)


if __name__ == "__main__":
    raise SystemExit(main())
