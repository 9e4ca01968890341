# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a bad disk does to the journal, and how saving comes back by itself."""
from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from moonraker_components.power_loss_recovery.journal import (
    JobClosed,
    Journal,
    JournalError,
)

from .journal_samples import SLOT, A, B, mark_of, marked
from .journal_states import JOB_SLOTS, PATH, SLOTS, SimDisk, read_image


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


def on_sim() -> tuple[SimDisk, Journal]:
    disk = SimDisk()
    journal = Journal.open(PATH, SLOTS, JOB_SLOTS, disk)
    journal.write_job(A, b"job")
    journal.write_mark(A, b"good")
    return disk, journal


def full(disk: SimDisk) -> None:
    disk.full = True


def read_only(disk: SimDisk) -> None:
    disk.read_only = True


def failing(disk: SimDisk) -> None:
    disk.fail("fdatasync", errno.EIO, 3)


def healed(disk: SimDisk) -> None:
    disk.full = disk.read_only = False
    disk._queue.clear()


@pytest.mark.parametrize("breaks, number, words", [
    (full, errno.ENOSPC, "disk is full"), (read_only, errno.EROFS, "read-only"),
    (failing, errno.EIO, "I/O error")])
def test_a_bad_disk_is_reported_and_saving_comes_back_by_itself(
        breaks: Callable[[SimDisk], None], number: int, words: str) -> None:
    disk, journal = on_sim()
    breaks(disk)
    for call in (lambda: journal.write_mark(A, b"lost"),
                 lambda: journal.write_job(B, b"lost"),
                 lambda: journal.close_job(B, "lost")):
        with pytest.raises(JournalError, match=words) as caught:
            call()
        assert caught.value.errno == number
    state = journal.read()
    assert state is not None and state.mark_payload in (b"good", b"lost")
    assert len(disk._fds) == 0
    healed(disk)
    journal.write_mark(A, b"back")
    assert mark_of(journal) == b"back"


def test_a_journal_that_cannot_be_made_yet_is_made_by_a_later_save() -> None:
    disk = SimDisk(full=True)
    journal = Journal(PATH, SLOTS, JOB_SLOTS, disk)
    for _ in range(3):
        with pytest.raises(JournalError, match="disk is full"):
            journal.write_job(A, b"job")
    assert disk.files == {}
    disk.full = False
    journal.write_job(A, b"job")
    journal.write_mark(A, b"mark")
    assert mark_of(journal) == b"mark"


def test_a_print_can_be_read_from_a_read_only_disk() -> None:
    disk, _ = on_sim()
    disk.read_only = True
    assert mark_of(Journal(PATH, SLOTS, JOB_SLOTS, disk)) == b"good"


def test_an_unreadable_sector_costs_its_own_slot_only() -> None:
    disk, journal = on_sim()
    journal.write_mark(A, b"newer")
    newest_slot = max(journal.slots(), key=lambda slot: slot.sequence)
    disk.bad_sectors = {newest_slot.index, 0, 1}
    again = Journal.open(PATH, SLOTS, JOB_SLOTS, disk)
    assert mark_of(again) == b"good" and again.set_aside is None


def test_an_unreadable_disk_does_not_make_the_file_foreign() -> None:
    disk, _ = on_sim()
    disk.bad_sectors = set(range(SLOTS))
    with pytest.raises(JournalError) as caught:
        Journal.open(PATH, SLOTS, JOB_SLOTS, disk)
    assert caught.value.errno == errno.EIO and list(disk.files) == [PATH]


def test_short_writes_are_completed() -> None:
    disk, journal = on_sim()
    for call in (lambda: journal.write_mark(A, b"m" * 4000),
                 lambda: journal.write_job(A, b"j" * 9000)):
        disk.fail("short", 0, 2)
        call()
    journal.write_mark(A, b"end")
    state = journal.read()
    assert state is not None and state.job_payload == b"j" * 9000


def test_saves_wait_for_a_stalled_disk_and_never_overlap() -> None:
    disk, journal = on_sim()
    disk.hold = threading.Event()
    syncs = disk.syncs
    threads = [threading.Thread(target=journal.write_mark, args=(A, name))
               for name in (b"one", b"two")]
    for thread in threads:
        thread.start()
    threads[0].join(0.1)
    assert all(thread.is_alive() for thread in threads)
    assert disk.syncs == syncs + 1
    disk.hold.set()
    for thread in threads:
        thread.join(5)
    assert disk.syncs == syncs + 2
    assert mark_of(journal) in (b"one", b"two")
    assert {b"one", b"two"} <= {slot.payload for slot in journal.slots()}


def test_failed_saves_never_touch_the_last_good_mark() -> None:
    disk, journal = on_sim()
    for number in range(50):
        disk.fail("fdatasync", errno.EIO)
        with pytest.raises(JournalError):
            journal.write_mark(A, b"lost %d" % number)
    assert b"good" in [slot.payload for slot in journal.slots()]


def test_a_bad_slot_is_left_behind() -> None:
    disk, journal = on_sim()
    free = set(range(1, SLOTS)) - {slot.index for slot in journal.slots()}
    for bad in sorted(free):
        disk.bad_slots = {bad}
        failures: Counter[object] = Counter()
        for write in (journal.write_mark, journal.write_job) * 9:
            try:
                write(A, b"j" * 4000)
                failures[write] = 0
            except JournalError:
                failures[write] += 1
            assert failures[write] < 2
        disk.bad_slots = set()
    journal.write_mark(A, b"end")
    assert mark_of(journal) == b"end"


def test_once_a_close_was_asked_for_the_job_takes_nothing_more() -> None:
    disk, _ = on_sim()
    disk.read_only = True
    journal = Journal(PATH, SLOTS, JOB_SLOTS, disk)
    with pytest.raises(JournalError, match="read-only"):
        journal.close_job(A, "finished")
    disk.read_only = False
    with pytest.raises(JobClosed):
        journal.write_mark(A, b"late")
    journal.close_job(A, "finished")
    state = journal.read()
    assert state is not None and state.closed == "finished"


def replaced(path: str) -> None:
    Path(path + ".copy").write_bytes(b"somebody's")
    os.replace(path + ".copy", path)


def replaced_by_another_journal(path: str) -> None:
    other = Journal.open(path + ".other")
    for number in range(40):
        other.write_job(B, b"other")
        other.write_mark(B, b"%d" % number)
    os.replace(path + ".other", path)


@pytest.mark.parametrize("happens", [
    os.unlink, replaced, replaced_by_another_journal,
    lambda path: os.truncate(path, 0), lambda path: os.truncate(path, 40 * SLOT),
    lambda path: os.rename(path, path + ".moved")])
def test_a_journal_lost_while_printing_is_made_again_with_its_job(
        path: str, happens: Callable[[str], None]) -> None:
    journal = marked(path)
    happens(path)
    journal.write_mark(A, b"after")
    state = Journal.open(path).read()
    assert state is not None
    assert (state.job_id, state.job_payload) == (A, b"job")
    assert state.mark_payload == b"after"
    journal.close_job(A, "finished")
    again = Journal.open(path).read()
    assert again is not None and again.closed == "finished"


def test_a_lost_journal_can_still_be_closed(path: str) -> None:
    journal = marked(path)
    os.unlink(path)
    journal.close_job(A, "finished")
    assert journal.read() is None
    with pytest.raises(JobClosed):
        journal.write_mark(A, b"late")


def test_a_save_is_one_slot_one_sync_and_no_reopening() -> None:
    disk, journal = on_sim()
    opened = disk.opened
    for number in range(40):
        written, syncs = disk.bytes_written, disk.syncs
        journal.write_mark(A, b"%d" % number)
        assert disk.bytes_written - written == SLOT
        assert disk.syncs - syncs == 1
    written = disk.bytes_written
    journal.close_job(A, "finished")
    assert disk.bytes_written - written == 2 * SLOT
    assert disk.opened == opened
    assert read_image(bytes(disk.data[disk.files[PATH]])) is not None


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="needs /proc/self/io")
def test_the_kernel_counts_at_most_8_kib_per_save(path: str) -> None:
    def written() -> int:
        text = Path("/proc/self/io").read_text()
        return int(text.split("wchar: ")[1].split()[0])

    journal = marked(path)
    before = written()
    for number in range(20):
        journal.write_mark(A, b"x" * number * 100)
    assert written() - before <= 20 * 8192


def test_files_are_closed(path: str) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc") else 0
    journal = marked(path)
    journal.slots()
    journal.close()
    journal.close()
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    journal.write_mark(A, b"reopened")
    assert mark_of(journal) == b"reopened"
