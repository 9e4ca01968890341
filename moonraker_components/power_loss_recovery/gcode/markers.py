# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Landmarks in a file's start: where its leading comments end, and the two
placeholder lines of the guide, which are optional."""
from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import ScanError
from .lexer import command_name
from .text import Data, windows

MAX_SETUP = 1 << 20
_PLACEHOLDER = b"PLR_RESUME - "
# What may stand before those words in their line
_LEAD = 64
_LINE = re.compile(
    rb"[ \t]*;+[ \t]*PLR_RESUME - (?:(INITIAL PRINTER SETUP)|PRINT GCODE) STARTS"
    rb"[ \t;]*\r?(?:\n|\Z)"
)
_FIRST_COMMAND = re.compile(rb"(?m)^[ \t\r\f\v]*[^;\s]")
# On a resume these can be run again: they set, and move and heat nothing.
_HARMLESS = frozenset(
    "G17 G21 G90 M73 M82 M83 M117 M204 M486 EXCLUDE_OBJECT_DEFINE"
    " SET_GCODE_VARIABLE SET_PRESSURE_ADVANCE SET_PRINT_STATS_INFO"
    " SET_RETRACTION SET_VELOCITY_LIMIT".split()
)


@dataclass(frozen=True)
class Markers:
    """Offsets of the guide's two placeholder lines, None where absent."""

    setup: int | None = None
    print_gcode: int | None = None


def header_end(data: Data, end: int) -> int:
    """The start of the first line before `end` that is no comment or blank."""
    for start, piece in windows(data, 0, end):
        match = _FIRST_COMMAND.search(piece)
        if match is not None:
            return start + match.start()
    return end


def find_markers(data: Data, end: int) -> Markers:
    """The first of each placeholder line before `end`."""
    markers = Markers()
    for start, piece in windows(data, 0, end):
        markers = markers_in(piece, start, markers)
    return markers


def markers_in(piece: bytes, offset: int, before: Markers) -> Markers:
    """`before`, with those that a piece of whole lines, at `offset`, adds to it."""
    setup, print_gcode = before.setup, before.print_gcode
    # A plain search is many times faster than a pattern.
    at = piece.find(_PLACEHOLDER)
    while at >= 0 and (setup is None or print_gcode is None):
        newline = piece.rfind(b"\n", max(0, at - _LEAD), at)
        match = None
        if newline >= 0 or at < _LEAD:
            match = _LINE.match(piece, newline + 1)
        if match is not None and match[1] is not None:
            setup = offset + newline + 1 if setup is None else setup
        elif match is not None and print_gcode is None:
            print_gcode = offset + newline + 1
        line_end = piece.find(b"\n", at)
        at = piece.find(_PLACEHOLDER, line_end) if line_end >= 0 else -1
    return Markers(setup, print_gcode)


def setup_lines(data: Data, markers: Markers) -> tuple[list[bytes], list[bytes]]:
    """What stands before INITIAL PRINTER SETUP: (to run again, left out).

    Only settings are run again: a start macro would home Z into the part.
    Comments and blank lines are in neither.  Both are empty without the marker.
    Raises ScanError when the marker does not stand in the file's start.
    """
    kept: list[bytes] = []
    dropped: list[bytes] = []
    if markers.setup is None:
        return kept, dropped
    if markers.setup > MAX_SETUP:
        raise ScanError(
            f"the INITIAL PRINTER SETUP placeholder stands at offset"
            f" {markers.setup}: expected within the first {MAX_SETUP} bytes"
        )
    for line in data[: markers.setup].split(b"\n"):
        name = command_name(line)
        if name:
            (kept if name in _HARMLESS else dropped).append(line.strip())
    return kept, dropped
