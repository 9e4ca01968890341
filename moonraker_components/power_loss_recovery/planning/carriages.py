# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Machines with two carriages on one axis: which one was printing, and its reach.

After G28 the first carriage is the one that moves, and both stand at their endstops.
Nothing in klippy says which nozzle is on which carriage: [extruder] on the first and
[extruder1] on the second is what its documentation has, and what is gone by here.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..record import Record

NOZZLES = ("extruder", "extruder1")
NAMES = ("first", "second")
BY_HAND = (
    "scripts/plr resume-file makes the rest of the file, for a machine that you prepare"
    ' by hand; see "Tools" in the README.'
)
LEAST_ROOM = 20.0  # mm for a purge
Limits = tuple[float, float, float]


@dataclass(frozen=True)
class Carriage:
    """low, high: its travel, mm.  upwards: it homes towards `high`.  retract: how far
    Kalico backs off the endstop in the end, mm; Klipper does not."""

    low: float
    high: float
    endstop: float
    upwards: bool
    retract: float = 0.0

    @property
    def parked(self) -> float:
        """After G28; of the two places the one that takes more from the other."""
        return self.endstop + (-self.retract if self.upwards else self.retract)


@dataclass(frozen=True)
class Pair:
    """axis: 0 for X, 1 for Y.  apart: how near they may come, mm."""

    axis: int
    both: tuple[Carriage, Carriage]
    apart: float

    def is_lower(self, index: int) -> bool:
        """Whether it is always at smaller coordinates than the other: get_dc_order()
        of klippy's idex_modes.py."""
        first, second = self.both
        if first.upwards != second.upwards:
            first_is_lower = second.upwards
        else:
            first_is_lower = first.endstop <= second.endstop
        return first_is_lower == (index == 0)

    def bed(self, index: int) -> tuple[float, float]:
        """Where this one comes while the other one stands at its endstop, as far as
        that is bed: what both can reach.  Beyond may be a brush or a bucket."""
        own, other = self.both[index], self.both[1 - index]
        low, high = max(own.low, other.low), min(own.high, other.high)
        if low >= high:
            low, high = own.low, own.high
        if self.is_lower(index):
            return low, min(high, other.parked - self.apart)
        return max(low, other.parked + self.apart), high


def read(settings: Mapping[str, Any]) -> Pair | None:
    """klippy's settings; None if there are not two, or in a way not known here."""
    try:
        legacy = settings.get("dual_carriage")
        if legacy is not None:
            axis = str(legacy.get("axis") or "x")
            return _pair(axis, settings[f"stepper_{axis}"], legacy)
        found = [name for name in settings if name.startswith("dual_carriage ")]
        if len(found) != 1:
            return None
        second = settings[found[0]]
        name = str(second["primary_carriage"]).lower()
        if {name, found[0].split()[-1]} & {"0", "1"}:
            # What CARRIAGE=1 means is another thing then.
            return None
        first = settings[f"carriage {name}"]
        return _pair(str(first.get("axis") or name), first, second)
    except (KeyError, TypeError, ValueError):
        return None


def _pair(axis: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Pair:
    both = _carriage(first), _carriage(second)
    apart = second.get("safe_distance")
    if apart is None:
        apart = min(abs(both[0].low - both[1].low), abs(both[0].high - both[1].high))
    return Pair("xy".index(axis), both, float(apart))


def _carriage(section: Mapping[str, Any]) -> Carriage:
    low = float(section.get("position_min") or 0.0)
    high, endstop = float(section["position_max"]), float(section["position_endstop"])
    upwards = section.get("homing_positive_dir")
    if upwards is None:
        upwards = endstop > (low + high) / 2
    retract = float(section.get("homing_retract_dist") or 0.0)
    return Carriage(low, high, endstop, bool(upwards), retract)


def in_use(record: Record) -> int:
    """0, or 1 for the second carriage."""
    first, second = _modes(record)
    if not first and not second:
        # The file knows its tool, and no more.
        return int(record.extruder == NOZZLES[1])
    return int("PRIMARY" in second)


def prints_alone(record: Record) -> bool:
    """It is saved that one of two was in use, and nothing copied or mirrored it."""
    first, second = _modes(record)
    return sorted((*first, *second)) == ["INACTIVE", "PRIMARY"]


def choice(record: Record) -> str:
    """G-code that has the toolhead be the carriage that was printing; nothing moves.
    From there on klippy keeps it off the other one."""
    return f"SET_DUAL_CARRIAGE CARRIAGE={in_use(record)}"


def limits(
    record: Record, low: Limits, high: Limits, pair: Pair | None
) -> tuple[Limits, Limits]:
    """Of the carriage that was printing; low, high: of the first, or of both."""
    if pair is None:
        return low, high
    own = pair.both[in_use(record)]
    return _put(low, pair.axis, own.low), _put(high, pair.axis, own.high)


def reach(low: Limits, high: Limits, pair: Pair | None) -> tuple[Limits, Limits]:
    """Of both: a file may use each of them."""
    if pair is None:
        return low, high
    return (
        _put(low, pair.axis, min(own.low for own in pair.both)),
        _put(high, pair.axis, max(own.high for own in pair.both)),
    )


def bed(
    record: Record, low: Limits, high: Limits, pair: Pair | None
) -> tuple[Limits, Limits]:
    """Where to purge; see Pair.bed()."""
    if pair is None:
        return low, high
    least, most = pair.bed(in_use(record))
    return _put(low, pair.axis, least), _put(high, pair.axis, most)


def _put(limits: Limits, axis: int, value: float) -> Limits:
    x, y, z = limits
    return (value, y, z) if axis == 0 else (x, value, z)


def refusals(
    record: Record, objects: frozenset[str], pair: Pair | None = None,
    changes_tools: bool = False,
) -> Iterator[str]:  # fmt: skip
    """For a person."""
    if "dual_carriage" not in objects:
        return
    first, second = _modes(record)
    both = next((mode for mode in second if mode in ("COPY", "MIRROR")), None)
    index = in_use(record)
    if both is not None:
        yield (
            f"The print was using both carriages ({both.lower()} mode): a resume frees"
            f" and purges one nozzle only. {BY_HAND}"
        )
    elif not first and record.extruder in NOZZLES[1:] and not record.from_file:
        yield (
            f"The print was using [{record.extruder}], and it was not saved which"
            f" carriage moved. {BY_HAND}"
        )
    elif record.extruder != NOZZLES[index]:
        yield (
            f"The {NAMES[index]} carriage was moving, and [{record.extruder}] was in"
            f" use: a resume knows [{NOZZLES[index]}] as the nozzle of that carriage,"
            f" and would free, heat and purge the wrong one. {BY_HAND}"
        )
    elif index and pair is None:
        yield (
            "The second carriage was printing, and this printer's configuration does"
            " not say in a way known here how far it goes: one [dual_carriage] with a"
            f" position_endstop does. {BY_HAND}"
        )
    elif index and changes_tools:
        yield (
            "The second carriage was printing, and there is a tool changer as well: a"
            f" resume knows one of the two. {BY_HAND}"
        )
    elif pair is not None:
        low, high = pair.bed(index)
        if high - low < LEAST_ROOM:
            yield (
                f"While the {NAMES[1 - index]} carriage stands at its endstop, the"
                f" {NAMES[index]} one has {max(high - low, 0.0):.0f} mm of bed: there"
                f" is no room to purge. {BY_HAND}"
            )


def other_place(
    place: Record, saved: Record, objects: frozenset[str]
) -> Iterator[str]:
    """A resume elsewhere than where the print was cut, for a person."""
    if "dual_carriage" in objects and place.extruder != saved.extruder:
        yield (
            f"The nozzle of [{saved.extruder}] stands on the part, and at this place"
            f" the file prints with [{place.extruder}]: choose a place that"
            f" [{saved.extruder}] was printing."
        )


def warnings(record: Record, objects: frozenset[str]) -> Iterator[str]:
    """For a person, before the yes."""
    if "dual_carriage" in objects and not any(_modes(record)):
        yield (
            "It is not saved how the two carriages were used: the print goes on with"
            f" the {NAMES[in_use(record)]} one alone."
        )


def _modes(record: Record) -> tuple[Sequence[str], Sequence[str]]:
    """Of the first carriages, and of the second ones."""
    modes = (record.rare.get("carriages") or {}).get("carriage_modes") or ()
    if isinstance(modes, Mapping):
        seconds = [name for name in modes if str(name).startswith("dual_carriage")]
        if seconds:
            return (
                [str(mode) for name, mode in modes.items() if name not in seconds],
                [str(modes[name]) for name in seconds],
            )
        modes = modes.values()
    told = [str(mode) for mode in modes]
    return told[: len(told) // 2], told[len(told) // 2 :]
