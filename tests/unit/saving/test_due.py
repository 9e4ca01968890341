# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Why a state is saved now; what spaces the others is in test_pacing.py."""
from __future__ import annotations

from typing import Any

import pytest

from moonraker_components.power_loss_recovery.saving.due import Due
from moonraker_components.power_loss_recovery.saving.pacing import Pacing
from moonraker_components.power_loss_recovery.settings import Settings
from tests.unit.samples import mark, state

LOST = {"power_loss": {"lost": True}}
RUNNING = {"mark": mark(), "pending_marks": 3}
FURTHER = mark(fraction=0.5)


@pytest.fixture
def due() -> Due:
    """Of a print whose mark() was saved at 0 s, with nothing to space but events."""
    made = Due(Pacing(Settings(save_interval=0.0)))
    assert made.why(0.0, mark(), RUNNING, paused=False, asked=False) == "first state"
    made.pacing.saved(0.0, 0.002, 1, "first state")
    made.last = mark()
    return made


@pytest.mark.parametrize(("new", "why"), [
    (FURTHER, None),
    (mark(state=state(progress={"layer": 4})), "layer"),
    (mark(state=state(heaters={"extruder": 220.0})), "temperature"),
])  # fmt: skip
def test_an_event_is_due_and_a_place_alone_can_wait(
    due: Due, new: dict[str, Any], why: str | None
) -> None:
    assert due.why(5.0, new, RUNNING, paused=False, asked=False) == why


def test_what_is_asked_for_is_due(due: Due) -> None:
    assert due.why(5.0, FURTHER, RUNNING, paused=False, asked=True) == "asked"


def test_a_pause_is_due_once_until_it_moves(due: Due) -> None:
    assert due.why(5.0, FURTHER, RUNNING, paused=True, asked=False) == "pause"
    due.last, due.was_paused = FURTHER, True
    assert due.why(9.0, FURTHER, RUNNING, paused=True, asked=False) is None
    lifted = mark(fraction=0.5, toolhead_z=9.0)
    assert due.why(13.0, lifted, RUNNING, paused=True, asked=False) == "parked"


def test_when_the_mains_fail_what_is_new_is_due_before_all_else(due: Due) -> None:
    extra = {**RUNNING, **LOST}
    assert due.why(5.0, FURTHER, extra, paused=True, asked=True) == "power loss"
    due.last = FURTHER
    assert due.why(5.1, FURTHER, extra, paused=False, asked=False) is None


def test_of_a_new_print_nothing_is_saved(due: Due) -> None:
    due.was_paused = True
    due.new_print()
    why = due.why(5.0, mark(), RUNNING, paused=False, asked=False)
    assert (why, due.was_paused) == ("first state", False)
