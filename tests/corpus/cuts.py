# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A cut at one offset, and what its resume does differently."""
from __future__ import annotations

import cmath
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import product
from .compare import LENGTH, NOT_IN_RECORD, Print, differences, motions
from .klipper_gcode import take_apart
from .klipper_model import Klipper, Segment


def offsets(path_name: str, starts: list[int], count: int | None) -> list[int]:
    """`count` of the line starts, the same ones each time; all of them for None."""
    if count is None or count >= len(starts):
        return starts
    return sorted(random.Random(path_name).sample(starts, count))


def line_at(data: bytes, offset: int) -> str:
    end = data.find(b"\n", offset)
    return data[offset : len(data) if end < 0 else end].decode("utf-8", "replace")


def fraction_for(machine: Klipper, text: str, source: random.Random) -> float:
    """Half of the moves in X and Y are cut in their middle, all else between lines."""
    command, _ = take_apart(text)
    if command not in ("G0", "G1", "G2", "G3") or source.random() < 0.5:
        return 0.0
    moves = _moves(machine, text)
    if len(moves) != 1 or math.dist(moves[0].start[:2], moves[0].end[:2]) < 0.01:
        return 0.0
    return source.uniform(0.01, 0.99)


def _moves(machine: Klipper, text: str) -> list[Segment]:
    twin = machine.clone()
    twin.trace = []
    twin.line(text)
    return twin.trace


def record_cut(
    whole: Print, machine: Klipper, offset: int, fraction: float, to_end: bool = False
) -> list[str]:
    """What differs when the print goes on from a record taken at this point.

    machine: undisturbed, before the line at `offset`.  to_end: compare every motion
    up to the file's end and not only the state.
    """
    mark = product.published(machine, offset, fraction)
    resume = product.from_record(whole.data, mark, machine.tools)
    return _compare(whole, machine, offset, fraction, resume, to_end, NOT_IN_RECORD)


def file_cut(
    whole: Print, machine: Klipper, offset: int, to_end: bool = False
) -> list[str]:
    """What differs when the print goes on from what the file alone says.

    Raises what product.from_file does.
    """
    resume = product.from_file(whole.data, offset, machine.tools)
    return _compare(whole, machine, offset, 0.0, resume, to_end, ())


def written_cut(
    whole: Print, machine: Klipper, offset: int, path: Path, out: Path
) -> list[str]:
    """What differs when the file that scripts/plr writes is printed, byte by byte and
    motion by motion."""
    tail = product.write(path, offset, out)
    data = out.read_bytes()
    if data[tail:] != whole.data[offset:]:
        return ["the tail is not the original's"]
    undisturbed, resumed = machine.clone(), machine.after_power_cut()
    product.from_file(whole.data, offset, machine.tools).prepare(resumed)
    resumed.run(data[:tail])
    ignored = tuple(_unused(whole, offset))
    problems = differences(*_states(whole, offset, undisturbed, resumed), ignored)
    undisturbed.trace, resumed.trace = [], []
    undisturbed.run(whole.data, offset)
    resumed.run(data, tail)
    return problems + list(motions(undisturbed.trace, resumed.trace))[:3]


def _compare(
    whole: Print, machine: Klipper, offset: int, fraction: float,
    resume: product.Resume, to_end: bool, ignored: tuple[str, ...],
) -> list[str]:  # fmt: skip
    undisturbed, resumed = machine.clone(), machine.after_power_cut()
    ignored += tuple(_unused(whole, offset))
    text = line_at(whole.data, offset)
    problems: list[str] = []
    if fraction and resume.first_line is None:
        return [f"the line {text!r} was not split at {fraction}"]
    resume.prepare(resumed)
    laid = resumed.furthest[resumed.extruder]
    resume.restore(resumed)
    if resumed.furthest[resumed.extruder] - laid > 0.01:
        excess = resumed.furthest[resumed.extruder] - laid
        problems.append(f"the prologue lays {excess:.4f} mm of filament")
    undisturbed.trace, resumed.trace = [], []
    if resume.first_line is not None:
        problems += _inside(undisturbed, resumed, text, fraction)
        undisturbed.line(text)
        resumed.line(resume.first_line.decode("utf-8", "surrogateescape"))
        problems += _rest(undisturbed.trace, resumed.trace, fraction)
        ignored += tuple(_unused(whole, resume.tail))
    problems += differences(*_states(whole, resume.tail, undisturbed, resumed), ignored)
    if to_end:
        undisturbed.trace, resumed.trace = [], []
        undisturbed.run(whole.data, resume.tail)
        resumed.run(whole.data, resume.tail)
        problems += list(motions(undisturbed.trace, resumed.trace))[:3]
    return problems


def _states(
    whole: Print, offset: int, *machines: Klipper
) -> Iterator[dict[str, Any]]:
    """Of what SAVE_GCODE_STATE keeps, what is restored from `offset` on."""
    for machine in machines:
        state = machine.state()
        kept = state["saved_states"]
        read = {name for name in kept if whole.matters("saved " + name, offset)}
        yield {**state, "saved_states": {name: kept[name] for name in sorted(read)}}


def _unused(whole: Print, offset: int) -> Iterator[str]:
    for name, key in (("e", "e"), ("f", "f")):
        if not whole.matters(name, offset):
            yield key
    # After the last plastic it is nobody's concern.
    if not whole.matters("firmware_retracted", offset, whole.last):
        yield "firmware_retracted"
    if whole.tells_layer(offset):
        yield "print_stats"


def _inside(
    undisturbed: Klipper, resumed: Klipper, text: str, fraction: float
) -> Iterator[str]:
    """Where the head and the filament are, in the middle of the line."""
    move = _moves(undisturbed, text)[0]
    place = inside(move, fraction)
    if math.dist(place, resumed.position[:3]) > LENGTH:
        yield f"at {fraction} of {text!r}: {place}, resumed {resumed.position}"
    behind = max(undisturbed.behind() - fraction * move.filament, 0.0)
    if abs(behind - resumed.behind()) > 1e-5:
        yield (
            f"at {fraction} of {text!r}: filament {behind} mm back,"
            f" resumed {resumed.behind()}"
        )


def inside(move: Segment, fraction: float) -> tuple[float, ...]:
    """The point of a motion of which `fraction` is done."""
    place = [a + (b - a) * fraction for a, b in zip(move.start, move.end, strict=True)]
    if move.arc is not None:
        centre_1, centre_2, first, second, clockwise = move.arc
        centre = complex(centre_1, centre_2)
        start = complex(move.start[first], move.start[second]) - centre
        end = complex(move.end[first], move.end[second]) - centre
        angle = cmath.phase(end / start) % (2 * math.pi)
        if clockwise:
            angle -= 2 * math.pi
        if abs(end - start) < 1e-9:
            angle = 2 * math.pi
        point = centre + start * cmath.exp(1j * angle * fraction)
        place[first], place[second] = point.real, point.imag
    return tuple(place)


def _rest(
    undisturbed: list[Segment], resumed: list[Segment], fraction: float
) -> Iterator[str]:
    """The rest of a split line: to the same end, with its share of the filament."""
    one, other = undisturbed[-1], resumed[-1]
    expected: Any = (one.end, one.filament * (1.0 - fraction), one.conditions)
    found = (other.end, other.filament, other.conditions)
    names = ("end", "filament", "conditions")
    yield from differences(
        dict(zip(names, expected, strict=True)), dict(zip(names, found, strict=True))
    )
    arcs = [() if move.arc is None else move.arc for move in (one, other)]
    yield from differences({"arc": arcs[0]}, {"arc": arcs[1]})
