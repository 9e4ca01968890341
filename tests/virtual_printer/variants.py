# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The kinds of machine that the virtual printer can be."""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CONFIG = Path(__file__).parent / "config"
SECTION = re.compile(r"^\[", re.MULTILINE)


@dataclass(frozen=True)
class Variant:
    """`extra`: names of config files that are appended to printer.cfg."""

    name: str
    z_motors: int = 4
    floating_bed: bool = False
    extra: tuple[str, ...] = ()

    @property
    def cartesian(self) -> bool:
        return "cartesian.cfg" in self.extra

    @property
    def second_mcu(self) -> bool:
        return "second_mcu.cfg" in self.extra

    def machine_arguments(self) -> list[str]:
        flags = {"--floating-bed": self.floating_bed, "--cartesian": self.cartesian}
        return ["--z-motors", str(self.z_motors), *(f for f, on in flags.items() if on)]

    def printer_cfg(self) -> str:
        """printer.cfg without the Z motors that this machine lacks."""
        text = (CONFIG / "printer.cfg").read_text()
        for i in range(self.z_motors, 4):
            text = _without_section(text, f"stepper_z{i}")
            text = re.sub(rf"^pin_stepper_z{i}:.*\n", "", text, flags=re.MULTILINE)
        return text + "".join((CONFIG / name).read_text() for name in self.extra)


def _without_section(text: str, name: str) -> str:
    begin = text.index(f"[{name}]\n")
    end = SECTION.search(text, begin + 1)
    return text[:begin] + (text[end.start() :] if end else "")


VORON_24 = Variant("CoreXY, floating gantry on four motors")
TRIDENT = Variant("CoreXY, floating bed on three motors", 3, True)
TWO_MOTORS = Variant("CoreXY, gantry on two motors", 2)
ONE_MOTOR = Variant("CoreXY, floating bed on one motor", 1, True)
# PyPI's klippy cannot load this kinematics
CARTESIAN = Variant("Cartesian, gantry on two motors", 2, False, ("cartesian.cfg",))
SECOND_MCU = Variant("a Z+ switch on a second MCU", extra=("second_mcu.cfg",))
