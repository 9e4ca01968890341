# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What the virtual printer's motors did, from power-on to power cut.

Positions are physical millimetres: where the rotor really is, which is not always
where klippy believes it to be.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Series = tuple[FloatArray, FloatArray]

Z_MOTORS = ("z", "z1", "z2", "z3")
MOTORS = ("a", "b", *Z_MOTORS, "e")
FORMAT = 1


class TraceError(ValueError):
    """A trace file that is not one of ours, or a session that cannot be read."""


@dataclass(frozen=True)
class Session:
    """One power-on of the machine.

    t_on, t_off: host seconds (monotonic); t_off is the power cut or the dump.
    motors: name -> (t, pos): pos is mm right after the event at t, sorted by t; the
        first row is the position at t_on; constant between rows. Each later row is
        one motor step, or a snap or sag jump.
    temps: 'extruder', 'heater_bed' -> (t, celsius).
    events: (t, kind, text).
    """

    t_on: float
    t_off: float
    motors: dict[str, Series]
    temps: dict[str, Series] = field(default_factory=dict)
    events: list[tuple[float, str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Geometry:
    """The machine around the nozzle, in mm.

    z_corners: (x, y) where z, z1, z2, z3 lift the gantry: front left, rear left,
        rear right, front right of a rectangle.
    bed: x_min, y_min, x_max, y_max.
    """

    z_corners: tuple[
        tuple[float, float],
        tuple[float, float],
        tuple[float, float],
        tuple[float, float],
    ]
    bed: tuple[float, float, float, float]
    filament_diameter: float = 1.75


def save(path: Path | str, sessions: Sequence[Session], geometry: Geometry) -> None:
    """Write sessions and geometry to one .npz file (no pickle inside)."""
    arrays: dict[str, NDArray] = {}
    heads = []
    for number, session in enumerate(sessions):
        series = {"motor": session.motors, "temp": session.temps}
        for kind, named in series.items():
            for name, (t, value) in named.items():
                arrays[f"{number}.{kind}.{name}.t"] = np.asarray(t, dtype=float)
                arrays[f"{number}.{kind}.{name}.v"] = np.asarray(value, dtype=float)
        heads.append(
            {
                "t_on": session.t_on,
                "t_off": session.t_off,
                "motors": list(session.motors),
                "temps": list(session.temps),
                "events": [list(event) for event in session.events],
            }
        )
    head = {
        "format": FORMAT,
        "sessions": heads,
        "z_corners": geometry.z_corners,
        "bed": geometry.bed,
        "filament_diameter": geometry.filament_diameter,
    }
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    with open(path, "wb") as out:
        np.savez(out, allow_pickle=False, **arrays)


def load(path: Path | str) -> tuple[list[Session], Geometry]:
    """Read what save() wrote. TraceError when it is something else."""
    with np.load(path, allow_pickle=False) as arrays:
        if "head" not in arrays:
            raise TraceError(f"{path} is not a trace: it has no 'head' entry")
        head = json.loads(arrays["head"].tobytes())
        if head.get("format") != FORMAT:
            raise TraceError(
                f"{path} has trace format {head.get('format')}, expected {FORMAT}"
            )
        sessions = []
        for number, entry in enumerate(head["sessions"]):
            named: dict[str, dict[str, Series]] = {}
            for kind in ("motor", "temp"):
                named[kind] = {
                    name: (
                        arrays[f"{number}.{kind}.{name}.t"],
                        arrays[f"{number}.{kind}.{name}.v"],
                    )
                    for name in entry[kind + "s"]
                }
            events = [(float(t), str(k), str(x)) for t, k, x in entry["events"]]
            sessions.append(
                Session(
                    entry["t_on"],
                    entry["t_off"],
                    named["motor"],
                    named["temp"],
                    events,
                )
            )
    a, b, c, d = ((float(x), float(y)) for x, y in head["z_corners"])
    x0, y0, x1, y1 = head["bed"]
    return sessions, Geometry((a, b, c, d), (x0, y0, x1, y1), head["filament_diameter"])
