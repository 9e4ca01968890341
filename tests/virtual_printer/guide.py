# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The guide as an owner follows it: its configuration, macros and slicer snippets.

tests/data/klipper_plr_guide.md is a copy of the guide, unchanged; what it has in
fenced blocks is taken from there. Only what the guide tells an owner to adjust is
adjusted, in MACHINE.
"""
from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from . import parts

GUIDE = Path(__file__).resolve().parents[1] / "data" / "klipper_plr_guide.md"
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
HEADING = re.compile(r"^#+ (.*)$|^\d+\. \*\*(.*)\*\*$", re.MULTILINE)
# What goes into printer.cfg, by the headings that it stands under
SECTIONS = (
    "Basic Setup",
    "State Management Options",
    "Z+ Homing Configuration Example (derived from Voron 2.4)",
    "Recovery G-code Options",
    "Example Macros",
    "With Standard Homing",
    "With START_PRINT Macro",
    "Custom Recovery Workflows",
)
STANDALONE = "Add Configuration to the File"
# "Add this to your before_calibrate_gcode option in [power_loss_recovery]"
MISPLACED = "before_calibrate_gcode: G28"
# The virtual printer is 232 mm high, its pins have names of their own, and its Z
# needs no correction. The guide's macros need force_move, and BED_MESH_PROFILE
# LOAD=default such a profile.
MACHINE = """
[board_pins]
aliases: PG10=ZP0, PG11=ZP1, PG12=ZP2, PG13=ZP3

[force_move]
enable_force_move: True

[bed_mesh]
mesh_min: 10, 10
mesh_max: 240, 240
probe_count: 3, 3

[bed_mesh default]
version: 1
points:
    0.0, 0.0, 0.0
    0.0, 0.0, 0.0
    0.0, 0.0, 0.0
x_count: 3
y_count: 3
mesh_x_pps: 2
mesh_y_pps: 2
algo: lagrange
tension: 0.2
min_x: 10
max_x: 240
min_y: 10
max_y: 240

[power_loss_recovery]
z_position: 232
fast_travel_upto_z_height: 215
z_height_offset: 0.0
"""


@dataclass(frozen=True)
class Block:
    heading: str
    language: str
    text: str


def blocks() -> list[Block]:
    """All fenced blocks, with the heading or list item that they stand under."""
    guide = GUIDE.read_text()
    headings = [(m.start(), m[1] or m[2]) for m in HEADING.finditer(guide)]
    found = []
    for m in FENCE.finditer(guide):
        heading = [name for at, name in headings if at < m.start()][-1]
        found.append(Block(heading, m["language"], textwrap.dedent(m["text"])))
    return found


def ini(*headings: str) -> str:
    return "\n".join(
        block.text for heading in headings for block in blocks()
        if block.heading == heading and block.language == "ini"
    )  # fmt: skip


def config() -> str:
    """The whole example configuration, and what its machine needs besides."""
    text = ini(*SECTIONS)
    assert text.count("\n" + MISPLACED) == 2
    first, _, rest = text.rpartition("\n" + MISPLACED)
    return f"\n{first}\n{rest}\n{MACHINE}"


def macros() -> list[str]:
    return re.findall(r"^\[gcode_macro (\w+)\]$", ini(*SECTIONS), re.MULTILINE)


def options() -> set[str]:
    """Of [power_loss_recovery], all that the guide names."""
    texts = (block.text for block in blocks() if block.language == "ini")
    found: set[str] = set()
    for text in texts:
        section = "power_loss_recovery"
        for line in text.split("\n"):
            if head := re.match(r"\[([^\]]+)\]", line):
                section = head[1]
            elif option := re.match(r"(\w+):", line):
                if section == "power_loss_recovery" or line == MISPLACED:
                    found.add(option[1])
    return found


def commands() -> set[str]:
    """All commands and macros that the guide has a person or a slicer use."""
    text = GUIDE.read_text()
    found = set(re.findall(r"\bPLR_[A-Z][A-Z_]*[A-Z]\b", text)) | {"RESTORE_FAN_SPEEDS"}
    return found - {"PLR_RESUME"}  # of the placeholders


def slicer(heading: str, values: dict[str, str]) -> list[str]:
    """A snippet as a slicer writes it: the placeholders filled in."""
    (at,) = [i for i, b in enumerate(blocks()) if b.heading == heading]
    lines = blocks()[at].text.strip().split("\n")
    for placeholder, value in values.items():
        lines = [line.replace(placeholder, value) for line in lines]
    assert not re.search(r"[{}\[\]]", "".join(lines))
    return lines


def sliced(part: parts.Part) -> str:
    """The part's G-code from a slicer set up as the guide says."""
    start = slicer("Start G-code Modification", {
        "{first_layer_temperature[initial_extruder]}": f"{part.hotend:.0f}",
        "{first_layer_bed_temperature}": f"{part.bed:.0f}",
    })  # fmt: skip
    lines: list[str] = []
    number = 0
    for line in parts.gcode(part).split("\n"):
        if line == ";LAYER_CHANGE":
            z = f"{parts.LAYER * (number + 1):.1f}"
            values = {"[layer_z]": z, "[layer_num]": str(number)}
            lines += slicer("Layer Change G-code", values)
            number += 1
        elif line.startswith("SET_PRINT_STATS_INFO") or line.startswith(";Z:"):
            continue
        else:
            lines.append(line)
        if line.startswith("PRINT_START"):
            # It homes and heats: "your normal printer setup code".
            lines += start
    return "\n".join(lines)


def write(path: Path, part: parts.Part) -> Path:
    path.write_text(sliced(part))
    return path
