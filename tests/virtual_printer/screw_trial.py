# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Power cuts on lead screws, and how true Z is once the resume has lifted the nozzle.

Errors are against the machine as it was before the print: where G28 puts Z has an
error of its own, and no resume knows it.
"""
from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import outage, parts
from .klippy_tree import KlippyTree
from .printer import PrinterError, VirtualPrinter
from .variants import Variant

# Nothing is heated for long, and PRINT_START leaves the homing to the trial.
CONFIG = """
[force_move]
enable_force_move: True
[extruder]
min_extrude_temp: 0
[stepper_x]
homing_speed: 200
second_homing_speed: 50
[stepper_y]
homing_speed: 200
second_homing_speed: 50
[stepper_z]
homing_speed: 40
homing_retract_dist: 0.5
[gcode_macro PRINT_START]
gcode:
    G90
    G1 Z5 F1200
    M109 S{params.EXTRUDER}
"""
FLAT = parts.Part(size=24, layers=12, speed=60, long_line=0, bed=0, hotend=45)
HOPS = parts.Part(
    size=10, layers=60, speed=100, long_line=0, bed=0, hotend=45, z_hop=0.6
)
# What klippy and the board went through before the print.
POWER_ON = "power on"
FIRMWARE_RESTART = "firmware restart"
KLIPPY_RESTART = "firmware restart, klippy restart"
DRIVERS_OFF = "drivers switched off and on"
# In the warning, as the owner reads it.
DOUBT = re.compile(
    r"\(in doubt by ([\d.]+) mm(?:; by ([\d.]+) mm if the board was restarted, or had"
    r" power, apart from its motor drivers)?\)"
)
LIFT_TIMEOUT = 60.0
RESTARTS, RESTART_TIMEOUT = 3, 20.0
LIFT = "Lift the nozzle"
# FORCE_MOVE can do no less than a step.
STEP_MM = 0.0025


@dataclass(frozen=True)
class Outcome:
    """All in mm.  z: error of the nozzle's height over the middle of the bed;
    worst: the same over the bed's corners.  bound: how large the owner was told
    that it may be.  apart: the same if the board was once restarted or powered apart
    from its drivers, None if that was not said.  cut: seconds after the first
    plastic."""

    z: float
    worst: float
    bound: float
    apart: float | None
    estimate: float
    warnings: tuple[str, ...]
    cut: float

    @property
    def error(self) -> float:
        return max(abs(self.z), self.worst)

    @property
    def told(self) -> tuple[float, ...]:
        """The doubts in the words that the owner reads, rounded to 0.01."""
        text = " ".join(self.warnings)
        found = DOUBT.search(text)
        return tuple(float(mm) for mm in found.groups() if mm) if found else ()

    def text(self) -> str:
        apart = "" if self.apart is None else f" (apart {self.apart:.4f})"
        return (
            f"cut {self.cut:.2f} s: z {self.z:+.4f}, corners {self.worst:.4f},"
            f" bound {self.bound:.4f}{apart}, estimate {self.estimate:.4f}"
        )


class Trial:
    """One machine that is cut again and again."""

    def __init__(
        self, variant: Variant, seed: int, tree: KlippyTree | None = None
    ) -> None:
        self.printer = VirtualPrinter(
            seed=seed, tree=tree, config=CONFIG, variant=variant
        )
        self.names = ["stepper_z"]
        self.names += [f"stepper_z{n}" for n in range(1, variant.z_motors)]

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *exc: object) -> None:
        self.printer.close()

    def run(self, part: parts.Part, cut: float, history: str = POWER_ON) -> Outcome:
        """Print, cut the power, resume until the nozzle is lifted, and measure."""
        try:
            return self._run(part, cut, history)
        finally:
            # The rest of the resume is not wanted, and this ends it.  Nor is what the
            # cut does to klippy's variables: tests/e2e/test_variables.py is about that.
            config = self.printer.data / "config"
            for path in config.glob("variables.cfg"):
                self.printer.disk.settle(path)
            self.printer.cut_power()

    def _run(self, part: parts.Part, cut: float, history: str) -> Outcome:
        printer = self.printer
        self._boot()
        self._level()
        self._live_through(history)
        printer.gcode("G28\nG1 X125 Y125 Z5 F9000\nM400")
        before = self._errors()
        printer.print_file(self._file(part))
        outage.cut_and_boot(printer, cut)
        planned = printer.post("/server/plr/resume", dry_run=True)
        printer.gcode("PLR_RESUME_PRINT")
        self._wait_lifted(planned["steps"].index(LIFT) + 1)
        errors = [a - b for a, b in zip(self._errors(), before, strict=True)]
        return Outcome(
            z=errors[-1],
            worst=max(abs(error) for error in errors[:-1]),
            bound=planned["z"]["bound"],
            apart=planned["z"]["apart"],
            estimate=planned["z"]["estimate"],
            warnings=tuple(planned["warnings"]),
            cut=cut,
        )

    def _file(self, part: parts.Part) -> Path:
        path = self.printer.root / f"{'hops' if part.z_hop else 'flat'}.gcode"
        return path if path.exists() else parts.write(path, part)

    def _boot(self) -> None:
        self.printer.power_on()
        if self.printer.get("/server/plr/status")["state"] == "interrupted":
            self.printer.post("/server/plr/discard")

    def _level(self) -> None:
        """What Z_TILT_ADJUST is for; it also gives each motor a phase of its own."""
        on = [f"SET_STEPPER_ENABLE STEPPER={name} ENABLE=1" for name in self.names]
        self.printer.gcode("\n".join([*on, "G4 P100", "M400"]))
        corners = self._corners()
        moves = [
            f"FORCE_MOVE STEPPER={name} DISTANCE={corners[0] - corner:.4f} VELOCITY=5"
            for name, corner in zip(self.names, corners, strict=True)
            if abs(corners[0] - corner) > STEP_MM
        ]
        self.printer.gcode("\n".join([*moves, "M400"]))

    def _corners(self) -> Sequence[float]:
        # A switch or an enable line takes effect a little after its time.
        time.sleep(0.3)
        return self.printer.machine("state")["corners"]

    def _live_through(self, history: str) -> None:
        printer = self.printer
        if history == POWER_ON:
            return
        # To a place that has another phase than power up
        printer.gcode("G28\nG1 Z5.05 F1200\nM400")
        if history == DRIVERS_OFF:
            # As with a relay for the supply, and the board on USB
            printer.gcode("M84\nM400")
            printer.machine("drivers_off")
            return
        self._restart_board()
        if history == KLIPPY_RESTART:
            printer.kill(printer.klippy)
            printer.start_klippy()
            time.sleep(1.0)
            printer.wait_ready()

    def _restart_board(self) -> None:
        """As a person does, who presses it again: klippy gives a board 15 ms."""
        for _ in range(RESTARTS):
            self.printer.post("/printer/firmware_restart")
            time.sleep(1.0)
            try:
                return self.printer.wait_ready(RESTART_TIMEOUT)
            except PrinterError as e:
                trouble = e
        raise trouble

    def _errors(self) -> list[float]:
        """Height over the bed's corners and middle, less klippy's Z."""
        z = self.printer.objects("toolhead")["toolhead"]["position"][2]
        time.sleep(0.3)
        bed = self.printer.machine("state")["bed"]
        again = self.printer.objects("toolhead")["toolhead"]["position"][2]
        if z != again:
            raise PrinterError(f"Z moves while it is measured: {z:.3f}, {again:.3f}")
        return [height - z for height in bed]

    def _wait_lifted(self, number: int) -> None:
        """Until a step after this one, counted from 1, is carried out."""
        began = time.monotonic()
        while time.monotonic() - began < LIFT_TIMEOUT:
            status = self.printer.get("/server/plr/status")
            step = status["step"]
            if step is not None and step["number"] > number:
                return
            if status["last_error"] and status["state"] != "resuming":
                raise PrinterError(status["last_error"])
            time.sleep(0.1)
        raise PrinterError(f"the nozzle was not lifted within {LIFT_TIMEOUT:.0f} s")
