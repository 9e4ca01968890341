# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A machine that is too busy for klippy: no failure of what is measured."""
from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from .printer import PrinterError

Result = TypeVar("Result")
# What klippy says when it, or the virtual board, was not run for too long.
STARVED = (
    "Communication timeout during homing", "Timer too close",
    "Rescheduled timer in the past", "Missed scheduling of next",
)  # fmt: skip
TRIES = 4


def was_starved(error: PrinterError) -> bool:
    return any(words in str(error) for words in STARVED)


def again(run: Callable[[], Result]) -> Result:
    """Run it, and run it again while klippy was starved, TRIES times in all."""
    for _ in range(TRIES - 1):
        try:
            return run()
        except PrinterError as e:
            if not was_starved(e):
                raise
            print(f"done again: {e}", file=sys.stderr, flush=True)
    return run()
