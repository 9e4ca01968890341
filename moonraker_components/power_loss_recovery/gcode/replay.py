# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Which of a file's commands set something, and which of them still count.

A command that only sets a value replaces the earlier one of the same key; what is
left, run again in its order, gives the same state.  The key is the command, what it
speaks of (an extruder, a macro's variable) and which of its values it states.
"""
from __future__ import annotations

from typing import NamedTuple

from .errors import LexError
from .lexer import Command

# Far more than any print has: a bound on memory, whatever the file holds.
MAX_ENTRIES = 4096


class Setting(NamedTuple):
    """A command as the file has it, without comment, number and checksum.

    tool: the one that it is for, where that is the one in use and matters.
    """

    name: str
    line: bytes
    tool: int | None = None


class _Rule(NamedTuple):
    """group: settings that bear on each other; between groups order is free.
    selectors: parameters that say of what the value is.  alone: it undoes all of
    its group before it."""

    group: str
    selectors: tuple[str, ...] = ()
    alone: bool = False


_RULES = {
    "ACTIVATE_EXTRUDER": _Rule("extruder", alone=True),
    "BED_MESH_CLEAR": _Rule("mesh", alone=True),
    "BED_MESH_OFFSET": _Rule("mesh"),
    "BED_MESH_PROFILE": _Rule("mesh", alone=True),
    "G17": _Rule("plane", alone=True),
    "G18": _Rule("plane", alone=True),
    "G19": _Rule("plane", alone=True),
    "M117": _Rule("message", alone=True),
    "M204": _Rule("limits"),
    "M205": _Rule("limits"),
    "M220": _Rule("speed factor", alone=True),
    "M221": _Rule("flow", alone=True),
    "M73": _Rule("progress"),
    "M900": _Rule("advance", ("T",)),
    "SET_EXTRUDER_ROTATION_DISTANCE": _Rule("rotation", ("EXTRUDER",)),
    "SET_FILAMENT_SENSOR": _Rule("sensor", ("SENSOR",)),
    "SET_GCODE_VARIABLE": _Rule("variable", ("MACRO", "VARIABLE")),
    "SET_IDLE_TIMEOUT": _Rule("idle", alone=True),
    "SET_INPUT_SHAPER": _Rule("shaper"),
    "SET_PIN": _Rule("pin", ("PIN",)),
    "SET_PRESSURE_ADVANCE": _Rule("advance", ("EXTRUDER",)),
    "SET_PRINT_STATS_INFO": _Rule("print_stats"),
    "SET_RETRACTION": _Rule("retraction"),
    "SET_SKEW": _Rule("skew"),
    "SET_TEMPERATURE_FAN_TARGET": _Rule("fan", ("TEMPERATURE_FAN",)),
    "SET_TMC_CURRENT": _Rule("current", ("STEPPER",)),
    "SET_VELOCITY_LIMIT": _Rule("limits"),
    "SKEW_PROFILE": _Rule("skew", alone=True),
    "SYNC_EXTRUDER_MOTION": _Rule("sync", ("EXTRUDER",)),
}
NAMES = frozenset(_RULES)
# Of these, only the form with this parameter changes what is in use.
_ONLY_WITH = {"BED_MESH_PROFILE": ("LOAD",), "SKEW_PROFILE": ("LOAD",)}
# Not values of the command
_NO_VALUES = frozenset("GMN*")

Key = tuple[str, tuple[str | None, ...], frozenset[str]]


class Replay:
    """The settings that still count, in the order in which they were made."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[Key, Setting]] = {}
        self._count = 0

    def put(self, command: Command, tool: int | None = None) -> None:
        """Note a command; one that sets nothing lasting is ignored.  tool: in use.

        Raises LexError when the file sets more than a print can.
        """
        rule = _RULES.get(command.name)
        if rule is None:
            return
        needed = _ONLY_WITH.get(command.name)
        if needed and not any(name in command.params for name in needed):
            return
        entries = self._groups.setdefault(rule.group, {})
        alone = rule.alone or (
            command.name == "SET_SKEW" and command.params.get("CLEAR") == "1"
        )
        if alone:
            self._count -= len(entries)
            entries.clear()
        chosen = tuple(command.params.get(name) for name in rule.selectors)
        if tool is not None and chosen[0] is None:
            chosen = (str(tool),)
        else:
            tool = None
        stated = frozenset(command.params) - _NO_VALUES - set(rule.selectors)
        key = (command.name, chosen, stated)
        if entries.pop(key, None) is None:
            self._count += 1
        if self._count > MAX_ENTRIES:
            raise LexError(f"more than {MAX_ENTRIES} settings", command.raw)
        entries[key] = Setting(command.name, command.text(), tool)

    def drop(self, group: str) -> None:
        """What the group held is no longer so, and nothing known took its place."""
        self._count -= len(self._groups.pop(group, {}))

    def group(self, group: str) -> dict[Key, Setting]:
        return dict(self._groups.get(group, {}))

    def restore(self, group: str, entries: dict[Key, Setting]) -> None:
        self.drop(group)
        self._count += len(entries)
        self._groups[group] = dict(entries)

    def settings(self) -> tuple[Setting, ...]:
        """Ready to be run again; groups by name, as their order is free."""
        return tuple(
            setting
            for group in sorted(self._groups)
            for setting in self._groups[group].values()
        )
