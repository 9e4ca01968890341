# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A running print is followed, and its newest state kept."""
from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.journal import JournalError
from moonraker_components.power_loss_recovery.saving.tracker import RETRY_PERIOD
from tests.unit.samples import POSITION, mark, state
from tests.unit.tracker_bench import AFTER, LINES, NOW, Bench

pytestmark = pytest.mark.asyncio


async def test_a_print_that_m25_has_stopped_is_saved_as_paused(bench: Bench) -> None:
    """Without PAUSE: nothing but print_stats says it, and the mark stays as it is."""
    await bench.see(file_position=LINES[4])
    await bench.see("paused", file_position=LINES[5])
    saved = bench.saved()
    assert saved is not None and not saved.paused  # its last moves are being laid
    await bench.see("paused", file_position=LINES[6], pending_marks=0)
    await bench.see("paused", file_position=LINES[6], pending_marks=0, toolhead_z=50.0)
    saved = bench.saved()
    assert saved is not None and saved.paused and saved.file_position == LINES[6]
    assert saved.toolhead_z == 50.0
    await bench.see(file_position=LINES[7], pending_marks=2)
    saved = bench.saved()
    assert saved is not None and not saved.paused
    assert bench.tracker.last_reason == "resumed"


async def test_a_cancel_is_saved_as_soon_as_somebody_asks_for_it(bench: Bench) -> None:
    """Its macro may take half a minute, in which no line of the file is run."""
    await bench.see(file_position=LINES[4])
    for now in ("printing", "paused"):
        for cancelling in (True, False):
            await bench.see(now, file_position=LINES[4], cancelling=cancelling)
            saved = bench.saved()
            assert saved is not None and saved.cancelling is cancelling
    await bench.see(file_position=LINES[4], cancelling=True)
    await bench.see("cancelled", file_position=LINES[4])
    assert bench.saved() is None


async def test_the_executed_state_is_in_the_journal(bench: Bench) -> None:
    await bench.see()
    saved = bench.saved()
    assert saved is not None
    assert (saved.file_position, saved.fraction) == (POSITION, 0.25)
    assert (saved.line, saved.boot_id) == ("G1 X100 Y150 E5", "boot")
    assert bench.job().name == "part.gcode"
    pending = bench.tracker.pending
    assert pending is not None and pending.record == saved
    assert bench.tracker.last_reason == "first state"


async def test_one_save_is_in_flight_and_the_newest_wins(bench: Bench) -> None:
    await bench.see(file_position=LINES[3])
    bench.gate = asyncio.Event()
    bench.calls.clear()
    for position in (LINES[4], LINES[5], LINES[6], AFTER):
        await bench.see(file_position=position)
    assert bench.calls.count("write") == 1
    bench.gate.set()
    await bench.settle()
    assert bench.calls.count("write") == 2
    saved = bench.saved()
    assert saved is not None and saved.file_position == AFTER


async def test_between_intervals_nothing_is_written(bench: Bench) -> None:
    await bench.see(file_position=LINES[3])
    bench.calls.clear()
    bench.now -= 0.75
    await bench.see(file_position=LINES[4])
    assert "write" not in bench.calls
    await bench.see(file_position=LINES[5])
    assert bench.tracker.last_reason == "interval"
    assert "write" in bench.calls


@pytest.mark.parametrize(("parts", "reason"), [
    ({"heaters": {"extruder": 220.0}}, "temperature"),
    ({"progress": {"layer": 4}}, "layer"),
    ({"objects": {"excluded": ["A"]}}, "object"),
])  # fmt: skip
async def test_what_must_not_wait_does_not(
    bench: Bench, parts: dict[str, Any], reason: str
) -> None:
    await bench.see()
    bench.now -= 1.0
    await bench.see(state=state(**parts))
    assert bench.tracker.last_reason == reason
    saved = bench.saved()
    assert saved is not None and saved.state == state(**parts)


async def test_with_a_delay_the_urgent_state_itself_is_saved_next(
    bench: Bench,
) -> None:
    bench.tracker.configure(replace(NOW, save_delay=2))
    await bench.see(file_position=LINES[3])
    hot = state(heaters={"extruder": 230.0})
    for n in (4, 5):
        bench.now -= 1.0
        await bench.see(file_position=LINES[n], state=hot)
    saved = bench.saved()
    assert saved is not None
    assert (saved.hotend_target, saved.file_position) == (230.0, LINES[4])


async def test_an_interval_of_zero_saves_at_events_only(bench: Bench) -> None:
    bench.tracker.configure(replace(NOW, save_interval=0.0))
    await bench.see(file_position=LINES[3])
    for position in LINES[4:7]:
        await bench.see(file_position=position)
    saved = bench.saved()
    assert saved is not None and saved.file_position == LINES[3]
    bench.tracker.save_now()
    await bench.settle()
    saved = bench.saved()
    assert saved is not None and saved.file_position == LINES[6]
    assert bench.tracker.last_reason == "asked"


async def test_asking_to_save_without_a_print_is_forgotten(bench: Bench) -> None:
    bench.tracker.save_now()
    await bench.settle()
    await bench.see()
    assert bench.tracker.last_reason == "first state"


async def test_a_print_at_rest_is_not_written_over_and_over(bench: Bench) -> None:
    await bench.see("paused")
    bench.calls.clear()
    for _ in range(5):
        await bench.see("paused")
    assert "write" not in bench.calls


async def test_a_head_that_is_parked_is_found_again(bench: Bench) -> None:
    """The pause lifts Z: with a long interval, Z would be wrong after the cut."""
    bench.tracker.configure(replace(NOW, save_interval=300.0))
    await bench.see()
    await bench.see("paused", toolhead_z=10.4)
    saved = bench.saved()
    assert saved is not None and saved.toolhead_z == 10.4
    assert saved.file_position == POSITION


# Faults

async def test_a_failing_journal_is_told_once_and_comes_back(bench: Bench) -> None:
    await bench.see(file_position=LINES[3])
    bench.broken = JournalError("the disk is full")
    for position in LINES[4:8]:
        await bench.see(file_position=position)
    assert len(bench.told) == 1 and "disk is full" in bench.told[0]
    assert "disk is full" in bench.tracker.trouble
    bench.broken = None
    bench.now += RETRY_PERIOD
    await bench.see(file_position=AFTER)
    assert bench.told[1:] == ["Saving works again."] and bench.tracker.trouble == ""
    saved = bench.saved()
    assert saved is not None and saved.file_position == AFTER


async def test_a_disk_that_fails_now_and_then_does_not_fill_the_console(
    bench: Bench,
) -> None:
    bench.tracker.configure(replace(NOW, save_interval=0.5))
    await bench.see(file_position=LINES[3])
    for n in range(20):
        words = ("the disk is full", "the disk is read-only")[n % 2]
        bench.broken = JournalError(words) if n % 4 < 3 else None
        bench.now += RETRY_PERIOD
        await bench.see(toolhead_z=1.0 + n)
        assert (words in bench.tracker.trouble) is (bench.broken is not None)
    assert len(bench.told) == 2
    bench.now += 600
    bench.broken = JournalError("the disk is full")
    await bench.see(file_position=AFTER)
    assert len(bench.told) == 3


async def test_another_kind_of_trouble_is_told_as_well(bench: Bench) -> None:
    await bench.see(file_position=LINES[3])
    bench.broken = JournalError("the disk is full")
    await bench.see(file_position=LINES[4])
    bench.now += RETRY_PERIOD
    await bench.see(file_position=LINES[4] + 1)
    assert len(bench.told) == 2 and "disk is full" in bench.told[0]


async def test_a_failing_journal_is_not_hammered(bench: Bench) -> None:
    bench.broken = JournalError("the disk is full")
    bench.calls.clear()
    for _ in range(20):
        await bench.see()
        bench.now -= 0.75
    assert bench.calls.count("write") <= 20 * 0.25 / RETRY_PERIOD + 1


@pytest.mark.parametrize("broken", [
    {"toolhead_z": float("nan")}, {"position": [1, 2]}, {"file_position": LINES[4] + 1},
    {"state": state(heaters={"a\nM112": 1.0})}, {"speed": "fast"},
])  # fmt: skip
async def test_a_state_that_makes_no_sense_is_not_saved(
    bench: Bench, broken: dict[str, Any]
) -> None:
    await bench.see(file_position=LINES[3])
    await bench.see(**broken)
    saved = bench.saved()
    assert saved is not None and saved.file_position == LINES[3]
    assert len(bench.told) == 1
    bench.now += RETRY_PERIOD
    await bench.see(file_position=AFTER)
    saved = bench.saved()
    assert saved is not None and saved.file_position == AFTER


async def test_trouble_in_klippy_is_told(bench: Bench) -> None:
    await bench.see()
    bench.tracker.update({"power_loss_recovery": {"mark": None, "trouble": "broken"}})
    await bench.settle()
    assert bench.told == ["The print is not being saved: broken"]
    assert bench.saved() is not None


# Off and on

async def test_disabled_nothing_is_saved(bench: Bench) -> None:
    bench.tracker.enabled = False
    await bench.see()
    assert bench.saved() is None and "write" not in bench.calls


async def test_turned_off_in_mid_print_what_was_saved_is_dropped(
    bench: Bench,
) -> None:
    """It would be resumed hours later, into what was printed meanwhile."""
    await bench.see(file_position=LINES[4])
    bench.tracker.enabled = False
    await bench.see(file_position=LINES[5])
    assert bench.saved() is None and bench.tracker.pending is None
    bench.tracker.enabled = True
    await bench.see(file_position=AFTER)
    saved = bench.saved()
    assert saved is not None and saved.file_position == AFTER


async def test_discarded_while_it_prints_on_it_is_saved_as_another_job(
    bench: Bench,
) -> None:
    await bench.see(file_position=LINES[4])
    pending = bench.tracker.pending
    assert pending is not None
    await bench.tracker.close(pending.job_id, "discarded")
    await bench.see(file_position=LINES[5])
    await bench.see(file_position=AFTER)
    saved = bench.saved()
    assert saved is not None and saved.file_position == AFTER
    assert bench.told == []


async def test_when_the_power_fails_each_mark_is_saved_at_once(bench: Bench) -> None:
    bench.tracker.configure(replace(NOW, save_delay=2, save_interval=0.0))
    await bench.see(file_position=LINES[1])
    await bench.see(file_position=LINES[2])
    saved = bench.saved()
    assert saved is not None and saved.file_position == LINES[1]
    lost = {"available": True, "lost": True}
    path = str(bench.root / "part.gcode")
    published = mark(file_path=path, file_position=LINES[3])
    newest = bench.status("printing", published)
    newest["power_loss_recovery"]["power_loss"] = lost
    bench.tracker.update(newest)
    await bench.settle()
    saved = bench.saved()
    assert saved is not None and saved.file_position == LINES[3]
    assert bench.tracker.last_reason == "power loss"
    await bench.see(file_position=LINES[4])
    saved = bench.saved()
    assert saved is not None and saved.file_position == LINES[4]


async def test_who_looks_for_a_fault_is_told_each_save(bench: Bench) -> None:
    await bench.see(file_position=LINES[3])
    assert bench.told == []
    bench.tracker.configure(replace(NOW, debug_mode=True))
    await bench.see(file_position=LINES[4])
    assert bench.told == [f"Saved (interval): byte {LINES[4]}."]
