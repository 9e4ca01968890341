# Prints that begin at once, for tests that only look at how they are saved
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A machine that believes it is homed and warm, and where in a file its motors are.

Nothing is homed or heated before the first line: a cut can come a second after the
start. Such prints cannot be resumed, and the oracle is of no use to them.
"""
from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .printer import VirtualPrinter
from .trace import Session

START = (125.0, 125.0, 5.0)
# Later sections of one name add to the earlier ones.
CONFIG = f"""
[extruder]
min_extrude_temp: 0
pressure_advance: 0

[force_move]
enable_force_move: True

[gcode_macro PRINT_START]
gcode:
    M104 S205
    SET_KINEMATIC_POSITION X={START[0]} Y={START[1]} Z={START[2]}
    G90
"""
# mm that one step of a motor is, as config/printer.cfg has it
STEP_A = 40 / (200 * 32)
STEP_Z = 40 / 5 / (200 * 16)
STEP_E = 22.6789511 / 5 / (200 * 16)
WORD = re.compile(rb"([A-Z])([-+]?[0-9]*\.?[0-9]+)")


@dataclass(frozen=True)
class Place:
    """A line of a file: where it starts, and how many steps lead there."""

    offset: int
    steps: int
    text: str


class StepMap:
    """How many motor steps of a print on `quick` lie before each place of its file.

    Each motor moves one way within a line, and klippy rounds to whole steps from
    where it was told to be: counted so, every moment that something moves has a
    number of its own, travels and retractions included.
    """

    def __init__(self, data: bytes) -> None:
        self.places: list[Place] = []
        self._motors: list[tuple[int, int, int, int]] = []
        self._read(data)
        self._offsets = [place.offset for place in self.places]

    def _read(self, data: bytes) -> None:
        at = dict(zip(b"XYZE", (*START, 0.0), strict=True))
        e_base, relative_e, offset, total = 0.0, False, 0, 0
        before = self._steps_at(at, 0.0)
        for raw in data.split(b"\n"):
            text = raw.decode("utf-8", "replace").strip()
            self.places.append(Place(offset, total, text))
            self._motors.append(before)
            offset += len(raw) + 1
            command = raw.split(b";")[0].strip()
            word = command.split(b" ")[0]
            if word in (b"M82", b"M83"):
                relative_e = word == b"M83"
            elif word == b"G92":
                e_base, at[ord("E")] = e_base + at[ord("E")], 0.0
            elif word in (b"G0", b"G1"):
                for letter, value in WORD.findall(command[2:]):
                    if letter == b"E" and relative_e:
                        at[ord("E")] += float(value)
                    elif letter in b"XYZE":
                        at[ord(letter)] = float(value)
            elif word in (b"G2", b"G3", b"G91"):
                raise ValueError(f"not for a step map: {text}")
            now = self._steps_at(at, e_base)
            total += sum(abs(a - b) for a, b in zip(now, before, strict=True))
            before = now
            if word == b"PRINT_END":
                break
        self.total = total

    @staticmethod
    def _steps_at(at: dict[int, float], e_base: float) -> tuple[int, int, int, int]:
        x, y, z = (at[ord(c)] - START[i] for i, c in enumerate("XYZ"))
        return (
            round((x + y) / STEP_A), round((x - y) / STEP_A), round(z / STEP_Z),
            round((e_base + at[ord("E")]) / STEP_E),
        )  # fmt: skip

    def steps_before(self, file_position: int, fraction: float) -> float:
        """At that share of the line that begins at byte `file_position`."""
        index = bisect_right(self._offsets, file_position) - 1
        if index < 0 or self._offsets[index] != file_position:
            raise ValueError(f"no line begins at byte {file_position}")
        place = self.places[index]
        following = index + 1 < len(self.places)
        after = self.places[index + 1].steps if following else self.total
        return place.steps + fraction * (after - place.steps)

    def text_at(self, file_position: int) -> str:
        return self.places[bisect_right(self._offsets, file_position) - 1].text


def step_times(session: Session) -> np.ndarray:
    """Of all steps since the power came on, sorted; of Z those of one motor."""
    # The first row of each series is where the motor was.
    series = [session.motors[name][0][1:] for name in ("a", "b", "z", "e")]
    return np.sort(np.concatenate(series))


def lost_seconds(times: np.ndarray, steps: float, t_cut: float) -> float:
    """Motion between a place of the file and where the motors stopped.

    Negative for a place that they had not come to, by the steps that are missing at
    the pace of the last ones.
    """
    times = times[times <= t_cut]
    if steps <= len(times):
        whole = max(int(steps), 1)
        return float(t_cut - times[whole - 1])
    recent = times[-200:]
    return float(-(steps - len(times)) * np.diff(recent).mean())


def last_session(printer: VirtualPrinter) -> Session:
    return printer.sessions()[0][-1]


def map_of(path: Path) -> StepMap:
    return StepMap(path.read_bytes())
