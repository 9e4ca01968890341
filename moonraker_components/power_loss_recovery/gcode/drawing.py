# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The plastic of a piece of a file, as lines on a plane: for people, not for motion.

Only that piece is read.  What the lines before it left behind is looked up backwards;
a line that cannot be read is left out.
"""
from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from . import arcs
from .backward import last_word
from .errors import GcodeError
from .lexer import command_name, parse
from .modal import Motion
from .text import WINDOW, Data, windows

Point = tuple[float, float]

# A longer layer is drawn around the place of interest only.
MAX_BYTES = 1 << 22
MAX_READ = 300_000  # points, before they are thinned
MAX_POINTS = 12_000
FURTHEST = 10_000.0  # mm: no machine is larger
_LOOK_BACK = 1 << 20
_E_ROUNDING = 1e-7
_ARC_STEP = 0.5  # mm
_ARC_STEPS = 24
_COARSE = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # mm
_PLAIN = re.compile(rb"G[01]((?: [XYZEF]-?[\d.]{1,20})+)[ \t\r]*(?:;.*)?$")


@dataclass(frozen=True)
class Drawing:
    """Paths are x, y, x, y... in mm, free of G92.

    printed: laid before the split, rest: after it.  begin: of the first path.
    seam: where the rest begins, None when the split is not in this piece.
    whole: False when something is left out.
    """

    printed: list[list[float]]
    rest: list[list[float]]
    begin: Point | None
    seam: Point | None
    whole: bool


@dataclass
class _Pen:
    """Joins lines into paths."""

    paths: list[list[float]] = field(default_factory=list)
    points: int = 0
    _at: Point | None = None

    def line(self, points: Sequence[Point]) -> None:
        if len(points) < 2:
            return
        if points[0] != self._at:
            self.paths.append([*points[0]])
            self.points += 1
        for point in points[1:]:
            self.paths[-1] += point
        self.points += len(points) - 1
        self._at = points[-1]


def draw(
    data: Data, start: int, stop: int, split: int, fraction: float = 0.0,
    absolute_extrude: bool = True,
) -> Drawing:  # fmt: skip
    """What is laid from byte `start`, the start of a line, up to byte `stop`.

    split, fraction: the line at which the print stopped, and how much of it is laid.
    absolute_extrude: what holds where the file does not say it.
    """
    begin, end = _bounds(data, start, stop, split)
    motion = _seeded(data, begin, absolute_extrude)
    printed, rest = _Pen(), _Pen()
    whole = (begin, end) == (start, stop)
    for offset, line in _lines(data, begin, end):
        points = laid(line, motion)
        if not points:
            continue
        if offset == split:
            before, after = _divided(points, fraction)
            printed.line(before)
            rest.line(after)
        else:
            (printed if offset < split else rest).line(points)
        if printed.points + rest.points > MAX_READ:
            whole = False
            break
    paths = printed.paths + rest.paths
    seam = rest.paths if begin < split < end else []
    first, second, all_kept = _thinned(printed.paths, rest.paths)
    return Drawing(first, second, _first(paths), _first(seam), whole and all_kept)


def laid(line: bytes, motion: Motion) -> list[Point]:
    """Apply a line; the points that its plastic joins, none for any other."""
    match = _PLAIN.match(line)
    x, y = motion.position[:2]
    try:
        if match is not None:
            words = {word[:1].decode(): float(word[1:]) for word in match[1].split()}
            between: list[Point] = []
        else:
            text = line.strip()
            if not text or text.startswith(b";"):
                return []
            stated = motion.command(text)
            if stated is None:
                return []
            words = {
                letter: float(value)
                for letter, value in zip("XYZEF", stated, strict=True)
                if value is not None
            }
            between = list(_arc(text, motion))
    except (GcodeError, ValueError):
        return []
    if not _move(motion, words) or not ("X" in words or "Y" in words):
        return []
    frame_x, frame_y = motion.frame[:2]
    points = [
        (round(px + frame_x, 2), round(py + frame_y, 2))
        for px, py in ((x, y), *between, motion.position[:2])
        # Also false for what is not a number
        if abs(px) <= FURTHEST and abs(py) <= FURTHEST
    ]
    return points if len(points) == len(between) + 2 else []


def _move(motion: Motion, words: Mapping[str, float]) -> bool:
    """As moves.run(); whether filament comes out."""
    absolute, position = motion.absolute_coordinates, motion.position
    for axis, letter in enumerate("XYZ"):
        if letter in words:
            before = 0.0 if absolute else position[axis]
            position[axis] = before + words[letter]
    if "E" not in words:
        return False
    value = words["E"]
    absolute_e = absolute and motion.absolute_extrude
    moved = value - position[3] if absolute_e else value
    position[3] = value if absolute_e else position[3] + value
    behind = motion.retracted - moved
    if behind < -_E_ROUNDING:
        motion.retracted = 0.0
        return True
    if behind == behind:
        motion.retracted = behind if behind > _E_ROUNDING else 0.0
    return False


def _arc(line: bytes, motion: Motion) -> Iterator[Point]:
    """Points inside an arc; none for a straight line."""
    x, y, z, _ = motion.position
    if command_name(line) not in ("G2", "G3") or not motion.xy_plane:
        return
    arc = arcs.read(parse(line), (x, y, z, 0.0), "G17")
    if arc is None or not arc.flat_length < FURTHEST:
        return
    count = min(max(math.ceil(arc.flat_length / _ARC_STEP), 2), _ARC_STEPS)
    for i in range(1, count):
        px, py, _ = arc.at((x, y, z, 0.0), i / count)
        yield px, py


def _bounds(data: Data, start: int, stop: int, split: int) -> tuple[int, int]:
    if stop - start <= MAX_BYTES:
        return start, stop
    middle = split if start < split < stop else start
    low = max(start, min(middle - MAX_BYTES // 2, stop - MAX_BYTES))
    if low > start:
        newline = data.find(b"\n", low, low + WINDOW)
        low = newline + 1 if newline >= 0 else start
    return low, min(low + MAX_BYTES, stop)


def _lines(data: Data, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    for offset, piece in windows(data, start, stop):
        for line in piece.split(b"\n"):
            yield offset, line
            offset += len(line) + 1


def _seeded(data: Data, start: int, absolute_extrude: bool) -> Motion:
    """Where the head is at `start`, and how its E is meant."""
    motion = Motion(printing=True)
    motion.absolute_extrude = _extrude_mode(data, start, absolute_extrude)
    low = max(0, start - _LOOK_BACK)
    for axis, letter in enumerate("XY"):
        try:
            value = last_word(data, low, start, letter)
        except GcodeError:
            continue
        motion.position[axis] = math.nan if value is None else value
    return motion


def _extrude_mode(data: Data, end: int, default: bool) -> bool:
    """Of the last M82 or M83; in pieces, each of which is searched at once."""
    while end > 0:
        begin = max(0, end - WINDOW)
        piece = data[begin:end]
        at = len(piece)
        while (at := max(piece.rfind(b"M82", 0, at), piece.rfind(b"M83", 0, at))) >= 0:
            line = piece[piece.rfind(b"\n", 0, at) + 1 : at + 4]
            if line.strip() in (b"M82", b"M83", b"M82;", b"M83;"):
                return line.strip().startswith(b"M82")
        # A command that stands across the border is in the next piece.
        end = begin + 4 if begin else 0
    return default


def _divided(
    points: Sequence[Point], fraction: float
) -> tuple[list[Point], list[Point]]:
    """At that share of their length."""
    lengths = [math.dist(a, b) for a, b in zip(points, points[1:], strict=False)]
    left = min(max(fraction, 0.0), 1.0) * sum(lengths)
    for i, length in enumerate(lengths):
        if left < length:
            (x, y), (end_x, end_y) = points[i], points[i + 1]
            share = left / length
            at = (round(x + (end_x - x) * share, 2), round(y + (end_y - y) * share, 2))
            before = [*points[: i + 1], at] if i or share else []
            return before, [at, *points[i + 1 :]]
        left -= length
    return list(points), []


def _first(paths: Sequence[Sequence[float]]) -> Point | None:
    return (paths[0][0], paths[0][1]) if paths else None


def _thinned(
    printed: list[list[float]], rest: list[list[float]]
) -> tuple[list[list[float]], list[list[float]], bool]:
    """At most about MAX_POINTS in all, and whether no path was left out."""
    first, second = printed, rest
    for tolerance in _COARSE:
        if _count(first) + _count(second) <= MAX_POINTS:
            return first, second, True
        first = [_coarser(path, tolerance) for path in printed]
        second = [_coarser(path, tolerance) for path in rest]
    nth = math.ceil((_count(first) + _count(second)) / MAX_POINTS)
    return first[::nth], second[::nth], nth == 1


def _count(paths: Sequence[Sequence[float]]) -> int:
    return sum(len(path) for path in paths) // 2


def _coarser(path: list[float], tolerance: float) -> list[float]:
    """Without the points that are nearer than that to the one before."""
    kept = path[:2]
    for i in range(2, len(path) - 2, 2):
        if math.dist(kept[-2:], path[i : i + 2]) >= tolerance:
            kept += path[i : i + 2]
    return kept + path[-2:]
