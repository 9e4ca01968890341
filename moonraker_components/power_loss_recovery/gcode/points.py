# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The layers of a file, each a place from which it can be printed on.

From the slicer's own notes or, without any, from the heights at which plastic is
laid.  Heights need not rise: objects may be printed one after another.
"""
from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from .ambient import name_of, parse
from .backward import last_word
from .errors import LexError, ScanError
from .layers import NOTE_START, Layers
from .modal import Motion
from .moves import run
from .text import WINDOW, Data, check, check_rest, windows

_MARKS = re.compile(
    rb"\n(;(?=" + NOTE_START + rb"|TIME_ELAPSED:)[^\n]{0,80}"
    rb"|(?:M73 |M8[23]|SET_PRINT_STATS_INFO )[^\n]{0,80})"
)
_ELAPSED = re.compile(rb";TIME_ELAPSED:(\d{1,9}(?:\.\d{0,9})?)")
_PERCENT = re.compile(rb"M73 P(\d{1,3})(?!\d)")
_HAS_Z = re.compile(
    rb"(?m)^[ \t]*(?:[Nn]\d{1,9}[ \t]*)?[Gg][0-3](?![\d.])[^\n;]*[Zz]"
)
# How far into a layer to look for its Z, one after the other
_AHEAD = (2048, 65536, 1 << 22)
_SAME_Z = 0.005
# A spiral has no steps: there a layer is what the last one was, or this.
_SPIRAL_STEP = 0.2
MAX_POINTS = 1 << 20


@dataclass(frozen=True)
class LayerPoint:
    """number: counted from 1, as scan.Head has it; not unique where a slicer counts
    each object's layers.  z: mm, in the file's coordinates.  height: mm.
    file_position: of the first line still to be printed.  share: 0..1, how much of
    the print is done there: of its time when `timed`, else of its bytes.
    """

    number: int
    z: float | None
    height: float | None
    file_position: int
    share: float
    timed: bool


@dataclass
class _Entry:
    file_position: int
    number: int
    z: float
    height: float
    time: float
    absolute_extrude: bool
    noted: bool = True


@dataclass
class _Reader:
    """One pass over the notes of a slicer."""

    layers: Layers = field(default_factory=Layers)
    entries: list[_Entry] = field(default_factory=list)
    elapsed: float = 0.0
    timed: bool = False
    absolute_extrude: bool = True

    def read(self, line: bytes, offset: int) -> None:
        if line.startswith(b";"):
            elapsed = _ELAPSED.match(line)
            if elapsed is not None:
                self.elapsed, self.timed = float(elapsed[1]), True
            elif self.layers.note(line):
                self._begin(offset, True)
        elif line.startswith(b"M73"):
            percent = _PERCENT.match(line)
            if percent is not None:
                self.elapsed, self.timed = int(percent[1]) / 100.0, True
        elif line.startswith(b"M8"):
            self.absolute_extrude = name_of(line) == "M82"
        else:
            before = self.layers.number
            self.layers.print_stats(parse(line))
            if not self.entries and self.layers.number is not None or (
                self.entries
                and not self.entries[-1].noted
                and self.layers.number != before
            ):
                self._begin(offset, False)
        if self.entries:
            entry, layers = self.entries[-1], self.layers
            entry.number = layers.number if layers.number is not None else entry.number
            entry.z, entry.height = layers.z, layers.thickness

    def _begin(self, offset: int, noted: bool) -> None:
        if len(self.entries) >= MAX_POINTS:
            raise ScanError(f"more than {MAX_POINTS} layers")
        number = self.layers.number or 0
        self.entries.append(
            _Entry(offset, number, math.nan, math.nan, self.elapsed,
                   self.absolute_extrude, noted)
        )  # fmt: skip


def points(data: Data) -> list[LayerPoint]:
    """All layers, in the order of the file.  Raises ScanError as scan.scan() does."""
    check(data, 0)
    check_rest(data, 0)
    reader = _Reader()
    for start, piece in windows(data, 0, len(data)):
        text = piece if start else b"\n" + piece
        for match in _MARKS.finditer(text):
            at = start + match.start(1) - (0 if start else 1)
            try:
                reader.read(match[1], at)
            except LexError as error:
                raise ScanError(f"at offset {at}: {error}") from error
    entries = reader.entries
    if any(entry.noted for entry in entries):
        entries = [entry for entry in entries if entry.noted]
    if not entries:
        entries, reader.timed = list(_from_moves(data)), False
    else:
        _find_heights(data, entries)
    return _finished(data, entries, reader)


def by_number(found: Sequence[LayerPoint], number: int) -> LayerPoint:
    """The layer of that number.  Raises ScanError when there is none or several."""
    return _only([p for p in found if p.number == number], f"layer {number}", found)


def by_z(found: Sequence[LayerPoint], z: float) -> LayerPoint:
    """The first layer that lies at `z` or above.  Raises ScanError when there is
    none, or several as with objects printed one after another."""
    below, chosen = -math.inf, []
    for point in found:
        if point.z is None:
            continue
        if below < z - _SAME_Z <= point.z:
            chosen.append(point)
        below = point.z
    return _only(chosen, f"Z {z:g}", found)


def _only(
    chosen: Sequence[LayerPoint], asked: str, found: Sequence[LayerPoint]
) -> LayerPoint:
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        zs = [point.z for point in found if point.z is not None]
        span = f", Z {min(zs):g} to {max(zs):g}" if zs else ""
        raise ScanError(f"the file has no {asked}: it has {len(found)} layers{span}")
    places = ", ".join(str(point.file_position) for point in chosen[:8])
    raise ScanError(
        f"the file comes to {asked} {len(chosen)} times, at bytes {places}: name the"
        " byte position instead"
    )


def _find_heights(data: Data, entries: list[_Entry]) -> None:
    """For slicers whose notes have no Z: that of the layer's first plastic."""
    z = math.nan
    for i, entry in enumerate(entries):
        stop = entries[i + 1].file_position if i + 1 < len(entries) else len(data)
        if math.isfinite(entry.z):
            z = entry.z
            continue
        # Cura goes up before it says that a layer begins.
        before = entries[i - 1].file_position if i else 0
        was = last_word(data, before, entry.file_position, "Z")
        for ahead in _AHEAD:
            end = min(stop, entry.file_position + ahead)
            motion = Motion(absolute_extrude=entry.absolute_extrude, printing=True)
            motion.position[2] = z if was is None else was
            layers = Layers()
            piece = data[entry.file_position : end]
            run(piece[: piece.rfind(b"\n") + 1], entry.file_position, motion, layers)
            entry.z = layers.printed_z
            if math.isfinite(entry.z) or end == stop:
                break
        z = entry.z if math.isfinite(entry.z) else z


def _from_moves(data: Data) -> Iterator[_Entry]:
    """Layers by the Z at which plastic is laid: a hop lays none."""
    motion, layers = Motion(), Layers()
    number, step, resume = 0, _SPIRAL_STEP, 0
    layer_z = highest = math.nan
    for start, piece in windows(data, 0, len(data), WINDOW):
        cuts = [match.start() for match in _HAS_Z.finditer(piece)]
        for begin, stop in zip([0, *cuts], [*cuts, len(piece)], strict=True):
            first, last = run(piece[begin:stop], start + begin, motion, layers)
            if first is None or last is None:
                continue
            z = layers.printed_z
            # Plastic on the very line that changes Z: a slope.
            sloped = first == start + begin
            if sloped:
                begins = not z - highest < step - _SAME_Z
            else:
                begins = not abs(z - layer_z) <= _SAME_Z
            if begins and math.isfinite(z):
                if number >= MAX_POINTS:
                    raise ScanError(f"more than {MAX_POINTS} layers")
                number += 1
                if not sloped and _SAME_Z < z - layer_z < 2.0:
                    step = z - layer_z
                yield _Entry(resume, number, z, math.nan, 0.0, True)
                layer_z = highest = z
            resume = start + piece.find(b"\n", last - start) + 1 or start + stop


def _finished(
    data: Data, entries: list[_Entry], reader: _Reader
) -> list[LayerPoint]:
    total = max(reader.elapsed, 1.0) if reader.timed else float(len(data))
    found: list[LayerPoint] = []
    below = 0.0
    for entry in entries:
        z = entry.z if math.isfinite(entry.z) else None
        height = entry.height if math.isfinite(entry.height) else None
        if height is None and z is not None and z - below > _SAME_Z:
            height = round(z - below, 4)
        done = entry.time if reader.timed else float(entry.file_position)
        share = min(done / total, 1.0)
        point = LayerPoint(
            entry.number, z, height, entry.file_position, share, reader.timed
        )
        # Cura ends its notes with the time of the last layer, others at 100 %.
        found.append(replace(point, share=max(share, found[-1].share if found else 0)))
        below = below if z is None else z
    return found
