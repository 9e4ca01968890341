# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The comment lines by which a resume file is known, and what they promise.

A stamp always names the true original, so that a resume file of a resume file
is made from the original as well, however many times the power fails.
"""
from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import BinaryIO

from .errors import RewriteError

VERSION = 1
MAX_STAMP = 16384
MAX_OFFSET = 10**18
_TITLE = b"; power_loss_recovery resume file"
_KEYS = (
    "version",
    "original",
    "original_size",
    "fingerprint",
    "file_position",
    "tail_position",
    "first_line_offset",
    "tail_offset",
    "fraction",
)
_INTEGERS = (
    "original_size",
    "file_position",
    "tail_position",
    "first_line_offset",
    "tail_offset",
)
_ENTRY = re.compile(rb"; plr_([a-z_]{1,32}): ([ -~]{1,8192})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Stamp:
    """Where a resume file comes from.  Offsets in bytes.

    original: path of the true original below the gcodes root, with "/".
    file_position: in the original, the line from which the print continues.
    tail_position: in the original, where the bytes copied as they are begin:
        file_position itself, or the next line when that line was split.
    first_line_offset, tail_offset: the same two places in the resume file.
    fraction: share of the line at file_position laid before, 0 when unsplit.
    """

    original: str
    original_size: int
    fingerprint: str
    file_position: int
    tail_position: int
    first_line_offset: int
    tail_offset: int
    fraction: float = 0.0

    def __post_init__(self) -> None:
        """Raises RewriteError, naming the field, for what cannot be true."""
        _check_original(self.original)
        if not re.fullmatch("[0-9a-f]{64}", str(self.fingerprint)):
            raise RewriteError("stamp: fingerprint is no SHA-256 in hexadecimal")
        for key in _INTEGERS:
            value = getattr(self, key)
            if type(value) is not int or not 0 <= value <= MAX_OFFSET:
                raise RewriteError(f"stamp: {key} is {value!r}, expected a byte offset")
        if not 0 <= self.file_position <= self.tail_position <= self.original_size:
            raise RewriteError("stamp: positions are not in order within the original")
        split = self.tail_position > self.file_position
        if split != (self.tail_offset > self.first_line_offset):
            raise RewriteError("stamp: the split line is in only one of the two files")
        if self.tail_offset < self.first_line_offset:
            raise RewriteError("stamp: offsets are not in order")
        if not (math.isfinite(self.fraction) and 0.0 <= self.fraction <= 1.0):
            raise RewriteError(f"stamp: fraction is {self.fraction!r}, expected 0 to 1")
        if self.fraction and not split:
            raise RewriteError("stamp: a fraction without a split line")

    @property
    def size(self) -> int:
        """How long the resume file is."""
        return self.tail_offset + self.original_size - self.tail_position

    def to_bytes(self) -> bytes:
        """The comment lines; their length does not depend on the offsets."""
        lines = [_TITLE]
        for key in _KEYS:
            value = VERSION if key == "version" else getattr(self, key)
            if key in _INTEGERS:
                text = f"{value:020d}"
            elif key == "fraction":
                text = repr(float(value))
            else:
                text = json.dumps(value)
            lines.append(f"; plr_{key}: {text}".encode("ascii"))
        body = b"\n".join(lines) + b"\n"
        return body + b"; plr_checksum: " + _checksum(body) + b"\n"


def read_stamp(f: BinaryIO) -> Stamp | None:
    """The stamp at the start of an open file; None when it has none of ours.

    Raises RewriteError for a file that bears our title but whose stamp is
    damaged, of another version, or contradicts itself or the file's size.
    """
    f.seek(0)
    text = f.read(MAX_STAMP)
    if not text.startswith(_TITLE + b"\n"):
        return None
    head, found, rest = text.partition(b"; plr_checksum: ")
    if not found or rest[:65] != _checksum(head) + b"\n":
        raise RewriteError("resume file: its stamp is damaged (checksum)")
    stamp = _from_lines(head.split(b"\n")[1:-1])
    f.seek(0, 2)
    size = f.tell()
    if size != stamp.size:
        raise RewriteError(
            f"resume file: {size} bytes found, its stamp promises {stamp.size}"
        )
    return stamp


def to_original(stamp: Stamp, offset: int) -> int | None:
    """The original's offset of the line at `offset` of the resume file.

    None inside the prologue: nothing of the original has been reached.
    Raises RewriteError for an offset inside the split line or past the end.
    """
    if offset < stamp.first_line_offset:
        return None
    if offset == stamp.first_line_offset:
        return stamp.file_position
    if not stamp.tail_offset <= offset <= stamp.size:
        raise RewriteError(f"offset {offset} is not a line of the resume file")
    return stamp.tail_position + offset - stamp.tail_offset


def original_fraction(stamp: Stamp, offset: int, fraction: float) -> float:
    """The share of the original's line laid, when `fraction` of the line at
    `offset` of the resume file is: that line may be a remainder itself."""
    if offset == stamp.first_line_offset:
        return stamp.fraction + (1.0 - stamp.fraction) * fraction
    return fraction


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode("ascii")


def _check_original(name: object) -> None:
    if not isinstance(name, str) or not name or len(json.dumps(name)) > 8192:
        raise RewriteError("stamp: original is no file name")
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or _CONTROL.search(name):
        raise RewriteError(
            f"stamp: original {name!r} is not a path below the gcodes root"
        )


def _from_lines(lines: list[bytes]) -> Stamp:
    entries = [_ENTRY.fullmatch(line) for line in lines]
    found = {m[1].decode("ascii"): m[2] for m in entries if m is not None}
    if None in entries or tuple(found) != _KEYS or len(entries) != len(_KEYS):
        raise RewriteError("resume file: its stamp has unknown or missing lines")
    if found["version"] != str(VERSION).encode("ascii"):
        raise RewriteError(
            f"resume file: stamp version {found['version']!r}, expected {VERSION}"
        )
    try:
        original, fingerprint = (
            json.loads(found[key]) for key in ("original", "fingerprint")
        )
        numbers = {key: int(found[key]) for key in _INTEGERS}
        fraction = float(found["fraction"])
    except (ValueError, RecursionError) as error:
        raise RewriteError(f"resume file: its stamp is unreadable ({error})") from error
    return Stamp(
        original=original, fingerprint=fingerprint, fraction=fraction, **numbers
    )
