# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""How prints end, and what klippy and Moonraker leave when they go away."""
from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from moonraker_components.power_loss_recovery.journal import Journal, JournalError
from moonraker_components.power_loss_recovery.saving import tracker
from tests.unit.samples import mark
from tests.unit.tracker_bench import AFTER, LINES, NOW, Bench

pytestmark = pytest.mark.asyncio


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "RETRY_PERIOD", 0.01)


async def test_a_cancelled_print_leaves_nothing(bench: Bench) -> None:
    await bench.see()
    await bench.see("cancelled")
    assert bench.closed() == "cancelled" and bench.tracker.pending is None
    await bench.restart_moonraker()
    assert bench.tracker.pending is None


async def test_a_cancel_that_was_reset_at_once_is_seen_as_one(bench: Bench) -> None:
    await bench.see()
    bench.tracker.update(bench.status("standby", None, 0))
    await bench.settle()
    assert bench.saved() is None and bench.tracker.pending is None


async def test_a_print_is_complete_when_its_last_moves_are_laid(bench: Bench) -> None:
    await bench.see()
    await bench.see("complete", pending_marks=2)
    assert bench.saved() is not None
    await bench.see("complete", pending_marks=0)
    assert bench.closed() == "complete" and bench.tracker.printing is None


async def test_an_extra_in_trouble_does_not_keep_a_finished_print(
    bench: Bench,
) -> None:
    await bench.see()
    bench.tracker.update(bench.status("complete", None, 7))
    await bench.settle()
    assert bench.closed() == "complete"


@pytest.mark.usefixtures("impatient")
async def test_a_close_that_fails_is_tried_again_until_it_is_durable(
    bench: Bench,
) -> None:
    await bench.see()
    bench.broken = JournalError("the disk is full")
    await bench.see("complete", pending_marks=0)
    assert bench.tracker.pending is None and bench.saved() is not None
    assert any("disk is full" in t for t in bench.told)
    bench.broken = None
    bench.now += 10
    await asyncio.sleep(0.05)
    assert bench.closed() == "complete"


async def test_a_print_that_ended_while_moonraker_was_away_is_closed(
    bench: Bench,
) -> None:
    await bench.see()
    await bench.restart_moonraker()
    assert bench.tracker.pending is not None
    await bench.tracker.klippy_ready(bench.status("complete", mark(), 0))
    await bench.settle()
    assert bench.tracker.pending is None and bench.closed() == "complete"


async def test_the_end_of_another_file_closes_nothing(bench: Bench) -> None:
    await bench.see()
    await bench.restart_moonraker()
    ended = bench.status("complete", mark(), 0)
    ended["print_stats"]["filename"] = "other.gcode"
    await bench.tracker.klippy_ready(ended)
    await bench.settle()
    assert bench.tracker.pending is not None and bench.saved() is not None


async def test_a_print_that_stops_with_an_error_can_be_resumed(bench: Bench) -> None:
    await bench.see(file_position=LINES[4])
    await bench.see("error", pending_marks=1, file_position=LINES[5])
    bench.now -= 1.0
    await bench.see("error", pending_marks=0, file_position=AFTER)
    saved = bench.saved()
    assert saved is not None and saved.file_position == AFTER
    assert bench.tracker.printing is None and bench.tracker.pending is not None


# Klippy and Moonraker come and go

async def test_a_shutdown_of_klippy_leaves_the_newest_state(bench: Bench) -> None:
    bench.tracker.configure(replace(NOW, save_interval=300.0))
    await bench.see(file_position=LINES[4])
    await bench.see(file_position=AFTER)
    bench.tracker.klippy_gone()
    await bench.settle()
    saved = bench.saved()
    assert saved is not None and saved.file_position == AFTER
    assert bench.tracker.printing is None
    pending = bench.tracker.pending
    assert pending is not None and pending.record == saved


async def test_what_a_dead_klippy_still_said_is_not_believed(bench: Bench) -> None:
    await bench.see(file_position=LINES[4])
    bench.tracker.klippy_gone()
    await bench.see(file_position=AFTER)
    await bench.see("cancelled")
    assert bench.tracker.printing is None
    saved = bench.saved()
    assert saved is not None and saved.file_position == LINES[4]
    assert bench.tracker.status_of("print_stats") == {}


async def test_klippy_going_while_a_print_begins_leaves_no_ghost(
    bench: Bench,
) -> None:
    bench.at_call["identify"] = bench.tracker.klippy_gone
    await bench.see()
    assert bench.tracker.printing is None and bench.saved() is None


async def test_klippy_going_while_a_state_is_written_keeps_it(bench: Bench) -> None:
    await bench.see(file_position=LINES[4])
    bench.gate = asyncio.Event()
    await bench.see(file_position=AFTER)
    bench.tracker.klippy_gone()
    bench.gate.set()
    await bench.settle()
    saved = bench.saved()
    assert saved is not None and saved.file_position == AFTER
    assert bench.tracker.printing is None


async def test_the_next_klippy_counts_its_prints_anew(bench: Bench) -> None:
    await bench.see()
    old = bench.tracker.pending
    bench.tracker.klippy_gone()
    await bench.settle()
    await bench.tracker.klippy_ready(bench.status("standby", None, 0))
    await bench.see(file_position=LINES[3])
    assert old is not None and bench.tracker.pending is not None
    assert bench.tracker.pending.job_id != old.job_id


async def test_a_print_goes_on_with_its_lineage_after_moonraker_was_away(
    bench: Bench,
) -> None:
    await bench.see(file_position=LINES[4])
    old = bench.tracker.pending
    await bench.restart_moonraker()
    assert bench.tracker.pending == old and old is not None
    await bench.tracker.klippy_ready(bench.status("printing", mark(
        file_path=str(bench.root / "part.gcode"))))  # fmt: skip
    await bench.settle()
    assert bench.tracker.pending is not None
    assert bench.tracker.pending.job_id == old.job_id
    await bench.see("complete", pending_marks=0)
    assert bench.closed() == "complete"


async def test_a_journal_of_another_version_is_said_and_not_offered(
    bench: Bench,
) -> None:
    journal = Journal(bench.path)
    journal.write_job(b"A" * 16, b'{"schema":99}')
    journal.write_mark(b"A" * 16, b'{"schema":99}')
    await bench.tracker.load()
    assert bench.tracker.pending is None
    assert any("another version" in t for t in bench.told)


# Nothing says that a print is over before the journal does

def said(bench: Bench) -> list[tuple[bool, bool, bool]]:
    """At every notification: is a print known, is it being ended, is it closed."""
    seen: list[tuple[bool, bool, bool]] = []

    def note() -> None:
        tracker = bench.tracker
        known = tracker.printing is not None or tracker.pending is not None
        seen.append((known, tracker.ending, bench.closed() is not None))

    bench.tracker.changed = bench.tracker.troubles.changed = note
    return seen


@pytest.mark.parametrize("end", ["complete", "cancelled", "standby"])
async def test_the_end_is_told_when_it_is_durable(bench: Bench, end: str) -> None:
    await bench.see()
    seen = said(bench)
    await bench.see(end, pending_marks=0)
    assert seen and all(closed for known, _, closed in seen if not known)
    assert seen[-1] == (False, False, True)


@pytest.mark.usefixtures("impatient")
async def test_as_long_as_the_disk_refuses_the_end_is_not_told(
    bench: Bench,
) -> None:
    await bench.see()
    seen = said(bench)
    bench.broken = JournalError("the disk is read-only")
    await bench.see("complete", pending_marks=0)
    assert seen and all(known or ending for known, ending, _ in seen)
    assert bench.tracker.pending is None, "nobody may resume it"
    bench.broken = None
    bench.now += 10
    await asyncio.sleep(0.05)
    assert seen[-1] == (False, False, True)
    assert bench.told[-1] == "Saving works again."


async def test_a_discard_is_told_when_it_is_durable(bench: Bench) -> None:
    await bench.see()
    bench.tracker.klippy_gone()
    await bench.settle()
    seen = said(bench)
    pending = bench.tracker.pending
    assert pending is not None
    bench.broken = JournalError("the disk is full")
    with pytest.raises(JournalError):
        await bench.tracker.close(pending.job_id, "discarded")
    assert seen == [] and bench.tracker.pending == pending
    bench.broken = None
    await bench.tracker.close(pending.job_id, "discarded")
    assert seen == [(False, False, True)]


async def test_the_files_of_a_resume_go_after_the_close(bench: Bench) -> None:
    await bench.see()
    bench.calls.clear()
    await bench.see("complete", pending_marks=0)
    assert bench.calls.index("close_job") < bench.calls.index("remove_resume_files")
async def test_where_the_motors_stopped_is_saved_as_it_is(bench: Bench) -> None:
    await bench.see(file_position=LINES[3])
    bench.tracker.klippy_gone()
    path = str(bench.root / "part.gcode")
    stop = mark(file_path=path, file_position=LINES[2], fraction=0.5, toolhead_z=7.0)
    bench.tracker.commit(stop, "stop")
    await bench.settle()
    saved = bench.saved()
    assert saved is not None and bench.tracker.last_reason == "stop"
    assert (saved.file_position, saved.fraction) == (LINES[2], 0.5)
    assert saved.toolhead_z == 7.0


async def test_a_stop_is_known_though_the_print_was_seen_to_fail(bench: Bench) -> None:
    await bench.see(file_position=LINES[2])
    bench.tracker.update(bench.status("error", None, 0))
    await bench.settle()
    bench.tracker.klippy_gone()
    path = str(bench.root / "part.gcode")
    bench.tracker.commit(mark(file_path=path, file_position=LINES[3]), "stop")
    await bench.settle()
    saved = bench.saved()
    assert saved is not None and saved.file_position == LINES[3]


async def test_a_finished_print_is_not_brought_back_by_a_stop(bench: Bench) -> None:
    await bench.see(file_position=LINES[2])
    await bench.see("complete", pending_marks=0)
    bench.tracker.klippy_gone()
    path = str(bench.root / "part.gcode")
    bench.tracker.commit(mark(file_path=path, file_position=LINES[3]), "stop")
    await bench.settle()
    assert bench.saved() is None and bench.closed() == "complete"
