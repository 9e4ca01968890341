# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Run by klippy's Python: a klippy that can be watched, or runs without a board.

    watched_klippy.py FOLDER PACKAGE MAIN COUNT CLOCK KLIPPY_ARGUMENTS...

With COUNT "count", the status of `toolhead` gets `lookahead_flushes`, how often the
queue was emptied to a standstill though moves were in it, and `motion`, a digest of all
moves as planned.

CLOCK is "own", or "following" for a klippy without a board: it says that a board in a
file is at time 0 for ever.  Then no motion is ever over, what looks at executed motion
fails, and a queue holds all of the print.  Here the board is as far behind what klippy
has planned as one that runs.
"""
from __future__ import annotations

import contextlib
import hashlib
import importlib
import struct
import sys
from collections.abc import Callable
from typing import Any

# klippy keeps between one and two seconds of motion planned.
BEHIND = 1.5
PLAN = struct.Struct("<9d")


def _clock(mcu: Any) -> Callable[[float], float]:
    toolhead = None

    def estimated_print_time(eventtime: float) -> float:
        nonlocal toolhead
        if toolhead is None:
            toolhead = mcu._printer.lookup_object("toolhead", None)
        return max(getattr(toolhead, "print_time", 0.0) - BEHIND, 0.0)

    return estimated_print_time


class FollowingClock:
    """Takes the place of a method; what klippy sets on its instance is not heard."""

    def __get__(self, mcu: Any, owner: type) -> Callable[[float], float]:
        made = mcu.__dict__.get("_following_clock")
        if made is None:
            made = mcu.__dict__["_following_clock"] = _clock(mcu)
        return made

    def __set__(self, mcu: Any, value: object) -> None:
        pass


def watch_lookahead(toolhead: Any) -> None:
    """toolhead: the module."""
    queue_class = getattr(toolhead, "LookAheadQueue", None) or toolhead.MoveQueue
    flush, get_status = queue_class.flush, toolhead.ToolHead.get_status
    flushes, motion = [0], hashlib.sha256()

    def watched_flush(self: Any, lazy: bool = False) -> Any:
        before = self.queue[:]
        if before and not lazy:
            flushes[0] += 1
        result = flush(self, lazy)
        for move in before[: len(before) - len(self.queue)]:
            motion.update(PLAN.pack(
                *move.end_pos[:4], move.start_v, move.cruise_v, move.accel_t,
                move.cruise_t, move.decel_t,
            ))  # fmt: skip
        return result

    def watched_status(self: Any, eventtime: float) -> dict[str, Any]:
        return dict(
            get_status(self, eventtime), lookahead_flushes=flushes[0],
            motion=motion.hexdigest(),
        )  # fmt: skip

    queue_class.flush = watched_flush
    toolhead.ToolHead.get_status = watched_status


def make_all_steps(motion_queuing: Any) -> None:
    """motion_queuing: the module; klippys of 2025 and later have it.

    Without a board its timer ends when the time that it saw at its start is reached,
    also if the lookahead queue was emptied meanwhile: the steps of those moves are
    made with the next ones, or never.  With a board it looks again.
    """
    queuing = motion_queuing.PrinterMotionQueuing
    flush_once = queuing._flush_handler_debug

    def flush_all(self: Any, eventtime: float) -> float:
        waketime: float = flush_once(self, eventtime)
        if self.last_step_gen_time < self.need_step_gen_time:
            return self.reactor.NOW
        return waketime

    queuing._flush_handler_debug = flush_all


def main() -> None:
    folder, package, start, count, clock = (sys.argv.pop(1) for _ in range(5))
    # Instead of this folder, whose modules klippy does not mean.
    sys.path[0] = folder
    if count == "count":
        watch_lookahead(importlib.import_module(package + "toolhead"))
    if clock == "following":
        mcu = importlib.import_module(package + "mcu").MCU
        mcu.estimated_print_time = FollowingClock()
        with contextlib.suppress(ModuleNotFoundError):
            make_all_steps(importlib.import_module(package + "extras.motion_queuing"))
    importlib.import_module(package + start).main()


if __name__ == "__main__":
    main()
