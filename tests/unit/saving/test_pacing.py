# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""When a state is saved, and what makes it wait."""
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.saving import pacing
from moonraker_components.power_loss_recovery.saving.pacing import (
    HOUR,
    NEVER_HELD,
    Pacing,
)
from moonraker_components.power_loss_recovery.settings import Settings

TICK = pacing.STATUS_PERIOD


def paced(interval: float = 1.0, limit: int = 0, latency: float = 0.002) -> Pacing:
    """One that has just saved, at 100 s."""
    made = Pacing(Settings(save_interval=interval, max_writes_per_hour=limit))
    made.saved(100.0, latency, 1, "first state")
    return made


def run(
    made: Pacing, seconds: float, events: dict[float, str] | None = None,
    latency: float = 0.002,
) -> list[tuple[float, str]]:  # fmt: skip
    """Status by status: what was saved, when and why.  An event stays until saved."""
    saved, waiting = [], sorted((events or {}).items())
    for tick in range(int(seconds / TICK)):
        now = 100.0 + (tick + 1) * TICK
        why = waiting[0][1] if waiting and waiting[0][0] <= now - 100.0 else None
        reason = made.decide(now, why, True)
        if reason is not None:
            made.saved(now, latency, 1, reason)
            saved.append((now - 100.0, reason))
            if reason == why:
                waiting.pop(0)
    return saved


def test_an_interval_lasts_as_long_as_it_says() -> None:
    assert run(paced(), 4.0) == [(n, "interval") for n in (1.0, 2.0, 3.0, 4.0)]
    assert [at for at, _ in run(paced(5.0), 16.0)] == [5.0, 10.0, 15.0]


@pytest.mark.parametrize("why", [
    "layer", "temperature", "object", "homing", *sorted(NEVER_HELD),
])  # fmt: skip
def test_an_event_does_not_wait_for_the_interval(why: str) -> None:
    assert run(paced(300.0), 2.0, {0.5: why}) == [(0.5, why)]
    assert run(paced(0.0), 400.0, {0.5: why}) == [(0.5, why)]


def test_an_interval_starts_again_with_an_event() -> None:
    assert run(paced(), 2.75, {0.5: "layer"}) == [
        (0.5, "layer"), (1.5, "interval"), (2.5, "interval")]  # fmt: skip


def test_without_news_nothing_is_written() -> None:
    assert paced().decide(1000.0, None, False) is None


def test_an_interval_of_zero_says_that_events_only_count() -> None:
    made = paced(0.0)
    assert made.decide(1e6, None, True) is None
    assert made.status(1e6)["interval"] is None
    assert "events only" in made.status(1e6)["reason"]


# The disk

def test_a_slow_disk_is_left_alone_nine_tenths_of_the_time() -> None:
    made = paced(latency=0.4)
    assert made.status(100.0)["interval"] == 4.0
    assert "disk is slow: a save takes 400 ms" in made.status(100.0)["reason"]
    assert made.status(100.0)["latency_ms"] == 400.0
    assert [at for at, _ in run(made, 13.0, latency=0.4)] == [4.0, 8.0, 12.0]


def test_a_fast_disk_changes_nothing() -> None:
    made = paced(latency=0.09)
    assert made.status(100.0)["interval"] == 1.0
    assert made.status(100.0)["reason"] == "save_interval"


def test_one_stall_of_two_seconds_is_forgotten_after_a_few_saves() -> None:
    made = paced()
    for _ in range(4):
        made.saved(100.0, 0.002, 1, "interval")
    made.saved(100.0, 2.0, 1, "interval")
    assert made.status(100.0)["interval"] == pytest.approx(4.0, abs=0.1)
    times = [at for at, _ in run(made, 60.0)]
    assert times[-1] - times[-2] == 1.0 and max(times[:1]) <= 4.25


def test_a_dead_slow_disk_still_gets_a_state_now_and_then() -> None:
    assert paced(latency=60.0).status(100.0)["interval"] == pacing.LONGEST_FOR_DISK
    assert paced(300.0, latency=60.0).status(100.0)["interval"] == 300.0


# Klipper

def toolhead(buffer: float, stalls: int = 0) -> dict[str, Any]:
    return {"toolhead": {"print_time": 50.0 + buffer, "estimated_print_time": 50.0,
                         "stalls": stalls}}  # fmt: skip


def test_a_wait_in_the_file_that_looks_like_load_costs_no_more_than_is_promised(
) -> None:
    """2 s at a cut, and the newest state is seen a status later."""
    assert pacing.INTERVAL_UNDER_LOAD + pacing.STATUS_PERIOD <= 2.0


def test_while_the_move_queue_is_nearly_empty_intervals_wait() -> None:
    made = paced()
    made.observe(100.0, toolhead(0.1))
    assert made.status(100.0)["interval"] == pacing.INTERVAL_UNDER_LOAD
    assert "down to 0.10 s" in made.status(100.0)["reason"]
    assert made.decide(101.0, None, True) is None
    assert made.decide(101.0, "layer", True) == "layer"
    made.observe(101.25, toolhead(1.5))
    assert made.decide(101.25, None, True) == "interval"


@pytest.mark.parametrize("buffer", [0.25, 1.0, 2.0, 0.0, -3.0])
def test_a_full_queue_and_a_machine_at_rest_are_no_load(buffer: float) -> None:
    made = paced()
    made.observe(100.0, toolhead(buffer))
    assert made.status(100.0)["reason"] == "save_interval"


def test_a_queue_that_ran_empty_is_remembered_for_a_while() -> None:
    made = paced()
    made.observe(100.0, toolhead(1.0, 3))
    assert made.status(100.0)["interval"] == 1.0
    made.observe(101.0, toolhead(1.0, 4))
    assert "ran empty" in made.status(101.0)["reason"]
    made.observe(101.0 + pacing.AFTER_STALL, toolhead(1.0, 4))
    assert made.status(111.0)["reason"] == "save_interval"
    made.observe(112.0, toolhead(1.0, 0))  # another klippy
    assert made.status(112.0)["reason"] == "save_interval"


def test_a_busy_mcu_is_named() -> None:
    made = paced()
    stats = {"mcu_task_avg": 0.0009, "mcu_task_stddev": 0.0005}
    made.observe(100.0, {"mcu": {"last_stats": {}}, "mcu head": {"last_stats": stats}})
    assert made.status(100.0)["reason"] == "mcu head is busy (96 %)"
    assert made.status(100.0)["interval"] == pacing.INTERVAL_UNDER_LOAD


@pytest.mark.parametrize("odd", [
    {}, {"mcu": {}}, {"mcu": {"last_stats": None}}, {"toolhead": {}},
    {"mcu": {"last_stats": {"mcu_task_avg": "x", "mcu_task_stddev": float("nan")}}},
    {"toolhead": {"print_time": None, "estimated_print_time": "1", "stalls": "2"}},
    {"toolhead": {"print_time": float("inf"), "stalls": None}}, {"": {}},
])  # fmt: skip
def test_a_klipper_that_tells_less_is_no_load(odd: dict[str, Any]) -> None:
    made = paced()
    made.observe(100.0, odd)
    assert made.status(100.0)["reason"] == "save_interval"


def test_a_longer_interval_of_the_owner_is_kept_under_load() -> None:
    made = paced(60.0)
    made.observe(100.0, toolhead(0.1))
    assert made.status(100.0)["interval"] == 60.0
    assert made.status(100.0)["reason"] == "save_interval"


# Worn cards

def test_intervals_take_half_of_the_limit_evenly() -> None:
    made = paced(1.0, limit=60)
    assert made.status(100.0)["interval"] == 120.0
    times = [at for at, _ in run(made, HOUR)]
    assert len(times) == 30 and times[0] == 120.0


def test_layers_find_room_beside_the_intervals() -> None:
    layers = {float(at): "layer" for at in range(60, 3600, 150)}
    saved = run(paced(1.0, limit=60), HOUR, layers)
    for at in layers:
        assert (at, "layer") in saved
    assert len(saved) <= 60


def test_many_events_take_the_room_of_the_intervals() -> None:
    layers = {float(at): "layer" for at in range(30, 3600, 65)}
    saved = run(paced(1.0, limit=60), HOUR - 2, layers)
    assert [at for at, why in saved if why == "layer"] == sorted(layers)
    assert len(saved) <= 60


def test_an_event_too_many_waits_and_is_not_lost() -> None:
    layers = {10.0 + n: "layer" for n in range(20)}
    made = paced(1.0, limit=12)
    saved = run(made, 40.0, layers)
    assert len(saved) == 11
    status = made.status(140.0)
    assert status["held"] == "layer" and status["writes_this_hour"] == 12
    assert "all 12 writes of this hour are used" in status["reason"]
    again = made.decide(100.0 + HOUR + 1, "layer", True)
    assert again == "layer"


@pytest.mark.parametrize("why", sorted(NEVER_HELD))
def test_what_must_not_be_lost_goes_beyond_the_limit(why: str) -> None:
    made = paced(1.0, limit=1)
    assert made.decide(101.0, "layer", True) is None
    assert made.decide(101.0, why, True) == why
    made.saved(101.0, 0.001, 2, why)
    assert made.status(102.0)["writes_this_hour"] == 3
    assert made.status(102.0)["held"] is None


def test_a_limit_with_events_only_still_holds() -> None:
    saved = run(paced(0.0, limit=4), 100.0, {float(n): "layer" for n in range(9)})
    assert [why for _, why in saved] == ["layer"] * 3


steps = st.lists(
    st.tuples(
        st.floats(0.25, 200),
        st.sampled_from([None, None, "layer", "object", "pause", "tool change"]),
        st.floats(0, 3),
        st.floats(-1, 2),
    ),
    max_size=300,
)


@given(st.sampled_from([0.0, 0.5, 1.0, 60.0]), st.integers(0, 40), steps)
def test_whatever_happens_the_rules_hold(
    interval: float, limit: int, script: list[tuple[float, str | None, float, float]]
) -> None:
    made = Pacing(Settings(save_interval=interval, max_writes_per_hour=limit))
    now, saved = 0.0, []
    for wait, why, latency, buffer in script:
        now += wait
        made.observe(now, toolhead(buffer))
        status = made.status(now)
        reason = made.decide(now, why, True)
        hour = [at for at, _ in saved if at > now - HOUR]
        assert status["writes_this_hour"] == len(hour)
        if limit and reason is not None and reason not in NEVER_HELD:
            assert len(hour) < limit
        if why is not None and reason != why:
            # Held back, and said so.
            assert limit and len(hour) >= limit and why not in NEVER_HELD
            assert made.status(now)["held"] == why
        if reason == "interval":
            assert status["interval"] is not None and interval > 0
            events = [1 for at, r in saved if at > now - HOUR and r != "interval"]
            assert not limit or len(hour) - len(events) < max(limit - limit // 2, 1)
            if saved:
                assert now - saved[-1][0] >= min(interval, 30) - TICK / 2
        if why is None and reason is None and interval and not limit and saved:
            since = now - saved[-1][0]
            assert since < max(interval, pacing.LONGEST_FOR_DISK)
        if reason is not None:
            made.saved(now, latency, 1, reason)
            saved.append((now, reason))
        assert made.status(now)["reason"]
