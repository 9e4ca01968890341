# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The rewriter's contract: the rest of the print, whole, and the original untouched."""
from __future__ import annotations

import hashlib
import io
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.gcode import publish
from moonraker_components.power_loss_recovery.gcode.markers import header_end
from moonraker_components.power_loss_recovery.gcode.rewriter import (
    Point4,
    RewriteError,
    Stamp,
    commented,
    fingerprint,
    line_at,
    read_stamp,
    remainder,
    to_original,
    write,
)
from moonraker_components.power_loss_recovery.gcode.scan import scan

DATA = Path(__file__).resolve().parents[2] / "data"
FILES = sorted(DATA.glob("ps250_*.gcode"))
START = Point4(10.0, 20.0, 0.4, 7.0)


def big_file(size: int = 600_000) -> bytes:
    return random.Random(1).randbytes(size)


@pytest.mark.parametrize(
    ("size", "offset"),
    [(600_000, 0), (600_000, 65_535), (600_000, 534_464), (600_000, 599_999)]
    + [(300_000, 0), (300_000, 150_000), (300_000, 299_999)],
)
def test_fingerprint_tells_an_edit_at_the_ends_and_all_over_small_files(
    size: int, offset: int
) -> None:
    data = bytearray(big_file(size))
    before = fingerprint(io.BytesIO(data), size)
    data[offset] ^= 1
    assert fingerprint(io.BytesIO(data), size) != before


def test_fingerprint_samples_the_middle_of_big_files() -> None:
    data = big_file()
    other = data[:100_000] + bytes(300_000) + data[400_000:]
    size = len(data)
    assert fingerprint(io.BytesIO(data), size) != fingerprint(io.BytesIO(other), size)


def test_fingerprint_wants_the_size_it_was_given() -> None:
    with pytest.raises(RewriteError, match="has 3 bytes, expected 4"):
        fingerprint(io.BytesIO(b"abc"), 4)


def test_line_at_gives_the_line_without_its_end() -> None:
    f = io.BytesIO(b"G28\r\nG1 X1\n\nM84")
    assert [line_at(f, offset) for offset in (0, 5, 11, 12)] == [
        b"G28",
        b"G1 X1",
        b"",
        b"M84",
    ]
    assert len(line_at(io.BytesIO(b"x" * 9000), 0)) == 4096


@pytest.mark.parametrize("offset", [-1, 1, 4, 11, 12, 500])
def test_line_at_refuses_what_is_no_line_start(offset: int) -> None:
    with pytest.raises(RewriteError, match=f"offset {offset} is"):
        line_at(io.BytesIO(b"G28\r\nG1 X1\n"), offset)


def test_a_move_with_absolute_extrusion_keeps_its_text() -> None:
    line = b"G1 X20 Y20 E8 F600 ; wall\r\n"
    inside, rest = remainder(line, START, 0.62, True, True) or pytest.fail("no split")
    assert inside == pytest.approx(Point4(16.2, 20.0, 0.4, 7.62))
    assert rest == b"G1 X20 Y20 E8 F600 ; wall"


def test_relative_extrusion_is_scaled_and_nothing_else_changes() -> None:
    line = b"g1 X20 e.5 F600 ; E99"
    inside, rest = remainder(line, START, 0.62, True, False) or pytest.fail("no split")
    assert inside == pytest.approx(Point4(16.2, 20.0, 0.4, 7.31))
    assert rest == b"g1 X20 e0.19 F600 ; E99"


def test_relative_moves_are_scaled_on_every_axis() -> None:
    line = b"G1 X10 Z-1 E.5"
    inside, rest = remainder(line, START, 0.25, False, True) or pytest.fail("no split")
    assert inside == pytest.approx(Point4(12.5, 20.0, 0.15, 7.125))
    assert rest == b"G1 X7.5 Z-0.75 E0.375"


def test_tiny_rests_are_not_written_with_an_exponent() -> None:
    _, rest = remainder(b"G1 E.00001", START, 0.999, True, False) or pytest.fail()
    assert rest == b"G1 E0.00000001"


def test_a_line_laid_whole_leaves_only_its_feedrate() -> None:
    inside, rest = remainder(b"G1 X20 E1 F9", START, 1.5, True, False) or pytest.fail()
    assert inside == Point4(20.0, 20.0, 0.4, 8.0)
    assert rest == b"G1 X20 E0 F9"


@pytest.mark.parametrize(
    "line",
    [
        b"G1 F600",
        b"; comment",
        b"",
        b"SET_X NAME='",
        b"PRINT_START",
        b"G28",
        b"G1 X" + b"9" * 400,
        "G1 X1 E\N{NO-BREAK SPACE}5".encode(),
    ],
)
def test_what_is_no_plain_motion_is_not_split(line: bytes) -> None:
    assert remainder(line, START, 0.5, True, False) is None


@pytest.mark.parametrize("line", ["G1 X9 E.5.2 E1", "G1 X9 E1 E2", "G1 X9 E1\u0661"])
def test_a_line_of_which_the_scaled_words_are_in_doubt_is_not_split(line: str) -> None:
    # Klipper takes the last of two words, and digits of any script.
    assert remainder(line.encode(), START, 0.5, True, False) is None


@pytest.mark.parametrize("fraction", [0.0, -1.0, float("nan")])
def test_nothing_laid_means_the_whole_line(fraction: float) -> None:
    assert remainder(b"G1 X20", START, fraction, True, True) is None


def test_an_unknown_start_matters_only_for_the_axes_that_move() -> None:
    start = Point4(None, 20.0, float("nan"), 7.0)
    assert remainder(b"G1 X20", start, 0.5, True, True) is None
    assert remainder(b"G1 Y10 Z1", start, 0.5, True, True) is None
    inside, _ = remainder(b"G1 Y10", start, 0.5, True, True) or pytest.fail()
    assert (inside.x, inside.y) == (None, 15.0)


COORDINATE = st.integers(-400_000, 400_000).map(lambda n: n / 1000)
EXTRUSION = st.integers(-500_000, 500_000).map(lambda n: n / 100_000)


@settings(max_examples=300)
@given(
    start=st.tuples(COORDINATE, COORDINATE, COORDINATE, EXTRUSION).map(
        lambda t: Point4(*t)
    ),
    values=st.fixed_dictionaries(
        {}, optional={"X": COORDINATE, "Y": COORDINATE, "Z": COORDINATE, "E": EXTRUSION}
    ),
    fraction=st.floats(1e-6, 1.0),
    absolute=st.booleans(),
    absolute_e=st.booleans(),
)
def test_start_and_rest_end_where_the_whole_line_ends(
    start: Point4,
    values: dict[str, float],
    fraction: float,
    absolute: bool,
    absolute_e: bool,
) -> None:
    words = [f"{axis}{value:.5f}" for axis, value in values.items()]
    line = " ".join(["G1", *words]).encode()
    split = remainder(line, start, fraction, absolute, absolute_e)
    if not values:
        assert split is None
        return
    assert split is not None

    def end_of(point: Point4, move: bytes) -> Any:
        modes = (b"G90\n" if absolute else b"G91\n") + (
            b"M82\n" if absolute_e else b"M83\n"
        )
        # Interior points have more digits than G-code: not in exponents, though.
        at = "G92 X{:.12f} Y{:.12f} Z{:.12f} E{:.12f}\n".format(*point)
        data = at.encode() + modes + move + b"\n"
        position = scan(data, len(data)).position
        return [position.x, position.y, position.z, position.e]

    inside, rest = split
    assert end_of(inside, rest) == pytest.approx(end_of(start, line), abs=1e-6)
    for i, axis in enumerate("XYZE"):
        begin, end = start[i], end_of(start, line)[i]
        between = begin + (end - begin) * fraction  # type: ignore[operator]
        assert inside[i] == pytest.approx(between, abs=1e-6), axis


def written(
    source: Path, destination: Path, position: int, **options: Any
) -> tuple[Stamp, bytes]:
    data = source.read_bytes()
    options = {
        "prologue": [b"M83 ; relative extrusion, from the record"],
        "header_end": min(header_end(data, len(data)), position),
        **options,
    }
    with open(source, "rb") as f:
        stamp = write(
            f,
            destination,
            original=source.name,
            original_size=len(data),
            original_fingerprint=fingerprint(f, len(data)),
            file_position=position,
            **options,
        )
    return stamp, destination.read_bytes()


@pytest.mark.parametrize("source", FILES, ids=lambda p: p.name)
def test_the_tail_is_the_originals_byte_for_byte(source: Path, tmp_path: Path) -> None:
    data = source.read_bytes()
    digest = hashlib.sha256(data).digest()
    starts = [i + 1 for i, byte in enumerate(data) if byte == 10][20:-1]
    for position in random.Random(7).sample(starts, 12):
        path = tmp_path / f"{position}.gcode"
        stamp, out = written(source, path, position)
        assert out[stamp.tail_offset :] == data[position:]
        assert stamp.size == len(out)
        with open(path, "rb") as f:
            assert read_stamp(f) == stamp
        assert out.index(data[: header_end(data, len(data))]) == len(stamp.to_bytes())
        assert out[: stamp.tail_offset].endswith(
            b"M83 ; relative extrusion, from the record\n"
        )
        # A cut at any later line of the resume file leads to the same line.
        at = out.index(b"\n", stamp.tail_offset + 500) + 1
        original = to_original(stamp, at)
        assert original is not None and data[original:] == out[at:]
    assert hashlib.sha256(source.read_bytes()).digest() == digest


def test_a_split_line_stands_between_prologue_and_tail(tmp_path: Path) -> None:
    data = FILES[0].read_bytes()
    position = data.index(b"\nG1 X", 5000) + 1
    after = data.index(b"\n", position) + 1
    stamp, out = written(
        FILES[0], tmp_path / "a", position, first_line=b"G1 X1 E.5", fraction=0.5
    )
    assert out[stamp.first_line_offset : stamp.tail_offset] == b"G1 X1 E.5\n"
    assert out[stamp.tail_offset :] == data[after:]
    assert to_original(stamp, stamp.first_line_offset) == position
    assert to_original(stamp, stamp.tail_offset) == after
    assert to_original(stamp, stamp.first_line_offset - 1) is None
    with open(tmp_path / "a", "rb") as f:
        assert read_stamp(f) == stamp


def test_splitting_an_unterminated_last_line_leaves_no_tail(tmp_path: Path) -> None:
    source = tmp_path / "a.gcode"
    source.write_bytes(b"; a\nG28\nG1 X9")
    options = {"header_end": 4, "first_line": b"G1 X9", "fraction": 0.1}
    stamp, out = written(source, tmp_path / "out", 8, **options)
    assert out.endswith(
        b"; G28\nM83 ; relative extrusion, from the record\nG1 X9\n"
    )
    assert stamp.tail_position == 13 and stamp.tail_offset == len(out)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"prologue": [b"M83\nM112"]}, "line break"),
        ({"first_line": b"G1 X1\r"}, "line break"),
        ({"prologue": [b"M83\0"]}, "NUL"),
        ({"header_end": 3}, "header end 3 is inside"),
        ({"header_end": 9}, "expected header end 9 <= position 8"),
        ({"position": 7}, "offset 7 is inside a line"),
        ({"position": 14}, "position 14 < 14"),
        ({"fraction": 0.5}, "without a split line"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    source = tmp_path / "a.gcode"
    source.write_bytes(b"; a\nG28\nG1 X9\n")
    options = {"position": 8, "header_end": 4, **options}
    with pytest.raises(RewriteError, match=reason):
        written(source, tmp_path / "out", options.pop("position"), **options)
    assert os.listdir(tmp_path) == ["a.gcode"]


def test_a_changed_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gcode"
    path.write_bytes(b"G28\n")
    with open(path, "rb") as f, pytest.raises(RewriteError, match="has 4 bytes"):
        write(
            f,
            tmp_path / "out",
            original="a.gcode",
            original_size=5,
            original_fingerprint="0" * 64,
            header_end=0,
            file_position=0,
            prologue=[],
        )


def test_an_existing_file_is_never_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        written(FILES[0], out, 0)
    assert out.read_bytes() == b"mine" and os.listdir(tmp_path) == ["out"]


def test_a_file_that_comes_meanwhile_is_not_replaced_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(os, "fsync", lambda fd: out.write_bytes(b"theirs"))
    with pytest.raises(FileExistsError):
        written(FILES[0], out, 0)
    assert out.read_bytes() == b"theirs" and os.listdir(tmp_path) == ["out"]


def test_what_a_cut_left_of_an_earlier_attempt_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "out.tmp").write_bytes(b"half")
    written(FILES[0], tmp_path / "out", 0)
    assert os.listdir(tmp_path) == ["out"]


def test_the_original_is_never_taken_for_the_temporary_file(tmp_path: Path) -> None:
    source = tmp_path / "a.gcode"
    source.write_bytes(b"G28\n")
    with pytest.raises(RewriteError, match="is the original"):
        written(source, tmp_path / "out", 0, temporary=source)
    assert source.read_bytes() == b"G28\n"


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publish, "_copy", full)
    with pytest.raises(OSError, match="No space"):
        written(FILES[0], tmp_path / "out", 0)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "missing", [["copy_file_range"], ["copy_file_range", "sendfile"], ["link"]]
)
def test_file_systems_without_the_fast_calls_get_the_same_file(
    missing: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected = written(FILES[0], tmp_path / "fast", 0)

    def unsupported(*args: Any, **kw: Any) -> int:
        raise OSError(95, "Operation not supported")

    for call in missing:
        monkeypatch.setattr(os, call, unsupported)
    _, out = written(FILES[0], tmp_path / "slow", 0)
    assert out == expected
    assert sorted(os.listdir(tmp_path)) == ["fast", "slow"]


@pytest.mark.parametrize("way", ["copy_file_range", "sendfile"])
def test_a_file_system_that_copies_nothing_is_not_waited_for(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected = written(FILES[0], tmp_path / "fast", 0)
    monkeypatch.setattr(os, way, lambda *args: 0)
    monkeypatch.setattr(publish, "_SLICE", 5000)
    assert written(FILES[0], tmp_path / "slow", 0)[1] == expected


def test_an_original_that_gets_shorter_meanwhile_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.gcode"
    path.write_bytes(b"G28\n")
    with open(path, "rb") as f, pytest.raises(RewriteError, match="ended at byte 4"):
        publish.publish(f.fileno(), [(0, 5)], tmp_path / "out", None)
    assert os.listdir(tmp_path) == ["a.gcode"]


def test_the_start_is_kept_as_comments(tmp_path: Path) -> None:
    source = tmp_path / "a.gcode"
    source.write_bytes(
        b"; made by\nM109 S210\n; thumbnail begin\nG1 Z.3 F600\n;LAYER_COUNT:2\n"
        b";LAYER:0\nG1 X1 Y1 E1\nG1 X2 E1\n"
    )
    position = source.read_bytes().index(b"G1 X2")
    stamp, out = written(source, tmp_path / "out", position)
    assert b"; made by\n" in out
    kept = out[: stamp.first_line_offset].partition(b"not run again.\n")[2]
    assert kept == (
        b"; M109 S210\n; thumbnail begin\n; G1 Z.3 F600\n"
        b";LAYER_COUNT:2\n;LAYER:0\n"
        b"M83 ; relative extrusion, from the record\n"
    )


def test_file_and_folder_are_synced_before_write_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def note(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    written(FILES[0], tmp_path / "out", 0)
    assert synced == [str(tmp_path / "out.tmp"), str(tmp_path)]


def test_prologue_comments_cannot_smuggle_a_line() -> None:
    assert commented("M83", "relative E") == b"M83 ; relative E"
    with pytest.raises(RewriteError, match="line break"):
        commented("M83", "file a\nM112")
