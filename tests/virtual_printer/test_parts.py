# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The parts are what they say: the same plastic whichever way E is written."""
from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from .parts import FILAMENT_AREA, LAYER, RETRACT, WIDTH, Part, gcode, write

PART = Part(layers=3)
WORD = re.compile(r"([XYZEF])(-?\d+\.?\d*)")


@dataclass
class Run:
    """One G1 after another: where it goes and what it feeds."""

    moves: list[tuple[float, float, float, float]] = field(default_factory=list)
    feedrates: list[float] = field(default_factory=list)

    @property
    def fed(self) -> float:
        return sum(e for *_, e in self.moves)

    def beads(self) -> list[tuple[float, float]]:
        """Length and filament of each move that lays plastic."""
        found = []
        x0, y0 = math.nan, math.nan
        for x, y, _, e in self.moves:
            if e > 0 and (x, y) != (x0, y0):
                found.append((math.dist((x, y), (x0, y0)), e))
            x0, y0 = x, y
        return found


def run(text: str) -> Run:
    """Read it as Klipper would: G1, G92 E0, M82 and M83."""
    done = Run()
    place = {"X": math.nan, "Y": math.nan, "Z": 0.0}
    last_e, relative, speed = 0.0, False, math.nan
    for raw in text.splitlines():
        line = raw.partition(";")[0].strip()
        if line in ("M82", "M83"):
            relative = line == "M83"
        elif line == "G92 E0":
            last_e = 0.0
        elif line.startswith("G1 "):
            words = {k: float(v) for k, v in WORD.findall(line)}
            speed = words.get("F", speed)
            fed = words.get("E", 0.0 if relative else last_e)
            amount = fed if relative else fed - last_e
            last_e = fed
            place |= {k: words[k] for k in "XYZ" if k in words}
            done.moves.append((place["X"], place["Y"], place["Z"], amount))
            done.feedrates.append(speed)
    return done


def test_absolute_and_relative_files_lay_the_same_plastic() -> None:
    relative = run(gcode(PART))
    absolute = run(gcode(replace(PART, relative_e=False)))
    assert len(relative.moves) == len(absolute.moves)
    for one, other in zip(relative.moves, absolute.moves, strict=True):
        # Five decimals of a running sum.
        assert one == pytest.approx(other, abs=1.1e-5, nan_ok=True)
    assert relative.fed == pytest.approx(absolute.fed, abs=1e-3)


def test_absolute_e_goes_back_to_zero_at_each_layer() -> None:
    text = gcode(replace(PART, relative_e=False))
    assert text.count("\nG92 E0\n") == PART.layers
    assert "M82" in text and "M83" not in text
    assert "G92" not in gcode(PART)


def test_each_bead_is_a_line_of_the_stated_width_and_height() -> None:
    for length, filament in run(gcode(PART)).beads():
        wanted = length * WIDTH * LAYER / FILAMENT_AREA
        assert filament == pytest.approx(wanted, abs=6e-5 + wanted * 1e-3)


def test_every_retraction_is_taken_back() -> None:
    done = run(gcode(PART))
    amounts = [e for *_, e in done.moves]
    assert amounts.count(-RETRACT) == amounts.count(RETRACT) > 3 * PART.layers
    depth = 0.0
    for amount in amounts:
        if abs(amount) == RETRACT:
            depth += amount
            assert depth in (-RETRACT, 0.0)
        else:
            assert depth == 0.0 or amount == 0.0, "plastic while retracted"


@pytest.mark.parametrize("hop", [0.0, 0.4])
def test_layers_rise_by_a_layer_and_travels_hop(hop: float) -> None:
    done = run(gcode(replace(PART, z_hop=hop)))
    laid = sorted({round(z, 3) for _, _, z, e in done.moves if 0 < e != RETRACT})
    assert laid == [round(LAYER * n, 3) for n in range(1, PART.layers + 1)]
    top = max(z for _, _, z, _ in done.moves)
    assert top == pytest.approx(LAYER * PART.layers + hop)


def test_a_part_stays_in_its_square_but_for_the_long_line() -> None:
    part = replace(PART, long_line=0.0, size=20.0, centre=(60.0, 80.0))
    for x, y, _, _ in run(gcode(part)).moves:
        if not math.isnan(x):
            assert abs(x - 60) <= 10.001 and abs(y - 80) <= 10.001
    with_line = max(length for length, _ in run(gcode(PART)).beads())
    assert with_line == pytest.approx(PART.long_line)


def test_the_first_layer_is_slower_and_every_move_has_a_speed() -> None:
    done = run(gcode(PART))
    assert not any(math.isnan(f) for f in done.feedrates[1:])
    fast = {z: max(f for (_, _, at, e), f in zip(done.moves, done.feedrates,
                                                 strict=True)
                   if at == z and 0 < e != RETRACT)
            for z in (LAYER, 2 * LAYER)}  # fmt: skip
    assert fast[LAYER] == pytest.approx(0.6 * fast[2 * LAYER], abs=1)


def test_the_header_says_what_the_part_asks_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gcode", replace(PART, bed=61.0, hotend=203.0))
    text = path.read_text()
    assert "PRINT_START BED=61 EXTRUDER=203\n" in text
    assert f"TOTAL_LAYER={PART.layers}\n" in text
    assert text.count(";LAYER_CHANGE\n") == PART.layers
    assert text.index("PRINT_START") < text.index(";LAYER_CHANGE")
    assert text.rindex("PRINT_END") > text.rindex("G1 ")
    assert text.endswith("\n")


def test_the_footer_counts_layers_and_filament() -> None:
    text = gcode(PART)
    assert f"; total layers count = {PART.layers}\n" in text
    used = re.search(r"filament used \[mm\] = (.*)", text)
    assert used is not None
    assert float(used[1]) == pytest.approx(run(text).fed, abs=0.02)


def test_the_same_part_is_the_same_file() -> None:
    assert gcode(PART) == gcode(Part(layers=3))
