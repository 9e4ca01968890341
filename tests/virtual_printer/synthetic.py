# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A print made of arithmetic: moves become steps as Klipper would time them.

Every move from rest to rest, at once or (`accel`) ramped, with pressure advance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .trace import MOTORS, Geometry, Series, Session

GEOMETRY = Geometry(
    ((-25.0, -10.0), (-25.0, 270.0), (275.0, 270.0), (275.0, -10.0)),
    (0.0, 0.0, 250.0, 250.0),
)
STEP_MM = {"a": 1 / 80, "b": 1 / 80, "e": 1 / 700} | dict.fromkeys(
    ("z", "z1", "z2", "z3"), 1 / 400
)
LAYER = 0.2
LINE = 0.4
FILAMENT_PER_MM = LINE * LAYER / (np.pi * (1.75 / 2) ** 2)
RETRACT = 0.6


@dataclass(frozen=True)
class Move:
    """To (x, y, z) mm in `seconds`, feeding `e` mm.  layer: 0.., -1 off the part."""

    x: float
    y: float
    z: float
    e: float
    seconds: float
    layer: int = -1
    kind: str = "travel"


class Pen:
    """Collects moves; knows where the nozzle is."""

    def __init__(self, x: float = 20.0, y: float = 20.0, z: float = 5.0) -> None:
        self.moves: list[Move] = []
        self.at = (x, y, z)
        self.layer = -1

    def add(self, x: float, y: float, z: float, e: float, v: float, kind: str) -> None:
        x0, y0, z0 = self.at
        length = float(np.linalg.norm([x - x0, y - y0, z - z0]))
        seconds = (length if length > 1e-9 else abs(e)) / v
        if seconds > 0.0:
            self.moves.append(Move(x, y, z, e, seconds, self.layer, kind))
        self.at = (x, y, z)

    def line(self, x: float, y: float, v: float = 80.0) -> None:
        length = float(np.hypot(x - self.at[0], y - self.at[1]))
        self.add(x, y, self.at[2], length * FILAMENT_PER_MM, v, "line")

    def feed(self, e: float) -> None:
        self.add(*self.at, e, 30.0, "retract" if e < 0 else "unretract")

    def hop_to(self, x: float, y: float, z: float, lift: float = 0.4) -> None:
        """Retract, lift, travel, descend, undo the retraction."""
        self.feed(-RETRACT)
        self.add(self.at[0], self.at[1], max(z, self.at[2]) + lift, 0, 20.0, "lift")
        self.add(x, y, self.at[2], 0, 200.0, "travel")
        self.add(x, y, z, 0, 20.0, "descend")
        self.feed(RETRACT)


def part(
    pen: Pen,
    size: float = 10.0,
    layers: int = 4,
    corner: tuple[float, float] = (60, 80),
) -> None:
    """A square block: two perimeters, then infill at +45 and -45 degrees in turn."""
    x0, y0 = corner
    for layer in range(layers):
        pen.layer = layer
        z = (layer + 1) * LAYER
        for inset in (0.0, LINE):
            low, high = inset, size - inset
            pen.hop_to(x0 + low, y0 + low, z)
            for x, y in ((high, low), (high, high), (low, high), (low, low)):
                pen.line(x0 + x, y0 + y)
        infill(pen, size, (x0, y0), z, mirrored=layer % 2 == 1)


def infill(
    pen: Pen, size: float, corner: tuple[float, float], z: float, mirrored: bool
) -> None:
    low, high = 2 * LINE, size - 2 * LINE
    pitch = LINE * np.sqrt(2.0)
    first = True
    for number, c in enumerate(np.arange(2 * low + pitch, 2 * high, pitch)):
        # The line x + y = c inside the square, walked to and fro.
        ends = [(min(high, c - low), max(low, c - high))]
        ends.append((max(low, c - high), min(high, c - low)))
        if number % 2:
            ends.reverse()
        spots = [
            (corner[0] + (size - x if mirrored else x), corner[1] + y) for x, y in ends
        ]
        if first:
            pen.hop_to(*spots[0], z)
            first = False
        elif np.hypot(spots[0][0] - pen.at[0], spots[0][1] - pen.at[1]) < 1.5:
            pen.add(*spots[0], z, 0, 150.0, "travel")
        else:
            pen.hop_to(*spots[0], z)
        pen.line(*spots[1])


def purge_line(pen: Pen, x: float, y: float, length: float = 30.0) -> None:
    pen.hop_to(x, y, 0.3)
    pen.line(x + length, y, 40.0)


def block(**options: object) -> list[Move]:
    """Purge line and part."""
    pen = Pen()
    purge_line(pen, 30.0, 20.0)
    part(pen, **options)  # type: ignore[arg-type]
    pen.layer = -1
    pen.feed(-RETRACT)
    pen.add(pen.at[0], pen.at[1], 10.0, 0, 20.0, "lift")
    return pen.moves


def split(moves: Sequence[Move], start: tuple[float, float, float], fraction: float,
          number: int) -> list[Move]:  # fmt: skip
    """The same moves with move `number` cut in two at `fraction` of its way."""
    before = moves[number - 1] if number else None
    x0, y0, z0 = (before.x, before.y, before.z) if before else start
    whole = moves[number]
    first = replace(
        whole,
        x=x0 + (whole.x - x0) * fraction,
        y=y0 + (whole.y - y0) * fraction,
        z=z0 + (whole.z - z0) * fraction,
        e=whole.e * fraction,
        seconds=whole.seconds * fraction,
    )
    second = replace(
        whole, e=whole.e * (1 - fraction), seconds=whole.seconds * (1 - fraction)
    )
    return [*moves[:number], first, second, *moves[number + 1 :]]


@dataclass(frozen=True)
class Fault:
    """What is wrong with the machine during moves [first, last)."""

    first: int
    last: int
    dx: float = 0.0
    corners: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def simulate(
    moves: Sequence[Move],
    start: tuple[float, float, float] = (20.0, 20.0, 5.0),
    t_on: float = 100.0,
    cut_at: float | None = None,
    faults: Iterable[Fault] = (),
    phase: float = 0.0,
    lead_in: float = 0.5,
    celsius: float = 210.0,
    accel: float = 0.0,
    advance: float = 0.0,
) -> Session:
    """Steps of a session that runs `moves` from `start`.

    cut_at: seconds after t_on at which power goes.  phase: offset of every motor's
    step lattice, as a fraction of a step: a power cycle changes it.  accel: mm/s^2, 0
    for none.  advance: pressure advance, s.
    """
    knots, times = _knots(moves, start, tuple(faults), accel, advance)
    times = times + t_on + lead_in
    t_off = times[-1] + 0.5 if cut_at is None else t_on + cut_at
    motors: dict[str, Series] = {}
    for column, name in enumerate(MOTORS):
        t, pos = _steps(times, knots[:, column], STEP_MM[name], phase)
        keep = t <= t_off
        motors[name] = (
            np.concatenate([[t_on], t[keep]]),
            np.concatenate([[pos[0]], pos[1:][keep]]),
        )
    ticks = np.arange(t_on, t_off, 0.1)
    temps = {"extruder": (ticks, np.full(len(ticks), celsius))}
    return Session(t_on, float(t_off), motors, temps, [(float(t_off), "cut", "")])


def move_times(moves: Sequence[Move], lead_in: float = 0.5) -> np.ndarray:
    """Start of each move, seconds after t_on; one more entry for the end."""
    return np.cumsum([lead_in, *(m.seconds for m in moves)])


def _knots(
    moves: Sequence[Move],
    start: tuple[float, float, float],
    faults: tuple[Fault, ...],
    accel: float,
    advance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of MOTORS, and the times between which they are linear."""
    rows, times, t, e = [], [], 0.0, 0.0
    here = start

    def put(active: list[Fault], when: float, at: np.ndarray, fed: float) -> None:
        dx = sum(f.dx for f in active)
        lift = [sum(f.corners[k] for f in active) for k in range(4)]
        x, y, z = at[0] + dx, at[1], at[2]
        rows.append([x + y, x - y, *(z + d for d in lift), fed])
        times.append(when)

    put([], 0.0, np.array(here), 0.0)
    for number, move in enumerate(moves):
        active = [f for f in faults if f.first <= number < f.last]
        if any(number == f.first or number == f.last for f in faults):
            t += 0.01
            put(active, t, np.array(here), e)
        begin, end = np.array(here), np.array([move.x, move.y, move.z])
        for when, part, speed in _profile(move, begin, accel):
            fed = e + move.e * part
            if move.kind == "line":
                fed += advance * move.e * speed
            put(active, t + when, begin + (end - begin) * part, fed)
        t = times[-1]
        here, e = (move.x, move.y, move.z), e + move.e
    return np.array(rows), np.array(times)


def _profile(
    move: Move, begin: np.ndarray, accel: float
) -> list[tuple[float, float, float]]:
    """(seconds, part of the move done, parts per second), without the start."""
    length = float(np.linalg.norm(np.array([move.x, move.y, move.z]) - begin))
    if not accel or length < 1e-9:
        return [(move.seconds, 1.0, 0.0)]
    v = min(length / move.seconds, np.sqrt(accel * length))
    ramp = v / accel
    cruise = (length - v * ramp) / v
    total = 2 * ramp + cruise
    out = []
    for when in np.append(np.arange(0.001, total, 0.001), total):
        left = total - when
        if when < ramp:
            done, speed = accel * when**2 / 2, accel * when
        elif left < ramp:
            done, speed = length - accel * left**2 / 2, accel * left
        else:
            done, speed = v * (when - ramp / 2), v
        out.append((float(when), float(done / length), float(speed / length)))
    return out


def _steps(
    times: np.ndarray, pos: np.ndarray, step: float, phase: float
) -> tuple[np.ndarray, np.ndarray]:
    """Times and positions of steps; pos[0] is where the motor begins."""
    lattice = pos / step - phase
    out_t: list[np.ndarray] = []
    out_n: list[np.ndarray] = []
    now = int(np.round(lattice[0]))
    begin = now
    for i in range(len(times) - 1):
        p0, p1 = lattice[i], lattice[i + 1]
        # Steps fall where the commanded position passes the middle.
        goal = int(np.floor(p1 + 0.5)) if p1 > p0 else int(np.ceil(p1 - 0.5))
        if goal == now or p0 == p1 or (goal > now) != (p1 > p0):
            continue
        way = 1 if goal > now else -1
        n = np.arange(now + way, goal + way, way)
        middle = n - 0.5 * way
        part = np.clip((middle - p0) / (p1 - p0), 0.0, 1.0)
        out_t.append(times[i] + part * (times[i + 1] - times[i]))
        out_n.append(n)
        now = goal
    t = np.concatenate(out_t) if out_t else np.zeros(0)
    n = np.concatenate([[begin], *out_n]) if out_n else np.array([begin])
    return t, (n + phase) * step


def position_before(moves: Sequence[Move], number: int) -> tuple[float, float, float]:
    """Where the nozzle is when move `number` begins."""
    before = moves[number - 1]
    return before.x, before.y, before.z


def resumed(
    moves: Sequence[Move],
    number: int,
    start: tuple[float, float, float],
    purge_at: tuple[float, float] = (30.0, 40.0),
    skip_to: int | None = None,
) -> list[Move]:
    """A resume: lift, home, purge off the part, travel above, descend, undo the
    retraction, then moves[number:] (or from `skip_to` on, but starting there)."""
    pen = Pen(*start)
    pen.add(start[0], start[1], start[2] + 10.0, 0, 10.0, "lift")
    pen.add(240.0, 240.0, pen.at[2], 0, 150.0, "home")
    purge_line(pen, *purge_at)
    pen.hop_to(*position_before(moves, number), lift=10.0)
    return pen.moves + list(moves[number if skip_to is None else skip_to :])


def lines(moves: Sequence[Move], layer: int) -> list[int]:
    """Indices of the moves that lay plastic in a layer."""
    return [
        n for n, move in enumerate(moves) if move.layer == layer and move.kind == "line"
    ]


def without(moves: Sequence[Move], first: int, last: int) -> list[Move]:
    """The same motion, with moves [first, last) laying no plastic."""
    return [
        replace(move, e=0.0) if first <= n < last else move
        for n, move in enumerate(moves)
    ]
