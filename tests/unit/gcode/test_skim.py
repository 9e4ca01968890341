# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The short way to a state gives what reading every line gives."""
from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.gcode import scan as scan_module
from moonraker_components.power_loss_recovery.gcode import skim as skim_module
from moonraker_components.power_loss_recovery.gcode.backward import last_word
from moonraker_components.power_loss_recovery.gcode.errors import ScanError
from moonraker_components.power_loss_recovery.gcode.scan import Head
from moonraker_components.power_loss_recovery.gcode.skim import State, read, skim
from tests.unit.gcode.conftest import Count

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "tests" / "data"
CORPUS = ROOT.parent / "shared" / "gcodes"
START = b"M83\nG92 E0\nG1 X1 Y1 Z1 F900\nG1 X5 E1\n"
# Enough lines, and filament, for several pieces of a kilobyte
FILL = b"G1 X10 Y10 E2\nG1 X20 Y10 E2\n" * 200


def quick(data: bytes, end: int, window: int = 1024) -> Head | str:
    return outcome(data, end, lambda: skim(data, end, window))


def slow(data: bytes, end: int) -> Head | str:
    return outcome(data, end, lambda: read(data, end))


def outcome(data: bytes, end: int, state: Callable[[], State]) -> Head | str:
    try:
        return scan_module._head(data, end, state())
    except ScanError as error:
        return str(error)


def assert_same(found: Head | str, wanted: Head | str) -> None:
    if isinstance(found, str) or isinstance(wanted, str):
        assert found == wanted
        return
    if not wanted.absolute_extrude and found.position.e is None:
        # Relative filament adds up from the start; nothing depends on the sum.
        wanted = replace(wanted, position=wanted.position._replace(e=None))
    for field in fields(Head):
        have, want = getattr(found, field.name), getattr(wanted, field.name)
        where = f"{field.name} at {found.end}"
        if field.name == "position":
            assert have == tuple(v and pytest.approx(v, abs=1e-6) for v in want), where
        elif isinstance(want, float):
            assert have == pytest.approx(want, abs=1e-6), where
        else:
            assert have == want, where


def compare(path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    data = path.read_bytes()
    starts = [0] + [i + 1 for i, byte in enumerate(data) if byte == 10]
    # Small files and small pieces: let them be as certain as large ones are.
    monkeypatch.setattr(skim_module, "FURTHEST_RETRACTION", 20.0)
    source = random.Random(path.name)
    for offset in source.sample(starts, min(count, len(starts))):
        window = source.choice([512, 4096, 16384, 65536])
        assert_same(quick(data, offset, window), slow(data, offset))


def test_looking_back_tells_where_a_move_is_malformed() -> None:
    with pytest.raises(ScanError, match="at offset 6: G1: X is not a number"):
        last_word(b"G1 Y1\nG1 X Y2\nG1 Y3\n", 0, 20, "X")


@pytest.mark.parametrize("path", sorted(DATA.glob("*.gcode")), ids=lambda p: p.name)
def test_both_ways_agree(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(path, monkeypatch, 60)


@pytest.mark.parametrize(
    "path", sorted(CORPUS.rglob("*.gcode")) or [None], ids=lambda p: p and p.name
)
def test_both_ways_agree_on_real_files(
    path: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path is None:
        pytest.skip("no real slicer files: ../shared/gcodes is not here")
    compare(path, monkeypatch, 12)


@pytest.mark.parametrize(
    "middle",
    [
        b"G91\nG1 Z5\nG1 X1\nG90\nG1 Z1\n",
        b"G91\n",
        b"G92 X0 Z0\n",
        b"G92\n",
        b"SAVE_GCODE_STATE NAME=a\nG1 X99 F1\nRESTORE_GCODE_STATE NAME=a\n",
        b"SET_GCODE_OFFSET Z_ADJUST=0.1\n",
        b"g1x77y8\n",
        b"  G1 Z7.5\n",
        b"N4 G1 Z8*1\n",
        b"G1 x33 y44 ; X1\n",
        b"G1 X31Y32Z33\n",
        b"G28 X\n",
        b"G1 E-3\nT1\nG1 X1 E9\nG1 E-2\nT0\n",
        b"G1 E-3\nACTIVATE_EXTRUDER EXTRUDER=extruder1\nM104 S5\n",
        b"T2\nM104 S200\nT3\nM104 S200\nM106 P1 S9\nM107\nM106 S1\n",
        b"TURN_OFF_HEATERS\nM140 S60\n",
        b"SET_HEATER_TEMPERATURE HEATER=heater_bed TARGET=70\nM190 S60\n",
        b"M82\nG92 E0\nG1 X1 E5\nG1 X2 E3\n",
        b"G18\nG2 X1 Z4 I1\nG17\nG3 X50 Y50 I3 J3 E9 F77\n",
        b";LAYER:7\n;LAYER_CHANGE\n;LAYER_CHANGE\n",
        b";LAYER:7\nSET_PRINT_STATS_INFO CURRENT_LAYER=3\n;LAYER_CHANGE\n;Z:3\n",
        b"M204 S1\nSET_VELOCITY_LIMIT ACCEL=2\nM204 S1\nM220 S9\nM117 a\n",
        b";;;;; PLR_RESUME - PRINT GCODE STARTS ;;;;;\n",
        b"EXCLUDE_OBJECT_DEFINE NAME=a\n" * 3 + b"EXCLUDE_OBJECT_START NAME=a\n",
        b"TIMELAPSE_TAKE_FRAME\nM84\nPARK\n",
        b"\r\n\r\n ; X9\n\n;Z:4\n;nothing X3 Y4 Z5 F6\n",
        b"G20\n",
        b"X5 Y6\n",
        b"M104 Sx\n",
    ],
)
@pytest.mark.parametrize("after", [b"", FILL, b"G1 X7 Y8\n" * 300])
def test_both_ways_agree_around(
    middle: bytes, after: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skim_module, "FURTHEST_RETRACTION", 50.0)
    data = START + FILL + middle + after
    for end in (len(data), len(START + FILL + middle)):
        assert_same(quick(data, end), slow(data, end))


LINES = """
G1 X3 Y4 E2|G1 E-3|G1 E3|G1 X9 E6|G1 Z2 F700|G0 X1 Y1|G2 X5 Y5 I2 J2 E1|G1 E5 F60
G90|G91|M82|M83|G92 E0|G92 X1|G92 Z2 E1|T0|T1|T2|G28 Z|G10|G11|;LAYER_CHANGE|;Z:3
;LAYER:4|;BEFORE_LAYER_CHANGE|;.5|M104 S9|M104 T1 S8|M204 S1|M220 S50|M221 S70
SET_VELOCITY_LIMIT ACCEL=3|SAVE_GCODE_STATE|RESTORE_GCODE_STATE|M106 S9|M486 S1
M486 Aname|ACTIVATE_EXTRUDER EXTRUDER=extruder1|ACTIVATE_EXTRUDER EXTRUDER=extruder
SET_GCODE_OFFSET Z=1|SET_GCODE_OFFSET Z_ADJUST=.1 MOVE=1|g1 x5|PARK|BED_MESH_CLEAR
BED_MESH_PROFILE LOAD=a|SET_PRINT_STATS_INFO CURRENT_LAYER=7|EXCLUDE_OBJECT_END
EXCLUDE_OBJECT_START NAME=b|EXCLUDE_OBJECT_DEFINE NAME=b|M117 x|G18|G17|M73 P5
""".strip().replace("\n", "|").split("|")


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(LINES), max_size=80), st.sampled_from([32, 99]))
def test_both_ways_agree_on_any_mixture(lines: list[str], window: int) -> None:
    data = START + "".join(line + "\n" for line in lines).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(skim_module, "FURTHEST_RETRACTION", 400.0)
        assert_same(quick(data, len(data), window), slow(data, len(data)))


def test_most_of_a_file_is_not_read(count_run: Count) -> None:
    seen = count_run(skim_module)
    data = START + FILL * 100
    skim(data, len(data), 4096)
    assert sum(seen) < len(data) / 10


def test_a_retraction_of_any_length_is_not_overlooked() -> None:
    data = START + FILL + b"G1 E-400\n" + b"G1 X3 Y3 E1\n" * 300
    head = quick(data, len(data))
    assert isinstance(head, Head) and head.retracted == pytest.approx(100.0)
    assert_same(head, slow(data, len(data)))


def test_the_last_word_is_found_in_moves_only() -> None:
    data = b"G1 X1 Y2 Z3\n" + b"G1 E5 ; X9\n;X8\nM117 X7\nM204 X6\n" * 9000
    assert last_word(data, 0, len(data), "X") == 1.0
    assert last_word(data, 12, len(data), "X") is None
    assert last_word(data + b"G1 y4Y-.5\n", 0, len(data) + 10, "Y") == -0.5
    assert last_word(b"G1 Z" + b"4" * 9 + b" ;" + b"x" * 99999 + b"\n", 0, 100015, "Z")
