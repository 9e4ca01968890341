# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Every file, cut at many lines: what is laid after the cut is what would have been.

A file is interpreted once, by a model of Klipper that shares nothing with the
scanner.  At each cut the product makes a resume, from the file alone or from the
record that klippy would have published there; another machine, on which power has
just come back, runs its preparation and its prologue.  All that a machine is must
then be as on the undisturbed one: place and zero of each axis, E, F, factors,
limits, heaters, fans, pressure advance, tool, filament pulled back, objects.  From
there on both run the same bytes, so the rest is the same by induction; for a seeded
few each motion to the file's end is compared as well, and for a few the file that
is written, byte by byte.  Places where nothing is laid before, or after, must be
refused for just that reason.

CI cuts tests/data at CUTS lines each and two files at every line, and real slicers'
files at FEW; `python -m tests.soak.cut_and_compare` cuts all of them at CUTS and more.
"""
from __future__ import annotations

from pathlib import Path

import pytest

from moonraker_components.power_loss_recovery.gcode.scan import scan

from . import cuts
from .compare import Print, line_starts
from .corpus_files import ABSENT, CorpusFile, own, real
from .klipper_model import Klipper
from .trial import Outcome, count_for, cut

CUTS, FEW, IN_CI, WRITTEN = 200, 40, 5000, 5


def check(outcome: Outcome) -> None:
    assert outcome.compared and not outcome.problems, (
        f"{len(outcome.problems)} problems in {outcome.compared} cuts:\n"
        + "\n".join(outcome.problems[:5])
    )


@pytest.mark.parametrize("file", own(), ids=str)
def test_from_the_file_alone(file: CorpusFile) -> None:
    outcome = cut(file, count_for(file, CUTS), from_record=False)
    check(outcome)
    assert outcome.refused


@pytest.mark.parametrize("file", own(), ids=str)
def test_from_a_record_in_the_middle_of_a_line(file: CorpusFile) -> None:
    outcome = cut(file, CUTS, from_record=True)
    check(outcome)
    assert outcome.split > CUTS // 5


@pytest.mark.parametrize("file", own(), ids=str)
def test_the_file_that_is_written(file: CorpusFile, tmp_path: Path) -> None:
    data = file.path.read_bytes()
    machine = Klipper(file.tools, fans_by_number=True)
    whole = Print.of(data, machine)
    inside = [at for at in line_starts(data) if whole.first < at <= whole.last]
    for offset in machine.stops(data, cuts.offsets(str(file), inside, WRITTEN)):
        out = tmp_path / f"{offset}.gcode"
        problems = cuts.written_cut(whole, machine, offset, file.path, out)
        assert not problems, f"byte {offset}: {problems[:3]}"


@pytest.mark.parametrize("file", real() or [None], ids=str)
def test_real_slicers_from_the_file_alone(file: CorpusFile | None) -> None:
    if file is None:
        pytest.skip(ABSENT)
    check(cut(file, FEW, from_record=False))


@pytest.mark.parametrize("file", real() or [None], ids=str)
def test_real_slicers_from_a_record(file: CorpusFile | None) -> None:
    if file is None:
        pytest.skip(ABSENT)
    check(cut(file, FEW, from_record=True))


def test_five_thousand_cuts_are_made_with_our_own_files_alone() -> None:
    made = CUTS * len(own())
    for file in own():
        starts = line_starts(file.path.read_bytes())
        made += len(cuts.offsets(str(file), starts, count_for(file, CUTS)))
    assert made >= IN_CI


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("G1 F1234", "f:"), ("M204 S777", "limits"), ("M106 S9", "fans"),
        ("M104 S123", "heaters"), ("G92 E0.5", "e:"), ("M82", "absolute_extrude"),
        ("G91\nG1 Z0.00001\nG90", "position"),
        ("G91\nG1 E-.001\nG90", "retracted"), ("M221 S99", "extrude_factor"),
        ("SET_GCODE_OFFSET Z=.00001", "homing_origin"),
    ],
)  # fmt: skip
def test_a_state_that_differs_a_little_is_noticed(change: str, what: str) -> None:
    data = b"M83\nM204 S500\nG1 X1 Y1 Z1 F900\nG1 X9 E1\nG1 X1 E1\nM82\nG1 E9\n"
    at = data.index(b"G1 X1 E1")
    machine = Klipper()
    whole = Print.of(data, machine)
    for _ in machine.stops(data, [at]):
        other = machine.clone()
        other.lines(line.encode() for line in change.split("\n"))
        found = cuts.differences(machine.state(), other.state())
        assert any(problem.startswith(what) for problem in found)
    assert whole.matters("e", at) and scan(data, at).position.x == 9.0
