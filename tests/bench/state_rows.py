# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What comes back after a power cut, row by row, on real klippy.

    python -m tests.bench.state_rows [--seed 5] [--prologue]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment. Exit
status 1 if a row is not restored, or the compensated Z differs by more than 1 um.
"""
from __future__ import annotations

import argparse
from pathlib import Path

from tests.virtual_printer import state_rows, state_trial
from tests.virtual_printer.klippy_tree import KlippyTree, prepare

MAX_Z_ERROR = 0.001  # mm


def table(outcome: state_trial.Outcome, tree: KlippyTree) -> tuple[str, bool]:
    """And whether all is well."""
    different = outcome.differences()
    lines = [f"| {tree.name} | restored |", "|---|---|"]
    restored = 0
    for name, fresh in outcome.fresh.items():
        if state_trial.alike(fresh, outcome.before[name]):
            word = "NOT SET"
        elif name in different:
            before, after = different[name]
            word = f"NO: {before} -> {after}"
        else:
            word, restored = "yes", restored + 1
        lines.append(f"| {name} | {word} |")
    for name in state_rows.LOST:
        lines.append(f"| {name} | not restorable |")
    kept = state_trial.alike(outcome.saved, outcome.restored)
    total = len(outcome.fresh)
    lines += [
        "", f"state rows restored / restorable: {restored} / {total}",
        f"mesh-compensated Z before and after: {1000 * outcome.z_error:.4f} um apart at"
        f" {len(outcome.z_before)} places",
        f"RESTORE_GCODE_STATE of a state saved before the cut: {kept}",
    ]  # fmt: skip
    well = restored == total and kept and outcome.z_error <= MAX_Z_ERROR
    return "\n".join(lines), well


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--prologue", action="store_true",
                        help="show what the resume file begins with")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    tree = prepare()
    outcome = state_trial.run(tree, args.seed)
    text, well = table(outcome, tree)
    if args.prologue:
        text += "\n\n" + outcome.resume_file
    print(text)
    if args.output:
        args.output.write_text(text + "\n")
    return 0 if well else 1


if __name__ == "__main__":
    raise SystemExit(main())
