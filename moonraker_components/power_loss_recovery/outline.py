# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What can be said of a resume before its file is read: enough to begin.

A file may be hundreds of MB, and the first step only warms the bed.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import hooks, objections, purge, steps
from .facts import Facts
from .plan import Plan, Refusal, safe_height, stands_at, z_of
from .record import Job, Record


@dataclass(frozen=True)
class Outline:
    """first: the plan's first step, titles: of all its steps; z: as the plan's."""

    first: steps.Step
    titles: tuple[str, ...]
    warnings: tuple[str, ...]
    z: Mapping[str, Any]


def make(record: Record, job: Job, facts: Facts) -> Outline:
    """Raises Refusal, for every reason that does not need the file."""
    reasons = objections.refusals(record, job, facts)
    if reasons:
        raise Refusal(reasons)
    stands = stands_at(record, facts)
    # How far up and where is not known yet, and not told.
    bed = (*facts.axis_minimum[:2], *facts.axis_maximum[:2])
    todo = steps.build(
        record, facts, stands, purge.in_the_air(bed), safe_height(record, 0.0, facts)
    )
    part = hooks.Part(record.motor_position(2), bed)
    todo = hooks.around(todo, job, record, facts, part)
    return Outline(
        todo[0], tuple(step.title for step in todo),
        tuple(objections.warnings(record, facts, stands)), z_of(facts, stands),
    )  # fmt: skip


def of_plan(made: Plan) -> Outline:
    """Of one that is whole already."""
    titles = tuple(step.title for step in made.steps)
    return Outline(made.steps[0], titles, made.warnings, made.z)
