# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The last lines of a bench or a soak, and its exit status."""
from __future__ import annotations

from collections.abc import Sequence


def ended(good: bool, missed: Sequence[str] = ("NOT all figures are met",)) -> int:
    print("all figures are met" if good else "\n".join(missed))
    return 0 if good else 1


def asked_and_measured(rows: Sequence[tuple[str, str, str, bool]]) -> tuple[str, bool]:
    """What, asked, measured, whether it is met: as a table; whether all are."""
    lines = ["| | asked | measured | |", "|---|---|---|---|"]
    for what, asked, measured, is_met in rows:
        word = "met" if is_met else "MISSED"
        lines.append(f"| {what} | {asked} | {measured} | {word} |")
    return "\n".join(lines), all(row[3] for row in rows)
