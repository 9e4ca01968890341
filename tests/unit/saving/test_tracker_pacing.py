# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""How often a print is saved, and what is saved without any delay."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.samples import mark, state
from tests.unit.tracker_bench import AFTER, LINES, NOW, Bench

pytestmark = pytest.mark.asyncio


async def test_how_saves_are_spaced_is_told_with_its_reason(bench: Bench) -> None:
    await bench.see(file_position=LINES[3])
    saving = bench.tracker.saving()
    assert (saving["interval"], saving["reason"]) == (1.0, "save_interval")
    assert saving["writes_this_hour"] == 2  # the job and its mark
    await bench.see(file_position=LINES[4])
    assert bench.tracker.saving()["writes_this_hour"] == 3


async def test_a_disk_that_takes_its_time_is_asked_less_often(bench: Bench) -> None:
    def slow() -> None:
        bench.now += 0.5

    for position in LINES[3:7]:
        bench.during["write_mark"] = slow
        await bench.see(file_position=position)
        bench.now += 10
    assert bench.tracker.saving()["interval"] == pytest.approx(5.0)
    assert "disk is slow" in bench.tracker.saving()["reason"]
    bench.calls.clear()
    bench.now -= 10
    await bench.see(file_position=AFTER)
    assert "write" not in bench.calls
    await bench.see(file_position=AFTER, state=state(progress={"layer": 4}))
    assert bench.tracker.last_reason == "layer"


async def test_a_printer_short_of_time_is_left_alone(bench: Bench) -> None:
    await bench.see(file_position=LINES[3])
    queue = {"print_time": 10.1, "estimated_print_time": 10.0, "stalls": 0}
    bench.tracker.update({"toolhead": queue})
    bench.calls.clear()
    await bench.see(file_position=LINES[4])
    assert "write" not in bench.calls
    bench.tracker.update({"toolhead": {"print_time": 11.5}})
    await bench.see(file_position=LINES[5])
    assert bench.tracker.last_reason == "interval"


async def test_news_of_other_objects_alone_wake_nobody(bench: Bench) -> None:
    await bench.see(file_position=LINES[3])
    bench.now += 100
    bench.calls.clear()
    bench.tracker.update({"toolhead": {"estimated_print_time": 10.0}})
    await bench.settle()
    assert bench.calls == []


async def test_a_limit_of_writes_holds_layers_and_lets_a_tool_change_through(
    bench: Bench,
) -> None:
    bench.tracker.configure(replace(NOW, max_writes_per_hour=3))
    await bench.see(file_position=LINES[3])
    await bench.see(file_position=LINES[4], state=state(progress={"layer": 4}))
    fifth = state(progress={"layer": 5})
    await bench.see(file_position=LINES[5], state=fifth)
    assert bench.tracker.saving()["held"] == "layer"
    saved = bench.saved()
    assert saved is not None and saved.file_position == LINES[4]
    changed = state(progress={"layer": 5}, tool={"active": "extruder1"})
    await bench.see(file_position=LINES[6], state=changed)
    assert bench.tracker.last_reason == "tool change"
    saved = bench.saved()
    assert saved is not None and saved.file_position == LINES[6]
    assert bench.tracker.saving()["writes_this_hour"] == 4
    bench.now += 3600
    await bench.see(file_position=AFTER, state=state(
        progress={"layer": 6}, tool={"active": "extruder1"}))  # fmt: skip
    assert bench.tracker.last_reason == "layer"


async def test_a_pause_is_saved_at_once_and_again_where_it_came_to_rest(
    bench: Bench,
) -> None:
    bench.tracker.configure(replace(NOW, save_interval=0.0))
    await bench.see(file_position=LINES[3])
    await bench.see("paused", file_position=LINES[4])
    assert bench.tracker.last_reason == "pause"
    saved = bench.saved()
    assert saved is not None and saved.file_position == LINES[4]
    await bench.see("paused", file_position=LINES[5], pending_marks=1)
    await bench.see("paused", file_position=LINES[6], pending_marks=0)
    saved = bench.saved()
    assert saved is not None and saved.file_position == LINES[6]
    bench.calls.clear()
    for _ in range(3):
        await bench.see("paused", file_position=LINES[6], pending_marks=0)
    assert "write" not in bench.calls


async def test_objects_excluded_in_mid_print_are_saved_with_the_job(
    bench: Bench,
) -> None:
    await bench.see(file_position=LINES[3])
    for excluded in (["A"], ["A", "B"]):
        await bench.see(state=state(objects={"excluded": excluded}))
        saved = bench.saved()
        assert saved is not None
        assert saved.state["objects"]["excluded"] == excluded
    before = bench.tracker.saving()["writes_this_hour"]
    await bench.see(file_position=AFTER, state=state(objects={"excluded": excluded}))
    assert bench.tracker.saving()["writes_this_hour"] == before + 1


# Without delay

async def test_when_the_power_fails_the_newest_state_is_saved_as_it_is(
    bench: Bench,
) -> None:
    bench.tracker.configure(replace(NOW, save_interval=0.0, save_delay=4))
    await bench.see(file_position=LINES[3])
    bench.tracker.commit(mark(
        file_path=str(bench.root / "part.gcode"), file_position=AFTER),
        "power failing")  # fmt: skip
    await bench.settle()
    saved = bench.saved()
    assert saved is not None and saved.file_position == AFTER
    assert bench.tracker.last_reason == "power failing"
    await bench.see("complete", pending_marks=0)
    assert bench.closed() == "complete"


@pytest.mark.parametrize("other", [{"job": 2}, {"file_path": "/gcodes/x.gcode"}])
async def test_what_is_not_of_this_print_is_not_committed(
    bench: Bench, other: dict[str, Any]
) -> None:
    path = str(bench.root / "part.gcode")
    bench.tracker.commit(mark(file_path=path), "stop")
    await bench.see(file_position=LINES[3])
    bench.tracker.commit(mark(file_path=path, file_position=AFTER) | other, "stop")
    bench.tracker.klippy_gone()
    await bench.settle()
    await bench.tracker.klippy_ready(bench.status("standby", None, 0))
    bench.tracker.commit(mark(file_path=path, file_position=AFTER), "stop")
    await bench.settle()
    saved = bench.saved()
    assert saved is not None and saved.file_position == LINES[3]


async def test_how_far_klippy_was_ahead_is_saved(bench: Bench) -> None:
    queued = {"file_position": AFTER, "print_time": 14.0}
    await bench.see(queued=queued, live_position=[1.0, 2.0, 3.0], print_time=12.5)
    saved = bench.saved()
    assert saved is not None and saved.queued is not None
    assert (saved.queued.file_position, saved.queued.print_time) == (AFTER, 14.0)
    assert saved.live_position == (1.0, 2.0, 3.0) and saved.print_time == 12.5
