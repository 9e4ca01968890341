# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What is kept of the original for those who read a file without running it.

Front ends take thumbnails, temperatures, the number of layers and the first layer's
height from its start, where slicers put some of that after their first command; and
the height of the object from the last layers' comments.
"""
from __future__ import annotations

import re

# Moonraker's metadata.py reads as much.
LONGEST = 1 << 20
_LAYER = re.compile(
    rb"(?mi)^[ \t]*;[ \t]*(?:LAYER:|LAYER_CHANGE|BEFORE_LAYER|layer[ #]\d)"
)
# Notes so near to each other speak of one layer; some name its Z a line or two later.
_NEAR = 256
_LINES_AFTER = 3
_EXTRUSION = re.compile(rb"(?mi)^[ \t]*G[0123][^\n;]*[XY][^\n;]*E")


def end_of(start: bytes) -> int:
    """Where the first layer begins to be printed; 0 if the start does not tell.

    start: the first LONGEST bytes of a file, or all before the cut.
    """
    layer = _LAYER.search(start)
    match = _EXTRUSION.search(start, 0 if layer is None else layer.end())
    if match is not None:
        return match.start()
    return start.rfind(b"\n") + 1 if len(start) < LONGEST else 0


def newest_layer(before: bytes) -> bytes:
    """The lines that announce the layer in progress; b"" if none does.

    before: the last bytes before the cut.
    """
    found = [match.start() for match in _LAYER.finditer(before)]
    if not found:
        return b""
    start = next(at for at in found if found[-1] - at <= _NEAR)
    lines = before[found[-1] :].splitlines(keepends=True)[: _LINES_AFTER + 1]
    return before[start : found[-1]] + b"".join(lines)


def as_comments(lines: bytes) -> bytes:
    """The same lines, of which none is a command any more.

    Comments and blank lines stay as they are.  A line that is not ended is.
    """
    made = []
    for line in lines.splitlines(keepends=True):
        text = line.strip()
        made.append(line if not text or text.startswith(b";") else b"; " + line)
    if made and not made[-1].endswith(b"\n"):
        made.append(b"\n")
    return b"".join(made)
