# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""scripts/plr as its users have it: a bare Python, plain lines, no traceback."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from moonraker_components.power_loss_recovery.gcode.rewriter import read_stamp
from moonraker_components.power_loss_recovery.gcode.scan import scan
from tests.unit.journal_samples import A, interrupted
from tests.unit.samples import GCODE, JOB, record

REPO = Path(__file__).resolve().parents[3]
DATA = REPO / "tests" / "data"
CUBE = DATA / "ps250_cube_absE.gcode"
TOOLS = DATA / "ps250_toolchange3_relE.gcode"


def plr(*arguments: object) -> subprocess.CompletedProcess[str]:
    """-I -S: neither this directory nor any installed package is there."""
    command = [sys.executable, "-I", "-S", str(REPO / "scripts" / "plr")]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


def refused(*arguments: object) -> str:
    """The one line that says why."""
    done = plr(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("plr: ") and done.stderr.count("\n") == 1
    return done.stderr


def made(*arguments: object) -> str:
    done = plr(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("command", [[], ["resume-file"], ["points"], ["journal"]])
def test_help_names_what_can_be_asked(command: list[str]) -> None:
    text = made(*command, "--help")
    assert "usage: plr" in text
    if command == ["resume-file"]:
        for option in ("--position", "--layer", "--z", "--standalone", "--output"):
            assert option in text


def test_points_lists_every_layer(tmp_path: Path) -> None:
    lines = made("points", CUBE).splitlines()
    data = CUBE.read_bytes()
    assert len(lines) == data.count(b"\n;LAYER_CHANGE") + 2
    first = lines[1].split()
    assert first[0] == "1" and data[int(first[-1]):].startswith(b";LAYER_CHANGE")


@pytest.mark.parametrize("source", [CUBE, TOOLS])
def test_the_three_ways_lead_to_the_same_file(source: Path, tmp_path: Path) -> None:
    data = source.read_bytes()
    place = made("points", source).splitlines()[20].split()
    number, z, position = place[0], place[1], int(place[-1])
    files = []
    for i, asked in enumerate((["--layer", number], ["--z", z],
                               ["--position", position])):  # fmt: skip
        out = tmp_path / f"{i}.gcode"
        said = made("resume-file", source, *asked, "-o", out, "--hotend", "200")
        assert f"goes on at byte {position}" in said
        files.append(out.read_bytes())
    assert files[0] == files[1] == files[2] and files[0].endswith(data[position:])


def test_the_file_is_put_beside_the_original_and_never_over_another(
    tmp_path: Path,
) -> None:
    copy = tmp_path / "part.gcode"
    copy.write_bytes(CUBE.read_bytes())
    said = made("resume-file", copy, "--layer", 7)
    out = tmp_path / f"part-resume-{said.split()[5].rstrip(',')}.gcode"
    assert out.exists()
    assert "is there already" in refused("resume-file", copy, "--layer", 7)
    assert copy.read_bytes() == CUBE.read_bytes()


def test_a_resume_file_of_a_resume_file_is_made_from_the_original(
    tmp_path: Path,
) -> None:
    copy, first, second = (tmp_path / f"{n}.gcode" for n in ("part", "a", "b"))
    copy.write_bytes(CUBE.read_bytes())
    made("resume-file", copy, "--layer", 7, "-o", first)
    with open(first, "rb") as f:
        stamp = read_stamp(f)
    assert stamp is not None
    data = first.read_bytes()
    later = data.index(b";LAYER_CHANGE", stamp.tail_offset + 5000)
    made("resume-file", first, "--position", later, "-o", second)
    with open(second, "rb") as f:
        again = read_stamp(f)
    assert again is not None and again.original == "part.gcode"
    assert copy.read_bytes()[again.file_position:] == data[later:]
    copy.write_bytes(b"; other\n")
    assert "is not there or was changed" in refused("resume-file", first, "--z", 1)


def test_a_standalone_file_prepares_the_printer(tmp_path: Path) -> None:
    out = tmp_path / "out.gcode"
    said = made("resume-file", CUBE, "--layer", 9, "--standalone", "-o", out)
    assert "Note: Nothing was saved" in said
    text = out.read_text()
    order = [
        "; Klipper needs [force_move]", "\nM140 S",
        "\nTEMPERATURE_WAIT SENSOR=heater_bed",
        "\nSET_KINEMATIC_POSITION Z=", "\nG91\nG1 Z", "\nG28 X Y\n",
        "\nSET_HEATER_TEMPERATURE HEATER=extruder TARGET=215.0", "\nG92 E",
    ]  # fmt: skip
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    bed = plr("resume-file", CUBE, "--layer", 9, "--standalone", "--bed", "10,10",
              "-o", tmp_path / "no.gcode")  # fmt: skip
    assert bed.returncode == 2 and "this machine from 0.00 to 10.00" in bed.stderr


def test_what_klipper_alone_cannot_be_given_is_said(tmp_path: Path) -> None:
    kept = tmp_path / "kept.gcode"
    start = b"M104 S200\nM140 S60\nM83\nG1 X1 Y1 Z1\nSAVE_GCODE_STATE NAME=a\n"
    kept.write_bytes(start + GCODE)
    position = kept.read_bytes().index(b"G1 X100 Y150")
    asked = ["resume-file", kept, "--position", position, "-o"]
    prepared, alone = tmp_path / "prepared.gcode", tmp_path / "alone.gcode"
    assert "SAVE_GCODE_STATE" not in made(*asked, prepared)
    assert b"_PLR_RESTORE DATA=" in prepared.read_bytes()
    more = ["--standalone", "--bed", "220,220"]
    assert "Note: SAVE_GCODE_STATE stands before" in made(*asked, alone, *more)
    assert b"_PLR_" not in alone.read_bytes()


def test_a_second_nozzle_may_be_on_a_second_carriage(tmp_path: Path) -> None:
    two = tmp_path / "two.gcode"
    two.write_bytes(b"M104 S200\nM104 S200 T1\nM140 S60\nT1\n" + GCODE)
    position = two.read_bytes().index(b"G1 X100 Y150")
    asked = ["resume-file", two, "--position", position]
    more = ["--standalone", "--bed", "220,220"]
    assert "(IDEX) do not run this file" in made(*asked, *more)
    assert "(IDEX)" not in made("resume-file", CUBE, "--layer", 9, "--standalone",
                                "-o", tmp_path / "one.gcode")  # fmt: skip


def test_a_bed_that_nobody_names_is_asked_for(tmp_path: Path) -> None:
    bare = tmp_path / "bare.gcode"
    bare.write_bytes(b"M104 S200\nM140 S60\n" + GCODE)
    position = bare.read_bytes().index(b"G1 X100 Y150")
    asked = ["resume-file", bare, "--position", position, "--standalone"]
    assert "pass --bed X,Y" in refused(*asked)
    made(*asked, "--bed", "220,220")


def ended(text: bytes) -> bytes:
    return b"M104 S200\nM140 S60\n" + text


@pytest.mark.parametrize(("content", "place", "said"), [
    (b"", 0, "empty"),
    (b"GCDE" + bytes(99), 4, ".bgcode"),
    (b"PK\x03\x04" + bytes(99), 4, ".3mf"),
    (bytes(range(256)) * 40, 10, "offset"),
    (ended(b"G20\n" + GCODE), len(ended(b"G20\n")) + 90, "inside a line"),
    (ended(b"G20\nG1 X1\n" + GCODE), len(ended(b"G20\n")), "inches"),
    (ended(GCODE), 3, "inside a line"),
    (ended(GCODE), len(ended(b"")), "nothing is printed before"),
    (ended(GCODE + b"M84\n"), len(ended(GCODE)), "nothing is printed after"),
    (ended(GCODE), 10**9, "outside the file"),
    (ended(GCODE), -5, "outside the file"),
    (GCODE, GCODE.index(b"G1 X100 Y150"), "how hot the nozzle"),
])  # fmt: skip
def test_what_cannot_go_on_is_refused_in_one_line(
    content: bytes, place: int, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "part.gcode"
    path.write_bytes(content)
    assert said in refused("resume-file", path, "--position", place)
    assert os.listdir(tmp_path) == ["part.gcode"]


@pytest.mark.parametrize("arguments", [
    ["resume-file", CUBE], ["resume-file", CUBE, "--layer", "x"],
    ["resume-file", CUBE, "--layer", "1", "--z", "1"], ["what"], [],
    ["resume-file", CUBE, "--layer", "9", "--standalone", "--bed", "5"],
    ["resume-file", CUBE, "--layer", "9", "--standalone", "--bed", "a,b"],
    ["resume-file", "/nowhere/part.gcode", "--z", "1"], ["points", "/nowhere"],
    ["points", "/"], ["resume-file", CUBE, "--layer", "9999"],
    ["resume-file", CUBE, "--z", "nan"], ["journal", "/nowhere"], ["journal", CUBE],
    ["resume-file", CUBE, "--layer", "9", "-o", "/nowhere/out.gcode"],
])  # fmt: skip
def test_what_was_asked_wrongly_is_said_in_one_line(arguments: list[object]) -> None:
    refused(*arguments)


def test_a_journal_is_listed_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = interrupted(path, JOB, record(fraction=0.25))
    journal.write_mark(A, b"no record")
    before = path.read_bytes(), path.stat().st_mtime_ns
    os.chmod(path, 0o444)
    lines = made("journal", path).splitlines()
    assert lines[0].startswith("part.gcode, ") and lines[0].endswith(": interrupted")
    assert f"byte {record().file_position} +0.250 Z 0.400 layer 3" in lines[1]
    assert "not readable" in lines[2]
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    os.chmod(path, 0o644)
    journal.close_job(A, "complete")
    assert made("journal", path).splitlines()[0].endswith(": ended: complete")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -I -S {REPO}/scripts/plr points {CUBE} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.startswith("layer") and done.stderr == ""


def test_the_file_goes_on_in_the_files_own_state(tmp_path: Path) -> None:
    out = tmp_path / "out.gcode"
    made("resume-file", CUBE, "--layer", 9, "-o", out)
    data = CUBE.read_bytes()
    with open(out, "rb") as f:
        stamp = read_stamp(f)
    assert stamp is not None and zlib.crc32(data[stamp.file_position:]) == zlib.crc32(
        out.read_bytes()[stamp.tail_offset:]
    )
    whole = scan(data, stamp.file_position)
    again = scan(out.read_bytes(), stamp.tail_offset)
    for what in ("position", "feedrate", "absolute_extrude", "absolute_coordinates"):
        assert getattr(again, what) == pytest.approx(getattr(whole, what)), what
    assert json.dumps(stamp.original) == '"ps250_cube_absE.gcode"'
