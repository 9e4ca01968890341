# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Everything that a print can set is as it was, on real klippy, after a power cut.

One print on one printer; a hook of the owner's sets much of it otherwise while the
print is resumed.  tests/virtual_printer/state_rows.py has the rows.
"""
from __future__ import annotations

import pytest

from tests.virtual_printer import state_rows, state_trial
from tests.virtual_printer.klippy_tree import prepare

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MAX_Z_ERROR = 0.001  # mm


@pytest.fixture(scope="module")
def outcome() -> state_trial.Outcome:
    return state_trial.run()


ROWS = [row.name for row in state_rows.here()]


@pytest.mark.parametrize("name", ROWS)
def test_it_comes_back(outcome: state_trial.Outcome, name: str) -> None:
    if name not in outcome.before:
        assert prepare().is_package and name in state_rows.NOT_IN_PACKAGE
        pytest.skip("PyPI's klippy cannot load it")
    assert not state_trial.alike(outcome.fresh[name], outcome.before[name])
    assert name not in outcome.differences(), outcome.differences()[name]


def test_the_compensated_z_is_the_same(outcome: state_trial.Outcome) -> None:
    lowest = outcome.z_before[: len(state_trial.PLACES)]
    assert max(lowest) - min(lowest) > 0.05, "the mesh compensates nothing"
    assert outcome.z_error <= MAX_Z_ERROR


def test_a_state_that_was_saved_before_is_restored_after(
    outcome: state_trial.Outcome,
) -> None:
    assert state_trial.alike(outcome.saved, outcome.restored)
