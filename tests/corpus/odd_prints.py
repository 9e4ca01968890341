# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Small prints as slicers and people write them, and our files are not.

Made here, from a seed each, so that every line of them can be cut.  drawn() draws
lines from all that klippy takes; the others are of one idea.
"""
from __future__ import annotations

import math
import random
from collections.abc import Callable

START = [
    "M140 S60", "M190 S60", "M104 S210", "M109 S210", "G28", "G90",
    "G1 X10 Y10 Z.2 F3000",
]  # fmt: skip
END = ["M104 S0", "M140 S0", "M107", "G91", "G1 E-2 Z5 F1200", "G90", "M84"]
Note = Callable[[int, float], list[str]]


class Print:
    """lines, and the filament so far.  move: how a move is written."""

    def __init__(
        self, *start: str, absolute: bool = False,
        move: str = "G1 X{x:.3f} Y{y:.3f} E{e:.5f}",
    ) -> None:  # fmt: skip
        self.lines = [*START, *start, "M82" if absolute else "M83", "G92 E0"]
        self.absolute, self.move = absolute, move
        self.e, self.at = 0.0, (0.0, 0.0)

    def feed(self, length: float) -> float:
        self.e = round(self.e + length, 5) if self.absolute else length
        return self.e

    def push(self, length: float) -> None:
        self.lines.append(f"G1 F2400 E{self.feed(length):.5f}")

    def travel(self, x: float, y: float) -> None:
        self.lines.append(f"G0 F9000 X{x:.3f} Y{y:.3f}")
        self.at = x, y

    def square(self, centre: float, half: float) -> None:
        for dx, dy in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            place = centre + dx * half, centre + dy * half
            fed = round(math.dist(place, self.at) * 0.03, 5)
            self.lines.append(
                self.move.format(x=place[0], y=place[1], e=self.feed(fed))
            )
            self.at = place

    def layers(self, note: Note, count: int = 6, retract: float = 0.8) -> Print:
        for number in range(count):
            z = 0.2 * (number + 1)
            self.lines += note(number, z)
            self.push(-retract)
            self.travel(85, 85)
            self.lines.append(f"G1 Z{z:.3f} F1200")
            self.push(retract)
            self.square(100, 15)
        return self

    def data(self, end: str = "\n") -> bytes:
        return (end.join([*self.lines, *END]) + end).encode()


def numbered(lines: list[str]) -> list[str]:
    found = []
    for number, line in enumerate(lines):
        text, checksum = f"N{number} {line} ", 0
        for byte in text.encode():
            checksum ^= byte
        found.append(f"{text}*{checksum}")
    return found


def by_host() -> bytes:
    """As a host sends it: line numbers and checksums."""
    made = Print(absolute=True).layers(lambda k, z: [
        f"M221 S{90 + k}", f"SET_PRESSURE_ADVANCE ADVANCE=0.{k + 10}",
        "SET_GCODE_VARIABLE MACRO=M VARIABLE=v VALUE=1", f"M117 layer {k}",
    ])  # fmt: skip
    made.lines = numbered(made.lines)
    return made.data()


def by_hand() -> bytes:
    """No blanks, tabs, lower case, many blanks; babysteps on the way."""
    made = Print(move="g1x{x:.3f}\ty{y:.3f}e{e:.5f}").layers(lambda k, z: [
        f"M220S{90 + k}", f"m221 s  {95 + k}", f"M106S{50 + k}",
        f"set_gcode_offset  z_adjust=-.0{k} move=1", f"M104 S +{200 + k}",
    ])  # fmt: skip
    return made.data("\r\n")


def with_saved_states() -> bytes:
    """Parks the head at each layer, and keeps states under several names."""
    made = Print("SAVE_GCODE_STATE NAME=early", absolute=True)
    made.lines += ["G1 X20 Y20 Z1 F3000", 'SAVE_GCODE_STATE NAME="a b"']
    return made.layers(lambda k, z: [
        "SAVE_GCODE_STATE NAME=pos", "M83", "G91", "G1 Z2 F600", "G90", "G1 X5 Y5",
        "M220 S50", "RESTORE_GCODE_STATE NAME=pos MOVE=1 MOVE_SPEED=100",
        *(['RESTORE_GCODE_STATE NAME="a b"', f"G92 E{made.e}"] if k == 3 else []),
    ]).data()  # fmt: skip


def with_tools() -> bytes:
    """Two tools: standby, their own pressure advance and flow."""
    made = Print("M104 T1 S180")

    def change(number: int, z: float) -> list[str]:
        old, new = number % 2, (number + 1) % 2
        name = f"extruder{new or ''}"
        choose = f"ACTIVATE_EXTRUDER EXTRUDER={name} ; by name"
        return [
            f"M104 S170 T{old} ; standby", f"M104 S21{new} T{new}", "G1 E-5 F3000",
            choose if number > 3 else f"T{new}", "G92 E0", f"M109 S21{new} T{new}",
            "G1 E5 F1500", f"SET_PRESSURE_ADVANCE ADVANCE=0.0{number + 3} ; PA",
            f"M106 P{new} S{90 + number}", "M221 S97" if number == 5 else "; flow",
        ]  # fmt: skip

    return made.layers(change).data()


def with_arcs() -> bytes:
    """Helices, whole circles and other planes."""
    made = Print(absolute=True)

    def arcs(number: int, z: float) -> list[str]:
        made.feed(1.0)
        return [
            "G1 X100 Y100", f"G2 X110 Y100 I5 J0 E{made.feed(0.5):.5f}",
            f"G3 I-5 J0 E{made.feed(0.8):.5f} F900",
            f"g2 x100 y100 z{z + 0.05:.3f} i-5 j0 e{made.feed(0.3):.5f}", "G18",
            f"G2 X104 Z{z:.3f} I2 K0 E{made.feed(0.2):.5f}", "G17",
        ]  # fmt: skip

    return made.layers(arcs).data()


def with_shifted_zeros() -> bytes:
    """G92 of all axes, relative motion in the middle, E far from zero."""
    made = Print("G92 X5 Y-3", absolute=True)
    made.lines.append("G92 E1234567.5")
    made.e = 1234567.5

    def shift(number: int, z: float) -> list[str]:
        made.feed(0.5)
        return [
            "G91", "G1 Z.5 F600", "G1 E-.5", "G1 X-3 Y3 E.7", "G1 X3 Y-3", "G1 Z-.5",
            "G1 E.3", "G90", *(["G92 X20 Y25"] if number == 2 else []),
        ]  # fmt: skip

    return made.layers(shift).data()


def drawn(seed: int) -> bytes:
    """Lines drawn from all that may stand in a print, in any order."""
    source = random.Random(seed)
    relative = source.random() < 0.5
    made = Print("EXCLUDE_OBJECT_DEFINE NAME=a", absolute=not relative)
    made.lines.append("G1 X100 Y100 Z.3 F3000")
    z = 0.3
    for _ in range(70):
        kind = source.random()
        x, y = source.uniform(5, 195), source.uniform(5, 195)
        fed = round(source.uniform(0.1, 2), 5)
        if kind < 0.5:
            made.lines.append(
                f"G1 X{x:.3f} Y{y:.3f} E{made.feed(fed):.5f}"
                + source.choice(("", "", f" F{source.randrange(300, 9000)}", " ; X5"))
            )
        elif kind < 0.58:
            length = source.choice((0.4, 0.8, 3))
            made.push(-length)
            made.travel(x, y)
            made.push(length)
        elif kind < 0.64:
            z += 0.2
            made.lines += [f"G1 Z{z:.2f} F600", f";LAYER:{len(made.lines)}"]
        elif kind < 0.68:
            made.e = round(source.uniform(-3, 30), 2)
            made.lines.append(f"G92 E{made.e}")
        elif kind < 0.72:
            made.lines += ["G10", f"G1 X{x:.3f}", "G11"]
        else:
            made.lines.append(_setting(source))
    return made.data(source.choice(("\n", "\r\n")))


def _setting(source: random.Random) -> str:
    text = source.choice((
        "M221 S{n}", "M220 S{n}", "M106 S{n}", "M106 P1 S{n}.5", "M107", "M104 S2{n}",
        "M140 S{n}", "M204 S{n}0", "SET_VELOCITY_LIMIT ACCEL={n}0 VELOCITY={n}",
        "SET_PRESSURE_ADVANCE ADVANCE=0.0{n}", "SET_GCODE_OFFSET Z_ADJUST=.0{n} MOVE=1",
        "SET_GCODE_OFFSET X=.{n}", "SAVE_GCODE_STATE NAME=p", "M117 {n} ; left",
        "G92 X{n}", "G92 Y{n} Z2", "EXCLUDE_OBJECT_START NAME=a", "EXCLUDE_OBJECT_END",
        "SET_RETRACTION RETRACT_LENGTH=.9", 'RESPOND MSG="x;y"', "G4 P{n}", "M73 P{n}",
    ))  # fmt: skip
    return text.format(n=source.randrange(70, 100))


OF_ONE_IDEA: dict[str, Callable[[], bytes]] = {
    made.__name__: made for made in (
        by_host, by_hand, with_saved_states, with_tools, with_arcs, with_shifted_zeros,
    )
}  # fmt: skip
