# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Reads one line of G-code the way Klipper's gcode.py does.

The rules are those of Klipper v0.13 and later, and of Kalico.  v0.12 differs
only for lines that no slicer writes: it skips text before the first letter,
accepts `G 1` for `G1`, takes `/` as a letter, and ends KEY=VALUE arguments at the
first `#`, `*` or `;` even inside quotes.
"""
from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass

from .errors import LexError

# Klipper: GCodeDispatch.args_r
_WORDS = re.compile(r"([A-Z_]+|[A-Z*])")
_MOVE_WORDS = frozenset("GXYZEFN*")
# shlex takes quadratic time; the longest object polygons have a tenth of this.
MAX_ARGUMENTS = 65536
# A name that ends where Klipper's own rules would end it, whatever follows.
_OBVIOUS_NAME = re.compile(
    rb"([A-MO-Z]\d{1,6}|[A-Z_]{2,})(?:[ \t]+[A-Z_]|[ \t\r\n]*(?:;|$))"
)
# Most lines of any file: no need to build a Command to know what they are.
_OBVIOUS_MOVE = re.compile(
    rb"[ \t]*G[01](?: [XYZE]-?(?:\d{1,9}(?:\.\d{0,9})?|\.\d{1,9}))+[ \t\r\n]*(?:;|$)"
)

# Nothing quoted, escaped or commented: many times faster without shlex
_SIMPLE = re.compile(r"(?:[A-Za-z_]+=[A-Za-z0-9_.,:+-]*(?:[ \t]+|$))+")
_LINE_NUMBER = re.compile(rb"\A[Nn][ \t]*\d+[ \t]*(?=[^ \t\d])")
_CHECKSUM = re.compile(rb"\*[ \t]*\d+$")


@dataclass(frozen=True)
class Command:
    """One line as Klipper dispatches it.

    name: upper case, empty for a blank line or a comment.
    params: for a letter-and-number command one entry a letter (the command's
        own letter, and N and * where present, included, as in Klipper); for
        any other command its KEY=VALUE pairs, keys in upper case.  Values
        are text, so that nothing is lost in rounding.
    plain_move: a straight G0/G1 that sets nothing but X Y Z E F, all readable.
    """

    name: str
    params: dict[str, str]
    raw: bytes
    plain_move: bool = False

    def number(self, key: str, default: float | None = None) -> float | None:
        """The value of `key` as a finite number, `default` when it is absent.

        Raises LexError when it is there and is not a number.
        """
        text = self.params.get(key)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise LexError(f"{self.name}: {key} is not a number", self.raw)
        return value

    def text(self) -> bytes:
        """The line as it can be run again elsewhere: without its number, and, for
        a command of letters and numbers, without comment and checksum."""
        line, numbered = _LINE_NUMBER.subn(b"", self.raw.strip())
        # A quoted value may have a ";" or "*" in it.
        if len(self.name) > 1 and self.name[1].isdigit():
            line = line.partition(b";")[0].strip()
            if self.name not in ("M117", "M118"):
                line = _CHECKSUM.sub(b"", line).strip()
        elif numbered:
            # Without the number, klippy would take it for a parameter.
            line = _CHECKSUM.sub(b"", line).strip()
        return line


def parse(line: bytes) -> Command:
    """Read one line, with or without its line end.

    Raises LexError for an extended command whose arguments are malformed.
    """
    text, parts, name = _split(line)
    if not name:
        return Command("", {}, line)
    if not _is_traditional(name):
        return Command(name, _extended(name, text, line), line)
    params = {parts[i]: parts[i + 1].strip() for i in range(1, len(parts), 2)}
    return Command(name, params, line, _plain(name, params))


def command_name(line: bytes) -> str:
    """The name under which Klipper dispatches the line; "" for a comment."""
    match = _OBVIOUS_NAME.match(line)
    return match[1].decode("ascii") if match else _split(line)[2]


def is_plain_move(line: bytes) -> bool:
    """Whether the line is a straight G0/G1 of X Y Z E F words only."""
    if _OBVIOUS_MOVE.match(line):
        return True
    try:
        return parse(line).plain_move
    except LexError:
        return False


def _split(line: bytes) -> tuple[str, list[str], str]:
    # Klipper: GCodeDispatch._process_commands.  It reads UTF-8; bytes that are
    # none pass through, so that a stray one in a comment does not matter.
    text = line.decode("utf-8", "surrogateescape").strip()
    parts = _WORDS.split(text.partition(";")[0].upper())
    if "".join(parts[:2]) == "N":
        name = "".join(parts[3:5]).strip()
    else:
        name = "".join(parts[:3]).strip()
    # "M117 20 mm left": those words would make "M117 20" of it.
    if name.startswith(("M117 ", "M118 ")):
        name = name[:4]
    return text, parts, name


def _is_traditional(name: str) -> bool:
    # Klipper: GCodeDispatch.is_traditional_gcode
    word = name.split()[0]
    try:
        float(word[1:])
    except ValueError:
        return False
    return word[0].isupper() and word[1].isdigit()


def _plain(name: str, params: dict[str, str]) -> bool:
    if name not in ("G0", "G1") or not _MOVE_WORDS.issuperset(params):
        return False
    try:
        numbers = {key: float(params[key]) for key in params if key in "XYZEF"}
    except ValueError:
        return False
    return all(map(math.isfinite, numbers.values())) and numbers.get("F", 1.0) > 0.0


def _extended(name: str, text: str, line: bytes) -> dict[str, str]:
    # Klipper: GCodeDispatch._get_extended_params
    if len(text) > MAX_ARGUMENTS:
        raise LexError(f"command of more than {MAX_ARGUMENTS} characters", line)
    raw = _raw_parameters(name, text)
    if _SIMPLE.fullmatch(raw):
        words = [word.split("=", 1) for word in raw.split()]
        return {key.upper(): value for key, value in words}
    lexer = shlex.shlex(raw, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = "#;"
    try:
        pairs = [word.split("=", 1) for word in lexer]
    except ValueError as error:
        raise LexError(f"malformed command ({error})", line) from error
    if any(len(pair) != 2 for pair in pairs):
        raise LexError("malformed command (expected KEY=VALUE)", line)
    return {key.upper(): value for key, value in pairs}


def _raw_parameters(name: str, text: str) -> str:
    # Klipper: GCodeCommand.get_raw_command_parameters
    start, end = len(name), len(text)
    if text[:start].upper() != name:
        start += text.upper().find(name)
        star = text.rfind("*")
        if star >= 0 and text[star + 1 :].isdigit():
            end = star
    if text[start : start + 1].isspace():
        start += 1
    return text[start:end]
