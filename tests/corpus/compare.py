# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""One print, undisturbed and cut: what differs after the cut.

The tail of a resume file is the original's own bytes.  Where the machine's whole
state before the tail is that of the undisturbed machine at the same offset, all that
follows is the same as well: state and bytes are all that Klipper goes by.  So a cut
is proven by one state, and a seeded few by every motion up to the file's end.

What the tail sets anew before it looks at it may differ: absolute filament before
a G92 E, F before the next F, a saved state that nothing restores, G10 when no
G10 or G11 follows before the last plastic.
"""
from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .klipper_model import Klipper, Segment

LENGTH = 1e-6  # mm
# Filament in the nozzle is known from sums of rounded numbers.
FILAMENT = 1e-5
TOLERANCES = {
    "retracted": FILAMENT, "f": 1e-3, "limits": 1e-3, "fans": 1e-4,
}  # fmt: skip
# Of people's interest only, and not in what klippy tells about itself.
NOT_IN_RECORD = ("m486", "m73", "macros", "synced", "plane", "retraction", "variables")


@dataclass
class Print:
    """A file, run through to its end once.

    first, last: offsets of the lines that lay the first and the last plastic.
    """

    data: bytes
    machine: Klipper
    first: int
    last: int
    uses: dict[str, tuple[list[int], list[bool]]] = field(default_factory=dict)

    @staticmethod
    def of(data: bytes, machine: Klipper) -> Print:
        machine = machine.clone()
        machine.run(data)
        lays = machine.prints or [len(data)]
        made = Print(data, machine, lays[0], lays[-1])
        for offset, name, is_read in machine.uses:
            offsets, reads = made.uses.setdefault(name, ([], []))
            offsets.append(offset)
            reads.append(is_read)
        return made

    def matters(self, name: str, offset: int, end: int | None = None) -> bool:
        """Whether `name` is looked at from `offset` on, and before `end`, before it
        is set anew."""
        offsets, reads = self.uses.get(name, ([], []))
        at = bisect.bisect_left(offsets, offset)
        return at < len(reads) and reads[at] and (end is None or offsets[at] < end)

    def tells_layer(self, offset: int) -> bool:
        """Whether the file states its layer before it lays anything more."""
        stated, laid = (
            lines[bisect.bisect_left(lines, offset) :][:1]
            for lines in (self.machine.layer_lines, self.machine.prints)
        )
        return bool(stated) and stated <= laid


def line_starts(data: bytes) -> list[int]:
    starts, at = [0], data.find(b"\n") + 1
    while at:
        starts.append(at)
        at = data.find(b"\n", at) + 1
    return starts if starts[-1] < len(data) else starts[:-1]


def differences(
    expected: dict[str, Any], found: dict[str, Any], ignored: Iterable[str] = ()
) -> list[str]:
    known = found["print_stats"] if "print_stats" in found else {}
    if known:
        # What the comments say counts for people as well, and harms nobody.
        said = {key: known[key] for key in expected["print_stats"] if key in known}
        found = {**found, "print_stats": said}
    return [
        f"{key}: undisturbed {expected[key]}, resumed {found[key]}"
        for key in expected
        if key not in ignored
        and not _same(expected[key], found[key], TOLERANCES.get(key, LENGTH))
    ]


def motions(undisturbed: list[Segment], resumed: list[Segment]) -> Iterator[str]:
    """What is laid differently, and every motion up to the last plastic."""
    undisturbed, resumed = _to_last_plastic(undisturbed), _to_last_plastic(resumed)
    if len(undisturbed) != len(resumed):
        yield f"{len(undisturbed)} motions undisturbed, {len(resumed)} resumed"
    for number, (one, other) in enumerate(zip(undisturbed, resumed, strict=False)):
        if not all(_same(a, b, LENGTH) for a, b in zip(one, other, strict=True)):
            yield f"motion {number}: undisturbed {one}, resumed {other}"


def _to_last_plastic(trace: list[Segment]) -> list[Segment]:
    laid = [number for number, move in enumerate(trace) if move.filament > 0.0]
    return trace[: laid[-1] + 1] if laid else []


def _same(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, float) and isinstance(other, (int, float)):
        return abs(one - other) <= tolerance
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            _same(one[key], other[key], tolerance) for key in one
        )
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(
            _same(a, b, tolerance) for a, b in zip(one, other, strict=True)
        )
    return bool(one == other)
