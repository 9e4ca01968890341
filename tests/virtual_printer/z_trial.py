# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""PLR_Z_HOME on a virtual printer, and how true and level it leaves the machine.

Errors are against the machine as it was when it was calibrated: klippy's idea of
where Z is zero, which G28 gave it, has an error of its own that no Z+ switch knows.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .klippy_api import Klippy
from .printer import PrinterError, VirtualPrinter

MICRON = 0.001
NOISE_SIGMA = 4 * MICRON
# A trial homes the printer itself, and saves time by starting high up.
CONFIG = """
[power_loss_recovery]
before_calibrate_gcode:
fast_travel_upto_z_height: 222
[force_move]
enable_force_move: True
[power_loss_recovery]
"""


@dataclass(frozen=True)
class Outcome:
    """All in mm and seconds.

    bed: error of the height over the bed's corners.  middle: the same at its
    middle, where the nozzle works.  overrun: furthest a motor went past its
    switch.
    """

    bed: tuple[float, ...]
    middle: float
    overrun: float
    duration: float

    @property
    def plane(self) -> float:
        return max(abs(error) for error in self.bed)


class Trial:
    """A printer with CONFIG whose gantry can sag again and again."""

    def __init__(self, printer: VirtualPrinter, noise: float = NOISE_SIGMA) -> None:
        self.printer = printer
        self.noise = noise
        self.base: list[float] = []
        self.boot()

    def boot(self) -> None:
        self.printer.power_on(moonraker=False, wait=False)
        self.klippy = Klippy(self.printer)
        self.printer.machine("noise", sigma=self.noise)

    def calibrate(self) -> None:
        """G28 on a machine that is level, then the switches from close by."""
        self.klippy.gcode("G28\nM400")
        self.base = self.errors()
        self.klippy.gcode("PLR_Z_HOME MODE=CALIBRATE\nM400")
        # Long before any power cut: the kernel has written it out since.
        printer = self.printer
        printer.disk.settle(printer.data / "config" / "variables.cfg")

    def errors(self) -> list[float]:
        """Height over the bed's corners and middle, less what klippy believes."""
        z = self.klippy.objects("toolhead")["toolhead"]["position"][2]
        bed = self.printer.machine("state")["bed"]
        base = self.base or [0.0] * len(bed)
        return [height - z - b for height, b in zip(bed, base, strict=True)]

    def sag(self, drops: Sequence[float], z: float = 222.0) -> None:
        self.klippy.gcode(f"G90\nG1 Z{z} F2400\nM400")
        count = self.printer.variant.z_motors
        self.printer.machine("sag", drops=list(drops[:count]))

    def resume(self) -> Outcome:
        state = self.printer.machine("state")
        self.klippy.gcode("PLR_Z_HOME MODE=RESUME\nM400")
        ranges = self.printer.machine("range", since=state["clock"])
        errors = self.errors()
        past = [
            high - switch
            for (_, high), switch in zip(
                ranges.values(), state["switches"], strict=False
            )
        ]
        last = self.status()["last_result"]
        return Outcome(tuple(errors[:-1]), errors[-1], max(past), last["duration"])

    def status(self) -> dict[str, Any]:
        objects = self.klippy.objects("power_loss_recovery")
        return objects["power_loss_recovery"]["z_homing"]


def refused(klippy: Klippy, command: str) -> str:
    """Klippy's message for a command that it must not carry out."""
    try:
        klippy.gcode(command)
    except PrinterError as e:
        return str(e)
    raise AssertionError(f"{command} was not refused")
