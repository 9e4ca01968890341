# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""No number that is beyond the limits is passed over, however it is written."""
from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.gcode import words
from moonraker_components.power_loss_recovery.gcode.words import beyond, numbers

LIMITS = st.one_of(
    st.integers(-300, 300).map(float), st.floats(-300, 300), st.floats(-1e7, 1e7)
)
SPELLINGS = ("{}", " {}", "\t{}", "+{}", "00{}", "{:.3f}", "{:.0f}", "{:.1f}0")
AFTER = ("\n", " Y3\n", "Y3", ";X9\n", "\r\n", "*7\n", "")


def within(text: bytes, letter: bytes, low: float, high: float) -> bool:
    return not beyond(text, letter, low, high)


@settings(max_examples=1000, deadline=None)
@given(
    LIMITS, LIMITS, LIMITS, st.integers(-2, 2), st.sampled_from(SPELLINGS),
    st.sampled_from(AFTER),
)  # fmt: skip
def test_a_number_is_within_or_not(
    one: float, other: float, value: float, near: int, spelling: str, after: str
) -> None:
    low, high = min(one, other), max(one, other)
    value = value if near == 0 else (low if near < 0 else high) + near * 0.5
    if spelling[0] in "+0" and math.copysign(1.0, value) < 0.0:
        spelling = "{}"
    written = spelling.format(value)
    if "e" in written:
        return
    text = f"G1 F9 X{written}{after}".encode().upper()
    asked = {float(written)} | ({9.0} if "X9" in after else set())
    assert within(text, b"X", low, high) is all(low <= x <= high for x in asked)
    assert set(numbers(text, b"X")) == asked


@pytest.mark.parametrize("low", [0, 1, 9, 10, 61, 99, 100, 950, 1000, 9000])
@pytest.mark.parametrize("count", [0, 1, 2, 9, 10, 143, 1000])
def test_the_patterns_are_of_all_whole_numbers_between(low: int, count: int) -> None:
    pattern = b"|".join(words._integers(low, low + count - 1)) or b"none"
    found = [i for i in range(11_000) if re.fullmatch(pattern, b"%d" % i)]
    assert found == list(range(low, low + count))


@pytest.mark.parametrize(
    "text", [b"X5-3", b"X--5", b"X5 5", b"X\xff\xfe", "X٣٣٣".encode()]
)
def test_what_may_be_no_number_is_not_within(text: bytes) -> None:
    assert not within(b"G1 " + text + b" Y5\n", b"X", -99.0, 99.0)


def test_a_letter_inside_a_name_has_no_number() -> None:
    text = b"EXCLUDE_OBJECT_START NAME=MAX\n;TYPE:EXTERNAL\n;MAXX:7\nG1 X\n"
    assert within(text, b"X", 0.0, 1.0) and numbers(text, b"X") == []


@pytest.mark.parametrize("low", [math.inf, math.nan])
def test_nothing_is_within_limits_that_are_not_known(low: float) -> None:
    assert not within(b"G1 X5\n", b"X", low, 5.0)
    assert within(b"G1 Y5\n", b"X", low, 5.0)


def test_many_and_few_letters_are_read_alike() -> None:
    text = b"".join(b"G1 Z%d\n" % z for z in range(100))
    assert sorted(numbers(text, b"Z")) == [float(z) for z in range(100)]
    assert sorted(numbers(text + b";" * 10**6, b"Z")) == [float(z) for z in range(100)]
