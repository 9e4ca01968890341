# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Without Z+ switches, on lead screws: Z after a power cut, and what the owner is told.

Each rotor snaps to its cycle when power is back.  tests/bench/assume_z.py does the
same with more cuts.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.virtual_printer import screw_trial, variants
from tests.virtual_printer.screw_trial import Outcome, Trial
from tests.virtual_printer.variants import Variant

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# Variant, history, and instants within a layer: seconds after the first plastic
CASES: dict[str, tuple[Variant, str, tuple[float, ...]]] = {
    "step count": (variants.LEAD_SCREWS, screw_trial.POWER_ON, (4.0, 16.5)),
    "driver": (variants.LEAD_SCREWS_TMC, screw_trial.FIRMWARE_RESTART, (4.3,)),
    "nothing": (variants.ONE_SCREW, screw_trial.FIRMWARE_RESTART, (4.0,)),
}
# With this seed no rotor stands close to halfway between two cycles in the first two
# layers: there nobody could know where it goes.
SEED = 46
MAX_ERROR = 0.01


def cut(name: str) -> list[Outcome]:
    variant, history, instants = CASES[name]
    with Trial(variant, seed=SEED) as trial:
        return [
            trial.run(screw_trial.FLAT, instant, history) for instant in instants
        ]


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Future[list[Outcome]]]]:
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(cut, name) for name in CASES}


@pytest.mark.parametrize("name", ["step count", "driver"])
def test_z_is_true_where_the_phase_is_known(
    outcomes: dict[str, Future[list[Outcome]]], name: str
) -> None:
    for outcome in outcomes[name].result():
        print(outcome.text())
        assert outcome.bound <= MAX_ERROR
        assert abs(outcome.z) <= MAX_ERROR
        assert outcome.worst <= outcome.bound


def test_the_owner_is_told_how_wrong_z_can_be_where_it_is_not(
    outcomes: dict[str, Future[list[Outcome]]],
) -> None:
    (outcome,) = outcomes["nothing"].result()
    print(outcome.text())
    cycle = 0.16
    assert cycle / 2 <= outcome.bound <= cycle
    assert abs(outcome.z) <= outcome.bound
    told = [re.search(r"in doubt by ([\d.]+) mm", text) for text in outcome.warnings]
    assert [float(m[1]) for m in told if m] == [pytest.approx(outcome.bound, abs=0.006)]
