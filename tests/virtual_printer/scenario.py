# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""One block, cut in one place and resumed in another: what the oracle is tested on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .oracle import compare
from .synthetic import (
    GEOMETRY,
    Fault,
    Move,
    block,
    lines,
    move_times,
    position_before,
    resumed,
    simulate,
)
from .trace import Session
from .verdict import Verdict

START = (20.0, 20.0, 5.0)
MOVES = block()
TIMES = move_times(MOVES)
REFERENCE = simulate(MOVES)


def judged(*sessions: Session) -> Verdict:
    return compare([REFERENCE], list(sessions), GEOMETRY)


def cut_in(number: int, part_of_it: float = 0.5) -> float:
    """Seconds after power-on, within move `number`."""
    return float(TIMES[number] + part_of_it * (TIMES[number + 1] - TIMES[number]))


def at_cut(number: int, part_of_it: float = 0.5) -> tuple[float, float, float]:
    before = np.array(position_before(MOVES, number))
    move = MOVES[number]
    x, y, z = before + part_of_it * (np.array([move.x, move.y, move.z]) - before)
    return float(x), float(y), float(z)


def cut_session(number: int, part_of_it: float = 0.5) -> Session:
    return simulate(MOVES, cut_at=cut_in(number, part_of_it))


def resume_session(
    cut: int,
    number: int,
    faults: tuple[Fault, ...] = (),
    moves: list[Move] | None = None,
    t_on: float = 1000.0,
    cut_at: float | None = None,
    part_of_it: float = 0.5,
    purge_at: tuple[float, float] = (30.0, 40.0),
    skip_to: int | None = None,
    celsius: float = 210.0,
    wait: float = 0.5,
) -> Session:
    """Resumed at move `number` after a cut in move `cut`; faults count from the
    first move of the print that is done again."""
    start = at_cut(cut, part_of_it)
    steps = resumed(moves or MOVES, number, start, purge_at, skip_to)
    own = len(steps) - len((moves or MOVES)[number if skip_to is None else skip_to :])
    moved = [replace(f, first=f.first + own, last=f.last + own) for f in faults]
    return simulate(
        steps, start, t_on, cut_at, moved, phase=0.37, lead_in=wait, celsius=celsius
    )


INFILL = lines(MOVES, 2)[18]
PERIMETER = lines(MOVES, 2)[2]
