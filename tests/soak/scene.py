# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A print in which a power cut can come at odd moments: its file, machine, moments.

What it lays is what its plain twin lays, which has nothing that waits for a person.
"""
from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.virtual_printer import parts
from tests.virtual_printer.klippy_tree import KlippyTree, prepare
from tests.virtual_printer.printer import VirtualPrinter

from .one_print import Until


@dataclass(frozen=True)
class Moment:
    """until: where to cut.  tool: the one to go on with, where that can be seen.
    offer: what is wrong with the offer.  by_hand: what a person does before the yes,
    then: what they do, or see, when the print is back.  is_end: nothing is resumed.
    no_offer: there is none."""

    name: str
    until: Callable[[random.Random], Until]
    tool: str = ""
    offer: Callable[[VirtualPrinter], list[str]] = lambda printer: []
    by_hand: str = ""
    then: Until | None = None
    is_end: bool = False
    no_offer: bool = False


@dataclass(frozen=True)
class Scene:
    """write: the file and its plain twin, into a folder.  config: of the machine that
    prints in a folder.  steps: after the moments, cut in each step of a resume."""

    name: str
    write: Callable[[Path], tuple[Path, Path]]
    moments: tuple[Moment, ...]
    config: Callable[[Path], str] = lambda folder: ""
    tree: Callable[[], KlippyTree] = prepare
    steps: bool = False


def gcode(part: parts.Part, before: Mapping[int, str], at_end: str = "") -> str:
    """before: lines before what is laid of a layer, counted from 0."""
    lines, layer = [], -1
    for line in parts.gcode(part).split("\n"):
        if line == ";TYPE:Custom":
            lines += filter(None, at_end.split("\n"))
        lines.append(line)
        if line == ";LAYER_CHANGE":
            layer += 1
            lines += filter(None, before.get(layer, "").split("\n"))
    return "\n".join(lines) + "\n"


def write(folder: Path, text: str, plain: str) -> tuple[Path, Path]:
    paths = folder / "part.gcode", folder / "plain.gcode"
    for path, content in zip(paths, (text, plain), strict=True):
        path.write_text(content)
    return paths


def within(low: float, high: float, make: Callable[[float], Until]) -> Callable[
    [random.Random], Until
]:  # fmt: skip
    return lambda source: make(source.uniform(low, high))
