# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a G-code file has done up to a byte offset, in one pass and bounded memory.

One regular expression finds the lines that matter.  Plain moves, nearly all of a
file, are applied here; modal.Modal applies every other command.
"""
from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import LexError, ScanError
from .markers import Data, Markers, find_markers, header_end, setup_lines
from .modal import Modal, Point4

__all__ = ["Head", "Markers", "Point4", "ScanError", "scan", "setup_lines"]

# Longer than any slicer writes; Klipper would hold the whole line in memory.
MAX_LINE = 1 << 20
# Slicers round E to 1e-5 mm; below this, a difference is a rounding of ours.
_E_ROUNDING = 1e-7

_N = rb"(-?[\d.]{1,32})"
_LINE = re.compile(
    rb"(?m)^(?:G[01](?: F" + _N + rb")?(?: Z" + _N + rb")?(?: X" + _N + rb")?"
    rb"(?: Y" + _N + rb")?(?: Z" + _N + rb")?(?: E" + _N + rb")?(?: F" + _N + rb")?"
    rb"[ \t\r]*(?:;[^\n]*)?$"
    rb"|[ \t\r\f\v]*([^;\s][^\n]{0,%d})"
    rb"|(;[ \t]*(?:LAYER|BEFORE_LAYER|Z:|layer \d|total layer)[^\n]{0,80}))"
    % MAX_LINE
)
_FORMATS = {
    b"GCDE": "binary G-code (.bgcode): export it as plain text from the slicer",
    b"PK\x03\x04": "a ZIP archive, such as .3mf: export the plate as plain G-code",
    b"\x1f\x8b": "compressed (gzip): unpack it first",
}

@dataclass(frozen=True)
class Head:
    """Everything before byte `end`.

    position: in the file's own coordinates, after its G92.
    absolute_coordinates, absolute_extrude: Klipper's default (True) until the
        file states one; the two `_stated` say whether it did.
    feedrate: F in mm/min.
    retracted: mm that the current tool's filament is behind its furthest point;
        firmware_retracted: after G10, before G11.
    heaters: targets in degrees C by Klipper's heater name ("chamber" for M141).
    fans: 0..1; "fan" for M106, "fan2" for M106 P2, else the name given to
        SET_FAN_SPEED.
    layer: counted from 1.  layer_z: its Z, as stated or else as printed.
    printed_box: (x_min, y_min, x_max, y_max) of extruding moves, free of G92;
        None when nothing was printed or a frame is unknown.
    top_z: highest Z at which something was extruded.
    first_extrusion, last_extrusion: offsets of lines.
    """

    end: int
    header_end: int
    absolute_coordinates: bool
    absolute_extrude: bool
    coordinates_stated: bool
    extrude_stated: bool
    position: Point4
    feedrate: float | None
    retracted: float
    firmware_retracted: bool
    tool: int | None
    heaters: Mapping[str, float]
    fans: Mapping[str, float]
    layer: int | None
    layer_z: float | None
    total_layers: int | None
    printed_box: tuple[float, float, float, float] | None
    top_z: float | None
    object_definitions: tuple[bytes, ...]
    current_object: str | None
    first_extrusion: int | None
    last_extrusion: int | None
    markers: Markers


def scan(data: Data, end: int) -> Head:
    """Read `data` up to byte `end`, which must be the start of a line.

    Raises ScanError, with the reason in plain words, for an offset inside a
    line, a file that is no text, inches, and lines on which Klipper stops.
    """
    _check(data, end)
    modal = Modal()
    first, last = _run(data, end, modal)
    return _head(data, end, modal, first, last)


def _check(data: Data, end: int) -> None:
    if not 0 <= end <= len(data):
        raise ScanError(f"offset {end} is outside the file of {len(data)} bytes")
    if end and data[end - 1 : end] != b"\n":
        raise ScanError(f"offset {end} is inside a line, not at the start of one")
    for magic, what in _FORMATS.items():
        if data[: len(magic)] == magic:
            raise ScanError(f"the file is {what}")
    for start in range(0, end, MAX_LINE):
        at = data[start : min(start + MAX_LINE, end)].find(0)
        if at >= 0:
            raise ScanError(
                f"NUL byte at offset {start + at}: the file is damaged or binary"
            )


def _run(data: Data, end: int, modal: Modal) -> tuple[int | None, int | None]:
    """Apply all lines; returns the offsets of the first and last extrusion."""
    first = last = match = None
    absolute = absolute_e = True
    px, py, pz, pe = modal.position
    x_min, y_min, z_min = modal.low
    x_max, y_max, top_z = modal.high
    feedrate, retracted, printed_z = modal.feedrate, 0.0, math.nan
    layers = modal.layers
    rounding = -_E_ROUNDING
    x: bytes | str | None
    y: bytes | str | None
    z: bytes | str | None
    e: bytes | str | None
    f: bytes | str | None
    try:
        for match in _LINE.finditer(data, 0, end):
            f_early, z_early, x, y, z, e, f, command, note = match.groups()
            if command is not None or note is not None:
                # Locals make the loop fast; hand them over, and take them back.
                modal.position = [px, py, pz, pe]
                modal.low, modal.high = [x_min, y_min, z_min], [x_max, y_max, top_z]
                modal.feedrate, modal.retracted = feedrate, retracted
                modal.printing = first is not None
                layers.printed_z = printed_z
                words = None
                if note is not None:
                    layers.note(note)
                elif len(command) > MAX_LINE:
                    raise ScanError(f"line of more than {MAX_LINE} bytes")
                else:
                    words = modal.command(command)
                px, py, pz, pe = modal.position
                x_min, y_min, z_min = modal.low
                x_max, y_max, top_z = modal.high
                feedrate, retracted = modal.feedrate, modal.retracted
                printed_z = layers.printed_z
                absolute = modal.absolute_coordinates
                absolute_e = absolute and modal.absolute_extrude
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
        raise ScanError(f"at offset {match.start()}: {error}") from error
    except ValueError as error:
        assert match is not None
        raise ScanError(
            f"at offset {match.start()}: unable to parse the move {match[0][:80]!r}"
        ) from error
    modal.position = [px, py, pz, pe]
    modal.low, modal.high = [x_min, y_min, z_min], [x_max, y_max, top_z]
    modal.feedrate, modal.retracted = feedrate, retracted
    layers.printed_z = printed_z
    return (first and first.start(), last and last.start())


def _head(
    data: Data, end: int, modal: Modal, first: int | None, last: int | None
) -> Head:
    low = [value + frame for value, frame in zip(modal.low, modal.frame, strict=True)]
    high = [value + frame for value, frame in zip(modal.high, modal.frame, strict=True)]
    box = (low[0], low[1], high[0], high[1])
    return Head(
        end=end,
        header_end=header_end(data, end),
        absolute_coordinates=modal.absolute_coordinates,
        absolute_extrude=modal.absolute_extrude,
        coordinates_stated=modal.coordinates_stated,
        extrude_stated=modal.extrude_stated,
        position=Point4(*map(_known, modal.position)),
        feedrate=_known(modal.feedrate),
        retracted=modal.retracted,
        firmware_retracted=modal.firmware_retracted,
        tool=modal.tool,
        heaters=dict(modal.heaters),
        fans=dict(modal.fans),
        layer=modal.layers.number,
        layer_z=_known(modal.layers.height()),
        total_layers=modal.layers.total,
        printed_box=box if all(map(math.isfinite, box)) else None,
        top_z=_known(high[2]),
        object_definitions=tuple(modal.object_definitions),
        current_object=modal.current_object,
        first_extrusion=first,
        last_extrusion=last,
        markers=find_markers(data, end),
    )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
