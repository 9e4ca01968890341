# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The first way up, with Z+ switches that may be near or pressed already."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery.z_lift import ZLift
from tests.unit.extra.fake_printer import CommandError, Printer

TOP, ROOM = 232.0, 5.0


class Bench(Printer):
    """below: how far the gantry stands below its switches, mm."""

    def __init__(self, z: float, below: float, switches: bool = True) -> None:
        super().__init__()
        self.z, self.below, self.switches = z, below, switches
        self.highest = -below
        toolhead = SimpleNamespace(
            get_position=lambda: [0.0, 0.0, self.z, 0.0], manual_move=self.move,
            wait_moves=lambda: None,
        )  # fmt: skip
        motors = SimpleNamespace(
            toolhead=toolhead, pressed=self.pressed, set_z=self.set_z
        )
        measure = SimpleNamespace(max_adjustment=ROOM)
        ZLift(self, SimpleNamespace(motors=motors, measure=measure, z_position=TOP))

    def pressed(self) -> list[str]:
        return ["stepper_z"] if self.switches and self.below <= 0 else []

    def move(self, to: list[Any], speed: float) -> None:
        assert to[:2] == [None, None]
        self.below -= to[2] - self.z
        self.z = to[2]
        self.highest = max(self.highest, -self.below)

    def set_z(self, z: float) -> None:
        self.z = z


@pytest.mark.parametrize("switches", [True, False])
def test_far_from_the_switches_it_is_lifted_by_all_of_it(switches: bool) -> None:
    bench = Bench(0.4, 200.0, switches)
    bench.run("_PLR_LIFT DISTANCE=10.25")
    assert bench.z == pytest.approx(10.65) and bench.below == pytest.approx(189.75)


@pytest.mark.parametrize("below", [0.0, -0.5, 0.3, 3.7, 9.9])
def test_near_the_switches_it_goes_no_millimetre_further_and_opens_them(
    below: float,
) -> None:
    bench = Bench(12.0, below)
    (said,) = bench.run("_PLR_LIFT DISTANCE=10")
    assert bench.highest <= max(-below, 0.0) + 1.0 and "are pressed" in said
    assert bench.z == TOP - ROOM and not bench.pressed()


def test_a_part_that_reaches_up_there_is_not_gone_down_to() -> None:
    bench = Bench(224.0, 0.0)
    with pytest.raises(CommandError, match="up to Z 224.00: lower Z by hand"):
        bench.run("_PLR_LIFT DISTANCE=6")
    assert bench.highest == 0.0


def test_left_at_the_top_by_a_failed_homing_it_goes_down_to_a_low_part() -> None:
    """The record has where the motors were then: nothing is printed up there."""
    bench = Bench(230.0, 0.0)
    (said,) = bench.run("_PLR_LIFT DISTANCE=1 CLEAR=5.4")
    assert "are pressed" in said and bench.z == TOP - ROOM and not bench.pressed()


def test_but_not_to_a_part_that_is_said_to_reach_up_there() -> None:
    bench = Bench(230.0, 0.0)
    with pytest.raises(CommandError, match="up to Z 228.00: lower Z by hand"):
        bench.run("_PLR_LIFT DISTANCE=1 CLEAR=228")


def test_without_a_distance_nothing_moves() -> None:
    bench = Bench(12.0, 100.0)
    bench.run("_PLR_LIFT DISTANCE=0")
    assert bench.z == 12.0
