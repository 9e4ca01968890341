# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What SAVE_GCODE_STATE in a file has kept, as klippy would have it now."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..gcode.lexer import parse
from ..gcode.replay import Setting
from ..gcode.scan import Head
from ..saving.machine_state import MAX_STATES

DEFAULT_FEEDRATE = 1500.0  # Klipper: gcode_move.py, mm/min


def saved_states(head: Head) -> dict[str, dict[str, Any]]:
    """By name, with the keys of klippy's gcode_move.saved_states.

    Left out where the file does not tell where the head was: RESTORE_GCODE_STATE
    may go there, and klippy stops at a name that it does not know.
    """
    made = {}
    for name, saved in head.saved.items():
        *place, e = saved.position
        if None in place or None in saved.frame:
            continue
        base = [(frame or 0.0) + offset for frame, offset in
                zip((*saved.frame, 0.0), saved.offset, strict=True)]  # fmt: skip
        speed, flow = (
            _percent(head.saved_factors.get(name, ()), factor) / 100.0
            for factor in ("M220", "M221")
        )
        # Klipper: only the difference of the two counts of E comes back.
        position = (*place, (e or 0.0) * flow)
        last = [(at or 0.0) + zero for at, zero in zip(position, base, strict=True)]
        feedrate = DEFAULT_FEEDRATE if saved.feedrate is None else saved.feedrate
        made[name] = {
            "absolute_coord": saved.absolute_coordinates,
            "absolute_extrude": saved.absolute_extrude,
            "base_position": base,
            "last_position": last,
            "homing_position": list(saved.offset),
            "speed": feedrate * speed / 60.0,
            "speed_factor": speed / 60.0,
            "extrude_factor": flow,
        }
    return dict(list(made.items())[-MAX_STATES:])


def _percent(settings: Iterable[Setting], name: str) -> float:
    for setting in settings:
        if setting.name == name:
            return parse(setting.line).number("S", 100.0) or 100.0
    return 100.0
