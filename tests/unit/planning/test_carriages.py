# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.planning import objections
from moonraker_components.power_loss_recovery.planning.carriages import refusals
from moonraker_components.power_loss_recovery.record import Record
from tests.unit.samples import FACTS, JOB, record, state

BOTH = frozenset({"dual_carriage", "extruder", "extruder1"})


def printed(modes: Any, extruder: str = "extruder") -> Record:
    saved = {"carriages": {"carriage_modes": modes, "axes_positions": [1.0, 2.0]}}
    return record(state={**state(tool={"active": extruder}), "rare": saved})


@pytest.mark.parametrize(("modes", "said"), [
    (["PRIMARY", "COPY"], r"both carriages \(copy mode\)"),
    (["PRIMARY", "MIRROR"], r"both carriages \(mirror mode\)"),
    (["INACTIVE", "PRIMARY"], "second carriage is not possible"),
    # From Klipper v0.13 on they are named.
    ({"carriage x": "PRIMARY", "dual_carriage u": "COPY"}, "copy mode"),
    ({"carriage x": "INACTIVE", "dual_carriage u": "PRIMARY"}, "second carriage"),
    # Two on X and two on Y
    ({"x": "PRIMARY", "y": "PRIMARY", "u": "INACTIVE", "v": "MIRROR"}, "mirror mode"),
])  # fmt: skip
def test_a_second_carriage_in_use_is_refused_with_what_to_do(
    modes: Any, said: str
) -> None:
    (reason,) = refusals(printed(modes), BOTH)
    assert "scripts/plr resume-file" in reason
    assert re.search(said, reason)
    # The machine has none any more: that is said elsewhere.
    assert list(refusals(printed(modes), frozenset())) == []


def test_the_second_extruder_is_refused_whatever_the_carriages_say() -> None:
    for modes in (["PRIMARY", "INACTIVE"], None):
        (reason,) = refusals(printed(modes, "extruder1"), BOTH)
        assert "second carriage" in reason


@pytest.mark.parametrize("modes", [
    ["PRIMARY", "INACTIVE"], {"x": "PRIMARY", "u": "INACTIVE"}, None, [],
    {"x": "PRIMARY", "y": "PRIMARY", "u": "INACTIVE", "v": "INACTIVE"},
])  # fmt: skip
def test_the_first_one_prints_on(modes: Any) -> None:
    assert list(refusals(printed(modes), BOTH)) == []


def test_it_is_refused_before_anything_moves() -> None:
    facts = replace(FACTS, objects=FACTS.objects | BOTH)
    found = objections.refusals(printed(["PRIMARY", "COPY"]), JOB, facts)
    assert len(found) == 1 and "copy mode" in found[0]
