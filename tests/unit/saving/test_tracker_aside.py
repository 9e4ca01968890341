# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Another print while one waits to be resumed; and why a print ended."""
from __future__ import annotations

from typing import Any

import pytest

from moonraker_components.power_loss_recovery import files
from moonraker_components.power_loss_recovery.journal import JournalError
from moonraker_components.power_loss_recovery.saving import interruption
from moonraker_components.power_loss_recovery.saving.interruption import (
    EXIT,
    LEFT,
    NOTHING,
    POWER,
    REPLACED,
    RESTARTED,
)
from moonraker_components.power_loss_recovery.saving.witness import Witness
from tests.unit.samples import state
from tests.unit.tracker_bench import LINES, Bench

pytestmark = pytest.mark.asyncio


async def interrupted(bench: Bench) -> bytes:
    """A print of part.gcode waits; its id."""
    await bench.see()
    bench.tracker.klippy_gone()
    await bench.settle()
    await bench.tracker.klippy_ready(bench.status("standby", None, 0))
    pending = bench.tracker.pending
    assert pending is not None and not pending.aside
    return pending.job_id


async def other(bench: Bench, at: str = "printing", **changes: Any) -> None:
    path = str(bench.root / "other.gcode")
    given = {"file_path": path, "job": 5, "file_position": LINES[4], **changes}
    await bench.see(at, pending_marks=0, **given)


def waiting(bench: Bench) -> bytes | None:
    pending = bench.tracker.pending
    return pending.job_id if pending is not None and pending.aside else None


@pytest.mark.parametrize("end", ["complete", "cancelled"])
async def test_it_waits_until_the_other_print_is_over(bench: Bench, end: str) -> None:
    first = await interrupted(bench)
    await other(bench)
    assert bench.job().name == "other.gcode"
    assert [one.job_id for one in bench.tracker.keeper.aside] == [first]
    await other(bench, end)
    assert bench.closed() == end and waiting(bench) == first
    await bench.restart_moonraker()
    assert waiting(bench) == first


async def test_the_power_fails_in_the_other_print_too(bench: Bench) -> None:
    first = await interrupted(bench)
    await other(bench)
    await bench.restart_moonraker()
    pending = bench.tracker.pending
    assert pending is not None and pending.job.name == "other.gcode"
    await bench.tracker.close(pending.job_id, "discarded")
    assert waiting(bench) == first
    await bench.tracker.close(first, "discarded")
    await bench.restart_moonraker()
    assert bench.tracker.pending is None and bench.tracker.keeper.aside == ()


async def test_several_wait_the_last_one_first(bench: Bench) -> None:
    first = await interrupted(bench)
    await other(bench)
    second = bench.tracker.pending
    bench.tracker.klippy_gone()
    await bench.settle()
    await bench.tracker.klippy_ready(bench.status("standby", None, 0))
    await bench.see(job=9, file_position=LINES[3], pending_marks=0)
    await bench.restart_moonraker()
    assert second is not None
    aside = bench.tracker.keeper.aside
    assert [one.job_id for one in aside] == [second.job_id, first]


async def test_what_cannot_be_set_aside_is_not_overwritten(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await interrupted(bench)
    kept = bench.tracker.keeper.kept

    def full(*args: Any) -> None:
        raise JournalError("the interrupted print cannot be set aside: disk full")

    monkeypatch.setattr(kept, "add", full)
    await other(bench)
    assert bench.job().name == "part.gcode" and "set aside" in bench.told[-1]
    monkeypatch.undo()
    bench.now += 5
    await other(bench)
    assert bench.job().name == "other.gcode" and bench.told[-1].startswith("Saving")
    await other(bench, "complete")
    assert waiting(bench) == first


async def test_a_write_that_fails_after_it_was_set_aside_loses_neither(
    bench: Bench,
) -> None:
    first = await interrupted(bench)
    bench.broken = JournalError("the disk is gone")
    await other(bench)
    assert waiting(bench) == first
    bench.broken = None
    bench.now += 5
    await other(bench)
    assert bench.job().name == "other.gcode"
    assert len(bench.tracker.keeper.kept.read()) == 1
    await other(bench, "complete")
    assert waiting(bench) == first


async def test_one_that_was_set_aside_and_is_resumed_is_in_one_place(
    bench: Bench,
) -> None:
    first = await interrupted(bench)
    await other(bench)
    await other(bench, "complete")
    pending = bench.tracker.pending
    assert pending is not None
    path = bench.resume_file(pending.record)
    await bench.tracker.note_z(first, 30.0, {})
    assert bench.saved() is not None and bench.tracker.keeper.kept.read() == ()
    pending = bench.tracker.pending
    assert pending is not None and (pending.job_id, pending.aside) == (first, False)
    await bench.see(file_path=path, file_position=300, job=7)
    await bench.see("complete", pending_marks=0, file_path=path, job=7)
    assert bench.tracker.pending is None and bench.closed() == "complete"


async def test_the_same_file_from_its_start_is_another_print(bench: Bench) -> None:
    first = await interrupted(bench)
    cold = state(coordinates={"homed_axes": ""})
    await bench.see(job=3, file_position=0, state=cold)
    await bench.see(job=3, file_position=LINES[3])
    assert [one.job_id for one in bench.tracker.keeper.aside] == [first]
    await bench.see("complete", pending_marks=0, job=3)
    assert waiting(bench) == first
    # Further along than the one that waits, and still not that one.
    await bench.see(job=4, file_position=LINES[8])
    pending = bench.tracker.pending
    assert pending is not None and pending.job_id != first


# Why it ended


def cause(bench: Bench) -> interruption.Cause:
    saved = bench.saved()
    assert saved is not None
    return saved.cause


async def test_what_is_saved_while_it_prints_has_no_cause(bench: Bench) -> None:
    await bench.see()
    assert cause(bench) == NOTHING


async def test_a_shutdown_is_saved_with_its_reason(bench: Bench) -> None:
    await bench.see()
    bench.tracker.klippy_gone(interruption.shutdown("M112"))
    bench.tracker.klippy_gone()
    await bench.settle()
    assert cause(bench) == interruption.shutdown("M112")


async def test_a_failed_line_is_saved_with_its_message(bench: Bench) -> None:
    await bench.see()
    status = bench.status("error", {**bench.tracker.extra["mark"]}, 0)
    status["print_stats"]["message"] = "Move out of range"
    bench.tracker.update(status)
    await bench.settle()
    assert cause(bench) == interruption.error("Move out of range")


async def test_what_the_power_pin_says_comes_first(bench: Bench) -> None:
    await bench.see()
    bench.tracker.update({"power_loss_recovery": {"power_loss": {"lost": True}}})
    bench.tracker.klippy_gone(interruption.shutdown("Lost communication with MCU"))
    await bench.settle()
    assert cause(bench) == POWER


@pytest.mark.parametrize(("process", "then"), [(100, RESTARTED), (101, REPLACED)])
async def test_who_comes_back_says_why_klippy_left(
    bench: Bench, process: int, then: interruption.Cause
) -> None:
    witness = Witness(bench.tracker)
    await witness.came_back(100, True)
    await bench.see()
    bench.tracker.klippy_gone()
    await bench.settle()
    assert cause(bench) == LEFT
    await witness.came_back(100, False)
    assert cause(bench) == LEFT
    await witness.came_back(process, True)
    assert cause(bench) == then


async def test_a_proper_end_says_goodbye_and_what_follows_as_well(
    bench: Bench,
) -> None:
    await bench.see()
    await Witness(bench.tracker).leaving()
    assert cause(bench) == EXIT
    await bench.see(file_position=LINES[6])
    assert cause(bench) == EXIT
    await bench.restart_moonraker()
    await bench.see(file_position=LINES[7])
    assert cause(bench) == NOTHING


async def test_the_end_of_a_print_that_waits_is_not_changed(bench: Bench) -> None:
    await bench.see()
    bench.tracker.boot_id = "another"
    bench.tracker.klippy_gone()
    await bench.restart_moonraker()
    saved = bench.saved()
    bench.tracker.boot_id = "another"
    await Witness(bench.tracker).leaving()
    await Witness(bench.tracker).found_shut_down("M112")
    assert bench.saved() == saved


async def test_a_klippy_that_is_found_shut_down_says_why(bench: Bench) -> None:
    await bench.see()
    await bench.restart_moonraker()
    await Witness(bench.tracker).found_shut_down("Timer too close\nmore")
    assert cause(bench) == interruption.shutdown("Timer too close")


# Heating without a person's yes


async def test_attempts_are_forgotten_when_the_print_has_lasted(bench: Bench) -> None:
    job_id = await interrupted(bench)
    await bench.tracker.amend(job_id, attempts=2)
    pending = bench.tracker.pending
    assert pending is not None
    path = bench.resume_file(pending.record)
    stamp = files.identify(bench.root, path, 1.0).stamp
    assert stamp is not None
    await bench.see(file_path=path, file_position=stamp.first_line_offset, job=2)
    saved = bench.saved()
    assert saved is not None and saved.attempts == 2
    bench.now += 601
    await bench.see(file_path=path, file_position=stamp.tail_offset, job=2)
    saved = bench.saved()
    assert saved is not None and saved.attempts == 0
