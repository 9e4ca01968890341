# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

from typing import Any

import pytest

from moonraker_components.power_loss_recovery import history
from moonraker_components.power_loss_recovery.history import History
from tests.unit.samples import mark, state


def filled(size: int, delay: int, count: int) -> History:
    made = History(size, delay)
    for n in range(count):
        made.add(mark(file_position=n))
    return made


@pytest.mark.parametrize(("delay", "count", "position"), [
    (1, 1, 0), (1, 9, 8), (2, 9, 7), (4, 9, 5), (4, 2, 0), (2, 1, 0),
])  # fmt: skip
def test_the_state_given_is_as_many_back_as_asked(
    delay: int, count: int, position: int
) -> None:
    chosen = filled(5, delay, count).select()
    assert chosen is not None and chosen["file_position"] == position


def test_an_empty_history_gives_nothing() -> None:
    empty = filled(5, 2, 0)
    assert empty.select() is None and empty.newest() is None


def test_only_the_newest_states_are_kept() -> None:
    made = filled(2, 4, 9)
    chosen = made.select()
    assert chosen is not None and chosen["file_position"] == 7


def test_a_mark_looked_at_twice_is_not_two_states() -> None:
    made = filled(5, 2, 2)
    for _ in range(3):
        made.add(made.newest() or {})
    chosen = made.select()
    assert chosen is not None and chosen["file_position"] == 0


def test_cleared_is_empty() -> None:
    made = filled(5, 2, 3)
    made.clear()
    assert made.select() is None


@pytest.mark.parametrize(("parts", "reason"), [
    ({"heaters": {"extruder": 216.0}}, "temperature"),
    ({"tool": {"active": "extruder1"}}, "tool change"),
    ({"objects": {"current": "A"}}, "object"),
    ({"objects": {"excluded": ["A"]}}, "object"),
    ({"coordinates": {"homed_axes": "xy"}}, "homing"),
    ({"progress": {"layer": 4}}, "layer"),
    ({"fans": {"fan": 1.0}}, None),
    ({"progress": {"message": "x"}}, None),
    ({}, None),
])  # fmt: skip
def test_what_must_not_wait(parts: dict[str, Any], reason: str | None) -> None:
    now = mark(state=state(**parts))
    assert history.urgent(mark(), now, on_layer=True) == reason


def test_a_layer_is_urgent_only_if_wanted() -> None:
    now = mark(state=state(progress={"layer": 4}))
    assert history.urgent(mark(), now, on_layer=False) is None


@pytest.mark.parametrize(("was", "now", "leaves"), [
    ([0.4, 0.4], [0.4, 0.6], True), ([0.4, 0.6], [0.6, 0.6], False),
    ([0.4, 0.8], [0.3, 0.5], True), ([0.4, 0.4], [0.395, 0.405], False),
    (None, [0.4, 0.6], False), ([0.4, 0.4], None, False),
])  # fmt: skip
def test_z_is_saved_before_it_moves_where_it_will_be_trusted(
    was: list[float] | None, now: list[float] | None, leaves: bool
) -> None:
    before, after = mark(z_range=was), mark(z_range=now)
    reason = "z move" if leaves else None
    assert history.urgent(before, after, on_layer=True, z_counts=True) == reason
    assert history.urgent(before, after, on_layer=True) is None


def test_where_the_motors_are_is_not_delayed() -> None:
    kept = history.History(5, 2)
    kept.add(mark(file_position=1, toolhead_z=0.4))
    kept.add(mark(file_position=2, toolhead_z=0.6))
    chosen = kept.select()
    assert chosen is not None
    assert (chosen["file_position"], chosen["toolhead_z"]) == (1, 0.6)


def test_the_first_state_does_not_wait() -> None:
    assert history.urgent(None, mark(), on_layer=True) == "first state"


@pytest.mark.parametrize(("z", "parked"), [(0.4, False), (0.405, False), (10.4, True),
                                           (0.3, True)])  # fmt: skip
def test_a_head_that_was_lifted_is_parked(z: float, parked: bool) -> None:
    assert history.parked(mark(), mark(toolhead_z=z)) is parked


@pytest.mark.parametrize(("changes", "changed"), [
    ({"print_time": 99.0}, False), ({"file_position": 5}, True),
    ({"fraction": 0.5}, True), ({"toolhead_z": 3.0}, True),
    ({"state": state(fans={"fan": 1.0})}, True),
])  # fmt: skip
def test_time_alone_is_no_news(changes: dict[str, Any], changed: bool) -> None:
    assert history.changed(mark(), mark(**changes)) is changed


@pytest.mark.parametrize(("now", "interval", "due"), [
    (100.5, 1.0, False), (100.9, 1.0, True), (101.0, 1.0, True),
    (1e6, 0.0, False), (100.0, 0.05, True),
])  # fmt: skip
def test_an_interval_is_over_when_the_next_status_would_be_late(
    now: float, interval: float, due: bool
) -> None:
    assert history.due(now, 100.0, interval) is due


def test_without_a_save_so_far_any_interval_is_over() -> None:
    assert history.due(0.0, float("-inf"), 300.0)
