# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""One print with many power cuts in it, by the oracle.

    python -m tests.soak.ten_cuts [--cuts 10] [--seed 10] [--steps]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment. Ten
cuts take a quarter of an hour. With --steps the first cut is followed by one in each
step of the resume, each before its end, and one in the first moment of the resumed
print. Prints what each cut has cost; exit status 1 if anything is missing or hit, or
if more was laid twice than one cut may cost, times the cuts.
"""
from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.virtual_printer import outage, parts
from tests.virtual_printer.klippy_tree import prepare
from tests.virtual_printer.oracle import Verdict
from tests.virtual_printer.printer import VirtualPrinter
from tests.virtual_printer.verdict import Limits

Say = Callable[[str], None]
Hook = Callable[[VirtualPrinter], None]
EARLIEST, LATEST = 1.0, 5.0  # s after the first plastic of each part of the print
STEP_TIMEOUT = 600.0


def part(cuts: int) -> parts.Part:
    """Long enough for all of them."""
    return parts.Part(size=20, layers=3 + cuts * 3 // 4)


def cut_in_each_step(source: random.Random, say: Say) -> Hook:
    """For outage.run_interrupted: with the offer open."""

    def between(printer: VirtualPrinter) -> None:
        titles = printer.post("/server/plr/resume", dry_run=True)["steps"]
        for number, title in enumerate([*titles, "the print goes on"], 1):
            began(printer, number, number > len(titles))
            time.sleep(source.uniform(0.0, 0.3))
            printer.cut_power()
            say(f"power cut in step {number}: {title}")
            printer.power_on()
            outage.wait_offer(printer)

    return between


def began(printer: VirtualPrinter, number: int, running: bool) -> None:
    """Resume, until that step or the print has begun."""
    printer.gcode("PLR_RESUME_PRINT")

    def reached() -> bool:
        status = printer.get("/server/plr/status")
        failed = status["state"] == "interrupted" and status["last_error"]
        assert not failed, failed
        if running or status["state"] == "printing":
            return status["state"] == "printing"
        return status["step"] is not None and status["step"]["number"] >= number

    printer.wait(f"step {number}", reached, STEP_TIMEOUT, 0.03)


def run(cuts: int, seed: int, steps: bool, say: Say) -> Verdict:
    """Raises AssertionError when a resume has failed."""
    source, tree = random.Random(seed), prepare()
    count = 1 if steps else cuts
    with tempfile.TemporaryDirectory(prefix="plr-soak-") as folder:
        path = parts.write(Path(folder) / "part.gcode", part(count))
        with ThreadPoolExecutor(1) as pool:
            whole = pool.submit(outage.run_undisturbed, path, seed, tree)
            outcome = outage.run_interrupted(
                path, [source.uniform(EARLIEST, LATEST) for _ in range(count)], seed,
                tree, say, between=cut_in_each_step(source, say) if steps else None,
            )  # fmt: skip
            assert outcome.trouble == "", outcome.trouble
            assert not outcome.original_changed
            return outage.judge(whole.result(), outcome)


def table(verdict: Verdict) -> str:
    lines = ["| cut | twice s | twice mm | hot on the part s |", "|---|---|---|---|"]
    for number, cut in enumerate(verdict.per_cut, 1):
        lines.append(
            f"| {number} | {cut.doubled_s:.2f} | {cut.doubled_mm:.1f} |"
            f" {cut.hot_dwell_s:.1f} |"
        )
    lines.append(
        f"\n{len(verdict.per_cut)} cuts: {verdict.missing_mm:.2f} mm missing,"
        f" {verdict.collisions} collisions, {verdict.doubled_s:.2f} s laid twice,"
        f" Z {verdict.z_error_mm:.4f} mm, XY {verdict.xy_error_mm:.4f} mm"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Many power cuts in one print")
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--steps", action="store_true")
    args = parser.parse_args()

    def say(text: str) -> None:
        print(text, flush=True)

    verdict = run(args.cuts, args.seed, args.steps, say)
    print(table(verdict))
    reasons = verdict.reasons()
    if verdict.doubled_s > len(verdict.per_cut) * Limits().doubled_s_per_cut:
        reasons.append(f"{verdict.doubled_s:.2f} s laid twice")
    print("\n".join(reasons) or "The part is whole.")
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
