# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A virtual printer with two tools that it changes in the middle of a print.

Both lay plastic with the one extruder that the machine has, T1 beside and above T0:
a layer that was printed with the wrong tool is in the wrong place.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

from . import parts
from .klippy_tree import KlippyTree, prepare
from .printer import VirtualPrinter

CHANGER = Path(__file__).with_name("changer")
EXTRAS = tuple(CHANGER / name for name in ("toolchanger.py", "tool.py"))
OFFSETS = ((0.0, 0.0, 0.0), (1.5, -1.0, 0.03))
SECTION = """
[toolchanger]
memory: {memory}
after_change_gcode:
    G4 P2500
"""
TOOL = """
[tool T{number}]
tool_number: {number}
gcode_x_offset: {x}
gcode_y_offset: {y}
gcode_z_offset: {z}
pickup_gcode:
    G90
    G0 Y240 F12000
    G0 X{dock} F12000
    G4 P1500
dropoff_gcode:
    G91
    G0 Z5 F1200
    G90
    G0 Y240 F12000
    G0 X{dock} F12000
    G4 P1500
"""


def tree() -> KlippyTree:
    return prepare(others=EXTRAS)


def config(memory: Path) -> str:
    """memory: a file that knows which tool is mounted; that of T0 at first."""
    memory.write_text("tool T0")
    text = SECTION.format(memory=memory)
    for number, (x, y, z) in enumerate(OFFSETS):
        text += TOOL.format(number=number, x=x, y=y, z=z, dock=40 + 60 * number)
    return text


def gcode(part: parts.Part, more: dict[int, str] | None = None) -> str:
    """Each layer with the other tool.  more: lines before a layer, counted from 0."""
    lines, layer = [], -1
    for line in parts.gcode(part).split("\n"):
        lines.append(line)
        if line == ";LAYER_CHANGE":
            layer += 1
            lines.append(f"T{layer % 2}")
            lines += (more or {}).get(layer, "").split("\n")
    return "\n".join(filter(None, lines)) + "\n"


def status(printer: VirtualPrinter) -> dict[str, Any]:
    return printer.objects("toolchanger")["toolchanger"]


def wait_for(printer: VirtualPrinter, timeout: float = 180.0, **wanted: Any) -> None:
    """Until the changer says so."""
    printer.wait(
        f"the tool changer: {wanted}",
        lambda: wanted.items() <= status(printer).items(), timeout, 0.05,
    )  # fmt: skip
