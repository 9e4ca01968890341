# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Where the print goes on inside a line, and with how much filament pulled back."""
from __future__ import annotations

import pytest

from moonraker_components.power_loss_recovery.planning.begun import split
from tests.unit.samples import GCODE, LINE, head, record

ARC = b"G3 X100 Y150 I-25 J0 E5"


def test_a_line_not_begun_is_run_whole() -> None:
    rec = record(fraction=0.0)
    assert split(rec, head(), LINE) == (rec, None)


def test_a_line_that_cannot_be_split_counts_as_not_begun() -> None:
    begun, rest = split(record(fraction=0.5), head(), b"M106 S3")
    assert (begun.fraction, rest) == (0.0, None)


def test_the_place_is_inside_the_line() -> None:
    begun, rest = split(record(fraction=0.5), head(), LINE)
    assert begun.position == (125.0, 150.0, 0.4, 12.5) and begun.fraction == 0.5
    assert rest == b"G1 X100 Y150 E2.5"


@pytest.mark.parametrize(("retracted", "left"), [(0.8, 0.0), (4.0, 1.625), (0.0, 0.0)])
def test_what_the_line_has_pushed_is_no_longer_pulled_back(
    retracted: float, left: float
) -> None:
    begun, _ = split(record(fraction=0.5, retracted=retracted), head(), LINE)
    assert begun.retracted == pytest.approx(left)


def test_a_line_that_pulls_back_is_not_counted_twice() -> None:
    rec = record(fraction=0.5, retracted=0.2)
    begun, _ = split(rec, head(), b"G1 X100 Y150 E-1")
    assert begun.retracted == pytest.approx(0.2 + 0.5 * 0.95)


def test_an_arc_goes_on_in_the_plane_that_the_file_has_chosen() -> None:
    rec = record(fraction=0.5)
    begun, rest = split(rec, head(), ARC)
    assert begun.position == pytest.approx((125.0, 175.0, 0.4, 12.5))
    assert rest is not None and rest.startswith(b"G3 X100 Y150 I0 J-25 ")
    for chosen, same in ((b"G18\n", False), (b"G18\nG17\n", True)):
        other, _ = split(rec, head(chosen + GCODE, len(chosen + GCODE)), ARC)
        assert (other.position == begun.position) is same
