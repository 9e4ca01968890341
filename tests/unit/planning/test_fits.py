# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

import math

import pytest

from moonraker_components.power_loss_recovery.gcode.ahead import Reach
from moonraker_components.power_loss_recovery.gcode.scan import Footprint
from moonraker_components.power_loss_recovery.planning.fits import outside

LOW, HIGH = (0.0, 0.0, -2.0), (250.0, 210.0, 200.0)
NONE = (0.0, 0.0, 0.0)
INSIDE = Reach((10.0, 10.0, 240.0, 200.0), 150.0)


def test_what_fits_is_not_spoken_of() -> None:
    assert list(outside(INSIDE, NONE, LOW, HIGH)) == []
    edge = Reach((-0.4, 0.0, 250.4, 210.0), 200.3)
    assert list(outside(edge, NONE, LOW, HIGH)) == []


@pytest.mark.parametrize(("reach", "axis"), [
    (Reach((-5.0, 10.0, 240.0, 200.0), 150.0), "X"),
    (Reach((10.0, 10.0, 251.0, 200.0), 150.0), "X"),
    (Reach((10.0, -1.0, 240.0, 200.0), 150.0), "Y"),
    (Reach((10.0, 10.0, 240.0, 220.0), 150.0), "Y"),
    (Reach((10.0, 10.0, 240.0, 200.0), 201.0), "Z"),
])  # fmt: skip
def test_what_does_not_fit_is_named_by_axis(reach: Reach, axis: str) -> None:
    (reason,) = outside(reach, NONE, LOW, HIGH)
    assert reason.startswith(f"The rest of the print goes in {axis} from ")
    assert "another printer" in reason


def test_offsets_count() -> None:
    assert list(outside(INSIDE, (20.0, 0.0, 0.0), LOW, HIGH))
    assert list(outside(INSIDE, (0.0, 0.0, 60.0), LOW, HIGH))


def test_what_the_file_leaves_open_is_no_reason() -> None:
    open_ = Reach((math.nan,) * 4, math.nan)
    assert list(outside(open_, NONE, LOW, HIGH)) == []


def test_where_this_machine_has_printed_it_can_go_on() -> None:
    beyond = Reach((-5.0, 10.0, 240.0, 220.0), 150.0)
    shifted = (3.0, 0.0, 0.0)
    been = Footprint((-5.0, 10.0, 100.0, 219.8), 20.0)
    assert list(outside(beyond, NONE, LOW, HIGH, been)) == []
    assert list(outside(beyond, shifted, LOW, HIGH, been)) == []
    less = Footprint((-5.0, 10.0, 100.0, 219.0), 20.0)
    (reason,) = outside(beyond, NONE, LOW, HIGH, less)
    assert " in Y from 10.00 to 220.00" in reason
    for unknown in (None, Footprint(None, None)):
        assert len(list(outside(beyond, NONE, LOW, HIGH, unknown))) == 2
