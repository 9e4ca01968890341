# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Which line were the motors in, and which one did the extra say?

The files printed here only ever go towards larger X, so that the X of the motors
at an instant, taken from their steps, tells which line was being executed then.
"""
from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .klippy_api import Klippy
from .printer import PrinterError, VirtualPrinter

# Steps, and the rounding of times.
EPS = 0.03
# What the extra takes off where the motors are (fraction.py).
MARGIN = 0.2
# Shorter lines are never partly done (fraction.py).
SHORTEST = 1.0
START_X, START_Y, START_Z = 20.0, 100.0, 5.0
PERIOD = 0.03
CONFIG = """
[force_move]
enable_force_move: True

[extruder]
min_extrude_temp: 0
"""
TIMEOUT = 40.0


@dataclass(frozen=True)
class Line:
    """A line of the file as it is executed: the motors go from x0 to x1.

    splits: 'straight', 'arc' (half a circle), or '' when the mark cannot say how
    much of it is done.  placed: whether its G-code position is x0.
    """

    offset: int
    x0: float
    x1: float
    splits: str = ""
    placed: bool = True

    def done(self, x: float) -> float:
        """Share that is done when the motors are at x."""
        share = min(max((x - self.x0) / (self.x1 - self.x0), 0.0), 1.0)
        return math.acos(1 - 2 * share) / math.pi if self.splits == "arc" else share

    def reached(self, share: float) -> float:
        """X of the motors when that share is done."""
        if self.splits == "arc":
            share = (1 - math.cos(share * math.pi)) / 2
        return self.x0 + share * (self.x1 - self.x0)

    @property
    def margin(self) -> float:
        length = self.x1 - self.x0
        return MARGIN / (length * math.pi / 2 if self.splits == "arc" else length)


@dataclass
class Job:
    """A file and what it does.  speed: mm/s; ending: the line ending.

    What is done to a print while it runs needs a slow one: klippy is some seconds
    ahead of the motors.
    """

    speed: float = 60.0
    ending: str = "\n"
    text: str = ""
    lines: list[Line] = field(default_factory=list)
    x: float = START_X

    @property
    def size(self) -> int:
        return len(self.text.encode())

    def add(
        self, text: str, by: float = 0.0, splits: str = "", placed: bool = True
    ) -> None:
        """A line that moves X by so many mm."""
        self.lines.append(Line(self.size, self.x, self.x + by, splits, placed))
        self.text += text + self.ending
        self.x += by

    def move(self, by: float = 8.0, comment: str = "") -> None:
        text = f"G1 X{self.x + by:.3f} F{self.speed * 60:.0f}{comment}"
        self.add(text, by, "straight")

    def moves(self, count: int, by: float = 8.0) -> None:
        for _ in range(count):
            self.move(by)


@dataclass(frozen=True)
class Sample:
    mark: dict[str, Any] | None
    state: str
    nozzle: tuple[float, float, float] = (0.0, 0.0, 0.0)


class Watch:
    """A ready printer without Moonraker; prints one job after the other.

    Needs CONFIG: klippy is told where the nozzle is instead of homing.
    """

    def __init__(self, printer: VirtualPrinter) -> None:
        self.printer = printer
        self.klippy = Klippy(printer)
        self._place()
        self.samples: list[Sample] = []
        self.status: dict[str, Any] = {}

    def _place(self) -> None:
        names = ("x", "y", *(f"z{i or ''}" for i in range(4)))
        self.klippy.gcode(
            "\n".join(f"SET_STEPPER_ENABLE STEPPER=stepper_{n} ENABLE=1" for n in names)
        )
        time.sleep(0.5)
        x, y, z = self.printer.machine("state")["nozzle"]
        self.klippy.gcode(f"SET_KINEMATIC_POSITION X={x} Y={y} Z={z}\nG90\nM83")

    def print(
        self, job: Job, name: str, act: Callable[[Watch], None] | None = None,
        act_at: float = START_X + 10.0,
    ) -> list[Sample]:  # fmt: skip
        """Start the file; call `act` when X is past `act_at`; until all is still."""
        self.start(job, name)
        if act is not None:
            self.until(f"X is past {act_at}", lambda: self.x() > act_at)
            act(self)
        ends = ("complete", "cancelled", "error")
        self.until("the end", lambda: self.state() in ends)
        self.gcode("M400\nG4 P200\nM400")
        return self.placed()

    def start(self, job: Job, name: str) -> None:
        (self.printer.gcodes / name).write_bytes(job.text.encode())
        self.klippy.gcode(
            f"SDCARD_RESET_FILE\nG90\nG1 X{START_X} Y{START_Y} Z{START_Z} F12000\nM400"
        )
        self.samples = []
        self.klippy.gcode(f'SDCARD_PRINT_FILE FILENAME="{name}"')

    def stop(
        self, job: Job, name: str, after_s: float,
        stop: Callable[[VirtualPrinter], object],
    ) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
        """Print, shut klippy down so long after the first motion, and bring it back.

        Returns the mark of the stop, and the machine's state then.
        """
        self.start(job, name)
        self.until("it moves", lambda: self.x() > START_X + 0.5)
        time.sleep(after_s)
        stop(self.printer)

        def is_known() -> bool:
            return bool(self.status["power_loss_recovery"]["stopped"])

        self.until("the stop is known", is_known)
        state = self.printer.machine("state")
        mark = self.status["power_loss_recovery"]["stopped"]
        self.klippy.send("gcode/firmware_restart")
        self.klippy.close()
        time.sleep(1.0)
        self.klippy = Klippy(self.printer)
        self._place()
        return mark, state

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Take samples meanwhile."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            self.sample()
            if condition():
                return
            if time.monotonic() > deadline:
                raise PrinterError(f"timed out: {what}: {self.status}")
            time.sleep(PERIOD)

    def sample(self) -> None:
        self.status = self.klippy.objects(
            "power_loss_recovery", "print_stats", "toolhead", "motion_report"
        )
        mark = self.status["power_loss_recovery"]["mark"]
        self.samples.append(Sample(mark, self.state()))

    def gcode(self, script: str) -> None:
        """Run it, and take samples until it has been run."""
        other = Klippy(self.printer)
        number = other.send("gcode/script", script=script)
        self.until(f"{script!r} is run", lambda: other.has_answer(number))
        other.close()

    def x(self) -> float:
        return self.status["motion_report"]["live_position"][0]

    def state(self) -> str:
        return self.status["print_stats"]["state"]

    def placed(self) -> list[Sample]:
        """The samples, with where the steps say that the nozzle was."""
        times = [s.mark["print_time"] if s.mark else 0.0 for s in self.samples]
        places = self.printer.machine("at", since_on=times)["nozzle"]
        return [
            Sample(s.mark, s.state, tuple(p))
            for s, p in zip(self.samples, places, strict=True)
        ]


def problems(
    samples: Sequence[Sample], job: Job, lines: Sequence[Line] | None = None
) -> list[str]:
    """All that is wrong with what the extra said.  lines: those that are executed,
    if they are not the job's own."""
    executed = [*(lines or job.lines), Line(job.size, job.x, job.x, placed=False)]
    starts = {one.offset for one in job.lines} | {job.size}
    out = []
    for sample in samples:
        if sample.mark is not None:
            out += _wrong(sample.mark, sample.nozzle, executed)
            if sample.mark["queued"]["file_position"] not in starts:
                out.append(f"queued: {sample.mark['queued']} is not between two lines")
    return out


def _wrong(
    mark: dict[str, Any], nozzle: Sequence[float], lines: Sequence[Line]
) -> list[str]:
    x, y, _ = nozzle
    offset, fraction = mark["file_position"], mark["fraction"]
    where = f"at {mark['print_time']:.3f} s, X {x:.3f}: byte {offset} + {fraction:.3f}"
    inside = [one for one in lines if one.x0 - EPS <= x <= one.x1 + EPS]
    found = [one for one in inside if one.offset == offset]
    if not found:
        return [f"{where}, but the motors are in {[one.offset for one in inside]}"]
    line, out = found[-1], []
    if fraction and not line.splits:
        out.append(f"{where}: a line that cannot be split")
    if line.splits:
        if fraction > line.done(x + EPS):
            out.append(f"{where} is ahead of {line.done(x):.3f}")
        least = min(line.done(x - EPS) - line.margin - 0.002, 0.998)
        if fraction < least and line.x1 - line.x0 >= SHORTEST:
            out.append(f"{where} is behind {line.done(x):.3f}")
    in_line = line.splits == "straight" and line.x0 + EPS < x < line.x1 - EPS
    if line.placed and abs(mark["position"][0] - line.x0) > 0.001:
        out.append(f"{where}: starts at X {mark['position'][0]}, not {line.x0}")
    if in_line and line.placed and abs(mark["position"][1] - y) > EPS:
        out.append(f"{where}: starts at Y {mark['position'][1]}, not {y:.3f}")
    live = mark["live_position"]
    if max(abs(live[0] - x), abs(live[1] - y)) > EPS:
        out.append(f"{where}: live_position {live}, not {x, y}")
    if in_line and mark["queued"]["print_time"] < mark["print_time"]:
        out.append(f"{where}: queued until {mark['queued']['print_time']:.3f} s only")
    return out
