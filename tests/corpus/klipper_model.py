# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Klipper without a printer: what each line of a file does, and what it leaves.

Thinks as Klipper does, and not as our scanner: base_position and last_position, an
extruder that keeps its own position when another one is active, filament that is
pulled back when its position is behind the furthest it has been at.  Motion is in
klipper_moves.py, the rest of what a file sets in klipper_settings.py.  The machine is
homed at the origin when power comes on.
"""
from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from .klipper_gcode import Params, is_traditional, named, take_apart
from .klipper_moves import Moves, Segment

START_MACROS = ("PRINT_START", "START_PRINT")

__all__ = ["Klipper", "Segment"]


class Klipper(Moves):
    """One machine; see Moves and Settings for what it keeps."""

    # Running

    def run(self, data: bytes, at: int = 0) -> None:
        for _ in self.stops(data, (), at):
            pass

    def stops(self, data: bytes, offsets: Iterable[int], at: int = 0) -> Iterator[int]:
        """Run `data` from byte `at` on, pausing before the line at each offset."""
        wanted = set(offsets)
        for line in data[at:].split(b"\n"):
            if at in wanted:
                self.offset = at
                yield at
            self.offset = at
            self.line(line.decode("utf-8", "surrogateescape"))
            at += len(line) + 1

    def lines(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self.line(line.decode("utf-8", "surrogateescape"))

    def line(self, text: str) -> None:
        command, params = take_apart(text)
        if command in ("G1", "G0"):
            self._move(params)
        elif command:
            self._other(command, params, text)

    def _other(self, command: str, params: Params, text: str) -> None:
        if command.startswith(("M117 ", "M118 ")):
            command = command[:4]
        handler = getattr(self, "do_" + command.replace(".", "_"), None)
        if handler is not None:
            handler(params if is_traditional(command) else named(command, text))
        elif command[0] == "T" and command[1:].isdigit():
            self._tool(int(command[1:]))
        elif command in START_MACROS:
            self._start(named(command, text))
        else:
            self.note_command(command, params, text)

    # What there is between two lines

    def clone(self) -> Klipper:
        """The same machine, to go another way from here; without the past."""
        twin = copy.copy(self)
        for name in ("position", "base", "homing", "head"):
            setattr(twin, name, list(getattr(self, name)))
        if self.exclusion is not None:
            twin.exclusion = self.exclusion.clone()
        for name in ("parked", "furthest", "saved"):
            setattr(twin, name, dict(getattr(self, name)))
        twin.prints, twin.uses, twin.trace = [], [], None
        twin.layer_lines = []
        return twin

    def after_power_cut(self) -> Klipper:
        """Power is back: all settings are lost, all filament is where it was."""
        fresh = Klipper(self.tools, self.fans_by_number)
        fresh.heaters, fresh.told_to_macro = {}, set()
        for name in self.furthest:
            fresh.furthest[name] = self.behind(name)
        return fresh

    def behind(self, extruder: str | None = None) -> float:
        name = extruder or self.extruder
        now = self.head[3] if name == self.extruder else self.parked.get(name, 0.0)
        return self.furthest.get(name, 0.0) - now

    def state(self) -> dict[str, Any]:
        """All that the next line could depend on, but for absolute filament: its
        zero is arbitrary, so E is as the file counts it."""
        counted = [p - b for p, b in zip(self.position, self.base, strict=True)]
        return {
            "gcode_position": tuple(counted[:3]),
            "e": counted[3] / self.extrude_factor,
            "position": tuple(self.position[:3]),
            "homing_origin": tuple(self.homing[:3]),
            "f": self.speed,
            "speed_factor": self.speed_factor,
            "extrude_factor": self.extrude_factor,
            "absolute_coordinates": self.absolute,
            "absolute_extrude": self.absolute_e,
            "retracted": self.behind(),
            "saved_states": self.saved_states(),
            **self.settings(),
        }
