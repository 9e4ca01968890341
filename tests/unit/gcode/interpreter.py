# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A second reading of G-code, to compare the scanner with.

Shares no code with it and does not think like it: line by line, in machine
coordinates with a base position as Klipper's gcode_move.py has, arcs walked in
small steps, retraction as a high-water mark over the raw filament motion.
"""
from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

_WORD = re.compile(r"([A-Z])\s*([-+]?(?:\d+\.?\d*|\.\d+))")
_ARC_STEPS = 1000


class Interpreter:
    def __init__(self) -> None:
        self.absolute = self.absolute_e = True
        self.last: list[float | None] = [None] * 4
        self.base = [0.0] * 4
        self.f: float | None = None
        self.filament = 0.0
        self.furthest: dict[int, float] = {}
        self.fed: dict[int, float] = {}
        self.tool: int | None = None
        self.heaters: dict[str, float] = {}
        self.fans: dict[str, float] = {}
        self.layer: int | None = None
        self.stated_z: float | None = None
        self.printed_z: float | None = None
        self.total: int | None = None
        self.box: tuple[float, float, float, float] | None = None
        self.top: float | None = None
        self.first: int | None = None
        self.final: int | None = None
        self.object: str | None = None
        self.objects = 0
        self.has_changes = False
        self.previous = ""

    def snapshot(self) -> dict[str, Any]:
        tool = self.tool or 0
        position = [
            None if last is None else last - base
            for last, base in zip(self.last, self.base, strict=True)
        ]
        fed = self.fed.get(tool, 0.0)
        height = self.printed_z if self.stated_z is None else self.stated_z
        return {
            "absolute_coordinates": self.absolute,
            "absolute_extrude": self.absolute_e,
            "position": position,
            "feedrate": self.f,
            "retracted": self.furthest.get(tool, 0.0) - fed,
            "tool": self.tool,
            "heaters": dict(self.heaters),
            "fans": dict(self.fans),
            "layer": self.layer,
            "layer_z": height,
            "total_layers": self.total,
            "printed_box": self.box,
            "top_z": self.top,
            "current_object": self.object,
            "object_count": self.objects,
            "first_extrusion": self.first,
            "last_extrusion": self.final,
        }

    def run(self, data: bytes, offsets: Iterable[int]) -> dict[int, dict[str, Any]]:
        wanted = set(offsets)
        found = {}
        offset = 0
        for line in data.split(b"\n"):
            if offset in wanted:
                found[offset] = self.snapshot()
            self.line(line.decode("utf-8", "replace").strip(), offset)
            offset += len(line) + 1
        return found

    def line(self, text: str, offset: int) -> None:
        if text.startswith(";"):
            self._comment(text)
            return
        code = text.split(";")[0].strip()
        if not code:
            return
        name, _, rest = code.upper().partition(" ")
        if not re.fullmatch(r"[A-Z]\d+", name):
            self._macro(name, code)
            return
        words = {key: float(value) for key, value in _WORD.findall(rest)}
        if name in ("G0", "G1", "G2", "G3"):
            self._move(name, words, offset)
        elif name == "G92":
            self._set_position(words)
        elif name == "G28":
            for i in [i for i, a in enumerate("XYZ") if a in rest] or range(3):
                self.last[i], self.base[i] = None, 0.0
        elif name in ("G90", "G91"):
            self.absolute = name == "G90"
        elif name in ("M82", "M83"):
            self.absolute_e = name == "M82"
        elif name[0] == "T":
            self.tool = int(name[1:])
        elif name in ("M104", "M109"):
            index = int(words.get("T", self.tool or 0))
            self.heaters["extruder%s" % (index or "")] = words.get("S", 0.0)
        elif name in ("M140", "M190"):
            self.heaters["heater_bed"] = words.get("S", 0.0)
        elif name in ("M141", "M191"):
            self.heaters["chamber"] = words.get("S", 0.0)
        elif name in ("M106", "M107"):
            fan = "fan%s" % (int(words.get("P", 0)) or "")
            speed = words.get("S", 255.0) if name == "M106" else 0.0
            self.fans[fan] = min(speed / 255.0, 1.0)
        elif name[0] == "G" and name not in ("G4", "G10", "G11", "G17", "G21"):
            self._lost()

    def _lost(self) -> None:
        if self.first is None:
            self.last = [None] * 4

    def _macro(self, name: str, code: str) -> None:
        pairs = dict(re.findall(r"(\w+)=(\S+)", code))
        if name == "SET_PRINT_STATS_INFO":
            self.total = int(pairs.get("TOTAL_LAYER", self.total or 0)) or None
            if "CURRENT_LAYER" in pairs:
                self.layer = int(pairs["CURRENT_LAYER"])
        elif name == "EXCLUDE_OBJECT_START":
            self.object = pairs["NAME"].upper()
        elif name == "EXCLUDE_OBJECT_END":
            self.object = None
        elif name == "EXCLUDE_OBJECT_DEFINE":
            self.objects += 1
        elif not name.startswith("SET_"):
            self._lost()

    def _comment(self, text: str) -> None:
        before, self.previous = self.previous, text
        if text == ";LAYER_CHANGE":
            self.has_changes = True
            self._begin((self.layer or 0) + 1)
        elif text == ";BEFORE_LAYER_CHANGE" and not self.has_changes:
            self._begin((self.layer or 0) + 1)
        elif match := re.fullmatch(r";LAYER:(-?\d+)", text):
            self._begin(int(match[1]) + 1)
        elif match := re.fullmatch(r"; layer (\d+), Z = ([\d.]+)", text):
            self._begin(int(match[1]))
            self.stated_z = float(match[2])
        elif match := re.fullmatch(r";Z:([\d.]+)", text):
            self.stated_z = float(match[1])
        elif match := re.fullmatch(r";LAYER_COUNT:(\d+)", text):
            self.total = int(match[1])
        elif match := re.fullmatch(r"; BEGIN_LAYER_\w+ z=([\d.]+) .*", text):
            if float(match[1]) != self.stated_z:
                self._begin((self.layer or 0) + 1)
                self.stated_z = float(match[1])
        elif before == ";BEFORE_LAYER_CHANGE" and re.fullmatch(r";[\d.]+", text):
            self.stated_z = float(text[1:])
        elif match := re.fullmatch(r";(?:L|total l)ayers? count[:= ]+(\d+)", text):
            self.total = int(match[1])
        elif match := re.fullmatch(r"; total layer number: (\d+)", text):
            self.total = int(match[1])

    def _begin(self, number: int) -> None:
        self.layer = number
        self.stated_z = self.printed_z = None

    def _set_position(self, words: dict[str, float]) -> None:
        for i, axis in enumerate("XYZE"):
            if words and axis not in words:
                continue
            value = words.get(axis, 0.0)
            known = self.last[i]
            if known is None:
                # Any base does, as nothing was printed in the frame before it.
                known = self.last[i] = value + self.base[i]
            self.base[i] = known - value

    def _move(self, name: str, words: dict[str, float], offset: int) -> None:
        start = list(self.last)
        for i, axis in enumerate("XYZE"):
            if axis not in words:
                continue
            relative = not self.absolute or (axis == "E" and not self.absolute_e)
            if not relative:
                self.last[i] = words[axis] + self.base[i]
            elif start[i] is not None:
                self.last[i] = start[i] + words[axis]  # type: ignore[operator]
        self.f = words.get("F", self.f)
        if "E" not in words:
            return
        if not self.absolute or not self.absolute_e:
            fed = words["E"]
        elif start[3] is None or self.last[3] is None:
            return
        else:
            fed = self.last[3] - start[3]
        tool = self.tool or 0
        now = self.fed.get(tool, 0.0) + fed
        self.fed[tool] = now
        if now - self.furthest.get(tool, 0.0) <= 1e-7:
            return
        self.furthest[tool] = now
        if name in ("G0", "G1") and not {"X", "Y"} & set(words):
            return
        self._print(name, words, start, offset)

    def _print(
        self,
        name: str,
        words: dict[str, float],
        start: list[float | None],
        offset: int,
    ) -> None:
        self.first = offset if self.first is None else self.first
        self.final = offset
        end, z = self.last, self.last[2]
        if z is not None:
            self.top = z if self.top is None else max(self.top, z)
            self.printed_z = z - self.base[2]
        points = [(start[0], start[1]), (end[0], end[1])]
        if name in ("G2", "G3"):
            points += _walk(name == "G2", points[0], points[1], words)
        for x, y in points:
            if x is not None and y is not None:
                box = self.box or (x, y, x, y)
                self.box = (
                    min(box[0], x),
                    min(box[1], y),
                    max(box[2], x),
                    max(box[3], y),
                )


def _walk(
    clockwise: bool, start: Any, end: Any, words: dict[str, float]
) -> list[tuple[float | None, float | None]]:
    centre = complex(*start) + complex(words.get("I", 0.0), words.get("J", 0.0))
    arm = complex(*start) - centre
    turn = (complex(*end) - centre) / arm
    angle = math.atan2(turn.imag, turn.real)
    if clockwise and angle >= -1e-12:
        angle -= 2.0 * math.pi
    elif not clockwise and angle <= 1e-12:
        angle += 2.0 * math.pi
    steps = (angle * i / _ARC_STEPS for i in range(_ARC_STEPS))
    points = [centre + arm * complex(math.cos(a), math.sin(a)) for a in steps]
    return [(p.real, p.imag) for p in points]
