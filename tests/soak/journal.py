# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Power cuts and kills of Moonraker by the hundred, and what the journal holds.

    python -m tests.soak.journal [--cuts 200] [--kills 200] [--seed N] [--workers N]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment. The
cuts need FUSE. With the defaults it takes half an hour. Prints each thing that is
wrong when it happens and tables in the end; exit status 1 if anything was wrong.
"""
from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from tests.virtual_printer import fuse_disk
from tests.virtual_printer.cut_trial import KINDS, Cut, CutTrial
from tests.virtual_printer.kill_trial import Kill, KillTrial
from tests.virtual_printer.klippy_tree import prepare

Say = Callable[[str], None]


def quiet(text: str) -> None:
    pass


def run_cuts(count: int, seed: int, say: Say = quiet) -> list[Cut]:
    """The first ones are of each kind once."""
    found = []
    with tempfile.TemporaryDirectory(prefix="plr-soak-") as folder:
        with CutTrial(Path(folder), seed, prepare()) as trial:
            for number in range(count):
                found.append(trial.cut(KINDS[number] if number < len(KINDS) else None))
                tell("cut", seed, found[-1], say)
    return found


def run_kills(count: int, seed: int, say: Say = quiet) -> list[Kill]:
    """One long print for all of them; `count` kills or a few more."""
    found: list[Kill] = []
    with tempfile.TemporaryDirectory(prefix="plr-soak-") as folder:
        with KillTrial(Path(folder), seed, prepare()) as trial:
            while not trial.stuck and sum(kill.kills for kill in found) < count:
                found.append(trial.kill())
                tell("kill", seed, found[-1], say)
    return found


def tell(what: str, seed: int, done: Cut | Kill, say: Say) -> None:
    say(f"{what} {done.number} of seed {seed}: {'; '.join(done.wrong) or 'right'}")


def cut_table(cuts: Sequence[Cut]) -> str:
    lines = [
        "| cut while | cuts | caught a write | found | place, s before the cut |"
        " wrong |",
        "|---|---|---|---|---|---|",
    ]
    for kind in [kind for kind in KINDS if any(cut.kind == kind for cut in cuts)]:
        mine = [cut for cut in cuts if cut.kind == kind]
        counts = Counter(cut.found for cut in mine)
        found = ", ".join(f"{count}x {what}" for what, count in counts.items())
        lost = sorted(cut.lost for cut in mine if cut.lost is not None)
        place = f"{median(lost):.2f} (at most {lost[-1]:.2f})" if lost else ""
        lines.append(
            f"| {kind} | {len(mine)} | {sum(cut.caught for cut in mine)} | {found} |"
            f" {place} | {sum(bool(cut.wrong) for cut in mine)} |"
        )
    return "\n".join(lines) + "\n"


def kill_table(kills: Sequence[Kill]) -> str:
    back = [kill.back_s for kill in kills]
    count = sum(kill.kills for kill in kills)
    return (
        "| kills of Moonraker | back and saving after, s | at most | wrong |\n"
        "|---|---|---|---|\n"
        f"| {count} | {median(back):.1f} | {max(back):.1f} |"
        f" {sum(bool(kill.wrong) for kill in kills)} |\n"
    )


def say_now(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    if args.cuts and fuse_disk.why_not():
        print(f"No cuts: {fuse_disk.why_not()}")
        return 2
    share = -(-args.cuts // args.workers)
    with ThreadPoolExecutor(args.workers) as pool:
        cut_jobs = [
            pool.submit(run_cuts, min(share, args.cuts - at), args.seed + at, say_now)
            for at in range(0, args.cuts, share or 1)
        ]
        kill_jobs = [
            pool.submit(run_kills, args.kills, args.seed, say_now)
            for _ in range(min(args.kills, 1))
        ]
        cuts = [cut for job in cut_jobs for cut in job.result()]
        kills = [kill for job in kill_jobs for kill in job.result()]
    print(f"klippy: {prepare().name}, seed {args.seed}\n")
    if cuts:
        print(cut_table(cuts))
    if kills:
        print(kill_table(kills))
    wrong = [text for done in [*cuts, *kills] for text in done.wrong]
    print("\n".join(wrong) if wrong else "nothing was wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
