# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A file of any size in pieces of whole lines, and what is no G-code file at all.

Pieces are copies of 256 KiB: a search over one holds Python's lock for less than a
millisecond, one over the whole file would stop every other thread.
"""
from __future__ import annotations

import mmap
from collections.abc import Iterator

from .errors import ScanError

Data = bytes | mmap.mmap

WINDOW = 1 << 18
# Longer than any slicer writes; Klipper would hold the whole line in memory.
MAX_LINE = 1 << 20
# Klipper reads a line in small pieces, each time copying all before: quadratic.
MAX_COMMENT = 1 << 24
_FORMATS = {
    b"GCDE": "binary G-code (.bgcode): export it as plain text from the slicer",
    b"PK\x03\x04": "a ZIP archive, such as .3mf: export the plate as plain G-code",
    b"\x1f\x8b": "compressed (gzip): unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it first",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"\x7fELF": "a program, not G-code",
}
_START = 65536
_NEAR = 512
# What no text has, tabs and line ends aside
_CONTROL = bytes(set(range(1, 32)) - set(b"\t\n\v\f\r\x1a\x1b")) + b"\x7f"


def windows(
    data: Data, start: int, end: int, size: int = WINDOW
) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of pieces of whole lines, of about `size`, from `start`, the
    start of a line, to `end`.

    Raises ScanError for a NUL byte and for a line of more than MAX_COMMENT.
    """
    while start < end:
        stop = min(start + size, end)
        # Nearly always a line ends shortly before: no need to copy all of it twice.
        near = max(start, stop - _NEAR)
        cut = data[near:stop].rfind(b"\n") + 1 if stop < end else 0
        piece = data[start : near + cut if cut else stop]
        _check_nul(piece, start)
        if stop < end and not cut:
            cut = piece.rfind(b"\n") + 1
            if cut:
                piece = piece[:cut]
            else:
                piece += _line_end(data, stop, end, size)
        if len(piece) > MAX_COMMENT:
            raise _too_long(start)
        yield start, piece
        start += len(piece)


def check(data: Data, end: int) -> None:
    """Raises ScanError, with the reason in plain words, when `data` is no G-code
    text or when no line starts at `end`."""
    if not len(data):
        raise ScanError("the file is empty")
    if not 0 <= end <= len(data):
        raise ScanError(f"offset {end} is outside the file of {len(data)} bytes")
    if end and data[end - 1 : end] != b"\n":
        raise ScanError(f"offset {end} is inside a line, not at the start of one")
    opening = data[:_START]
    for magic, what in _FORMATS.items():
        if opening.startswith(magic):
            raise ScanError(f"the file is {what}")
    _check_nul(opening, 0)
    strange = len(opening) - len(opening.translate(None, _CONTROL))
    if strange > len(opening) // 100:
        raise ScanError(
            f"{strange} control characters in the first {len(opening)} bytes: the"
            " file is binary, not text"
        )


def check_rest(data: Data, start: int) -> None:
    """Raises ScanError for damage after `start`: a power cut while a file was
    uploaded leaves its end filled with NULs."""
    line = start
    for begin in range(start, len(data), WINDOW):
        piece = data[begin : begin + WINDOW]
        _check_nul(piece, begin)
        newline = piece.rfind(b"\n")
        if newline >= 0:
            line = begin + newline + 1
        elif begin + len(piece) - line > MAX_COMMENT:
            raise _too_long(line)


def _check_nul(piece: bytes, offset: int) -> None:
    at = piece.find(0)
    if at >= 0:
        raise ScanError(
            f"NUL byte at offset {offset + at}: the file is damaged or binary"
        )


def _line_end(data: Data, start: int, end: int, size: int) -> bytes:
    """The rest of a line that is longer than a window."""
    rest = []
    for begin in range(start, min(end, start + MAX_COMMENT), size):
        piece = data[begin : min(begin + size, end)]
        _check_nul(piece, begin)
        newline = piece.find(b"\n") + 1
        rest.append(piece[:newline] if newline else piece)
        if newline:
            break
    return b"".join(rest)


def _too_long(start: int) -> ScanError:
    return ScanError(
        f"at offset {start}: a line of more than {MAX_COMMENT} bytes, which Klipper"
        " takes hours to read"
    )
