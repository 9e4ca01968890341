# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A print whose spool is empty does not go on in the air."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from moonraker_components.power_loss_recovery import plan
from moonraker_components.power_loss_recovery.planning import spools
from tests.unit.samples import FACTS, JOB, LINE, head, record, state

SPOOL = "filament_switch_sensor spool"
NONE = {SPOOL: {"filament_detected": False}}
OBJECTS = FACTS.objects | {"pause_resume"}


def planned(
    sees: dict[str, Any], enabled: bool = True, saw: bool | None = True
) -> plan.Plan:
    rare = {"sensors": {"spool": enabled}, "spools": {"spool": saw}}
    if saw is None:
        del rare["spools"]
    machine = replace(FACTS, spools=sees, objects=OBJECTS)
    rec = record(state={**state(), "rare": rare})
    return plan.make(rec, JOB, head(), LINE, machine)


def test_it_is_made_ready_and_paused() -> None:
    made = planned(NONE)
    assert made.pauses
    assert any(line.startswith(b"PAUSE") for line in made.prologue)
    assert any("sees no filament" in text for text in made.warnings)


@pytest.mark.parametrize(("sees", "enabled", "saw"), [
    ({}, True, True), ({SPOOL: {"filament_detected": True}}, True, True),
    ({SPOOL: {}}, True, True),  # not known yet
    (NONE, False, True),  # it was off in the print
    (NONE, True, False),  # of a tool that the print does not use
    (NONE, True, None),  # of an older version
])  # fmt: skip
def test_else_it_goes_on(
    sees: dict[str, Any], enabled: bool, saw: bool | None
) -> None:
    made = planned(sees, enabled, saw)
    assert not made.pauses
    assert not any(line.startswith(b"PAUSE") for line in made.prologue)
    assert not any("filament sensor" in text for text in made.warnings)


@pytest.mark.parametrize(("own", "watches"), [
    ({}, True), ({"pause_on_runout": True}, True), ({"pause_on_runout": False}, False),
    ({"pause_on_runout": False, "runout_gcode": "M600"}, True),
])  # fmt: skip
def test_a_sensor_that_does_nothing_in_a_print_is_not_asked(
    own: dict[str, Any], watches: bool
) -> None:
    names = ["extruder", SPOOL, "filament_motion_sensor wheel"]
    found = list(spools.watching(names, {SPOOL: own}))
    assert found == ([SPOOL] if watches else [])


def test_two_are_named_together() -> None:
    assert "[a] and [b] see no filament" in spools.warning(["a", "b"])
