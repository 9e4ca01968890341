# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The rest of an arc, as Klipper's gcode_arcs.py (planArc) runs arcs.

Klipper takes absolute coordinates and a centre by I, J, K only; R is an error.  The
arc is turned by its share along the path; Z, or whatever axis the plane leaves out,
and E go along in proportion.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from .errors import LexError
from .lexer import Command, parse

# Alpha, beta and helical axis, and the words of the centre; see ArcSupport there.
_PLANES = {
    "G17": ((0, 1, 2), "IJ"),
    "G18": ((0, 2, 1), "IK"),
    "G19": ((1, 2, 0), "JK"),
}
_WORDS = frozenset("GXYZEFIJKN*")
# mm.  On a shorter piece of arc, the rounding of the printer's own position decides
# whether Klipper sees no turn or a whole one.
SHORT = 0.01

Known = tuple[float, float, float, float]


class Arc(NamedTuple):
    """target: x, y, z.  centre: on the alpha and beta axes of `axes`.  travel:
    radians, clockwise negative.  All lengths in mm."""

    axes: tuple[int, int, int]
    words: str
    target: tuple[float, float, float]
    centre: tuple[float, float]
    arm: tuple[float, float]
    travel: float

    @property
    def flat_length(self) -> float:
        return abs(self.travel) * math.hypot(*self.arm)

    def at(self, start: Known, fraction: float) -> list[float]:
        """x, y, z after that share of the arc."""
        alpha, beta, helical = self.axes
        turn = self.travel * fraction
        cos, sin = math.cos(turn), math.sin(turn)
        p, q = self.arm
        point = list(start[:3])
        point[alpha] = self.centre[0] + p * cos - q * sin
        point[beta] = self.centre[1] + p * sin + q * cos
        point[helical] += (self.target[helical] - start[helical]) * fraction
        return point


def read(command: Command, start: Known, plane: str) -> Arc | None:
    """The arc that Klipper would run; None where it would stop with an error.

    plane: "G17", "G18" or "G19".  Raises LexError for a word that is no number.
    """
    if not _WORDS.issuperset(command.params) or plane not in _PLANES:
        return None
    axes, words = _PLANES[plane]
    offset = [command.number(word, 0.0) or 0.0 for word in words]
    if not any(offset):
        return None
    target = [command.number(axis, start[i]) for i, axis in enumerate("XYZ")]
    x, y, z = (value or 0.0 for value in target)
    alpha, beta, _ = axes
    begin, end = (start[alpha], start[beta]), ((x, y, z)[alpha], (x, y, z)[beta])
    centre = (begin[0] + offset[0], begin[1] + offset[1])
    arm = (-offset[0], -offset[1])
    to_end = (end[0] - centre[0], end[1] - centre[1])
    travel = math.atan2(
        arm[0] * to_end[1] - arm[1] * to_end[0],
        arm[0] * to_end[0] + arm[1] * to_end[1],
    )
    if travel < 0.0:
        travel += 2.0 * math.pi
    if command.name == "G2":
        travel -= 2.0 * math.pi
    if travel == 0.0 and begin == end:
        travel = 2.0 * math.pi
    return Arc(axes, words, (x, y, z), centre, arm, travel)


def remainder(
    line: bytes,
    start: tuple[float | None, ...],
    fraction: float,
    absolute_extrude: bool,
    plane: str,
) -> tuple[Known, bytes] | None:
    """The point inside the arc, and the line that goes on from there.

    As rewriter.remainder().  The last bit of an arc is a straight line.
    """
    known = [value for value in start if value is not None and math.isfinite(value)]
    if len(known) != 4:
        return None
    x, y, z, e = known
    try:
        command = parse(line)
        arc = read(command, (x, y, z, e), plane)
        extrusion = command.number("E")
        command.number("F")
    except LexError:
        return None
    if arc is None or arc.flat_length * fraction < SHORT:
        return None
    point = arc.at((x, y, z, e), fraction)
    changed: dict[str, float] = {}
    inside_e = e
    if extrusion is not None:
        fed = extrusion - e if absolute_extrude else extrusion
        inside_e = e + fed * fraction
        if not absolute_extrude:
            changed["E"] = fed * (1.0 - fraction)
    # Rounding turns some whole circles round, in Klipper and so here.
    name = "G3" if arc.travel > 0.0 else "G2"
    if arc.flat_length * (1.0 - fraction) < SHORT:
        name = "G1"
    else:
        for word, axis, middle in zip(arc.words, arc.axes, arc.centre, strict=False):
            changed[word] = middle - point[axis]
    for axis in arc.axes[:2]:
        # A whole circle names no end: it is where the arc began, not where we are.
        if "XYZ"[axis] not in command.params:
            changed["XYZ"[axis]] = arc.target[axis]
    inside = (point[0], point[1], point[2], inside_e)
    return inside, _line(name, command, changed) + _comment(line)


def _line(name: str, command: Command, changed: Mapping[str, float]) -> bytes:
    centre = "" if name == "G1" else "IJK"
    words = [name]
    for key in "XYZ" + centre + "EF":
        if key in changed:
            words.append(key + number(changed[key]))
        elif key in command.params:
            words.append(key + command.params[key])
    return " ".join(words).encode("utf-8", "surrogateescape")


def _comment(line: bytes) -> bytes:
    _, semicolon, comment = line.rstrip(b"\r\n").partition(b";")
    return b" " + semicolon + comment if semicolon else b""


def number(value: float) -> str:
    """Without an exponent: Klipper would take its "e" for a word."""
    text = f"{value:.12f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
