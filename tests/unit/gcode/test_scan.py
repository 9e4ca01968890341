# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The scanner's contract: the state at any line start, or a refusal in words."""
from __future__ import annotations

import math
import mmap
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.gcode.errors import GcodeError
from moonraker_components.power_loss_recovery.gcode.extent import Extent
from moonraker_components.power_loss_recovery.gcode.scan import (
    Head,
    Point4,
    ScanError,
    scan,
)
from tests.unit.gcode.interpreter import Interpreter

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "tests" / "data"
CORPUS = ROOT.parent / "shared" / "gcodes"
# Refused (inches), or no G-code at all but lines of noise
NO_PRINTS = ("cam_", "adversarial_")


def state(text: str) -> Head:
    data = text.encode()
    return scan(data, len(data), Extent(data))


def line_starts(data: bytes, count: int, seed: int) -> list[int]:
    starts = [0] + [i + 1 for i, byte in enumerate(data) if byte == 10]
    return sorted(random.Random(seed).sample(starts, min(count, len(starts))))


def assert_same(head: Head, expected: dict) -> None:
    position = head.position
    actual = {key: getattr(head, key) for key in expected if hasattr(head, key)}
    actual["position"] = [position.x, position.y, position.z, position.e]
    actual["object_count"] = len(head.object_definitions)
    for key, want in expected.items():
        have = actual[key]
        where = f"{key} at {head.end}: scan {have}, interpreter {want}"
        if key == "printed_box" and want is not None:
            # The interpreter's arcs are polygons: they reach a little less far.
            assert have == pytest.approx(want, abs=2e-3), where
        elif key in ("heaters", "fans"):
            assert have == pytest.approx(want, abs=1e-6), where
        elif key == "position":
            for one, other in zip(have, want, strict=True):
                assert one == (other and pytest.approx(other, abs=1e-6)), where
        elif isinstance(want, float):
            assert have == pytest.approx(want, abs=1e-6), where
        else:
            assert have == want, where


@pytest.mark.parametrize(
    "path", sorted(DATA.glob("ps250_*.gcode")), ids=lambda path: path.name
)
def test_state_at_sixty_cuts_is_that_of_an_independent_interpreter(path: Path) -> None:
    data = path.read_bytes()
    offsets = line_starts(data, 60, seed=2026)
    expected = Interpreter().run(data, offsets)
    for offset in offsets:
        head = scan(data, offset, Extent(data))
        assert_same(head, expected[offset])


@pytest.mark.parametrize(
    "path",
    sorted(p for p in CORPUS.rglob("*.gcode") if not p.name.startswith(NO_PRINTS))
    or [None],
    ids=lambda p: p.name if p else "absent",
)
def test_state_in_real_slicer_files(path: Path | None) -> None:
    if path is None:
        pytest.skip("no real slicer files: ../shared/gcodes is not here")
    data = path.read_bytes()
    offsets = line_starts(data, 8, seed=len(data))
    expected = Interpreter().run(data, offsets)
    for offset in offsets:
        head = scan(data, offset, Extent(data))
        assert_same(head, expected[offset])


def test_an_empty_head_knows_nothing_and_assumes_klippers_modes() -> None:
    head = scan(b"G1 X1\n", 0, Extent(b"G1 X1\n"))
    assert head.position == Point4(None, None, None, None)
    assert head.absolute_coordinates and head.absolute_extrude
    assert not head.coordinates_stated and not head.extrude_stated
    assert head.printed_box is None and head.top_z is None and head.layer is None


def test_g91_makes_e_relative_and_g90_gives_it_back() -> None:
    head = state("M82\nG92 X0 Y0 Z0 E5\nG91\nG1 X1 E2\nG90\nG1 E9\n")
    assert head.position == Point4(1.0, 0.0, 0.0, 9.0)
    assert head.absolute_extrude and head.extrude_stated


def test_g92_without_words_zeroes_every_axis() -> None:
    assert state("G1 X3 Y4 Z5 E6\nG92\n").position == Point4(0, 0, 0, 0)


def test_retraction_survives_g92_and_ends_with_the_unretract() -> None:
    start = "M82\nG92 E0\nG1 X1 Y1 Z1\nG1 X2 E3\nG1 E1 F2400\nG92 E0\n"
    assert state(start).retracted == pytest.approx(2.0)
    assert state(start + "G1 E1.5\n").retracted == pytest.approx(0.5)
    assert state(start + "G1 E2\n").retracted == 0.0


def test_unretracting_is_not_printing() -> None:
    head = state("M83\nG1 X1 Y1 Z5\nG1 E-2\nG1 X50 E2\n")
    assert head.printed_box is None and head.first_extrusion is None


def test_what_was_printed_after_a_g10_has_pushed_the_filament_forward() -> None:
    text = "M83\nG1 X1 Y1 Z1\nG10 P0 S200\n"
    assert state(text).firmware_retracted
    assert not state(text + "G1 X5 E1\n").firmware_retracted
    assert state(text + "G1 X5 E1\ng10\nG1 X9\n").firmware_retracted


def test_each_tool_has_its_own_retraction() -> None:
    text = "M83\nT0\nG1 X1 E1\nG1 E-4\nT1\nG1 X2 E1\nG1 E-.5\n"
    assert state(text).retracted == pytest.approx(0.5)
    assert state(text + "T0\n").retracted == pytest.approx(4.0)


def test_box_and_top_are_free_of_g92_and_of_travels() -> None:
    head = state(
        "M83\nG1 X10 Y10 Z1\nG92 X0 Z0\nG1 X5 Y12 E1\nG1 X90 Z40\nG1 X90 Z3\n"
    )
    assert head.printed_box == (10.0, 10.0, 15.0, 12.0)
    assert head.top_z == 1.0
    assert head.position.x == 90.0


def test_what_was_printed_before_a_g92_stays_where_it_is() -> None:
    before = "M83\nG1 X10 Y10 Z1\nG1 X20 E1\n"
    head = state(before + "G92 X0 Z0\nG1 X-5 E1\n")
    assert head.printed_box == (10.0, 10.0, 20.0, 10.0)
    assert head.top_z == 1.0
    assert state(before + "G92 X0\nG1 X7 E1\n").printed_box == (10, 10, 27, 10)


def test_an_unknown_frame_makes_the_box_unknown() -> None:
    assert state("M83\nG92 X0\nG1 X5 Y1 Z1 E1\n").printed_box is None


def test_an_arc_counts_as_far_as_it_bulges() -> None:
    head = state("M83\nG1 X0 Y0 Z1\nG2 X10 Y0 I5 J0 E1\n")
    assert head.printed_box == pytest.approx((0.0, 0.0, 10.0, 5.0))
    whole = state("M83\nG1 X0 Y0 Z1\nG3 I5 E1\n")
    assert whole.printed_box == pytest.approx((0.0, -5.0, 10.0, 5.0))
    assert whole.position.x == 0.0 and whole.last_extrusion == 16


def test_start_macros_lose_the_position_and_later_ones_do_not() -> None:
    start = "M83\nG1 X1 Y1 Z1\nPRINT_START\n"
    assert state(start).position.z is None
    printing = start + "G1 X1 Y1 Z1\nG1 X2 E1\nTIMELAPSE_TAKE_FRAME\n"
    assert state(printing).position == Point4(2.0, 1.0, 1.0, None)


def test_homing_loses_only_the_homed_axes() -> None:
    assert state("G1 X1 Y2 Z3 E4\nG28 X Y\n").position == Point4(None, None, 3, 4)


def test_saved_states_come_back_as_klipper_restores_them() -> None:
    text = "M83\nG92 E0\nG1 X1 Y1 Z1 E1 F600\nSAVE_GCODE_STATE NAME=a\nM82\nG91\n"
    text += "G1 X5 E-3 F900\nRESTORE_GCODE_STATE NAME=a\n"
    head = state(text)
    assert (head.absolute_coordinates, head.absolute_extrude) == (True, False)
    assert head.position == Point4(6.0, 1.0, 1.0, 1.0)
    assert head.feedrate == 600.0
    framed = state(text.replace("M82\n", "M82\nG92 X50\n"))
    assert framed.position.x == 6.0
    moved = state(text.replace("RESTORE_GCODE_STATE", "RESTORE_GCODE_STATE MOVE=1"))
    assert moved.position.x == 1.0


def test_a_gcode_offset_without_move_changes_the_coordinate() -> None:
    text = "G1 X1 Y1 Z2\nSET_GCODE_OFFSET Z_ADJUST=0.1"
    assert state(text + "\n").position.z == pytest.approx(1.9)
    assert state(text + " MOVE=1\n").position.z == 2.0


def test_heaters_and_fans_by_klippers_names() -> None:
    head = state(
        "M104 S200\nM104 T1 S180\nT2\nM109 S210\nM190 S60\nM141 S45\n"
        "SET_HEATER_TEMPERATURE HEATER=aux TARGET=50\n"
        "M106 S127.5\nM106 P2 S255\nSET_FAN_SPEED FAN=nevermore SPEED=.4\n"
    )
    assert head.heaters == {
        "extruder": 200.0,
        "extruder1": 180.0,
        "extruder2": 210.0,
        "heater_bed": 60.0,
        "chamber": 45.0,
        "aux": 50.0,
    }
    assert head.fans == {"fan": 0.5, "fan2": 1.0, "nevermore": 0.4}
    # One fan that heeds no P keeps the speed that was set last.
    again = state("M106 S9\nM106 P2 S1\nM106 S255\n")
    assert list(again.fans.items())[-1] == ("fan", 1.0)


@pytest.mark.parametrize(
    ("text", "layer", "z", "total"),
    [
        (";LAYER_CHANGE\n;Z:0.2\n;LAYER_CHANGE\n;Z:.45\n", 2, 0.45, None),
        (";LAYER_COUNT:7\n;LAYER:0\n;LAYER:4\n", 5, None, 7),
        (";LAYER:-2\n", -1, None, None),
        ("; layer 3, Z = 0.9\n", 3, 0.9, None),
        ("; total layer number: 9\r\n;LAYER_CHANGE\r\n;Z:0.2\r\n", 1, 0.2, 9),
        (";BEFORE_LAYER_CHANGE\n;BEFORE_LAYER_CHANGE\n", 2, None, None),
        (";LAYER_CHANGE\n;BEFORE_LAYER_CHANGE\n", 1, None, None),
        ("SET_PRINT_STATS_INFO TOTAL_LAYER=8 CURRENT_LAYER=3\n", 3, None, 8),
        ("; CHANGE_LAYER\n; Z_HEIGHT: 0.4\n; LAYER_HEIGHT: 0.2\n", 1, 0.4, None),
        (";BEFORE_LAYER_CHANGE\n;.6\n;AFTER_LAYER_CHANGE\n;9\n", 1, 0.6, None),
        (";LAYER:0\n;Z:0.300\n;HEIGHT:0.300\n", 1, 0.3, None),
        ("; BEGIN_LAYER_OBJECT z=0.35 z_thickness=0.3\n", 1, 0.35, None),
        (
            "; BEGIN_LAYER_RAFT z=.2 z_thickness=0.2\n; BEGIN_LAYER_OBJECT z=.2\n"
            "; BEGIN_LAYER_OBJECT z=.4\n",
            2,
            0.4,
            None,
        ),
        (";total layers count = 30\n; layer 1, Z = 0.2\n", 1, 0.2, 30),
        (";Layer count: 70\n;LAYER:0\n;12.5 mm wide\n", 1, None, 70),
        (";LAYER:1\nG1 X1 Y1 Z.4\nM83\nG1 X2 E1\nG1 Z9\n", 2, 0.4, None),
    ],
)
def test_layers_in_several_dialects(
    text: str, layer: int, z: float | None, total: int | None
) -> None:
    head = state(text)
    assert (head.layer, head.layer_z, head.total_layers) == (layer, z, total)


def test_objects_open_close_and_reset() -> None:
    text = "EXCLUDE_OBJECT_DEFINE NAME=a CENTER=1,2\r\nEXCLUDE_OBJECT_START NAME='a'\n"
    head = state(text)
    assert head.object_definitions == (b"EXCLUDE_OBJECT_DEFINE NAME=a CENTER=1,2",)
    assert head.current_object == "A"
    assert state(text + "EXCLUDE_OBJECT_END\n").current_object is None
    assert not state(text + "EXCLUDE_OBJECT_DEFINE RESET=1\n").object_definitions


def test_odd_spelling_is_read_as_klipper_reads_it() -> None:
    head = state("m83\ng1x1y2z3e.5f600\n  G1 Y7 X5*33\nN3 G0 Z4;up\nG01 X99\n")
    assert head.position == Point4(5.0, 7.0, 4.0, None)
    assert head.feedrate == 600.0


def test_header_ends_at_the_first_command() -> None:
    text = "\n; thumbnail begin\n;\r\n\n  ; more\n  G28\n"
    assert state(text).header_end == text.index("  G28")
    assert state("; only\n").header_end == 7


def test_an_mmap_is_read_like_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.gcode"
    path.write_bytes(b"G1 X1 Y2\nG1 Z3")
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as data:
        assert scan(data, 9).position == Point4(1.0, 2.0, None, None)


@pytest.mark.parametrize(
    ("data", "end", "reason"),
    [
        (b"G1 X1\nG1 X2\n", 3, "inside a line"),
        (b"G1 X1\n", 7, "outside the file"),
        (b"G1 X1\n\0\0\n", 9, "NUL byte at offset 6"),
        (b"G20\nG1 X1\n", 10, "inches"),
        (b"GCDE\1\0", 0, "bgcode"),
        (b"PK\x03\x04", 0, "3mf"),
        (b"G1 X1.2.3\n", 10, "at offset 0: unable to parse"),
        (b"\nG1 X\n", 6, "at offset 1: unable to parse"),
        (b"G1 F0\n", 6, "feed rate"),
        (b"M104 S1.2.3\n", 12, "M104: S is not a number"),
        (b"M " + b"x" * (1 << 21) + b"\n", (1 << 21) + 3, "line of more than"),
    ],
)
def test_what_cannot_be_resumed_is_refused_with_the_reason(
    data: bytes, end: int, reason: str
) -> None:
    with pytest.raises(ScanError, match=reason):
        scan(data, end)


def test_an_overlong_comment_is_no_obstacle() -> None:
    data = b"G1 X1\n;" + b"x" * (1 << 22) + b"\nG1 X2\n"
    assert scan(data, len(data)).position.x == 2.0


def test_bytes_that_are_not_utf8_pass_through() -> None:
    data = b"; Gr\xf6\xdfe\nG1 X1 ; \xff\nM117 \xfe\n"
    assert scan(data, len(data)).position.x == 1.0


PIECES = st.sampled_from(
    [b"G1", b" X1", b"Y-.5", b"E", b"G92 ", b"\r\n", b"\n", b";", b"SET_X A=", b"'"]
    + [b"M104 S", b"T1", b"G2 I1 ", b"N5", b"*7", b"\xff", b" ", b"9" * 40, b";LAYER:"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES | st.binary(max_size=6), max_size=60).map(b"".join))
def test_any_bytes_are_read_or_refused(noise: bytes) -> None:
    data = noise + b"\n"
    try:
        head = scan(data, len(data))
    except ScanError:
        return
    assert head.retracted >= 0.0 and math.isfinite(head.retracted)


@pytest.mark.parametrize(
    "line", [b"G1 X1 Y1 E1\n", b";x\n", b"PLR_RESUME - ", b" ", b"G92 E0\n"]
)
def test_time_grows_no_faster_than_the_file(line: bytes) -> None:
    def seconds(count: int) -> float:
        data = line * count + b"\n"
        begin = time.process_time()
        try:
            scan(data, len(data))
        except ScanError:
            pass
        return time.process_time() - begin

    count = 400_000 // len(line)
    small = min(seconds(count) for _ in range(3))
    # Eight times the file; quadratic time would be 64 times as long.
    assert min(seconds(count * 8) for _ in range(2)) < 24.0 * small + 0.02


def test_nobody_travels_by_a_head_whose_footprint_is_not_measured() -> None:
    data = b"M83\nG1 X1 Y1 Z1\nG1 X9 E1\n"
    head = scan(data, len(data))
    for name in ("top_z", "printed_box"):
        with pytest.raises(GcodeError, match="not measured"):
            getattr(head, name)
    assert scan(data, len(data), Extent(data)).top_z == 1.0
