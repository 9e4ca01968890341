# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The lexer's contract: a line is read as Klipper's own dispatcher reads it."""
from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
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

DATA = Path(__file__).resolve().parents[2] / "data"
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


def klippers_dispatcher(monkeypatch: pytest.MonkeyPatch) -> Any:
    tree = os.environ.get("KLIPPER_PATH")
    if not tree:
        pytest.skip("KLIPPER_PATH names no Klipper tree to compare with")
    monkeypatch.syspath_prepend(tree)
    try:
        module = importlib.import_module("klippy.gcode")
    except ImportError as error:
        pytest.skip(f"klippy's parser needs more than is installed here: {error}")
    dispatch = object.__new__(module.GCodeDispatch)
    dispatch.error = module.CommandError
    dispatch.respond_info = dispatch.respond_raw = lambda *args: None
    return dispatch


def as_klipper_reads(dispatch: Any, text: str) -> tuple[str, dict[str, str] | None]:
    seen: list[Any] = []

    class Handlers(dict):  # type: ignore[type-arg]
        def get(self, name: str, default: Any = None) -> Any:
            return seen.append

    dispatch.gcode_handlers = Handlers()
    dispatch._script_context = 0
    dispatch._process_commands([text], need_ack=False)
    command = seen[0]
    name = command.get_command()
    if not name or dispatch.is_traditional_gcode(name):
        return name, command.get_command_parameters()
    try:
        dispatch._get_extended_params(command)
    except dispatch.error:
        return name, None
    return name, command.get_command_parameters()


def test_a_move_of_many_words_is_read_in_no_time() -> None:
    line = b"G1" + b" E234" * 2000
    begin = time.process_time()
    assert is_plain_move(line) and not is_plain_move(line + b" .")
    assert time.process_time() - begin < 0.5


def test_klipper_itself_agrees_on_odd_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatch = klippers_dispatcher(monkeypatch)
    if dispatch.args_r.pattern != "([A-Z_]+|[A-Z*])":
        pytest.skip("this tree reads odd lines by the rules before v0.13")

    @settings(max_examples=1000, deadline=None)
    @given(st.lists(PIECES | st.text(max_size=3).map(str.encode), max_size=14))
    def agree(pieces: list[bytes]) -> None:
        line = b"".join(pieces).replace(b"\n", b"")
        name, params = as_klipper_reads(dispatch, line.decode())
        if not name or name.startswith(("M117", "M118")):
            return
        assert command_name(line) == name
        try:
            assert parse(line).params == params
        except LexError:
            assert params is None

    agree()


def test_klipper_itself_agrees_on_slicer_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatch = klippers_dispatcher(monkeypatch)
    for path in sorted(DATA.glob("*.gcode")):
        for line in set(path.read_bytes().split(b"\n")):
            command = parse(line)
            name, params = as_klipper_reads(dispatch, line.decode())
            assert (command.name, command.params) == (name, params)
