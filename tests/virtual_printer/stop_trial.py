# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""klippy shuts down in a print and its host lives on: where it says the motors are."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import mark_watch
from .klippy_api import Klippy
from .mark_watch import Job, Watch
from .printer import VirtualPrinter

SPEED = 30.0  # mm/s
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


def long_and_short_lines() -> Job:
    job = Job(speed=SPEED)
    job.move(25.0)
    job.moves(8, 2.0)
    job.add("; a comment")
    job.add(f"G2 X{job.x + 20} I10 J0 F{SPEED * 60:.0f}", 20.0, "arc")
    job.moves(40, 0.5)
    job.move(60.0)
    return job


@dataclass(frozen=True)
class Stopped:
    """x: where the motors stood then; claimed: where the mark says they were at
    least.  exact: it names one instant and no interval."""

    x: float
    claimed: float
    exact: bool
    problems: list[str]

    @property
    def lost_s(self) -> float:
        return (self.x - self.claimed) / SPEED


def stop_at(watch: Watch, after_s: float, stop: Stop) -> Stopped:
    """Print, stop that long after the first motion, and compare."""
    job = long_and_short_lines()
    mark, x = watch.stop(job, "stop.gcode", after_s, stop)
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
    exact = abs(latest["print_time"] - mark["print_time"]) < 0.1
    if exact and abs(mark["live_position"][0] - x) > mark_watch.EPS:
        wrong.append(f"live_position {mark['live_position']}, not X {x:.3f}")
    return Stopped(x, claimed, exact, wrong)
