# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a print sets besides motion: heaters, fans, objects, layers, settings."""
from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from . import lexer
from .errors import LexError
from .layers import Layers
from .lexer import Command
from .replay import MAX_ENTRIES, NAMES, Key, Replay, Setting

_RESET = re.compile(rb"(?i)\sRESET\s*=\s*\S")
_EXTRUDER = re.compile(r"extruder(\d{0,3})")
_M486_NAME = re.compile(rb"(?i)\s*M486\s*A([^\r\n]*)")
# "G92 E0", "G10 ; retract": a file says the same few things over and over.
_parse_short = functools.lru_cache(maxsize=1024)(lexer.parse)
name_of = functools.lru_cache(maxsize=4096)(lexer.command_name)


def parse(line: bytes) -> Command:
    return _parse_short(line) if len(line) <= 128 else lexer.parse(line)


def extruder_number(name: str) -> int | None:
    """2 for "extruder2", 0 for "extruder"; None for any other name."""
    match = _EXTRUDER.fullmatch(name)
    return None if match is None else int(match[1] or 0)


@dataclass
class Ambient:
    """heaters: targets in degrees C by Klipper's names.  fans: 0..1.
    flow_before_tool: no M221 came since another tool was chosen."""

    tool: int | None = None
    firmware_retracted: bool = False
    flow_before_tool: bool = False
    heaters: dict[str, float] = field(default_factory=dict)
    fans: dict[str, float] = field(default_factory=dict)
    layers: Layers = field(default_factory=Layers)
    object_definitions: list[bytes] = field(default_factory=list)
    current_object: str | None = None
    replay: Replay = field(default_factory=Replay)
    _extruder: int = 0
    _factors: dict[str, dict[str, dict[Key, Setting]]] = field(default_factory=dict)
    _m486: dict[str, Setting] = field(default_factory=dict)

    def apply(self, line: bytes) -> None:
        """Read one line.  Raises LexError where Klipper would stop at it."""
        if line.startswith(b";"):
            self.layers.note(line)
            return
        name = name_of(line)
        handler = _HANDLERS.get(name)
        if handler is not None:
            handler(self, parse(line))
        elif name == "EXCLUDE_OBJECT_DEFINE":
            self._define_object(line)
        elif name.startswith("M486"):
            self._m486_object(line)
        elif name.startswith("T") and name[1:].isdecimal() and len(name) < 8:
            self.tool = int(name[1:])
            self.flow_before_tool |= self.tool != self._extruder
            self._extruder = self.tool
            self.replay.drop("extruder")
        elif name in NAMES:
            self.replay.put(parse(line))

    def settings(self) -> tuple[Setting, ...]:
        return (*self._m486.values(), *self.replay.settings())

    def saved_factors(self) -> dict[str, tuple[Setting, ...]]:
        """M220 and M221 as they were at each SAVE_GCODE_STATE."""
        return {
            name: tuple(s for group in groups.values() for s in group.values())
            for name, groups in self._factors.items()
        }

    def _heater(self, command: Command) -> None:
        if command.name in ("M140", "M190"):
            heater = "heater_bed"
        elif command.name in ("M141", "M191"):
            heater = "chamber"
        else:
            index = command.number("T")
            tool = self._extruder if index is None else int(index)
            heater = f"extruder{tool}" if tool else "extruder"
        _put(self.heaters, heater, command.number("S", 0.0), command)

    def _named_heater(self, command: Command) -> None:
        heater = command.params.get("HEATER", "")
        _put(self.heaters, heater, command.number("TARGET", 0.0), command)

    def _heaters_off(self, command: Command) -> None:
        self.heaters = dict.fromkeys(self.heaters, 0.0)

    def _fan(self, command: Command) -> None:
        index = int(command.number("P", 0.0) or 0.0)
        value = command.number("S", 255.0) if command.name == "M106" else 0.0
        speed = min((value or 0.0) / 255.0, 1.0)
        _put(self.fans, f"fan{index}" if index else "fan", speed, command)

    def _named_fan(self, command: Command) -> None:
        fan = command.params.get("FAN", "")
        _put(self.fans, fan, command.number("SPEED"), command)

    def _firmware_retraction(self, command: Command) -> None:
        self.firmware_retracted = command.name == "G10"

    def _print_stats(self, command: Command) -> None:
        self.layers.print_stats(command)
        self.replay.put(command)

    def _activate(self, command: Command) -> None:
        number = extruder_number(command.params.get("EXTRUDER", ""))
        if number != self._extruder:
            # Klipper: gcode_move.py, _handle_activate_extruder
            self._drop_flow()
        if number is not None:
            self._extruder = number
        self.replay.put(command)

    def _drop_flow(self) -> None:
        self.replay.drop("flow")
        self.flow_before_tool = False

    def _advance(self, command: Command) -> None:
        self.replay.put(command, self._extruder)

    def _flow(self, command: Command) -> None:
        self.flow_before_tool = False
        self.replay.put(command)

    def _mesh_lost(self, command: Command) -> None:
        self.replay.drop("mesh")

    def _save_factors(self, command: Command) -> None:
        if len(self._factors) >= MAX_ENTRIES:
            raise LexError(f"more than {MAX_ENTRIES} saved states", command.raw)
        groups = ("speed factor", "flow")
        name = command.params.get("NAME", "default")
        self._factors[name] = {group: self.replay.group(group) for group in groups}

    def _restore_factors(self, command: Command) -> None:
        saved = self._factors.get(command.params.get("NAME", "default"), {})
        self.flow_before_tool = self.flow_before_tool and not saved
        for group, entries in saved.items():
            self.replay.restore(group, entries)

    def _object(self, command: Command) -> None:
        self.current_object = None
        if command.name == "EXCLUDE_OBJECT_START" and "NAME" in command.params:
            self.current_object = command.params["NAME"].upper()

    def _define_object(self, line: bytes) -> None:
        if _RESET.search(line):
            self.object_definitions.clear()
            return
        if len(self.object_definitions) >= MAX_ENTRIES:
            raise LexError(f"more than {MAX_ENTRIES} objects", line)
        self.object_definitions.append(line.strip())

    def _m486_object(self, line: bytes) -> None:
        """Marlin's objects, which macros bring to Klipper: T count, S the one that
        begins, A the name of the one begun."""
        named = _M486_NAME.match(line)
        current = self._m486.pop("S", None)
        if named is not None:
            if current is not None and len(self._m486) < MAX_ENTRIES:
                key = current.line.decode("ascii", "replace")
                self._m486[key] = current
                self._m486[key + " A"] = Setting("M486", line.strip())
        else:
            command = parse(line)
            if "T" in command.params:
                self._m486 = {"T": Setting("M486", command.text())}
            elif "S" in command.params:
                current = Setting("M486", command.text())
        if current is not None:
            # Always the last: it tells what is being printed.
            self._m486["S"] = current


def _put(
    values: dict[str, float], key: str, value: float | None, command: Command
) -> None:
    if not key or value is None:
        return
    if key not in values and len(values) >= MAX_ENTRIES:
        raise LexError(f"more than {MAX_ENTRIES} heaters or fans", command.raw)
    # In the order in which they were said last: see prologue.py
    values.pop(key, None)
    values[key] = value


_HANDLERS: dict[str, Callable[[Ambient, Command], None]] = {
    "ACTIVATE_EXTRUDER": Ambient._activate,
    "BED_MESH_CALIBRATE": Ambient._mesh_lost,
    "EXCLUDE_OBJECT_END": Ambient._object,
    "EXCLUDE_OBJECT_START": Ambient._object,
    "G10": Ambient._firmware_retraction,
    "G11": Ambient._firmware_retraction,
    "G29": Ambient._mesh_lost,
    "M104": Ambient._heater,
    "M106": Ambient._fan,
    "M107": Ambient._fan,
    "M109": Ambient._heater,
    "M140": Ambient._heater,
    "M141": Ambient._heater,
    "M190": Ambient._heater,
    "M191": Ambient._heater,
    "M221": Ambient._flow,
    "RESTORE_GCODE_STATE": Ambient._restore_factors,
    "SAVE_GCODE_STATE": Ambient._save_factors,
    "SET_FAN_SPEED": Ambient._named_fan,
    "SET_HEATER_TEMPERATURE": Ambient._named_heater,
    "SET_PRESSURE_ADVANCE": Ambient._advance,
    "SET_PRINT_STATS_INFO": Ambient._print_stats,
    "TURN_OFF_HEATERS": Ambient._heaters_off,
}
