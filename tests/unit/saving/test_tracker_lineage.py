# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Which print the saved state belongs to: another one, or the same one resumed."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from moonraker_components.power_loss_recovery import files
from moonraker_components.power_loss_recovery.journal import JournalError
from moonraker_components.power_loss_recovery.saving.interruption import NOTHING
from moonraker_components.power_loss_recovery.saving.tracker import RETRY_PERIOD
from tests.unit.samples import GCODE, POSITION, state
from tests.unit.tracker_bench import AFTER, LINES, Bench

pytestmark = pytest.mark.asyncio


async def test_another_print_takes_the_place_once_it_prints(bench: Bench) -> None:
    await bench.see()
    bench.tracker.klippy_gone()
    await bench.settle()
    await bench.tracker.klippy_ready(bench.status("standby", None, 0))
    other = str(bench.root / "other.gcode")
    cold = state(coordinates={"homed_axes": ""})
    await bench.see(file_path=other, job=1, file_position=0, state=cold)
    assert bench.job().name == "part.gcode"
    await bench.see(file_path=other, job=1, file_position=LINES[4])
    assert bench.job().name == "other.gcode"


async def test_one_that_is_cancelled_before_it_prints_loses_nothing(
    bench: Bench,
) -> None:
    await bench.see()
    bench.tracker.klippy_gone()
    await bench.settle()
    old = bench.tracker.pending
    await bench.tracker.klippy_ready(bench.status("standby", None, 0))
    cold = state(heaters={"extruder": 0.0})
    for name in ("other.gcode", "part.gcode"):
        path = str(bench.root / name)
        await bench.see(file_path=path, job=2, file_position=0, state=cold)
        await bench.see("cancelled", file_path=path, job=2)
    assert bench.tracker.pending == old and bench.saved() is not None


async def test_two_prints_without_a_gap_are_two_jobs(bench: Bench) -> None:
    await bench.see()
    first = bench.tracker.pending
    cold = state(coordinates={"homed_axes": ""})
    await bench.see(job=2, file_position=0, state=cold)
    assert bench.closed() == "replaced" and bench.tracker.pending is None
    await bench.see(job=2, file_position=LINES[4])
    second = bench.tracker.pending
    assert first is not None and second is not None
    assert first.job_id != second.job_id
    await bench.see("cancelled", job=2)
    assert bench.saved() is None


async def test_a_file_outside_of_the_folder_is_not_saved_and_said_once(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "outside.gcode").write_bytes(GCODE)
    for _ in range(6):
        await bench.see(file_path=str(tmp_path / "outside.gcode"))
    assert bench.saved() is None
    assert len(bench.told) == 1 and "outside the G-code folder" in bench.told[0]
    assert bench.calls.count("identify") <= 6 / RETRY_PERIOD + 1


async def test_a_file_that_can_be_read_again_is_saved_after_all(bench: Bench) -> None:
    (bench.root / "part.gcode").rename(bench.root / "away")
    await bench.see()
    assert bench.saved() is None and len(bench.told) == 1
    (bench.root / "away").rename(bench.root / "part.gcode")
    bench.now += RETRY_PERIOD
    await bench.see()
    assert bench.saved() is not None
    assert bench.told[1:] == ["Saving works again."]


# A resumed print

async def interrupted(bench: Bench) -> str:
    """The path of a resume file, klippy idle and the record pending."""
    await bench.see(fraction=0.5)
    bench.tracker.klippy_gone()
    await bench.settle()
    pending = bench.tracker.pending
    assert pending is not None
    await bench.tracker.klippy_ready(bench.status("standby", None, 0))
    return bench.resume_file(pending.record)


async def test_how_far_klippy_was_ahead_in_a_resume_file_is_told_of_the_original(
    bench: Bench,
) -> None:
    path = await interrupted(bench)
    stamp = files.identify(bench.root, path, 1.0).stamp
    assert stamp is not None
    ahead = stamp.tail_offset + AFTER - stamp.tail_position
    await bench.see(file_path=path, file_position=stamp.first_line_offset,
                    queued={"file_position": ahead, "print_time": 9.0})  # fmt: skip
    saved = bench.saved()
    assert saved is not None and saved.queued is not None
    assert (saved.queued.file_position, saved.queued.print_time) == (AFTER, 9.0)


@pytest.mark.parametrize("place", [0, None, "9", 10**12])
async def test_a_place_ahead_that_is_none_is_not_believed(
    bench: Bench, place: object
) -> None:
    path = await interrupted(bench)
    old = bench.saved()
    stamp = files.identify(bench.root, path, 1.0).stamp
    assert stamp is not None
    await bench.see(file_path=path, file_position=stamp.tail_offset,
                    queued={"file_position": place, "print_time": 9.0})  # fmt: skip
    assert bench.saved() == old and len(bench.told) == 1


async def test_a_resume_file_keeps_the_lineage(bench: Bench) -> None:
    path = await interrupted(bench)
    old = bench.tracker.pending
    assert old is not None
    stamp = files.identify(bench.root, path, 1.0).stamp
    assert stamp is not None
    await bench.see(file_path=path, file_position=stamp.first_line_offset,
                    fraction=0.5)  # fmt: skip
    new = bench.tracker.pending
    assert new is not None and new.job_id == old.job_id
    assert new.record.file_position == POSITION and new.record.fraction == 0.75
    await bench.see(file_path=path, file_position=stamp.tail_offset)
    saved = bench.saved()
    assert saved is not None and saved.file_position == AFTER
    assert bench.job().name == "part.gcode"
    await bench.see("complete", pending_marks=0, file_path=path)
    assert bench.closed() == "complete" and not Path(path).exists()


async def test_a_resume_file_that_was_not_printed_to_its_end_is_kept(
    bench: Bench,
) -> None:
    path = await interrupted(bench)
    await bench.see(file_path=path, file_position=10)
    await bench.see("cancelled", file_path=path)
    assert bench.closed() == "cancelled" and Path(path).exists()
    assert bench.told[-1] == (
        ".plr/resume-0a.gcode is kept: the rest of part.gcode. The next resume"
        " removes it."
    )


async def test_places_in_the_prologue_are_not_saved_but_z_is(bench: Bench) -> None:
    path = await interrupted(bench)
    old = bench.tracker.pending
    assert old is not None
    other = state(heaters={"extruder": 100.0})
    await bench.see(file_path=path, file_position=300, toolhead_z=5.4, state=other,
                    position=[1.0, 2.0, 3.0, 4.0])  # fmt: skip
    assert bench.saved() == replace(old.record, toolhead_z=5.4, cause=NOTHING)
    # On the way down: not above the part, wherever exactly.
    await bench.see(file_path=path, file_position=300, toolhead_z=3.0)
    assert bench.saved() == replace(old.record, toolhead_z=0.4, cause=NOTHING)


async def test_a_print_that_stands_paused_in_the_prologue_is_a_paused_one(
    bench: Bench,
) -> None:
    # An empty spool: a second cut, with filament in the switch again, changes nothing
    path = await interrupted(bench)
    await bench.see(file_path=path, file_position=300, paused=True)
    assert bench.saved().paused
    await bench.see(file_path=path, file_position=320, toolhead_z=5.4)
    assert bench.saved().paused and bench.saved().toolhead_z == 5.4


async def test_a_resumed_print_that_is_cancelled_is_over(bench: Bench) -> None:
    path = await interrupted(bench)
    await bench.see(file_path=path, file_position=300)
    # Before its own lines too: the macro takes its time.
    await bench.see(file_path=path, file_position=300, cancelling=True)
    saved = bench.saved()
    assert saved is not None and saved.cancelling
    await bench.see("cancelled", file_path=path, file_position=300)
    assert bench.saved() is None and bench.tracker.pending is None


async def test_resumed_with_saving_off_it_cannot_be_resumed_from_there_again(
    bench: Bench,
) -> None:
    path = await interrupted(bench)
    bench.tracker.enabled = False
    await bench.see(file_path=path, file_position=300)
    assert bench.saved() is None


async def test_where_its_resumes_have_purged_is_kept_as_long_as_the_print(
    bench: Bench,
) -> None:
    path = await interrupted(bench)
    pending = bench.tracker.pending
    assert pending is not None
    strips = ((6.0, 6.0, 66.0, 6.0), (95.0, 6.0, 155.0, 6.0))
    await bench.tracker.amend(pending.job_id, purged=strips)
    stamp = files.identify(bench.root, path, 1.0).stamp
    assert stamp is not None
    for place in (300, stamp.first_line_offset, stamp.tail_offset):
        await bench.see(file_path=path, file_position=place, toolhead_z=place / 1e3)
        saved = bench.saved()
        assert saved is not None and saved.purged == strips
    await bench.see("complete", pending_marks=0, file_path=path)
    await bench.see(job=7, file_position=LINES[4])
    another = bench.saved()
    assert another is not None and another.purged == ()


async def test_where_a_resume_leaves_z_is_kept(bench: Bench) -> None:
    await interrupted(bench)
    pending = bench.tracker.pending
    assert pending is not None
    await bench.tracker.note_z(pending.job_id, 25.0, {})
    assert bench.saved() == replace(pending.record, toolhead_z=25.0)
    bench.calls.clear()
    await bench.tracker.note_z(pending.job_id, 25.0, {})
    await bench.tracker.note_z(b"B" * 16, 1.0, {})
    await bench.tracker.note_z(pending.job_id, float("nan"), {})
    assert "write" not in bench.calls
    bench.broken = JournalError("the disk is full")
    await bench.tracker.note_z(pending.job_id, 30.0, {})
    assert any("disk is full" in t for t in bench.told)
