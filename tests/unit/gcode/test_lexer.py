# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The lexer's contract: a line is read as Klipper's own dispatcher reads it."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.gcode.errors import LexError
from moonraker_components.power_loss_recovery.gcode.lexer import (
    command_name,
    is_plain_move,
    parse,
)

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "tests" / "data"
CORPUS = ROOT.parent / "shared" / "gcodes"
MOVE = {"G": "1", "X": "10", "Y": "-2.5", "E": ".3"}


@pytest.mark.parametrize(
    "line",
    [
        b"G1 X10 Y-2.5 E.3",
        b"g1 x10 y-2.5 e.3\r\n",
        b"  G1X10Y-2.5E.3 ; X99",
        b"G1\tX 10  Y -2.5 E .3",
        b"G1 X9 X10 Y-2.5 E.3",
    ],
)
def test_case_blanks_and_comments_do_not_matter(line: bytes) -> None:
    command = parse(line)
    assert (command.name, command.params) == ("G1", MOVE)
    assert command.plain_move and command.raw == line


def test_line_numbers_and_checksums_are_skipped() -> None:
    command = parse(b"N12 G1 X10*77")
    assert command.name == "G1" and command.plain_move
    assert command.number("X") == 10.0


@pytest.mark.parametrize(("line", "alone"), [
    (b"N7 SET_PIN PIN=a VALUE=1 *33\r\n", b"SET_PIN PIN=a VALUE=1"),
    (b"N7 SET_PIN PIN=a*33", b"SET_PIN PIN=a"),
    (b"SET_PIN PIN=a*33", b"SET_PIN PIN=a*33"),
    (b"N7 M221 S95*33 ; flow", b"M221 S95"),
])  # fmt: skip
def test_a_line_that_is_run_elsewhere_leaves_its_checksum(
    line: bytes, alone: bytes
) -> None:
    # klippy takes one off only where there is a line number.
    command = parse(line)
    assert command.text() == alone
    again = parse(alone)
    assert again.name == command.name
    assert again.params.get("PIN") == command.params.get("PIN")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"", ""),
        (b"  \r\n", ""),
        (b"; G1 X1", ""),
        (b"G01 X1", "G01"),
        (b"G28", "G28"),
        (b"T0 ; tool", "T0"),
        (b"M117 20 mm left", "M117"),
        (b"M117 Layer 1/3 : PLA", "M117"),
        (b"START_PRINT BED=60", "START_PRINT"),
        (b"timelapse_take_frame", "TIMELAPSE_TAKE_FRAME"),
    ],
)
def test_names(line: bytes, name: str) -> None:
    assert parse(line).name == name == command_name(line)


@pytest.mark.parametrize("line", [b"/G1 X1", b"(comment) G1 X1", b"G 1 X1", b"5G1"])
def test_text_before_a_command_makes_it_another_one(line: bytes) -> None:
    assert command_name(line) != "G1"
    assert not is_plain_move(line)


def test_extended_commands_take_quotes_and_comments() -> None:
    line = b"N7 set_x name=\"a b;c\" Path='1=2' EMPTY= # why\n"
    assert parse(line).params == {"NAME": "a b;c", "PATH": "1=2", "EMPTY": ""}


def test_extended_values_keep_their_bytes() -> None:
    name = "Würfel_große – 测试.stl"
    line = f"EXCLUDE_OBJECT_START NAME='{name}'".encode()
    assert parse(line).params["NAME"] == name


@pytest.mark.parametrize(
    "line",
    [b"SET_X NAME='a", b"SET_X NAME", b"SET_X A=1 B", b"SET_X A=" + b"1" * 70000],
)
def test_malformed_extended_commands_are_errors(line: bytes) -> None:
    with pytest.raises(LexError) as caught:
        parse(line)
    assert caught.value.line == line
    assert not is_plain_move(line)


def test_numbers_are_finite_or_an_error() -> None:
    command = parse(b"M104 S200.5 T1.2.3 P" + b"9" * 400)
    assert command.number("S") == 200.5
    assert command.number("R") is None and command.number("R", 7.0) == 7.0
    for key in "TP":
        with pytest.raises(LexError, match=f"{key} is not a number"):
            command.number(key)


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        (b"G0 X1", True),
        (b"G1 F1800", True),
        (b"G1 E-.8 F2400 ; retract", True),
        (b"G1", True),
        (b"G2 X1 Y1 I1", False),
        (b"G1 X1 A5", False),
        (b"G1 X", False),
        (b"G1 X1 F0", False),
        (b"G1 X" + b"9" * 400, False),
        (b"G10", False),
        (b"SET_X A=1", False),
        (b"; G1 X1", False),
    ],
)
def test_plain_moves(line: bytes, plain: bool) -> None:
    assert is_plain_move(line) is plain


PIECES = st.sampled_from(
    [b"G1", b"N1", b" ", b"X1", b"e-.5", b"*", b"7", b";", b"#", b"'", b"=", b"SET_A"]
    + [b"M117 ", b"\t", b"_", b"T0", b"\\", b"F0", b"\xc2\xa0", "ß".encode()]
)


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES | st.binary(max_size=4), max_size=20).map(b"".join))
def test_any_bytes_give_a_command_or_our_error(line: bytes) -> None:
    try:
        command = parse(line)
    except LexError:
        assert not is_plain_move(line)
        return
    assert command.name == command_name(line)
    assert command.plain_move == is_plain_move(line)


def test_a_move_of_many_words_is_read_in_no_time() -> None:
    line = b"G1" + b" E234" * 2000
    begin = time.process_time()
    assert is_plain_move(line) and not is_plain_move(line + b" .")
    assert time.process_time() - begin < 0.5


class Klippy:
    """Klippy's own parser, of the tree under test, in a process of its own."""

    def __init__(self) -> None:
        tree = os.environ.get("PLR_KLIPPER_PATH")
        if not tree:
            pytest.skip("PLR_KLIPPER_PATH names no Klipper tree to compare with")
        python = os.environ.get("PLR_KLIPPY_PYTHON", sys.executable)
        script = Path(__file__).with_name("klippy_parser.py")
        self._process = subprocess.Popen(
            [python, str(script), tree], stdin=PIPE, stdout=PIPE, text=True
        )
        self.words = self._answer()

    def read(self, lines: list[str]) -> list[tuple[str, dict[str, str] | None]]:
        """The name and parameters of each line, None where klippy objects."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(lines) + "\n")
        self._process.stdin.flush()
        return [(name, params) for name, params in self._answer()]

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def klippy() -> Iterator[Klippy]:
    process = Klippy()
    yield process
    process.close()


def assert_read_as_klipper_does(klippy: Klippy, lines: list[str]) -> None:
    for line, (name, params) in zip(lines, klippy.read(lines), strict=True):
        if name.startswith(("M117", "M118")):
            # Klippy cuts the name when it dispatches, after parsing.
            name, params = name[:4], None
        raw = line.encode("utf-8", "surrogateescape")
        assert command_name(raw) == name, line
        try:
            found = parse(raw)
        except LexError:
            assert params is None, line
            continue
        assert found.name == name, line
        if name and params is not None:
            assert found.params == params, line


ODD = [
    "g1 x1 y2", "G1X10Y-2.5E.3", "  G1\tX 10  Y -2.5", "N12 G1 X10*77", "N1G28",
    "n5 m117 hello *", "G1 X9 X10", "G1 X1;c", "G1 X1 ; c ; d", "G01 X1", "G1 E-.5F99",
    "M117 20 mm left", "M118 a*b", "T0", "t1 ; tool", "G28 X Y", "G92.1", "*1", "N1",
    "SET_X A=1 b='c d' E=\"f;g\"", "set_x NAME=a#b", "SET_X A=1 # note", "SET_X A",
    "SET_X A='", "SET_X A=b\\ c", "START_PRINT BED=60 EXTRUDER=215.5", "SET_X A==",
    "SET_PIN PIN=a VALUE=1*", "G2 X1 Y1 I.5 J-.5 P1", "M486 ACube (1)", "M486 S-1",
    "", ";", "; G1 X1", "\t", "%", "(msg) G1 X1", "ß G1 X1", "G1 X1 \u00a0", "FOO_BAR",
    "G1 X1e3", "G1 X--1", "G1 X+1", "G1 X1,5", "M104 S200 T1*12", "M73 P1 R2", "G1_X1",
]  # fmt: skip


def test_klipper_itself_agrees_on_odd_lines(klippy: Klippy) -> None:
    if klippy.words == "([A-Z_]+|[A-Z*/])":
        # v0.12 skips what stands before the first letter, and ends arguments at
        # the first # * or ; even inside quotes.
        start, cut = ("%", "(", "ß", "*"), ("SET_X A=1 b", "SET_PIN")
        known = [line for line in ODD if not line.startswith(start + cut)]
        assert_read_as_klipper_does(klippy, known)
        return
    assert_read_as_klipper_does(klippy, ODD)

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.lists(PIECES | st.text(max_size=3).map(str.encode), max_size=14),
            max_size=12,
        )
    )
    def agree(lines: list[list[bytes]]) -> None:
        texts = [b"".join(x).replace(b"\n", b"").decode() for x in lines]
        assert_read_as_klipper_does(klippy, texts)

    agree()


@pytest.mark.parametrize(
    "path",
    sorted([*DATA.glob("*.gcode"), *CORPUS.rglob("*.gcode")]),
    ids=lambda path: path.name,
)
def test_klipper_itself_agrees_on_slicer_lines(path: Path, klippy: Klippy) -> None:
    if path.name.startswith(("cam_", "adversarial_")):
        pytest.skip("no slicer wrote this")
    lines = sorted(set(path.read_bytes().split(b"\n")))
    texts = [line.decode("utf-8", "surrogateescape") for line in lines]
    assert_read_as_klipper_does(klippy, texts)
