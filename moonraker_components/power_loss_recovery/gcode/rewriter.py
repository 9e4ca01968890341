# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Writes the file that continues a print, and checks the file it comes from.

The resume file is: stamp, the original's leading comments, the rest of its start as
comments, prologue, the rest of a split line, and then the original's bytes from there
on, as they are.  write() alone writes, and to a new file only.
"""
from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from . import arcs, beginning
from .errors import RewriteError
from .lexer import command_name, is_plain_move, parse
from .modal import Point4
from .publish import publish
from .stamp import Stamp, original_fraction, read_stamp, to_original

__all__ = [
    "Point4",
    "RewriteError",
    "Stamp",
    "commented",
    "fingerprint",
    "line_at",
    "original_fraction",
    "read_stamp",
    "remainder",
    "to_original",
    "write",
]

_EDGE = 65536
_BLOCK = 4096
_BLOCKS = 64
MAX_LINE = 4096
_CHUNK = 1 << 20
_STARTS = b"; What the print began with, as comments: it is not run again.\n"
_LAYER = b"; The layer in progress, as comments.\n"


def fingerprint(f: BinaryIO, size: int) -> str:
    """SHA-256, in hexadecimal, that tells this file from an edited one.

    Covers the size, both ends (64 KiB) and 64 blocks of 4 KiB evenly spread;
    all of a file that is not longer than those.  Raises RewriteError when the
    file is not `size` bytes long.
    """
    f.seek(0, 2)
    found = f.tell()
    if found != size:
        raise RewriteError(f"the file has {found} bytes, expected {size}")
    digest = hashlib.sha256(b"plr1 %d\n" % size)
    if size <= 2 * _EDGE + _BLOCKS * _BLOCK:
        parts = [(0, size)]
    else:
        span = size - 2 * _EDGE - _BLOCK
        parts = [(_EDGE + span * i // (_BLOCKS - 1), _BLOCK) for i in range(_BLOCKS)]
        parts = [(0, _EDGE), *parts, (size - _EDGE, _EDGE)]
    for offset, count in parts:
        f.seek(offset)
        data = f.read(count)
        if len(data) != count:
            raise RewriteError(f"the file ended at byte {offset + len(data)}")
        digest.update(data)
    return digest.hexdigest()


def line_at(f: BinaryIO, offset: int) -> bytes:
    """The line that starts at `offset`, without its end; at most 4096 bytes.

    Raises RewriteError when no line starts there.
    """
    if offset < 0:
        raise RewriteError(f"offset {offset} is before the file")
    f.seek(max(0, offset - 1))
    before = f.read(1) if offset else b"\n"
    if before != b"\n":
        raise RewriteError(f"offset {offset} is inside a line or past the file's end")
    line = f.read(MAX_LINE)
    if not line:
        raise RewriteError(f"offset {offset} is the end of the file: nothing is left")
    text, newline, _ = line.partition(b"\n")
    return text[:-1] if newline and text.endswith(b"\r") else text


def remainder(
    line: bytes,
    start: Point4,
    fraction: float,
    absolute_coordinates: bool,
    absolute_extrude: bool,
    plane: str = "G17",
) -> tuple[Point4, bytes] | None:
    """The rest of a move or an arc of which `fraction` (0..1) is laid already.

    start: where the whole line starts.  plane: of arcs, as last selected.  Returns
    the point inside the line and the line that goes on from there.  None when the
    line cannot be split (neither a plain G0/G1 nor an arc that Klipper runs, no
    motion, an unknown start, nothing laid yet): the whole line is to be run again,
    then.  With all of it laid, the rest is a move to where the line ends, which
    still sets its F.
    """
    if not fraction > 0.0:
        return None
    fraction = min(fraction, 1.0)
    if command_name(line) in ("G2", "G3"):
        if not absolute_coordinates:
            return None
        rest = arcs.remainder(line, start, fraction, absolute_extrude, plane)
        return None if rest is None else (Point4(*rest[0]), rest[1])
    if not is_plain_move(line):
        return None
    command = parse(line)
    if not any(axis in command.params for axis in "XYZE"):
        return None
    inside = list(start)
    scaled = ""
    for i, axis in enumerate("XYZE"):
        value = command.number(axis)
        if value is None:
            continue
        begin = start[i]
        if begin is None or not math.isfinite(begin):
            return None
        # Klipper: G91 makes E relative as well.
        if absolute_coordinates and (axis != "E" or absolute_extrude):
            inside[i] = begin + (value - begin) * fraction
        else:
            inside[i] = begin + value * fraction
            scaled += axis
    code, semicolon, comment = line.rstrip(b"\r\n").partition(b";")
    if scaled:
        # float() takes other digits as well, which _words does not look for.
        if not code.isascii() or len(_words(scaled).findall(code)) != len(scaled):
            return None
        code = _scale(code, scaled, 1.0 - fraction)
    return Point4(*inside), code + semicolon + comment


def _words(axes: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?i)([%s][ \t]*)([-+.0-9]+)" % axes.encode("ascii"))


def _scale(code: bytes, axes: str, factor: float) -> bytes:
    def shorten(match: re.Match[bytes]) -> bytes:
        return match[1] + arcs.number(float(match[2]) * factor).encode("ascii")

    # A checksum is not worth mending: Klipper ignores it.
    return _words(axes).sub(shorten, code)


def commented(command: str, why: str) -> bytes:
    """One line of a prologue, with what it restores and from where.

    M117 would show the comment on the display: give it none.
    """
    line = f"{command} ; {why}".encode("utf-8", "surrogateescape")
    _check_prologue_line(line)
    return line


def write(
    source: BinaryIO,
    destination: Path,
    *,
    original: str,
    original_size: int,
    original_fingerprint: str,
    header_end: int,
    file_position: int,
    prologue: Sequence[bytes],
    first_line: bytes | None = None,
    fraction: float = 0.0,
    temporary: Path | None = None,
) -> Stamp:
    """Write the resume file for `source`, from its byte `file_position` on.

    source: the original, a real file open for reading, whose content the caller
        has checked; its size is checked again here.
    original: its path below the gcodes root.  header_end: see scan.Head.
    prologue: lines without line ends.
    first_line, fraction: replaces the line at `file_position`; see remainder().
    temporary: on the file system of `destination`, by default beside it.

    The file appears whole or not at all, and replaces none: FileExistsError when
    `destination` is there.  Raises RewriteError for input that makes no sense,
    OSError as the disk does.
    """
    fd = source.fileno()
    size = os.fstat(fd).st_size
    if size != original_size:
        raise RewriteError(f"the original has {size} bytes, expected {original_size}")
    if not 0 <= header_end <= file_position < size:
        raise RewriteError(
            f"expected header end {header_end} <= position {file_position} < {size}"
        )
    if file_position and os.pread(fd, 1, file_position - 1) != b"\n":
        raise RewriteError(f"offset {file_position} is inside a line of the original")
    if header_end and os.pread(fd, 1, header_end - 1) != b"\n":
        raise RewriteError(f"header end {header_end} is inside a line")
    extra = [] if first_line is None else [first_line]
    for line in (*prologue, *extra):
        _check_prologue_line(line)
    opening = _kept(fd, header_end, file_position)
    opening += b"".join(line + b"\n" for line in prologue)
    tail_position = file_position
    if first_line is not None:
        tail_position = _line_end(fd, file_position, size)

    rest = b"".join(line + b"\n" for line in extra)
    stamp = Stamp(
        original=original,
        original_size=size,
        fingerprint=original_fingerprint,
        file_position=file_position,
        tail_position=tail_position,
        first_line_offset=0,
        tail_offset=len(rest),
        fraction=fraction,
    )
    begin = len(stamp.to_bytes()) + header_end + len(opening)
    stamp = replace(stamp, first_line_offset=begin, tail_offset=begin + len(rest))
    pieces = (
        stamp.to_bytes(),
        (0, header_end),
        opening + rest,
        (tail_position, size - tail_position),
    )
    publish(fd, pieces, destination, temporary)
    return stamp


def _kept(fd: int, header_end: int, file_position: int) -> bytes:
    """What is not run again, as comments: the start, and the layer in progress."""
    start = os.pread(fd, min(beginning.LONGEST, file_position), 0)
    first_layer = beginning.end_of(start)
    near = max(first_layer, file_position - beginning.LONGEST)
    kept = {
        _STARTS: start[header_end:first_layer],
        _LAYER: beginning.newest_layer(os.pread(fd, file_position - near, near)),
    }
    return b"".join(
        title + beginning.as_comments(lines) for title, lines in kept.items() if lines
    )


def _check_prologue_line(line: bytes) -> None:
    if re.search(rb"[\x00\r\n]", line):
        raise RewriteError(f"a line break or NUL inside one line: {line[:80]!r}")


def _line_end(fd: int, offset: int, size: int) -> int:
    """Where the line after the one at `offset` starts."""
    while offset < size:
        chunk = os.pread(fd, _CHUNK, offset)
        if not chunk:
            raise RewriteError(f"the original ended at byte {offset}")
        newline = chunk.find(b"\n")
        if newline >= 0:
            return offset + newline + 1
        offset += len(chunk)
    return size
