# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""One print with many power cuts in it, by the oracle.

    python -m tests.soak.ten_cuts [--cuts 10] [--seed 10] [--steps]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment. Ten
cuts take a quarter of an hour, two (--cuts 2) four minutes. With --steps the first cut
is followed by one in each step of the resume, each before its end, and one in the first
moment of the resumed print. Prints what each cut has cost, and what was asked beside
what was measured; exit status 1 if a figure is missed.
"""
from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.ending import asked_and_measured
from tests.virtual_printer import busy, outage, parts
from tests.virtual_printer.klippy_tree import prepare
from tests.virtual_printer.oracle import Verdict
from tests.virtual_printer.outage import Say
from tests.virtual_printer.printer import PrinterError, VirtualPrinter
from tests.virtual_printer.verdict import Limits

from .one_print import Cut, OnePrint, Until, after_plastic, printing

EARLIEST, LATEST = 2.0, 9.0  # s after the first plastic of each part of the print
STEP_TIMEOUT = 600.0


def part(cuts: int) -> parts.Part:
    """Long enough for all of them: ten seconds a layer."""
    return parts.Part(size=20, layers=3 + cuts * 3 // 4)


def cut_in_each_step(story: OnePrint, source: random.Random) -> None:
    """With the offer open before and after."""
    titles = story.printer.post("/server/plr/resume", dry_run=True)["steps"]
    for number, title in enumerate([*titles, "the print goes on"], 1):
        until = in_step(number, number > len(titles), source.uniform(0.0, 0.3))
        story.cut(f"step {number}: {title}", until, resume=False)


def in_step(number: int, running: bool, seconds: float) -> Until:
    def until(printer: VirtualPrinter) -> None:
        began(printer, number, running)
        time.sleep(seconds)

    return until


def began(printer: VirtualPrinter, number: int, running: bool) -> None:
    """Resume, until that step or the print has begun.  Raises PrinterError."""
    printer.gcode("PLR_RESUME_PRINT")
    failed = ""

    def reached() -> bool:
        nonlocal failed
        status = printer.get("/server/plr/status")
        if status["state"] == "interrupted" and status["last_error"]:
            failed = status["last_error"]
            return True
        if running or status["state"] == "printing":
            return status["state"] == "printing"
        return status["step"] is not None and status["step"]["number"] >= number

    printer.wait(f"step {number}", reached, STEP_TIMEOUT, 0.03)
    if failed:
        raise PrinterError(failed)


def run(
    cuts: int, seed: int, steps: bool, say: Say, file: parts.Part | None = None
) -> tuple[list[Cut], Verdict]:
    """Raises PrinterError when a resume has failed."""
    source, tree = random.Random(seed), prepare()
    count = 1 if steps else cuts
    with tempfile.TemporaryDirectory(prefix="plr-soak-") as folder:
        path = parts.write(Path(folder) / "part.gcode", file or part(count))
        say("calibrating the Z+ switches, heating, homing, printing")
        with (
            ThreadPoolExecutor(1) as pool,
            printing(lambda: VirtualPrinter(seed=seed, tree=tree), path, say) as story,
        ):
            whole = pool.submit(
                busy.again, lambda: outage.run_undisturbed(path, seed, tree)
            )
            for _ in range(count):
                seconds = source.uniform(EARLIEST, LATEST)
                name = f"{seconds:.1f} s into this part of the print"
                story.cut(name, after_plastic(seconds))
            if steps:
                cut_in_each_step(story, source)
            story.finish()
            outcome = story.outcome()
            assert not outcome.original_changed
            return story.cuts, outage.judge(whole.result(), outcome)


def table(cuts: Sequence[Cut], verdict: Verdict) -> str:
    """What each cut has cost."""
    lines = [
        "| cut | the power failed | twice s | twice mm | hot on the part s | offer s |",
        "|---|---|---|---|---|---|",
    ]
    for number, (cut, cost) in enumerate(zip(cuts, verdict.per_cut, strict=True), 1):
        more = f" (once more: {cut.busy})" if cut.busy else ""
        lines.append(
            f"| {number} | {cut.name}{more} | {cost.doubled_s:.2f} |"
            f" {cost.doubled_mm:.1f} | {cost.hot_dwell_s:.1f} | {cut.offer_s:.1f} |"
        )
    return "\n".join(lines)


def figures(verdict: Verdict, wanted: int) -> tuple[str, bool]:
    """Asked beside measured, and whether all of it is met."""
    limits, count = Limits(), len(verdict.per_cut)
    one = limits.doubled_s_per_cut
    sum_mm = sum(cut.doubled_mm for cut in verdict.per_cut)
    most = max(verdict.lost_s, default=0.0)
    # What the steps of an extruder cannot tell is not missing.
    rows = [
        ("power cuts in one print", f"{wanted}", f"{count}", count >= wanted),
        ("missing, mm", f"0, told to {limits.missing_mm:g}",
         f"{verdict.missing_mm:.2f}", verdict.missing_mm <= limits.missing_mm),
        ("laid twice, sum, s", f"{count} x {one:g} = {count * one:.1f} at most",
         f"{verdict.doubled_s:.2f} ({sum_mm:.1f} mm)",
         verdict.doubled_s <= count * one),
        ("laid twice, the worst cut, s", f"{one:g} at most", f"{most:.2f}",
         most <= one),
        ("collisions", "0", f"{verdict.collisions}", verdict.collisions == 0),
        ("Z error, mm", f"{limits.z_error_mm:g} at most",
         f"{verdict.z_error_mm:.4f}", verdict.z_error_mm <= limits.z_error_mm),
        ("XY error, mm", f"{limits.xy_error_mm:g} at most",
         f"{verdict.xy_error_mm:.4f}", verdict.xy_error_mm <= limits.xy_error_mm),
    ]  # fmt: skip
    return asked_and_measured(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="Many power cuts in one print")
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--steps", action="store_true")
    args = parser.parse_args()
    began_at = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began_at:6.0f} s  {text}", flush=True)

    cuts, verdict = run(args.cuts, args.seed, args.steps, say)
    text, is_met = figures(verdict, 2 if args.steps else args.cuts)
    print(f"\n{table(cuts, verdict)}\n\n{text}\n")
    reasons = verdict.reasons()
    print("\n".join(reasons) or "The part is whole.")
    return 0 if is_met and not reasons else 1


if __name__ == "__main__":
    sys.exit(main())
