# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Machines that change tools: which one the print had, and which one is mounted now.

What a kind of changer is called in klippy, and understands, is in KINDS alone, and in
the extra's tools.py.  No MMU is in there: to change its filament takes full heat and a
place to purge, and a resume changes tools when the nozzle is only soft.
"""
from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from .store.payloads import RecordError

MAX_NUMBER = 999
# Happy Hare, AFC, Trad Rack and the first ERCF, as klippy names them
MMUS = ("mmu", "AFC", "trad_rack", "ercf")
VERIFY_SECONDS = 30
# After a power cut in the middle of a change, what it was changing to
_CHANGE = re.compile(
    rb"^\s*(?:T(\d{1,3})\b|SELECT_TOOL\b[^;\n]*?\bT\s*=\s*(\d{1,3})\b)",
    re.IGNORECASE | re.MULTILINE,
)
# As a name goes into a G-code line
_NAME = re.compile(r"[\w .-]{1,100}")
Offset = tuple[float, float, float]
NO_OFFSET: Offset = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Selected:
    """The tool of the print.  name: of its section; None if only the file said it."""

    number: int
    name: str | None


@dataclass(frozen=True)
class Tool:
    """name: of its section.  offset: of its nozzle from the toolhead, mm; the motors
    are there when G-code is at 0."""

    number: int
    name: str
    extruder: str | None = None
    offset: Offset = NO_OFFSET

    def __str__(self) -> str:
        return f"T{self.number} [{self.name}]"


@dataclass(frozen=True)
class Changer:
    """detects: there are sensors.  mounted: what they see, None for no single tool.
    expected: numbers of the tools that may be mounted after this cut; None: any."""

    kind: Kind
    tools: tuple[Tool, ...]
    detects: bool
    mounted: Tool | None
    expected: frozenset[int] | None = None


@dataclass(frozen=True)
class Mount:
    """wanted: what the print goes on with.  mounted: what the resume begins with."""

    changer: Changer
    wanted: Tool
    mounted: Tool

    @property
    def changes(self) -> bool:
        return self.mounted != self.wanted


class Kind(Protocol):
    """What one kind of changer is called in klippy, and the G-code that it knows."""

    name: str

    def objects(self, names: Collection[str]) -> list[str]:
        """Those of klippy's objects whose status read() needs."""

    def read(self, status: Mapping[str, Any]) -> Changer: ...

    def initialize(self, tool: Tool) -> str:
        """Nothing moves: that tool is mounted."""

    def select(self, tool: Tool) -> str:
        """Change to it; the way back is ours."""


class KlipperToolchanger:
    """[toolchanger] and [tool ...] of viesturz/klipper-toolchanger."""

    name = "toolchanger"

    def objects(self, names: Collection[str]) -> list[str]:
        return [n for n in names if n == self.name or n.startswith("tool ")]

    def read(self, status: Mapping[str, Any]) -> Changer:
        own = status[self.name]
        tools = tuple(
            Tool(
                int(told["tool_number"]), name, told.get("extruder") or None,
                (_offset(told, "x"), _offset(told, "y"), _offset(told, "z")),
            )
            for name, told in sorted(status.items())
            if name.startswith("tool ") and told.get("tool_number", -1) >= 0
        )  # fmt: skip
        seen = own.get("detected_tool") or None
        return Changer(
            kind=self,
            tools=tools,
            detects=bool(own.get("has_detection", seen is not None)),
            mounted=next((tool for tool in tools if tool.name == seen), None),
        )

    def initialize(self, tool: Tool) -> str:
        return f"INITIALIZE_TOOLCHANGER T={tool.number}"

    def select(self, tool: Tool) -> str:
        return f"SELECT_TOOL T={tool.number} RESTORE_AXIS="


KINDS: tuple[Kind, ...] = (KlipperToolchanger(),)


def _offset(told: Mapping[str, Any], axis: str) -> float:
    return float(told.get(f"gcode_{axis}_offset") or 0.0)


def find(names: Collection[str]) -> Kind | None:
    return next((kind for kind in KINDS if kind.name in names), None)


def objects(names: Collection[str]) -> list[str]:
    """Those of klippy's objects whose status read() needs."""
    kind = find(names)
    return [] if kind is None else kind.objects(names)


def read(status: Mapping[str, Any]) -> Changer | None:
    kind = find(status)
    return None if kind is None else kind.read(status)


def selected(state: Mapping[str, Any]) -> Selected | None:
    """Of a saved state; None if no tool was.  Raises RecordError."""
    raw = state["tool"].get("changer")
    if raw is None:
        return None
    if not isinstance(raw, Mapping):
        raise RecordError(f"state: changer is {raw!r:.80}, expected a tool")
    number, name = raw.get("number"), raw.get("name")
    if isinstance(number, bool) or not isinstance(number, int):
        raise RecordError(f"state: the tool is {number!r:.80}, expected a number")
    if not -1 <= number <= MAX_NUMBER:
        raise RecordError(f"state: there is no tool {number}")
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise RecordError(f"state: {name!r:.80} is no name of a tool")
    return None if number < 0 else Selected(number, name)


def number(state: Mapping[str, Any], extruder: str) -> int | None:
    """What a slicer calls the tool; None where there is one only, as with an MMU."""
    tool = selected(state)
    if tool is not None:
        return tool.number
    if "extruder1" not in state["heaters"]:
        return None
    digits = extruder.removeprefix("extruder")
    return int(digits or 0) if digits.isdecimal() or not digits else None


def changes(lines: bytes) -> frozenset[int]:
    """Numbers of the tools that these lines change to."""
    return frozenset(int(a or b) for a, b in _CHANGE.findall(lines))


def expecting(
    changer: Changer | None, state: Mapping[str, Any], to_come: bytes
) -> Changer | None:
    """With the tools that a cut may have left mounted: the one that the print had, and
    those that it was about to change to."""
    tool = selected(state)
    if changer is None or tool is None:
        return changer
    return replace(changer, expected=changes(to_come) | {tool.number})


def mount(state: Mapping[str, Any], changer: Changer | None) -> Mount | None:
    """None if the print had no tool of a changer, or it is gone."""
    tool = selected(state)
    wanted = None if tool is None or changer is None else _find(changer, tool)
    if changer is None or wanted is None:
        return None
    mounted = (changer.mounted if changer.detects else None) or wanted
    return Mount(changer, wanted, mounted)


def _find(changer: Changer, tool: Selected) -> Tool | None:
    # A number can be given to another tool; the name is the thing itself.
    named = [t for t in changer.tools if t.name == tool.name]
    numbered = [t for t in changer.tools if t.number == tool.number]
    return next(iter(named if tool.name is not None else numbered), None)


def offset(state: Mapping[str, Any], changer: Changer | None) -> Offset:
    """Of the nozzle that the print goes on with."""
    found = mount(state, changer)
    return NO_OFFSET if found is None else found.wanted.offset


def reach(low: Offset, high: Offset, changer: Changer | None) -> tuple[Offset, Offset]:
    """Where some nozzle can go, of where the motors can: a file may use each tool."""
    if changer is None or not changer.tools:
        return low, high
    x, y, z = zip(*(tool.offset for tool in changer.tools), strict=True)
    return (
        (low[0] - max(x), low[1] - max(y), low[2] - max(z)),
        (high[0] - min(x), high[1] - min(y), high[2] - min(z)),
    )


def refusals(state: Mapping[str, Any], changer: Changer | None) -> Iterator[str]:
    tool = selected(state)
    if tool is None:
        return
    found = mount(state, changer)
    if changer is None or found is None:
        name = tool.name or f"T{tool.number}"
        yield f"The print was using [{name}], which this printer has not any more."
        return
    if not changer.detects or changer.mounted == found.wanted:
        return
    seen = changer.mounted
    if seen is not None and changer.expected is None:
        return
    if seen is not None and seen.number in (changer.expected or ()):
        return
    sensors = "no single tool" if seen is None else str(seen)
    yield (
        f"The wrong tool is mounted: the print was using {found.wanted}, and the"
        f" sensors see {sensors}. Mount {found.wanted} by hand, then resume."
    )


def warnings(state: Mapping[str, Any], changer: Changer | None) -> Iterator[str]:
    found = mount(state, changer)
    if found is None:
        return
    if not found.changer.detects:
        yield (
            f"Nothing detects which tool is mounted: it must be {found.wanted}. Look"
            " before you resume."
        )
    if found.changes:
        yield (
            f"{found.mounted} is mounted, and {found.wanted} was printing: the resume"
            " changes back first."
        )
    if len(found.changer.expected or ()) > 1:
        yield (
            "The power may have failed in a tool change: see that the head stands free"
            " of the docks before you resume."
        )


def mmus(names: Collection[str]) -> list[str]:
    """Of klippy's objects, or of the sections of its configuration (lower case)."""
    found = {name.lower() for name in names}
    return [name for name in MMUS if name.lower() in found]


def mmu_warnings(found: Collection[str]) -> Iterator[str]:
    """found: as mmus() gives it."""
    for name in found:
        yield (
            f"[{name}] found: which filament is loaded is not checked. It must be"
            " the one that was printing."
        )


def filament_in_file(objects: Collection[str], tool: int | None) -> Iterator[str]:
    """tool: what the file has selected last."""
    if tool is not None and mmus(objects):
        yield f"The filament that the file had selected is that of T{tool}."


def verify(state: Mapping[str, Any], changer: Changer | None) -> str | None:
    """A line for the first moments of the resumed print."""
    found = mount(state, changer)
    if found is None or not found.changer.detects:
        return None
    return f"VERIFY_TOOLCHANGE_DURING_PRINT DURATION={VERIFY_SECONDS} FORCE=0"
