# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""klippy shuts down in a print and its host lives on: where it says the motors are."""
from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from . import mark_watch
from .klippy_api import Klippy
from .mark_watch import Job, Watch
from .printer import VirtualPrinter

SPEED = 30.0  # mm/s
# klippy hands steps over up to two seconds in advance, and has more planned: the
# host must stand still for longer, and the file take longer than that.
FROZEN_S = 3.5
SLOW = 12.0  # mm/s
# The mark is that of so long before the motors stopped: MOTION_MARGIN in marks.py.
MARGIN_S = 0.05
Stop = Callable[[VirtualPrinter], object]


def emergency_stop(printer: VirtualPrinter) -> None:
    """M112, without Moonraker."""
    klippy = Klippy(printer)
    klippy.send("emergency_stop")
    klippy.close()


def board_fault(printer: VirtualPrinter) -> None:
    """What a board does at a thermal fault."""
    printer.machine("shutdown", reason="ADC out of range")


def unplugged(printer: VirtualPrinter) -> None:
    """A board without power, and nobody to say when."""
    printer.machine("brown_out", usb=True)


def frozen(printer: VirtualPrinter) -> None:
    """A host that stands still: the motors run out of steps, and late ones follow."""
    assert printer.klippy is not None
    os.kill(printer.klippy.pid, signal.SIGSTOP)
    time.sleep(FROZEN_S)
    os.kill(printer.klippy.pid, signal.SIGCONT)


def long_and_short_lines(speed: float) -> Job:
    job = Job(speed=speed)
    job.add("; without a line before it, nothing of the file is done in the first one")
    job.move(25.0)
    job.moves(8, 2.0)
    job.add("; a comment")
    job.add(f"G2 X{job.x + 20} I10 J0 F{speed * 60:.0f}", 20.0, "arc")
    job.moves(40, 0.5)
    job.move(60.0)
    job.moves(30, 2.5)
    return job


@dataclass(frozen=True)
class Stopped:
    """x: where the motors stood then; claimed: where the mark says they were at
    least.  exact: it names one instant and no interval.  reason: the board's.
    unheard_s: for how long at most the simulated board did not listen."""

    x: float
    claimed: float
    exact: bool
    problems: list[str]
    reason: str | None = None
    unheard_s: float = 0.0
    speed: float = SPEED

    @property
    def lost_s(self) -> float:
        return (self.x - self.claimed) / self.speed


def stop_at(
    watch: Watch, after_s: float, stop: Stop, speed: float = SPEED
) -> Stopped:  # fmt: skip
    """Print, stop that long after the first motion, and compare."""
    job = long_and_short_lines(speed)
    mark, state = watch.stop(job, "stop.gcode", after_s, stop)
    x = state["nozzle"][0]
    (line,) = [one for one in job.lines if one.offset == mark["file_position"]]
    share = mark["fraction"]
    claimed = line.reached(share)
    wrong = []
    if claimed > x + mark_watch.EPS:
        wrong.append(f"byte {line.offset} + {share:.3f}: X {claimed:.3f}, not {x:.3f}")
    latest = mark["latest"]
    begun = [one.offset for one in job.lines if one.x0 <= x - mark_watch.EPS]
    if max(begun, default=0) > latest["file_position"]:
        wrong.append(f"the motors came to byte {max(begun)}, {latest} at the latest")
    exact = latest["print_time"] - mark["print_time"] < MARGIN_S + 0.001
    if exact and abs(mark["live_position"][0] - x) > mark_watch.EPS:
        wrong.append(f"live_position {mark['live_position']}, not X {x:.3f}")
    return Stopped(
        x, claimed, exact, wrong, state["shutdown"], state["unheard_s"], speed
    )
