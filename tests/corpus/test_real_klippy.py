# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Real klippy steps its motors after a resume as it does without a power cut.

Both runs are in klippy's batch mode.  Every few lines both stand still, so that what
is between is the same step for step, at the same time.
"""
from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tests.virtual_printer.klippy_tree import KlippyTree, prepare
from tests.virtual_printer.protocol import CLOCK_FREQ

from . import batch, cuts, product
from .compare import Print, line_starts
from .corpus_files import ABSENT, DATA, SHARED, CorpusFile
from .klipper_model import Klipper

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

OURS = ("ps250_cube_absE", "cura413_fwretract_relE_zhop", "cura413_one_at_a_time_absE")
# One of each slicer, and what is special in some of them
REAL = (
    "orca_2.3.1_3layer_thin", "prusaslicer_2.5.0_box", "superslicer_2.3.56_arcs_crlf",
    "slic3r_1.3.1dev_absE_crlf", "kisslicer_1.6.3_crlf", "simplify3d_4.1.2_relE_m0",
    "cura_4.10.0_5obj_crlf", "prusaslicer_2.3.0_fluidd_g10g11_macros",
)  # fmt: skip
CUTS = 4
LINES, SEGMENT, AFTER = 2400, 25, 250
STEP_TIME = CLOCK_FREQ // 1000
STEPPED = ("a", "b", "z", "e")
# What rounding of a place to whole steps does, standing and in motion
STEPS_OFF, E_OFF, MOVING_OFF = 1, 2, 2
BEHIND_OFF = 0.015  # mm


@dataclass(frozen=True)
class Code:
    """What klippy is given of a file; offsets: where each line begins."""

    data: bytes
    lines: list[bytes]
    offsets: list[int]

    @staticmethod
    def of(data: bytes) -> Code:
        lines, offsets = [], []
        for start in line_starts(data):
            line = batch.command(data[start : data.find(b"\n", start)])
            if line:
                lines.append(line)
                offsets.append(start)
        return Code(data, lines[:LINES], offsets[:LINES])


@dataclass(frozen=True)
class Cut:
    """at: number of the line, of which `fraction` is done."""

    at: int
    fraction: float
    resume: product.Resume


def made(file: CorpusFile, code: Code) -> list[Cut]:
    machine = Klipper(file.tools)
    whole = Print.of(code.data, machine)
    usable = [i for i, o in enumerate(code.offsets) if whole.first < o <= whole.last]
    usable = usable[: len(usable) - AFTER]
    source, found = random.Random(str(file)), []
    chosen = {code.offsets[i]: i for i in source.sample(usable, CUTS)}
    for offset in machine.stops(code.data, sorted(chosen)):
        fraction = 0.0
        if len(found) % 2:
            text = cuts.line_at(code.data, offset)
            fraction = cuts.fraction_for(machine, text, source)
            mark = product.published(machine, offset, fraction)
            resume = product.from_record(code.data, mark)
        else:
            resume = product.from_file(code.data, offset)
        found.append(Cut(chosen[offset], fraction, resume))
    return found


def stops_of(found: list[Cut]) -> list[int]:
    """Numbers of the lines before which both machines stand still."""
    every = range(0, AFTER + 1, SEGMENT)
    return sorted({c.at + n for c in found for n in (1, *every)})


def pairs(stops: list[int]) -> Iterator[tuple[int, int]]:
    """Each with the next; after the last nothing follows."""
    return zip(stops, [*stops[1:], stops[-1]], strict=True)


def undisturbed(code: Code, stops: list[int]) -> Iterator[bytes]:
    yield from code.lines[: stops[0]]
    for count, (stop, following) in enumerate(pairs(stops)):
        yield from batch.mark(count)
        yield from code.lines[stop:following]


def resumed(code: Code, cut: Cut, stops: list[int]) -> Iterator[bytes]:
    for script in cut.resume.steps:
        yield from map(batch.command, script.encode().split(b"\n"))
    yield from filter(None, map(batch.command, cut.resume.prologue))
    for count, (stop, following) in enumerate(pairs(stops)):
        yield from batch.mark(count)
        lines = code.lines[stop:following]
        if count == 0 and cut.resume.first_line is not None:
            lines = [batch.command(cut.resume.first_line)]
        yield from lines


def behind(motor: batch.Motor, clock: int, tip: float) -> float:
    """How far filament is pulled back, mm, of which the tip was at `tip` at first."""
    steps = np.cumsum(motor.directions[motor.clocks <= clock])
    return max(tip, float(steps.max(initial=0)) * batch.E_STEP) - (
        float(steps[-1]) * batch.E_STEP if len(steps) else 0.0
    )


def differences(
    whole: batch.Steps, first: int, again: batch.Steps, cut: Cut, straight: bool
) -> Iterator[str]:
    """first: which mark of `whole` is at the cut."""
    clocks = whole.marks[first : first + len(again.marks)], again.marks
    e_start, e_end = whole.motors["e"].position(np.array(clocks[0][:2])) * batch.E_STEP
    done = cut.fraction * (e_end - e_start)
    tip = max(behind(whole.motors["e"], clocks[0][0], 0.0) - max(done, 0.0), 0.0)
    left = behind(again.motors["e"], clocks[1][0], tip)
    if abs(left - tip) > BEHIND_OFF:
        yield f"filament {tip:.3f} mm back, resumed {left:.3f}"
    for name in STEPPED:
        one, other = (
            steps.motors[name].position(np.array(times))
            for steps, times in zip((whole, again), clocks, strict=True)
        )
        if name == "e":
            one = one - one[0] - done / batch.E_STEP
            other = other - other[0]
        begun = one[0] + cut.fraction * (one[1] - one[0]) if name != "e" else 0.0
        if straight and abs(begun - other[0]) > STEPS_OFF:
            yield f"{name}: begins at step {other[0]}, {begun} undisturbed"
        if np.abs(one[1:] - other[1:]).max() > (E_OFF if name == "e" else STEPS_OFF):
            yield f"{name}: stands at {other[1:]}, {one[1:]} undisturbed"
    begin = 1 if cut.fraction else 0
    for number in range(begin, len(clocks[0]) - 1):
        yield from in_time(whole, again, *(c[number : number + 2] for c in clocks))


def in_time(
    whole: batch.Steps, again: batch.Steps, one: list[int], other: list[int]
) -> Iterator[str]:
    """Every millisecond from one mark to the next, both are at the same place."""
    times = np.arange(0, one[1] - one[0], STEP_TIME)
    for name in STEPPED:
        places = [
            steps.motors[name].position(start + times)
            for steps, start in ((whole, one[0]), (again, other[0]))
        ]
        off = np.abs(
            (places[0] - places[0][0]) - (places[1] - places[1][0])
        ).max(initial=0)  # fmt: skip
        if off > MOVING_OFF:
            yield f"{name}: {off} steps off on the way"


@dataclass(frozen=True)
class Trial:
    """One file, run to the last cut; stops as stops_of()."""

    code: Code
    found: list[Cut]
    stops: list[int]
    whole: batch.Steps
    tree: KlippyTree
    folder: Path

    @staticmethod
    def of(file: CorpusFile, folder: Path, tree: KlippyTree) -> Trial:
        code = Code.of(file.path.read_bytes())
        found = made(file, code)
        stops = stops_of(found)
        whole = batch.run(tree, folder, "whole", undisturbed(code, stops))
        assert len(whole.marks) == len(stops)
        return Trial(code, found, stops, whole, tree, folder)

    def problems(self, cut: Cut, name: str) -> list[str]:
        own = [stop for stop in self.stops if cut.at <= stop <= cut.at + AFTER]
        lines = resumed(self.code, cut, own)
        again = batch.run(self.tree, self.folder, name, lines)
        assert len(again.marks) == len(own)
        straight = self.code.lines[cut.at][:2] not in (b"G2", b"G3")
        first = self.stops.index(cut.at)
        return list(differences(self.whole, first, again, cut, straight))


def check(file: CorpusFile, folder: Path, tree: KlippyTree) -> None:
    trial = Trial.of(file, folder, tree)
    for cut in trial.found:
        found = trial.problems(cut, f"cut{cut.at}")
        line = trial.code.lines[cut.at]
        assert not found, f"line {cut.at} {line!r} + {cut.fraction:.3f}: {found[:4]}"


@pytest.fixture(scope="module")
def tree() -> KlippyTree:
    return prepare()


@pytest.mark.parametrize("name", OURS)
def test_our_files(name: str, tmp_path: Path, tree: KlippyTree) -> None:
    check(CorpusFile(DATA / f"{name}.gcode"), tmp_path, tree)


@pytest.mark.parametrize("name", REAL)
def test_real_slicers_files(name: str, tmp_path: Path, tree: KlippyTree) -> None:
    path = SHARED / f"{name}.gcode"
    if not path.exists():
        pytest.skip(ABSENT)
    check(CorpusFile(path), tmp_path, tree)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ([b"G91", b"G0 Z.02", b"G90"], "z: begins"), ([b"G1 E-.02"], "filament"),
        ([b"M204 S2900"], "on the way"), ([b"G1 F4321"], "on the way"),
        ([b"M221 S99"], "e: stands"), ([b"M82"], "e: stands"),
        ([b"G0 X.02"], "a: begins"),
    ],
)  # fmt: skip
def test_a_resume_that_is_a_little_wrong_is_noticed(
    change: list[bytes], what: str, tmp_path: Path, tree: KlippyTree
) -> None:
    file = CorpusFile(DATA / "cura413_fwretract_relE_zhop.gcode")
    trial = Trial.of(file, tmp_path, tree)
    cut = trial.found[0]
    lines = (*cut.resume.prologue, *change)
    wrong = replace(cut, resume=replace(cut.resume, prologue=lines))
    assert any(what in problem for problem in trial.problems(wrong, "wrong"))
