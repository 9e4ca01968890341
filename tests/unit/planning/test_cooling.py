# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.planning import cooling, objections, rotor
from moonraker_components.power_loss_recovery.planning.cooling import (
    Outage,
    Seen,
    lowest,
    warnings,
    watched,
)
from tests.unit.samples import FACTS, record, state

HOUR = 3600.0
COLD = Outage(off=5 * HOUR, bed=24.0)
HOT = record(state=state(heaters={"heater_bed": 100.0}))


@given(st.floats(30, 130), st.floats(1, 1e6), st.floats(5, 40), st.floats(125, 3500))
def test_a_bed_that_nobody_heats_has_its_lowest_when_it_is_read(
    then: float, dark: float, room: float, tau: float
) -> None:
    """Whatever bed it is, and whatever room: no cooling is taken for heat."""
    bed = room + (max(then, room) - room) * math.exp(-dark / tau)
    found = lowest(max(then, room), Outage(off=dark, bed=bed))
    assert found is not None and found.low == found.high == bed


@given(st.floats(60, 130), st.floats(600, 1e5), st.floats(5, 25), st.floats(125, 3500))
def test_a_bed_that_was_heated_before_it_was_read_has_its_lowest_within_the_bounds(
    then: float, dark: float, room: float, tau: float
) -> None:
    """Somebody has heated it just before, to what it had."""
    been = room + (then - room) * math.exp(-dark / tau)
    found = lowest(then, Outage(off=dark, bed=then))
    assert found is not None and found.low - 1e-6 <= been <= found.high + 1e-6


def test_what_was_read_lower_since_stays_known() -> None:
    """hold_bed, or a resume that failed, has heated the bed again."""
    seen = None
    for bed in (31.0, 26.0, 58.0):
        seen = watched(seen, Outage(off=2 * HOUR, bed=bed))
    assert seen == Seen(31.0, 2 * HOUR, 26.0)
    assert watched(seen, Outage(off=1.0, bed=None)) == seen
    warm = Outage(off=3 * HOUR, bed=58.0, seen=seen)
    assert lowest(60.0, warm) == cooling.Lowest(26.0, 26.0)
    (said,) = warnings(record(), warm)
    assert "warm again, but was without heat meanwhile: it had 26 °C" in said


def test_of_a_bed_that_was_heated_unseen_the_bounds_are_said() -> None:
    (said,) = warnings(record(), Outage(off=HOUR, bed=60.0))
    assert "it had between 5 and 47 °C, by an estimate" in said


@pytest.mark.parametrize("outage", [
    Outage(off=120.0, bed=58.0), Outage(off=None, bed=50.1), Outage(off=9e3, bed=None),
    # Klipper was restarted at once, and the bed holds its heat.
    Outage(off=20.0, bed=61.0),
])  # fmt: skip
def test_a_bed_that_stayed_warm_is_no_matter(outage: Outage) -> None:
    assert warnings(record(), outage) == []


def test_a_print_without_a_warm_bed_has_nothing_to_lose() -> None:
    assert warnings(record(state=state(heaters={"heater_bed": 0.0})), COLD) == []


@pytest.mark.parametrize(("material", "bed", "said"), [
    ("PLA", 24.0, "PLA mostly lets go of smooth PEI below about 40 °C."),
    ("PLA", 45.0, "PLA mostly still holds on smooth PEI at that."),
    ("PETG", 24.0, "PETG often holds on smooth PEI when it is cold, but not"),
    ("ABS", 24.0, "ABS and ASA shrink: below about 80 °C corners lift, and stand"),
    ("ABS", 85.0, "ABS mostly still holds"),
])  # fmt: skip
def test_what_it_means_for_the_material_is_said(
    material: str, bed: float, said: str
) -> None:
    rec = HOT if material == "ABS" else record()
    (found,) = warnings(rec, Outage(off=600.0, bed=bed, material=material))
    assert "the part may have let go" in found and said in found


def test_of_another_material_nothing_more_is_said() -> None:
    (found,) = warnings(record(), COLD)
    assert found == (
        "The bed has cooled from 60 to 24 °C, it was without heat for 5 h: the part may"
        " have let go."
    )


@pytest.mark.parametrize(("saved_at", "now", "off"), [
    (1.7e9, 1.7e9 + 60, 60.0), (1.7e9, 1.7e9 - 1, None),
    # Saved before the host had learned the time, and read before it has.
    (30.0, 1.7e9, None), (1.7e9, 30.0, None),
])  # fmt: skip
def test_a_clock_that_makes_no_sense_is_not_believed(
    saved_at: float, now: float, off: float | None
) -> None:
    assert cooling.since(saved_at, now) == off
    said = " ".join(warnings(record(), Outage(off=off, bed=24.0)))
    assert ("the host's clock is not right" in said) == (off is None or off < 100)


def test_a_host_that_starts_with_the_time_of_its_last_sync_is_found_out() -> None:
    """A Pi without a clock: 40 s by its time, and the bed is cold."""
    assert cooling.soonest(60.0, 24.0) > 100.0
    (said,) = warnings(record(), Outage(off=40.0, bed=24.0))
    assert "without heat for 40 s" in said
    assert said.endswith("It was longer, the host's clock is not right: no bed cools"
                         " so fast.")  # fmt: skip
    assert "clock" not in " ".join(warnings(record(), Outage(off=HOUR, bed=24.0)))


def test_a_dry_run_says_it_too() -> None:
    stands = rotor.Rest(0.4, {}, 0.0)
    facts = replace(FACTS, outage=replace(COLD, material="PLA"))
    assert objections.warnings(record(), facts, stands) == warnings(
        record(), replace(COLD, material="PLA")
    )
    assert objections.warnings(record(), FACTS, stands) == []
