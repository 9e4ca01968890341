# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The last line of a bench, and its exit status."""
from __future__ import annotations

from collections.abc import Sequence


def ended(good: bool, missed: Sequence[str] = ("NOT all figures are met",)) -> int:
    print("all figures are met" if good else "\n".join(missed))
    return 0 if good else 1
