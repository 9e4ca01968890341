# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Reads every line of a piece of a file: exact, and the reference for skim.py.

One regular expression finds the lines that matter.  Plain moves, nearly all of a
file, are applied here; modal.Motion and ambient.Ambient apply all other commands.
"""
from __future__ import annotations

import re

from .ambient import Ambient
from .errors import LexError, ScanError
from .layers import NOTE_START, Layers
from .modal import Motion
from .text import MAX_LINE

# Slicers round E to 1e-5 mm; below this, a difference is a rounding of ours.
_E_ROUNDING = 1e-7
_N = rb"(-?[\d.]{1,32})"
_LINE = re.compile(
    rb"(?m)^(?:G[01](?: F" + _N + rb")?(?: Z" + _N + rb")?(?: X" + _N + rb")?"
    rb"(?: Y" + _N + rb")?(?: Z" + _N + rb")?(?: E" + _N + rb")?(?: F" + _N + rb")?"
    rb"[ \t\r]*(?:;[^\n]*)?$"
    rb"|[ \t\r\f\v]*([^;\s][^\n]{0,%d})"
    rb"|(;" % MAX_LINE + NOTE_START + rb"[^\n]{0,80}))"
)


def run(
    piece: bytes,
    offset: int,
    motion: Motion,
    layers: Layers,
    ambient: Ambient | None = None,
) -> tuple[int | None, int | None]:
    """Apply all lines of `piece`, which stands at `offset` of the file.

    ambient: None leaves everything but motion and layer notes alone.  Returns the
    offsets in the file of the first and last extrusion in the piece.
    Raises ScanError, with the offset of the line at which Klipper would stop.
    """
    first = last = match = None
    absolute = motion.absolute_coordinates
    absolute_e = absolute and motion.absolute_extrude
    px, py, pz, pe = motion.position
    x_min, y_min, z_min = motion.low
    x_max, y_max, top_z = motion.high
    feedrate, retracted, printed_z = motion.feedrate, motion.retracted, layers.printed_z
    sure = None
    rounding = -_E_ROUNDING
    x: bytes | str | None
    y: bytes | str | None
    z: bytes | str | None
    e: bytes | str | None
    f: bytes | str | None
    try:
        for match in _LINE.finditer(piece):
            f_early, z_early, x, y, z, e, f, command, note = match.groups()
            if command is not None or note is not None:
                # Locals make the loop fast; hand them over, and take them back.
                motion.position = [px, py, pz, pe]
                motion.low, motion.high = [x_min, y_min, z_min], [x_max, y_max, top_z]
                motion.feedrate, motion.retracted = feedrate, retracted
                motion.printing = motion.printing or first is not None
                layers.printed_z = printed_z
                words = None
                if last is not sure:
                    sure, motion.unsure, motion.missed = last, False, False
                if note is not None:
                    layers.note(note)
                elif len(command) > MAX_LINE:
                    raise ScanError(f"line of more than {MAX_LINE} bytes")
                else:
                    words = motion.command(command)
                    if ambient is not None and words is None:
                        ambient.apply(command)
                px, py, pz, pe = motion.position
                x_min, y_min, z_min = motion.low
                x_max, y_max, top_z = motion.high
                feedrate, retracted = motion.feedrate, motion.retracted
                printed_z = layers.printed_z
                absolute = motion.absolute_coordinates
                absolute_e = absolute and motion.absolute_extrude
                if words is None:
                    continue
                x, y, z, e, f = words
                f_early = z_early = None
            sx, sy = px, py
            if x is not None:
                px = float(x) if absolute else px + float(x)
            if y is not None:
                py = float(y) if absolute else py + float(y)
            if z is None:
                z = z_early
            if z is not None:
                pz = float(z) if absolute else pz + float(z)
            if e is not None:
                value = float(e)
                moved = value - pe if absolute_e else value
                pe = value if absolute_e else pe + value
                behind = retracted - moved
                if behind < rounding:
                    retracted = 0.0
                    if x is not None or y is not None:
                        if sx < x_min:
                            x_min = sx
                        if sx > x_max:
                            x_max = sx
                        if px < x_min:
                            x_min = px
                        if px > x_max:
                            x_max = px
                        if sy < y_min:
                            y_min = sy
                        if sy > y_max:
                            y_max = sy
                        if py < y_min:
                            y_min = py
                        if py > y_max:
                            y_max = py
                        if pz > top_z:
                            top_z = pz
                        printed_z = pz
                        last = match
                        if first is None:
                            first = match
                elif behind == behind:
                    retracted = behind if behind > _E_ROUNDING else 0.0
            if f is None:
                f = f_early
            if f is not None:
                feedrate = float(f)
                if feedrate <= 0.0:
                    raise ScanError("a feed rate (F) of 0 or less")
    except (LexError, ScanError) as error:
        assert match is not None
        raise ScanError(f"at offset {offset + match.start()}: {error}") from error
    except ValueError as error:
        assert match is not None
        raise ScanError(
            f"at offset {offset + match.start()}: unable to parse the move"
            f" {match[0][:80]!r}"
        ) from error
    motion.position = [px, py, pz, pe]
    motion.low, motion.high = [x_min, y_min, z_min], [x_max, y_max, top_z]
    motion.feedrate, motion.retracted = feedrate, retracted
    layers.printed_z = printed_z
    motion.printing = motion.printing or first is not None
    if last is not sure:
        motion.unsure = motion.missed = False
    if first is None or last is None:
        return None, None
    return offset + first.start(), offset + last.start()
