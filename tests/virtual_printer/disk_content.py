# What a power cut leaves of a file's content
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from .disk_history import Event

SECTOR = 512
NOTHING_LANDS = 0.4
# Of what landed: only the new length, or sectors without order
ONLY_LENGTH = 0.25


def durable(
    events: Iterable[Event], read_copy: Callable[[str], bytes]
) -> tuple[bytes, int, str]:
    """(content as last synced, how much of it was never cut off since, newest copy).

    events: F, W and T of one file, in any order: threads sync at the same time, and
    the copy that was begun last covers the most.
    """
    ordered = sorted(events, key=lambda event: event.stamp)
    whole = [at for at, event in enumerate(ordered) if event.kind == "F"]
    content, copy, kept = bytearray(), "", 0
    if whole:
        copy = ordered[whole[-1]].copy
        content = bytearray(read_copy(copy))
        ordered = ordered[whole[-1] + 1 :]
        kept = len(content)
    for event in ordered:
        if event.kind == "T":
            kept = min(kept, event.number)
            continue
        del content[kept:]
        data, copy = read_copy(event.copy), event.copy
        content.extend(bytes(max(0, event.number - len(content))))
        content[event.number : event.number + len(data)] = data
        kept = len(content)
    return bytes(content), kept, copy


def after_cut(old: bytes, kept: int, new: bytes, rng: random.Random) -> bytes:
    """One of the contents that a cut may leave.

    old: as last synced.  kept: bytes of it that were never cut off since; what was
    cut off and written again is never a mix of both.  new: as the program saw it.
    """
    if old == new or rng.random() < NOTHING_LANDS:
        return old
    base = old[: min(kept, len(new))]
    length = rng.choice(_lengths(len(base), len(new), rng))
    if rng.random() < ONLY_LENGTH:
        return base.ljust(length, b"\0")
    likely = rng.random()
    out = bytearray(base.ljust(length, b"\0"))
    for at in range(0, length, SECTOR):
        if rng.random() < likely:
            end = min(at + SECTOR, length)
            out[at:end] = new[at:end]
    return bytes(out)


def _lengths(least: int, most: int, rng: random.Random) -> list[int]:
    between = rng.randint(least // SECTOR, most // SECTOR) * SECTOR
    return [least, most, max(least, between)]
