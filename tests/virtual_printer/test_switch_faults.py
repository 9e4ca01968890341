# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Faulty switches: what each kind says, the same whenever it is asked."""
from __future__ import annotations

import numpy as np
import pytest

from .switch_faults import BOUNCE, CHATTER, SwitchFaults

PIN = "ZP1"
CLOCKS = np.arange(0, 200 * CHATTER, CHATTER // 2)
# It goes up through the place where it closes, and down again.
ABOVE = np.interp(CLOCKS, CLOCKS[[0, 200, -1]], [-0.05, 0.05, -0.05])
CLOSED = ABOVE >= 0


def state(kind: str) -> np.ndarray:
    faults = SwitchFaults(1)
    faults.set(PIN, kind)
    return faults.apply(PIN, CLOCKS, ABOVE)


def test_a_healthy_switch_is_closed_above_its_place() -> None:
    assert np.array_equal(state(""), CLOSED)
    assert np.array_equal(SwitchFaults(1).apply("ZP0", CLOCKS, ABOVE), CLOSED)


def test_a_switch_that_is_pressed_or_never_closes_does_not_care() -> None:
    assert state("pressed").all()
    assert not state("never").any()


def test_a_bouncing_switch_opens_again_only_near_its_place() -> None:
    seen = state("bounce")
    far = ABOVE >= BOUNCE
    assert seen[far].all()
    near = CLOSED & ~far
    assert seen[near].any() and not seen[near].all()
    assert not seen[~CLOSED].any()


def test_a_bouncing_switch_says_the_same_whoever_asked_before() -> None:
    faults = SwitchFaults(1)
    faults.set(PIN, "bounce")
    at_once = faults.apply(PIN, CLOCKS, ABOVE)
    backwards = [
        bool(faults.apply(PIN, CLOCKS[[n]], ABOVE[[n]])[0])
        for n in reversed(range(len(CLOCKS)))
    ]
    assert list(at_once) == backwards[::-1]


def test_a_switch_that_closes_once_does_not_close_again() -> None:
    faults = SwitchFaults(1)
    faults.set(PIN, "once")
    assert np.array_equal(faults.apply(PIN, CLOCKS, ABOVE), CLOSED)
    stopped = int(CLOCKS[150])
    faults.stopped(PIN, stopped)
    expected = CLOSED & (CLOCKS < stopped)
    assert expected.any() and not np.array_equal(expected, CLOSED)
    assert np.array_equal(faults.apply(PIN, CLOCKS, ABOVE), expected)


def test_a_sticky_switch_stays_closed_once_it_has_stopped_a_motor() -> None:
    faults = SwitchFaults(1)
    faults.set(PIN, "sticky")
    assert np.array_equal(faults.apply(PIN, CLOCKS, ABOVE), CLOSED)
    stuck = int(CLOCKS[150])
    faults.stopped(PIN, stuck)
    expected = CLOSED | (CLOCKS >= stuck)
    assert np.array_equal(faults.apply(PIN, CLOCKS, ABOVE), expected)
    faults.set(PIN, "")
    assert np.array_equal(faults.apply(PIN, CLOCKS, ABOVE), CLOSED)


def test_only_a_sticky_switch_sticks() -> None:
    faults = SwitchFaults(1)
    faults.stopped(PIN, 0)
    faults.set(PIN, "sticky")
    assert np.array_equal(faults.apply(PIN, CLOCKS, ABOVE), CLOSED)


def test_a_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="wobbly"):
        SwitchFaults(1).set(PIN, "wobbly")


def test_noise_belongs_to_one_switch_until_it_is_healed() -> None:
    faults = SwitchFaults(1)
    faults.set(PIN, "", 0.3)
    assert faults.sigma == {PIN: 0.3}
    faults.set(PIN, "")
    assert faults.sigma == {}
