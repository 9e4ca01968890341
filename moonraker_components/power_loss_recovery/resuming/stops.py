# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Why a resume is ended, and what to do: for the owner."""
from __future__ import annotations

import re

from ..saving import interruption

_BOARD = re.compile(r"lost communication|spontaneous restart|serial connection", re.I)
_WANTED = re.compile(r"M112|webhooks request", re.I)
AGAIN = "then FIRMWARE_RESTART: the print is offered again."
ASKED = (
    "Stopping: the heaters go off, and the nozzle up if its height is known, as soon as"
    " Klipper has ended the command that it is at. If that is too late, use the"
    " emergency stop."
)
LEFT = (
    "Klipper was restarted, or has ended. The print is offered again as soon as Klipper"
    " is ready."
)


def by_shutdown(message: str) -> str:
    """message: klippy's state_message."""
    cause = interruption.shutdown(message)
    seen = interruption.classify(cause, "", "")
    if seen.thermal:
        todo = f"A heater or its sensor has failed: find out why, {AGAIN}"
    elif _BOARD.search(cause.text):
        # klippy waits for a lost board while it homes, with all other commands
        todo = (
            f"Look at the power and the cable of that board, {AGAIN} If that does"
            " nothing, restart Klipper's service."
        )
    elif _WANTED.search(cause.text):
        todo = f"When all is well, {AGAIN.removeprefix('then ')}"
    else:
        todo = f"Find out why, {AGAIN}"
    return f"{seen.words.rstrip('.')}. Klipper turns all heaters off then. {todo}"
