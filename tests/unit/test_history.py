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


@pytest.mark.parametrize(("was", "now"), [(None, True), (False, True), (True, False)])
def test_a_cancel_must_not_wait_nor_stay(was: bool | None, now: bool) -> None:
    before = mark() if was is None else mark(cancelling=was)
    after = mark(cancelling=now)
    assert history.urgent(before, after, on_layer=True) == "cancel"
    assert history.urgent(after, after, on_layer=True) is None
    made = History(5, 2)
    for one in (before, after):
        made.add(one)
    assert (made.select() or {})["cancelling"] is now


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


def test_a_tool_change_is_one_whatever_changes_with_it() -> None:
    now = mark(state=state(heaters={"extruder": 0.0}, tool={"active": "extruder1"}))
    assert history.urgent(mark(), now, on_layer=True) == "tool change"


@pytest.mark.parametrize(("z", "reason"), [
    (0.4, None), (0.405, None), (10.4, "parked"), (0.3, "parked"),
])  # fmt: skip
def test_a_head_that_was_lifted_is_parked(z: float, reason: str | None) -> None:
    assert history.paused(mark(), mark(toolhead_z=z), True, True) == reason


@pytest.mark.parametrize(("was_paused", "at_rest", "changes", "reason"), [
    (False, False, {}, "pause"), (True, False, {"file_position": 9}, None),
    (True, True, {"file_position": 9}, "pause"), (True, True, {"fraction": 0}, "pause"),
    (True, True, {"state": state(fans={"fan": 1.0})}, None), (True, True, {}, None),
])  # fmt: skip
def test_a_pause_is_saved_when_it_begins_and_where_it_came_to_rest(
    was_paused: bool, at_rest: bool, changes: dict[str, Any], reason: str | None
) -> None:
    assert history.paused(mark(), mark(**changes), was_paused, at_rest) == reason


@pytest.mark.parametrize(("changes", "changed"), [
    ({"print_time": 99.0}, False), ({"file_position": 5}, True),
    ({"fraction": 0.5}, True), ({"toolhead_z": 3.0}, True),
    ({"state": state(fans={"fan": 1.0})}, True),
])  # fmt: skip
def test_time_alone_is_no_news(changes: dict[str, Any], changed: bool) -> None:
    assert history.changed(mark(), mark(**changes)) is changed


def test_a_pause_that_has_become_known_is_saved_and_its_end_too() -> None:
    running, standing = mark(), mark(paused=True, position=[1.0, 2.0, 0.4, 10.0])
    assert history.paused(running, standing, True, True) == "pause"
    assert history.paused(standing, standing, True, True) is None
    assert history.urgent(standing, running, True) == "resumed"
    assert history.urgent(running, standing, True) is None


def test_a_tool_of_the_same_extruder_is_another_tool() -> None:
    tools = [{"changer": {"number": n, "name": f"tool T{n}"}} for n in (0, 1)]
    before, after = (mark(state=state(tool=tool)) for tool in tools)
    assert history.urgent(before, after, True) == "tool change"
    assert history.urgent(before, before, True) is None
