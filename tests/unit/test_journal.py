# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The journal in daily life: what it keeps, what it refuses, what it sets aside."""
from __future__ import annotations

import errno
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from moonraker_components.power_loss_recovery.journal import (
    PAYLOAD_MAX,
    JobClosed,
    JobNotWritten,
    JobTooLarge,
    Journal,
    JournalError,
    JournalTooNew,
    Kind,
    MarkTooLarge,
    newest,
    read_slots,
)

from .journal_samples import SLOT, A, B, mark_of, marked


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


def test_a_new_journal_is_full_of_real_zeros_and_holds_nothing(path: str) -> None:
    journal = Journal.open(path)
    assert journal.read() is None
    info = os.stat(path)
    assert info.st_size == 64 * SLOT
    assert Path(path).read_bytes()[SLOT:] == bytes(63 * SLOT)
    assert os.listdir(os.path.dirname(path)) == ["journal"]


def test_the_newest_mark_and_its_job_are_read_back_after_reopening(path: str) -> None:
    journal = marked(path)
    journal.close()
    state = Journal.open(path).read()
    assert state is not None
    assert (state.job_id, state.job_payload) == (A, b"job")
    assert (state.mark_payload, state.closed) == (b"mark 2", None)


def test_the_sequence_goes_on_after_reopening(path: str) -> None:
    journal = marked(path)
    last = journal.write_mark(A, b"x")
    again = Journal.open(path)
    assert again.write_mark(A, b"y") == last + 1
    assert mark_of(again) == b"y"


@pytest.mark.parametrize("reopened", [False, True])
def test_fifteen_marks_pass_before_a_slot_is_used_again(
        path: str, reopened: bool) -> None:
    journal = marked(path, 1)
    places = []
    for number in range(30):
        if reopened:
            journal = Journal.open(path)
        seq = journal.write_mark(A, b"%d" % number)
        places += [slot.index for slot in journal.slots() if slot.sequence == seq]
    assert places[:15] == places[15:] and len(set(places)) == 15
    assert all(abs(a - b) >= 7 for a, b in zip(places, places[1:], strict=False))


@pytest.mark.parametrize("size", [0, 1, PAYLOAD_MAX, PAYLOAD_MAX + 1,
                                  8 * PAYLOAD_MAX + 1, 16 * PAYLOAD_MAX])
def test_a_job_of_any_size_comes_back_whole(path: str, size: int) -> None:
    payload = os.urandom(size)
    journal = Journal.open(path)
    journal.write_job(A, payload)
    journal.write_mark(A, b"m" * PAYLOAD_MAX)
    state = journal.read()
    assert state is not None and state.job_payload == payload
    assert state.mark_payload == b"m" * PAYLOAD_MAX


def test_what_does_not_fit_is_refused_and_changes_nothing(path: str) -> None:
    journal = marked(path)
    before = Path(path).read_bytes()
    with pytest.raises(JobTooLarge, match="at most 64448"):
        journal.write_job(A, bytes(16 * PAYLOAD_MAX + 1))
    with pytest.raises(MarkTooLarge, match="at most 4028"):
        journal.write_mark(A, bytes(PAYLOAD_MAX + 1))
    with pytest.raises(MarkTooLarge):
        journal.close_job(A, "é" * PAYLOAD_MAX)
    assert Path(path).read_bytes() == before


def test_job_ids_and_reasons_are_checked(path: str) -> None:
    journal = marked(path)
    for call in (journal.write_job, journal.write_mark):
        with pytest.raises(ValueError, match="16 bytes, not 3"):
            call(b"abc", b"")
    with pytest.raises(ValueError, match="with a reason"):
        journal.close_job(A, "")
    with pytest.raises(ValueError, match="64 slots cannot have 60"):
        Journal(path, 64, 60)


def test_a_mark_needs_its_job_first(path: str) -> None:
    journal = Journal.open(path)
    with pytest.raises(JobNotWritten):
        journal.write_mark(A, b"mark")
    journal.write_job(A, b"job")
    journal.write_job(B, b"next")
    with pytest.raises(JobNotWritten):
        journal.write_mark(A, b"mark")


def test_a_job_without_a_mark_does_not_hide_the_print_before(path: str) -> None:
    journal = marked(path)
    for _ in range(5):
        journal.write_job(B, b"n" * 60000)
    assert mark_of(Journal.open(path)) == b"mark 2"


@pytest.mark.parametrize("reason", ["finished", "cancelled", "discarded", "résumé"])
def test_a_closed_job_says_why_and_takes_no_more(path: str, reason: str) -> None:
    journal = marked(path)
    journal.close_job(A, reason)
    for again in (journal, Journal.open(path)):
        state = again.read()
        assert state is not None and state.closed == reason
        assert state.mark_payload == b"mark 2"
        with pytest.raises(JobClosed):
            again.write_mark(A, b"too late")
        with pytest.raises(JobClosed):
            again.write_job(A, b"too late")
    before = Path(path).read_bytes()
    journal.close_job(A, "again")
    assert Path(path).read_bytes() == before
    Journal.open(path).close_job(A, "again")
    state = journal.read()
    assert state is not None and state.closed == reason


def test_closing_the_print_before_does_not_hide_the_new_one(path: str) -> None:
    journal = marked(path)
    journal.write_job(B, b"new")
    journal.write_mark(B, b"first")
    journal.close_job(A, "resumed")
    assert mark_of(journal) == mark_of(Journal.open(path)) == b"first"


def test_the_print_before_can_be_closed_before_the_new_one_has_a_mark(
        path: str) -> None:
    journal = marked(path)
    journal.write_job(B, b"new")
    journal.close_job(A, "discarded")
    state = journal.read()
    assert state is not None and (state.job_id, state.closed) == (A, "discarded")
    journal.write_mark(B, b"first")
    assert mark_of(journal) == b"first"


def test_the_newest_print_wins_over_an_older_one_closed_later(path: str) -> None:
    journal = marked(path)
    older = max(journal.slots(), key=lambda slot: slot.sequence)
    journal.write_job(B, b"new")
    seq = journal.write_mark(B, b"first")
    late = replace(older, kind=Kind.CLOSED, sequence=seq + 1, payload=b"resumed")
    state = newest([*journal.slots(), late])
    assert state is not None and (state.job_id, state.closed) == (B, None)


def test_slots_lists_what_is_there_without_touching_the_file(path: str) -> None:
    marked(path).close_job(A, "finished")
    os.chmod(path, 0o400)
    before = os.stat(path)
    slots = read_slots(path)
    kinds = [slot.kind for slot in slots]
    assert [kinds.count(kind) for kind in Kind] == [1, 2, 3, 2]
    after = os.stat(path)
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)
    with pytest.raises(OSError):
        read_slots(path + "-missing")
    assert os.listdir(os.path.dirname(path)) == ["journal"]


def test_the_format_is_the_documented_one(path: str) -> None:
    marked(path, 1)
    data = Path(path).read_bytes()
    slot = data[49 * SLOT:50 * SLOT]
    assert slot[:8] == b"PLRJOURN"
    assert struct.unpack_from("<HBBIQ", slot, 8) == (1, 3, 0, 6, 2)
    assert slot[24:40] == A
    assert struct.unpack_from("<QIIHHHH", slot, 40) == (
        1, 3, zlib.crc32(b"job"), 0, 1, 64, 48)
    assert slot[64:70] == b"mark 0" and slot[70:4092] == (
        struct.pack("<I", zlib.crc32(slot[:70])) * 1024)[:4022]
    assert struct.unpack_from("<I", slot, 4092) == (zlib.crc32(slot[:4092]),)


@pytest.mark.parametrize("content", [
    b"", b"hello", bytes(64 * SLOT), b"x" * 64 * SLOT, b"PLRJOURN" * 32768])
def test_a_foreign_file_is_set_aside_unharmed(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    Path(path + ".bad-1").write_bytes(b"earlier")
    journal = Journal.open(path)
    assert journal.set_aside == path + ".bad-2"
    assert Path(path + ".bad-2").read_bytes() == content
    assert Path(path + ".bad-1").read_bytes() == b"earlier"
    journal.write_job(A, b"job")
    journal.write_mark(A, b"mark")
    assert mark_of(journal) == b"mark"


def test_a_file_cut_short_is_set_aside_and_still_listed(path: str) -> None:
    marked(path).close()
    os.truncate(path, 60 * SLOT)
    journal = Journal.open(path)
    assert journal.read() is None and journal.set_aside is not None
    assert any(slot.kind is Kind.MARK for slot in read_slots(journal.set_aside))


def test_another_size_in_the_settings_does_not_lose_the_print(path: str) -> None:
    marked(path).close()
    journal = Journal.open(path, 128, 60)
    assert journal.set_aside is None
    journal.write_mark(A, b"more")
    assert mark_of(journal) == b"more" and os.stat(path).st_size == 64 * SLOT


def test_a_ruined_format_slot_does_not_lose_the_print(path: str) -> None:
    marked(path).close()
    with open(path, "r+b") as file:
        file.write(b"\xff" * SLOT)
    assert mark_of(Journal.open(path)) == b"mark 2"


def test_a_newer_format_is_refused_and_left_alone(path: str) -> None:
    marked(path).close()
    data = bytearray(Path(path).read_bytes())
    at = 50 * SLOT
    data[at:at + 10] = b"PLRJOURN" + struct.pack("<H", 2)
    data[at + 4092:at + SLOT] = struct.pack("<I", zlib.crc32(data[at:at + 4092]))
    Path(path).write_bytes(data)
    for call in (lambda: Journal.open(path), lambda: Journal(path).read(),
                 lambda: Journal(path).write_job(A, b"")):
        with pytest.raises(JournalTooNew, match="format 2.*update the plugin"):
            call()
    assert Path(path).read_bytes() == data
    data[at + 100] ^= 1  # rubbish that merely looks new is only a bad slot
    Path(path).write_bytes(data)
    Journal.open(path)


@pytest.mark.parametrize("field, value", [
    ("<B", (10, 9)), ("<I", (12, 5000)), ("<Q", (16, 1 << 63)), ("<Q", (16, 0)),
    ("<Q", (40, 1 << 64 - 1)), ("<I", (48, 1 << 31)), ("<H", (58, 65535)),
    ("<H", (60, 65535)), ("<H", (62, 0))])
@pytest.mark.parametrize("index", [1, 16, 49, 57])
def test_valid_checksums_do_not_make_absurd_fields_believed(
        path: str, index: int, field: str, value: tuple[int, int]) -> None:
    """A slot may be left out, the rest is read; nothing ends in another error."""
    marked(path).close()
    data = bytearray(Path(path).read_bytes())
    slot = data[index * SLOT:(index + 1) * SLOT]
    struct.pack_into(field, slot, value[0], min(value[1], 256 ** struct.calcsize(field)
                                                - 1))
    struct.pack_into("<I", slot, 4092, zlib.crc32(slot[:4092]))
    data[index * SLOT:(index + 1) * SLOT] = slot
    Path(path).write_bytes(data)
    journal = Journal.open(path)
    assert mark_of(journal) == b"mark 2"
    journal.write_mark(A, b"more")
    assert mark_of(journal) == b"more"


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="neither a regular file"):
        Journal.open(str(tmp_path))
    with pytest.raises(JournalError, match="mounted") as caught:
        Journal.open(str(tmp_path / "nowhere" / "journal"))
    assert caught.value.errno == errno.ENOENT


def test_before_the_first_save_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert Journal(str(tmp_path / "journal")).read() is None
    assert os.listdir(tmp_path) == []
    with pytest.raises(JournalError, match="mounted"):
        Journal(str(tmp_path / "nowhere" / "journal")).read()


def test_a_link_to_another_disk_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "journal"
    link.symlink_to(tmp_path / "disk" / "journal")
    assert mark_of(marked(str(link))) == b"mark 2"
    assert link.is_symlink() and (tmp_path / "disk" / "journal").is_file()
