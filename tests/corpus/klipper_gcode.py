# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""How Klipper takes a line apart, for a model of Klipper that tests compare with.

Written from klippy/gcode.py and from nothing of ours: _process_commands,
is_traditional_gcode, GCodeCommand.get_raw_command_parameters and
_get_extended_params.
"""
from __future__ import annotations

import re
import shlex

ARGUMENTS = re.compile("([A-Z_]+|[A-Z*])")
Params = dict[str, str]


class Stopped(Exception):
    """Klipper answers this line with an error: the print stops here."""


def take_apart(line: str) -> tuple[str, Params]:
    """(command, its letters and what follows each) of one line."""
    code = line.strip()
    comment = code.find(";")
    if comment >= 0:
        code = code[:comment]
    parts = ARGUMENTS.split(code.upper())
    if "".join(parts[:2]) == "N":
        command = "".join(parts[3:5]).strip()
    else:
        command = "".join(parts[:3]).strip()
    return command, {
        parts[i]: parts[i + 1].strip() for i in range(1, len(parts), 2)
    }


def is_traditional(command: str) -> bool:
    word = command.split()[0]
    try:
        float(word[1:])
    except ValueError:
        return False
    return word[0].isupper() and word[1].isdigit()


def named(command: str, line: str) -> Params:
    """The KEY=VALUE pairs of an extended command."""
    text = line.strip()
    start, end = len(command), len(text)
    if text[:start].upper() != command:
        start += text.upper().find(command)
        star = text.rfind("*")
        if star >= 0 and text[star + 1 :].isdigit():
            end = star
    if text[start : start + 1].isspace():
        start += 1
    words = shlex.shlex(text[start:end], posix=True)
    words.whitespace_split = True
    words.commenters = "#;"
    try:
        pairs = [word.split("=", 1) for word in words]
        return {key.upper(): value for key, value in pairs}
    except ValueError as error:
        raise Stopped(f"Malformed command {text[:80]!r}") from error


def number(params: Params, key: str, default: float | None = None) -> float | None:
    if key not in params:
        return default
    try:
        return float(params[key])
    except ValueError as error:
        raise Stopped(f"unable to parse {params[key][:80]!r}") from error
