# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The second copy of the Z calibration, and klippy's variables file that it mends.

klippy keeps the calibration in the file of [save_variables], which it empties
before it writes and never syncs.  A cut there leaves a file that is empty, or one
that klippy cannot read, and then klippy does not start.
"""
from __future__ import annotations

import ast
import configparser
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

SCHEMA = 1
# What klippy says when it does not start because of its variables
UNREADABLE = "Unable to parse existing variable file"
MAX_FILE = 1 << 20
INFO = "z_calibration_info"
_LENGTH = re.compile(r"z_(offset|endstop_position)_stepper_z[1-3]?")
_SECTION = "Variables"


class CalibrationError(Exception):
    """What was read is not a calibration; the text says what is wrong with it."""


@dataclass(frozen=True)
class Calibration:
    """time: of the calibration, seconds since epoch.

    variables: those of the calibration, by name, as klippy has them.
    path: of klippy's variables file; empty when it is not known.
    """

    time: int
    variables: Mapping[str, Any]
    path: str

    @staticmethod
    def from_klippy(variables: Mapping[str, Any], path: str) -> Calibration:
        """`variables`: all of klippy's.  Raises CalibrationError."""
        if path and (path[0] != "/" or not path.isprintable()):
            raise CalibrationError(f"{path!r} is not the path of a file")
        when, config = _check_info(variables.get(INFO))
        kept: dict[str, Any] = {
            name: value for name, value in variables.items() if _LENGTH.fullmatch(name)
        }
        for name, value in kept.items():
            if not _is_number(value) or abs(value) > 5000:
                raise CalibrationError(f"{name} is {value!r}, not a length")
        if not kept:
            raise CalibrationError("there are no heights")
        kept[INFO] = {"time": when, "config": config}
        return Calibration(when, kept, path)

    def to_bytes(self) -> bytes:
        """One line of JSON and one with its SHA-256."""
        body = json.dumps(
            {"schema": SCHEMA, "path": self.path, "variables": self.variables},
            sort_keys=True,
        ).encode()
        return body + b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n"

    @staticmethod
    def from_bytes(data: bytes) -> Calibration:
        """Raises CalibrationError."""
        body, _, rest = data.partition(b"\n")
        if rest.strip() != hashlib.sha256(body).hexdigest().encode():
            raise CalibrationError("its checksum is wrong")
        try:
            table = json.loads(body)
        except (ValueError, RecursionError) as e:
            raise CalibrationError("it is not JSON") from e
        if not isinstance(table, dict) or table.get("schema") != SCHEMA:
            raise CalibrationError("it is of another version of this plugin")
        variables, path = table.get("variables"), table.get("path")
        if not isinstance(variables, dict) or not isinstance(path, str):
            raise CalibrationError("something is missing in it")
        return Calibration.from_klippy(variables, path)

    def command(self) -> str:
        """Gives the calibration to klippy, which decides whether it fits."""
        data = json.dumps(self.variables, sort_keys=True).encode().hex()
        return f"_PLR_RESTORE_CALIBRATION DATA={data}"


@dataclass(frozen=True)
class Mended:
    """data: what the file is to be.  kept: other variables that could be read.
    older: those that were taken as they were earlier.  lost: names, or what is left
    of them, of those that are nowhere."""

    data: bytes
    kept: tuple[str, ...]
    lost: tuple[str, ...]
    older: tuple[str, ...] = ()


def parse(data: bytes) -> dict[str, Any]:
    """A variables file as klippy reads it.  Raises ValueError where klippy stops."""
    parser = configparser.ConfigParser()
    try:
        text = data.decode().replace("\r\n", "\n").replace("\r", "\n")
        parser.read_string(text)
        if not parser.has_section(_SECTION):
            return {}
        return {
            name: ast.literal_eval(value) for name, value in parser.items(_SECTION)
        }
    except Exception as e:
        # So does klippy: literal_eval() alone can raise five kinds
        raise ValueError(str(e)) from e


def mend(
    data: bytes, ours: Mapping[str, Any], older: Mapping[str, Any] | None = None
) -> Mended:
    """A file for klippy: `ours`, each line of `data` that can be read, and `older`.

    A last line without its end is not used: half a number is a number, too.
    """
    lines = data.split(b"\n")
    found: dict[str, Any] = {}
    lost: list[str] = []
    for number, line in enumerate(lines):
        read = _variable(line) if number + 1 < len(lines) else {}
        found.update(read)
        if not read and not re.fullmatch(rb"\s*([#;].*|\[Variables\]\s*)?", line):
            lost.append(_name(line))
    kept = {n: v for n, v in found.items() if n not in ours}
    wanted = {**(older or {}), **kept, **ours}
    out = _file(wanted)
    if parse(out) != wanted:
        raise ValueError("what could be read of it cannot be written again")
    taken = tuple(n for n in wanted if n not in kept and n not in ours)
    return Mended(out, tuple(kept), tuple(n for n in lost if n not in wanted), taken)


def _variable(line: bytes) -> dict[str, Any]:
    """What a line says, if that can be read and written again; else nothing."""
    try:
        read = parse(f"[{_SECTION}]\n".encode() + line)
        if all(name.isprintable() for name in read) and parse(_file(read)) == read:
            return read
    except ValueError:
        pass
    return {}


def _file(variables: Mapping[str, Any]) -> bytes:
    """As klippy writes it."""
    lines = [f"{name} = {variables[name]!r}".replace("%", "%%")
             for name in sorted(variables)]  # fmt: skip
    return "\n".join([f"[{_SECTION}]", *lines, "", ""]).encode()


def _name(line: bytes) -> str:
    text = re.split(rb"[=:]", line)[0].strip(b" \t\r\0").decode("ascii", "replace")
    return re.sub(r"[^\w .-]", "?", text)[:40] or "?"


def _check_info(info: Any) -> tuple[int, dict[str, str]]:
    """The time of a calibration, and what its heights depend on."""
    if isinstance(info, dict):
        when, config = info.get("time"), info.get("config")
        if _is_number(when) and 0 < when < 1e11 and isinstance(config, dict):
            texts = [*config, *config.values()]
            # klippy cannot write a '%'
            if all(isinstance(text, str) and "%" not in text for text in texts):
                return int(when), dict(config)
    raise CalibrationError(f"{INFO} is missing or damaged")


def _is_number(value: Any) -> TypeGuard[float]:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)
