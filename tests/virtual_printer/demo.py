# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""scripts/demo: a power cut, and the part comes out whole."""
from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from . import outage, parts, picture
from .klippy_tree import REPO, prepare
from .oracle import Verdict
from .printer import PrinterError

DEFAULT_PART = parts.Part(size=24, long_line=0)
# Where a cut falls by default: seconds after the first plastic of our own part.
CUT_RANGE = (6.0, 40.0)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo")
    parser.add_argument("--cut-at", type=float, metavar="SECONDS")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    caller = Path(os.environ.get("PLR_CALLER_CWD", "."))
    for name in ("file", "json", "picture"):
        if getattr(args, name) is not None:
            setattr(args, name, caller / getattr(args, name))
    if args.file is not None and not args.file.is_file():
        parser.error(f"no such file: {args.file}")
    if args.cut_at is not None and args.cut_at < 0:
        parser.error("--cut-at takes seconds after the first plastic, 0 or more")
    return args


class Teller:
    """Progress lines of two prints at once, with the time that has passed."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, who: str) -> Callable[[str], None]:
        def say(text: str) -> None:
            with self._lock:
                seconds = time.monotonic() - self.started
                print(f"{seconds:6.1f} s  {who:<11} {text}", flush=True)

        return say


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    tree = prepare()
    cut = args.cut_at
    if cut is None:
        cut = random.Random(args.seed).uniform(*CUT_RANGE)
    teller = Teller()
    print(f"Klipper: {tree.name}. Power cut {cut:.1f} s after the first plastic.")
    with tempfile.TemporaryDirectory(prefix="plr-demo-") as scratch:
        folder = Path(scratch)
        if args.file is None:
            part = parts.write(folder / "demo.gcode", DEFAULT_PART)
        else:
            part = outage.copy_part(args.file, folder)
        undisturbed: list[outage.Undisturbed | Exception] = []

        def reference() -> None:
            try:
                undisturbed.append(
                    outage.run_undisturbed(part, args.seed, tree, teller("undisturbed"))
                )
            except Exception as e:
                undisturbed.append(e)

        thread = threading.Thread(target=reference)
        thread.start()
        outcome = outage.run_interrupted(
            part, [cut], args.seed, tree, teller("interrupted"), args.keep
        )
        thread.join()
    whole = undisturbed[0]
    if isinstance(whole, Exception):
        print(f"The undisturbed print failed, so there is nothing to compare: {whole}")
        return 2
    verdict = outage.judge(whole, outcome)
    report = summary(outcome, verdict)
    print()
    print(table(report, verdict))
    picture_path = args.picture or REPO / "artifacts" / "demo.png"
    picture_path.parent.mkdir(parents=True, exist_ok=True)
    picture.draw(
        picture_path, whole.sessions, outcome.sessions, whole.geometry, verdict
    )
    print(f"Picture: {os.path.relpath(picture_path)}")
    if outcome.disk:
        print(f"Note: {outcome.disk}, so un-synced writes were kept at the cut.")
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return conclude(outcome, verdict)


def summary(outcome: outage.Outcome, verdict: Verdict) -> dict[str, object]:
    """The verdict as scripts/demo --json writes it.  mm and s."""
    return {
        "resumed": outcome.resumed,
        "missing_mm": round(verdict.missing_mm, 3),
        "doubled_mm": round(verdict.doubled_mm, 3),
        "lost_s": round(sum(verdict.lost_s), 3),
        "z_error_mm": round(max(verdict.z_error_mm, verdict.z_corner_error_mm), 4),
        "xy_error_mm": round(verdict.xy_error_mm, 4),
        "collisions": verdict.collisions,
        "original_changed": outcome.original_changed,
        "hot_dwell_s": [round(s, 2) for s in verdict.hot_dwell_s],
        "whole": is_whole(outcome, verdict),
    }


def is_whole(outcome: outage.Outcome, verdict: Verdict) -> bool:
    return outcome.resumed and not outcome.original_changed and verdict.whole()


def table(report: dict[str, object], verdict: Verdict) -> str:
    dwell = sum(verdict.hot_dwell_s)
    rows = [
        ("path missing", f"{report['missing_mm']:.2f} mm", "0.2 mm"),
        ("laid twice", f"{report['doubled_mm']:.2f} mm", ""),
        ("motion done twice", f"{report['lost_s']:.2f} s", "1.6 s"),
        ("Z error, nozzle", f"{verdict.z_error_mm:.4f} mm", "0.02 mm"),
        ("Z error, worst corner", f"{verdict.z_corner_error_mm:.4f} mm", "0.02 mm"),
        ("XY error", f"{report['xy_error_mm']:.4f} mm", "0.02 mm"),
        ("collisions", f"{report['collisions']}", "0"),
        ("above 170 C on the part", f"{dwell:.1f} s", ""),
        ("your file changed", "yes" if report["original_changed"] else "no", "no"),
    ]
    lines = [f"{'':<26}{'measured':>14}   at most"]
    lines += [f"{name:<26}{value:>14}   {limit}" for name, value, limit in rows]
    return "\n".join(lines)


def conclude(outcome: outage.Outcome, verdict: Verdict) -> int:
    if is_whole(outcome, verdict):
        print("The part came out whole.")
        return 0
    print("The part is NOT whole:")
    reasons = verdict.reasons()
    if not outcome.resumed:
        reasons.insert(0, f"not resumed: {outcome.trouble}")
    for reason in reasons:
        print(f"  - {reason}")
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (PrinterError, FileNotFoundError) as e:
        sys.exit(f"demo: {e}")
