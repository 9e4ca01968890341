# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The kinds of machine that the virtual printer can be."""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CONFIG = Path(__file__).parent / "config"
# Of printer.cfg, and what a machine with lead screws has instead: 8 mm a turn,
# which is the same distance per step, no Z+ switches, and one motor that turns the
# other way.
BELTS = "rotation_distance: 40\ngear_ratio: 80:16\n"
SCREWS = "rotation_distance: 8\n"
Z_SWITCHES = "pin_stepper_|z_position:|fast_travel_|before_calibrate_gcode:"
REVERSED = "DZ1"
SECTION = re.compile(r"^\[", re.MULTILINE)


@dataclass(frozen=True)
class Variant:
    """`extra`: names of config files that are appended to printer.cfg."""

    name: str
    z_motors: int = 4
    floating_bed: bool = False
    lead_screws: bool = False  # and no Z+ switches
    extra: tuple[str, ...] = ()

    @property
    def cartesian(self) -> bool:
        return "cartesian.cfg" in self.extra

    @property
    def second_mcu(self) -> bool:
        return "second_mcu.cfg" in self.extra

    def machine_arguments(self) -> list[str]:
        flags = {
            "--floating-bed": self.floating_bed,
            "--cartesian": self.cartesian,
            "--lead-screws": self.lead_screws,
        }
        return ["--z-motors", str(self.z_motors), *(f for f, on in flags.items() if on)]

    def printer_cfg(self) -> str:
        """printer.cfg without the Z motors that this machine lacks."""
        text = (CONFIG / "printer.cfg").read_text()
        text += "".join((CONFIG / name).read_text() for name in self.extra)
        if self.lead_screws:
            text = re.sub(f"^({Z_SWITCHES}).*\n", "", text, flags=re.MULTILINE)
            text = text.replace(BELTS, SCREWS)
            text = text.replace(f"dir_pin: {REVERSED}", f"dir_pin: !{REVERSED}")
        for i in range(self.z_motors, 4):
            text = without_section(text, f"stepper_z{i}")
            text = without_section(text, f"tmc2209 stepper_z{i}")
            text = re.sub(rf"^pin_stepper_z{i}:.*\n", "", text, flags=re.MULTILINE)
        return text


def without_section(text: str, name: str) -> str:
    begin = text.find(f"[{name}]\n")
    if begin < 0:
        return text
    end = SECTION.search(text, begin + 1)
    return text[:begin] + (text[end.start() :] if end else "")


LEAD_SCREWS = Variant("lead screws, four motors", lead_screws=True)
LEAD_SCREWS_TMC = Variant(
    "lead screws, four motors on TMC2209", lead_screws=True, extra=("tmc2209.cfg",)
)
ONE_SCREW = Variant("a lead screw, one motor", 1, lead_screws=True)
ONE_SCREW_TMC = Variant(
    "a lead screw, one motor on a TMC2209", 1, lead_screws=True,
    extra=("tmc2209.cfg",),
)  # fmt: skip
VORON_24 = Variant("CoreXY, floating gantry on four motors")
TRIDENT = Variant("CoreXY, floating bed on three motors", 3, True)
TWO_MOTORS = Variant("CoreXY, gantry on two motors", 2)
ONE_MOTOR = Variant("CoreXY, floating bed on one motor", 1, True)
# PyPI's klippy cannot load this kinematics
CARTESIAN = Variant(
    "Cartesian, gantry on two motors", 2, extra=("cartesian.cfg",)
)
SECOND_MCU = Variant("a Z+ switch on a second MCU", extra=("second_mcu.cfg",))
