# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""How cold the bed has been in an outage, and what that means for the part.

Without heat a bed cools by Newton's law, T(t) = room + (T(0) - room) * exp(-t / tau),
with tau = density * heat capacity * thickness / heat transfer.  By textbook values, of
which nothing is measured on the machine, tau is between that of a bare circuit board
that loses heat on both sides (1.9 MJ/m3K * 1.6 mm / 24 W/m2K) and that of 10 mm of
aluminium that loses it above only (2.4 MJ/m3K * 10 mm / 7 W/m2K).  A bed only gets
colder then: what is read first after the outage is the lowest, unless it is warmer than
the slowest bed can be, so that somebody has heated it before.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..prompts import span
from ..record import Record

COLD = 10.0  # degrees C below its target: more than a bed swings by itself
TAU_FAST, TAU_SLOW = 125.0, 3500.0  # s
ROOM_COLD = 5.0
ROOM_WARM = 40.0  # an enclosure that cools too
NOISE = 2.0  # degrees C that a sensor, or the bed at the cut, may be off
CLOCK_UNSET = 365 * 86400.0  # s; a host whose clock starts in 1970 says more
# Down to where a part mostly holds on smooth PEI, degrees C, and what comes then.
# Rules of thumb: PLA comes off by itself, PETG rarely does, ABS and ASA shrink most.
HOLDS: Mapping[str, tuple[float, str]] = {
    "PLA": (40.0, "PLA mostly lets go of smooth PEI below about 40 °C"),
    "PETG": (
        30.0, "PETG often holds on smooth PEI when it is cold, but not by a small foot"
    ),
    "ABS": (
        80.0, "ABS and ASA shrink: below about 80 °C corners lift, and stand in the"
        " nozzle's way"
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """Readings since the cut: the first, the seconds until then (None: unknown), and
    the lowest."""

    first: float
    dark: float | None
    lowest: float


@dataclass(frozen=True)
class Outage:
    """off: seconds since the last save, None if the clock makes no sense.  bed: its
    temperature now, None if there is none.  material: of HOLDS, None if unknown."""

    off: float | None
    bed: float | None
    seen: Seen | None = None
    material: str | None = None


@dataclass(frozen=True)
class Lowest:
    """Bounds of what the bed has been at, degrees C; equal if it was read."""

    low: float
    high: float


def since(saved_at: float, now: float) -> float | None:
    """Seconds; None if one of the two clocks cannot be right."""
    off = now - saved_at
    return off if 0 <= off < CLOCK_UNSET else None


def watched(seen: Seen | None, outage: Outage) -> Seen | None:
    """With the reading of now."""
    if outage.bed is None:
        return seen
    if seen is None:
        return Seen(outage.bed, outage.off, outage.bed)
    return replace(seen, lowest=min(seen.lowest, outage.bed))


def after(then: float, seconds: float, room: float, tau: float) -> float:
    """The bed's temperature, without heat."""
    return room + (then - room) * math.exp(-seconds / tau)


def soonest(then: float, bed: float) -> float:
    """Seconds in which the quickest bed comes from `then` to `bed`."""
    room = min(ROOM_COLD, bed - 1.0)
    return TAU_FAST * math.log((then - room) / (bed - room)) if bed < then else 0.0


def lowest(then: float, outage: Outage) -> Lowest | None:
    """then: at the cut.  None if nobody has read it since."""
    seen = watched(outage.seen, outage)
    if seen is None:
        return None
    if seen.dark is not None:
        slow = after(then, seen.dark, min(ROOM_WARM, then), TAU_SLOW)
        if seen.first > slow + NOISE:
            fast = after(then, seen.dark, min(ROOM_COLD, then), TAU_FAST)
            return Lowest(min(fast, seen.lowest), min(slow, seen.lowest))
    return Lowest(seen.lowest, seen.lowest)


def warnings(record: Record, outage: Outage) -> list[str]:
    """A sentence or some, in one, for a bed that has been cold; for a person."""
    then, now = record.bed_target, outage.bed
    been = lowest(then, outage) if then > 0 else None
    if been is None or now is None or been.low >= then - COLD:
        return []
    long = f" for {span(outage.off)}" if outage.off is not None else ""
    if now < then - COLD:
        text = f"The bed has cooled from {then:.0f} to {now:.0f} °C"
        text += f", it was without heat{long}: the part may have let go."
    else:
        text = f"The bed is warm again, but was without heat meanwhile: {_range(been)}."
        text += " The part may have let go."
    return [" ".join((text, *_material(outage, been), *_clock(then, outage)))]


def _range(been: Lowest) -> str:
    if been.low == been.high:
        return f"it had {been.low:.0f} °C"
    return f"it had between {been.low:.0f} and {been.high:.0f} °C, by an estimate"


def _material(outage: Outage, been: Lowest) -> list[str]:
    if outage.material is None or outage.material not in HOLDS:
        return []
    holds, text = HOLDS[outage.material]
    if been.low < holds:
        return [f"{text}."]
    return [f"{outage.material} mostly still holds on smooth PEI at that."]


def _clock(then: float, outage: Outage) -> list[str]:
    if outage.off is None:
        return ["For how long is not known: the host's clock is not right."]
    seen = watched(outage.seen, outage)
    if seen is None or seen.dark is None or seen.dark >= soonest(then, seen.first):
        return []
    return ["It was longer, the host's clock is not right: no bed cools so fast."]
