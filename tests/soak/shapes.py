# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Prints of other shapes: object by object, a vase, and one for cuts in a resume."""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.virtual_printer import parts
from tests.virtual_printer.printer import VirtualPrinter

from .one_print import Until, after_plastic, when
from .scene import Moment, Scene, within, write

FIRST = parts.Part(size=14, layers=4, long_line=30, centre=(80.0, 125.0))
NEXT = replace(FIRST, centre=(170.0, 125.0))


def one_after_the_other() -> str:
    lines = parts.gcode(FIRST).split("\n")
    begin, end = lines.index(";LAYER_CHANGE"), lines.index(";TYPE:Custom")
    other = parts.gcode(NEXT).split("\n")[begin:end]
    x, y = NEXT.centre
    define = [
        f"EXCLUDE_OBJECT_DEFINE NAME={name} CENTER={part.centre[0]},{part.centre[1]}"
        for name, part in (("one", FIRST), ("two", NEXT))
    ]
    over = [
        "EXCLUDE_OBJECT_END NAME=one", "G1 E-0.8 F2100",
        f"G1 Z{FIRST.layers * parts.LAYER + 3:.1f} F1200",
        f"G1 X{x - 40:.0f} Y{y - 20:.0f} F9000", "EXCLUDE_OBJECT_START NAME=two",
        "G1 E0.8 F2100",
    ]  # fmt: skip
    return "\n".join((
        *lines[:begin], *define, "EXCLUDE_OBJECT_START NAME=one", *lines[begin:end],
        *over, *other, "EXCLUDE_OBJECT_END NAME=two", *lines[end:],
    ))  # fmt: skip


def write_twice(folder: Path) -> tuple[Path, Path]:
    text = one_after_the_other()
    return write(folder, text, text)


def in_object(name: str, seconds: float) -> Until:
    def current(printer: VirtualPrinter) -> bool:
        status = printer.objects("exclude_object")["exclude_object"]
        return status["current_object"] == name.upper()  # as klippy keeps it

    def until(printer: VirtualPrinter) -> None:
        when(f"object {name}", current)(printer)
        after_plastic(seconds)(printer)

    return until


OBJECTS = (
    Moment("in the first object", within(8.0, 16.0, lambda s: in_object("one", s))),
    Moment("low in the second, beside the first", within(
        0.0, 3.0, lambda s: in_object("two", s)
    )),
    Moment("in the second again", within(1.0, 6.0, lambda s: in_object("two", s))),
)  # fmt: skip

TURNS, SIDES, RADIUS = 12, 72, 14.0


def vase() -> Iterator[str]:
    """One line from the first layer on, rising all the time."""
    base = replace(FIRST, centre=(125.0, 125.0), layers=1, long_line=0)
    lines = parts.gcode(base).split("\n")
    end = lines.index(";TYPE:Custom")
    cx, cy = base.centre
    step = 2 * math.pi * RADIUS / SIDES
    amount = step * parts.WIDTH * parts.LAYER / parts.FILAMENT_AREA
    yield from lines[:end]
    yield from ("G1 E-0.8 F2100", f"G1 X{cx + RADIUS:.3f} Y{cy:.3f} F9000",
                "G1 E0.8 F2100", "G1 F1500", ";TYPE:External perimeter")  # fmt: skip
    for n in range(1, TURNS * SIDES + 1):
        a = 2 * math.pi * n / SIDES
        z = parts.LAYER * (1 + n / SIDES)
        if n % SIDES == 1:
            yield ";LAYER_CHANGE"
            yield f";Z:{z:.3f}"
        yield (
            f"G1 X{cx + RADIUS * math.cos(a):.3f} Y{cy + RADIUS * math.sin(a):.3f}"
            f" Z{z:.4f} E{amount:.5f}"
        )
    yield from lines[end:]


def write_vase(folder: Path) -> tuple[Path, Path]:
    text = "\n".join(vase())
    return write(folder, text, text)


def write_simple(folder: Path) -> tuple[Path, Path]:
    text = parts.gcode(parts.Part(size=20, layers=4))
    return write(folder, text, text)


SCENES = (
    Scene("a resume", write_simple, (
        Moment("in a layer", within(4.0, 8.0, after_plastic)),
    ), steps=True),
    Scene("one object after the other", write_twice, OBJECTS),
    Scene("vase", write_vase, (
        Moment("low in the spiral", within(6.0, 10.0, after_plastic)),
        Moment("higher", within(4.0, 9.0, after_plastic)),
        Moment("right after the resume", within(0.0, 0.5, after_plastic)),
    )),
)  # fmt: skip
