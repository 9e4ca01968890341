# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Power cuts at odd moments of a print, by the oracle: one table.

    python -m tests.soak.situations [--rounds 1] [--seed 7] [NAME ...]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment. Each
scene is one print, cut at one moment after the other; a round takes half an hour, and
another round has other instants. NAME: parts of scenes' names. Exit status 1 if plastic
is missing, something was hit, or a print went on with the wrong tool.
"""
from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.ending import asked_and_measured
from tests.virtual_printer import busy, outage
from tests.virtual_printer.oracle import Verdict
from tests.virtual_printer.outage import Say, Undisturbed
from tests.virtual_printer.printer import PrinterError, VirtualPrinter
from tests.virtual_printer.verdict import Limits

from . import odd_moments, shapes, two_tools
from .one_print import Cut, OnePrint, Until, printing
from .scene import Moment, Scene
from .ten_cuts import cut_in_each_step

SCENES = (*odd_moments.SCENES, *two_tools.SCENES, *shapes.SCENES)
# What is shown elsewhere, and what nobody has shown.
ELSEWHERE = (
    ("in the start macro: nothing to resume", "tests/e2e/test_interruption.py"),
    ("M112, thermal fault, crash, restart, reboot", "tests/e2e/test_interruption.py"),
    ("perimeter, infill, travel, retraction, layer change", "tests/e2e/test_outage.py"),
    ("idex, modes of the carriages", "tests/e2e/test_state_carriages.py"),
    ("idex, the second carriage", "tests/e2e/test_idex_outage.py"),
    ("the real klipper-toolchanger, an MMU", "not by the oracle"),
)


@dataclass
class Played:
    """One scene in one round.  wrong: what is not as asked, beside the verdict."""

    scene: str
    round: int
    cuts: list[Cut] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    tools: list[tuple[str, str]] = field(default_factory=list)  # asked, found
    verdict: Verdict | None = None

    def reasons(self) -> list[str]:
        return self.wrong + (self.verdict.reasons() if self.verdict else [])


def play(scene: Scene, number: int, seed: int, say: Say) -> Played:
    """Never raises PrinterError: that is the scene's failure."""
    played = Played(scene.name, number)
    with tempfile.TemporaryDirectory(prefix="plr-soak-") as root:
        folder, alone = Path(root), Path(root) / "alone"
        alone.mkdir()
        part, plain = scene.write(folder)
        tree = scene.tree()

        def undisturbed() -> Undisturbed:
            return outage.run_undisturbed(plain, seed, tree, config=scene.config(alone))

        def make() -> VirtualPrinter:
            return VirtualPrinter(seed=seed, tree=tree, config=scene.config(folder))

        try:
            with (
                ThreadPoolExecutor(1) as pool,
                printing(make, part, say) as story,
            ):
                whole = pool.submit(busy.again, undisturbed)
                played.cuts = story.cuts
                _cuts(scene, story, random.Random(seed), played)
                outcome = story.outcome()
                if outcome.original_changed:
                    played.wrong.append("the owner's file has changed")
                played.verdict = outage.judge(whole.result(), outcome)
        except PrinterError as e:
            played.wrong.append(f"failed: {e}")
    return played


def _cuts(
    scene: Scene, story: OnePrint, source: random.Random, played: Played
) -> None:
    for moment in scene.moments:
        story.cut(moment.name, moment.until(source), offered=not moment.no_offer)
        played.wrong += [f"{moment.name}: {one}" for one in moment.offer(story.printer)]
        if moment.is_end:
            return
        story.by_hand, story.look = moment.by_hand, moment.then
        if moment.tool:
            story.look = _look(moment, played)
    if scene.steps:
        cut_in_each_step(story, source)
    story.finish()


def _look(moment: Moment, played: Played) -> Until:
    def look(printer: VirtualPrinter) -> None:
        status = printer.objects("toolhead", "toolchanger")
        found = status["toolhead"]["extruder"]
        # Empty where the machine has none
        found = status["toolchanger"].get("tool", found)
        played.tools.append((moment.tool, found))

    return look


HEAD = (
    "| scene | the power failed | twice s | hits | hot on the part s | offer s |",
    "|---|---|---|---|---|---|",
)


def rows(played: Played) -> list[str]:
    lines = []
    for number, cut in enumerate(played.cuts):
        more = f" (once more: {cut.busy})" if cut.busy else ""
        lost, hits, hot = "?", "?", "?"
        if played.verdict is not None:
            cost = played.verdict.per_cut[number]
            lost, hot = f"{cost.doubled_s:.2f}", f"{cost.hot_dwell_s:.1f}"
            hits = str(sum(
                hit.session == cost.session + 1 for hit in played.verdict.collided
            ))  # fmt: skip
        lines.append(
            f"| {played.scene} | {cut.name}{more} | {lost} | {hits} | {hot} |"
            f" {cut.offer_s:.1f} |"
        )
    return lines


def summary(all_played: Sequence[Played], asked: int) -> tuple[str, bool]:
    """Asked beside measured, and whether all is met.  asked: moments."""
    limits = Limits()
    verdicts = [one.verdict for one in all_played if one.verdict is not None]
    done = sum(
        sum(not cut.busy for cut in one.cuts)
        for one in all_played if one.verdict is not None
    )  # fmt: skip
    missing = sum(v.missing_mm for v in verdicts)
    worst = max((v.missing_mm for v in verdicts), default=0.0)
    hits = sum(v.collisions for v in verdicts)
    xy = max((v.xy_error_mm for v in verdicts), default=0.0)
    tools = [pair for one in all_played for pair in one.tools]
    right = sum(a == b for a, b in tools)
    share = 100 * right / len(tools) if tools else 100.0
    table = [
        ("moments cut, resumed and judged", f"{asked}", f"{done}", done >= asked),
        ("missing, mm", f"0, each print told to {limits.missing_mm:g}",
         f"{missing:.2f} in all, {worst:.2f} at most", worst <= limits.missing_mm),
        ("collisions", "0", f"{hits}", hits == 0),
        ("right tool after the resume, %", "100",
         f"{share:.0f} ({right} of {len(tools)})", right == len(tools)),
        ("XY error, mm (a wrong tool is 1.8 beside)", f"{limits.xy_error_mm:g} at most",
         f"{xy:.4f}", xy <= limits.xy_error_mm),
    ]  # fmt: skip
    return asked_and_measured(table)


def main() -> int:
    parser = argparse.ArgumentParser(description="Power cuts at odd moments")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    scenes = [
        scene for scene in SCENES
        if not args.names or any(name in scene.name for name in args.names)
    ]  # fmt: skip
    began_at = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began_at:6.0f} s  {text}", flush=True)

    all_played = []
    for number in range(args.rounds):
        for scene in scenes:
            say(f"scene: {scene.name}")
            played = play(scene, number, args.seed + number, say)
            all_played.append(played)
            print("\n".join(HEAD + tuple(rows(played))))
            print("\n".join(played.reasons()) or "The part is whole.", flush=True)
    print("\n" + "\n".join(HEAD))
    for played in all_played:
        print("\n".join(rows(played)))
    asked = args.rounds * sum(len(scene.moments) for scene in scenes)
    text, is_met = summary(all_played, asked)
    print(f"\n{text}\n\n| not here | where |\n|---|---|")
    print("\n".join(f"| {what} | {where} |" for what, where in ELSEWHERE))
    bad = [f"{one.scene}: {r}" for one in all_played for r in one.reasons()]
    print("\n" + ("\n".join(bad) or "All parts are whole."))
    return 0 if is_met and not bad else 1


if __name__ == "__main__":
    sys.exit(main())
