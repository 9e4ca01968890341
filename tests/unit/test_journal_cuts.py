# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Power cuts at every point of every write: the journal reads back what it owes.

A reader finds the newest record that was durable, or a whole newer one that was
being written; never rubbish, never anything older. One flipped bit at most costs
the one mark it sits in.
"""
from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.journal import (
    Journal,
    Kind,
    newest,
    read_slots,
)
from moonraker_components.power_loss_recovery.store.journal_format import decode

from .journal_states import (
    JOB_SLOTS,
    PATH,
    SLOTS,
    Recording,
    SimDisk,
    agrees,
    answer_of,
    at_cut,
    image_after,
    read_image,
    record,
    torn,
)

A, B = b"A" * 16, b"B" * 16
SMALL = b"j" * 100  # one slot, stored twice
MEDIUM = bytes(range(256)) * 20  # two slots, stored once
LARGE = b"L" * 12000  # three slots: all of an area
Step = tuple[Any, ...]
RANDOM_MIXES = 140


def marks(job_id: bytes, count: int, first: int = 0) -> list[Step]:
    return [("mark", job_id, b"%c%d" % (job_id[0], first + i)) for i in range(count)]


SCRIPTS: dict[str, list[Step]] = {
    "first_print": [("job", A, SMALL), *marks(A, 3)],
    "large_job": [("job", A, LARGE), *marks(A, 2), ("job", A, LARGE[1:]),
                  *marks(A, 2, 2)],
    "all_slots_used_twice": [("job", A, SMALL), *marks(A, 18)],
    "job_changes": [("job", A, SMALL), *marks(A, 2), ("job", A, MEDIUM),
                    ("job", A, MEDIUM[1:]), ("job", A, MEDIUM[2:]), *marks(A, 2, 2),
                    ("job", A, LARGE), *marks(A, 1, 4)],
    "finished": [("job", A, SMALL), *marks(A, 2), ("close", A, "finished")],
    "closed_then_next": [("job", A, MEDIUM), *marks(A, 2), ("close", A, "cancelled"),
                         ("job", B, LARGE), *marks(B, 2)],
    "old_print_closed_late": [("job", A, SMALL), *marks(A, 2), ("job", B, SMALL),
                              *marks(B, 1), ("close", A, "resumed"), *marks(B, 1, 1)],
    "closed_without_mark": [("job", A, SMALL), ("close", A, "cancelled"),
                            ("job", B, SMALL), ("close", B, "discarded")],
    "next_print_never_marked": [("job", A, SMALL), *marks(A, 1), ("job", B, LARGE),
                                ("job", B, LARGE), ("close", A, "discarded")],
    "restarts": [("job", A, MEDIUM), *marks(A, 3), ("restart",), *marks(A, 2, 3),
                 ("job", A, SMALL), ("restart",), *marks(A, 2, 5), ("restart",),
                 ("close", A, "finished"), ("restart",), ("job", B, SMALL),
                 *marks(B, 1)],
    "failed_syncs": [("job", A, SMALL), *marks(A, 2), ("fail", "fdatasync"),
                     *marks(A, 1, 2), ("fail", "fdatasync"), *marks(A, 1, 3),
                     *marks(A, 1, 4)],
    "failing_for_long": [("job", A, SMALL), *marks(A, 2),
                         *[step for mark in marks(A, 9, 2)
                           for step in (("fail", "fdatasync"), mark)]],
    "failing_after_restart": [("job", A, SMALL), *marks(A, 2), ("restart",),
                              *[step for mark in marks(A, 9, 2)
                                for step in (("fail", "fdatasync"), mark)]],
    "unknown_print_closed": [("job", A, SMALL), *marks(A, 1), ("close", B, "discarded"),
                             *[step for mark in marks(A, 7, 1)
                               for step in (("fail", "fdatasync"), mark)]],
    "killed": [("job", A, SMALL), *marks(A, 1), ("job", A, MEDIUM), ("job", A, LARGE),
               ("fail", "killed"), *marks(A, 1, 1), ("job", A, LARGE[1:]),
               *marks(A, 1, 2), ("fail", "killed"), ("close", A, "finished"),
               ("job", B, SMALL)],
    "failed_then_restarted": [("job", A, SMALL), *marks(A, 1), ("job", A, SMALL),
                              ("job", A, MEDIUM), ("fail", "fdatasync"),
                              *marks(A, 1, 1), ("restart",), ("job", A, LARGE),
                              ("fail", "fdatasync"), ("close", A, "finished"),
                              ("restart",), ("close", A, "finished")],
    "failed_twice_then_restarted": [
        ("job", A, SMALL), *marks(A, 1), ("job", A, SMALL), ("fail", "fdatasync"),
        *marks(A, 1, 1), ("close", B, "finished"), ("fail", "fdatasync"),
        *marks(A, 1, 2), ("restart",), ("close", B, "finished"),
        ("close", A, "finished")],
    "killed_then_failed": [
        ("job", A, SMALL), *marks(A, 1), ("fail", "killed"), ("fail", "fdatasync"),
        *marks(A, 2, 1), *[("job", A, MEDIUM)] * 3],
    "killed_again_and_again": [
        ("job", A, SMALL), *marks(A, 2), ("close", A, "finished"), ("restart",),
        *[step for _ in range(5) for step in (("fail", "killed"), ("job", B, SMALL))]],
    "jobs_failed_twice": [("job", A, SMALL), *marks(A, 1), ("job", A, MEDIUM),
                          ("fail", "fdatasync"), ("job", A, LARGE),
                          ("fail", "fdatasync"), ("job", A, LARGE), *marks(A, 1, 1)],
    "failed_job": [("job", A, SMALL), *marks(A, 2), ("fail", "fdatasync"),
                   ("job", A, LARGE), *marks(A, 1, 2), ("fail", "short"),
                   ("fail", "pwrite"), ("job", A, MEDIUM), ("job", A, LARGE),
                   *marks(A, 1, 3)],
    "failed_close": [("job", A, SMALL), *marks(A, 2), ("fail", "fdatasync"),
                     ("close", A, "finished"), ("close", A, "finished"),
                     ("job", B, MEDIUM), *marks(B, 1)],
}


def check(recording: Recording, cut: int, images: Iterable[bytes]) -> None:
    owed = [expect.answer() for expect in recording.owed(cut)]
    for image in images:
        found = answer_of(read_image(image))
        assert any(agrees(found, answer) for answer in owed), (
            f"after {cut} operations of {recording.calls}:\nfound {found}, owed {owed}")


def images(recording: Recording, cut: int, rng: random.Random) -> Iterator[bytes]:
    """Subsets of what is not synced; each tear of each of these writes; then any mix
    of old, new and ruined sectors."""
    writes, _ = at_cut(recording.disk.ops, cut)
    unsure = [write for write in writes if not write.sure]

    def image(masks: list[Any]) -> bytes:
        return image_after(recording.start, writes, masks)

    # Of many writes in doubt (a failing disk), the last five exhaustively.
    fixed = [[rng.randint(0, 1)] * write.sectors for write in unsure[:-5]]
    recent = unsure[-5:]
    for landed in itertools.product((0, 1), repeat=len(recent)):
        masks: list[Any] = [*fixed, *([fate] * write.sectors for fate, write
                                      in zip(landed, recent, strict=True))]
        yield image(masks)
    for landed in itertools.product((0, 1), repeat=min(len(recent), 2)):
        for which, write in enumerate(recent):
            for tear in torn(write):
                masks = [*fixed, *([landed[i % 2]] * other.sectors
                                   for i, other in enumerate(recent))]
                masks[len(fixed) + which] = tear
                yield image(masks)
    for _ in range(RANDOM_MIXES if unsure else 0):
        yield image([rng.choices((0, 1, 2), (4, 4, 1), k=w.sectors) for w in unsure])


def test_any_cut_leaves_the_newest_durable_record_or_a_whole_newer_one(
        capsys: pytest.CaptureFixture[str]) -> None:
    seen = 0
    for name, script in SCRIPTS.items():
        recording = record(script)
        rng = random.Random(name)
        assert sum(call.done for call in recording.calls) >= 3, name
        for cut in range(len(recording.disk.ops) + 1):
            states = set(images(recording, cut, rng))
            check(recording, cut, states)
            seen += len(states)
    with capsys.disabled():
        print(f"\n{seen} states after a cut, {len(SCRIPTS)} recorded scripts")
    assert seen >= 20_000


def test_a_mark_torn_in_any_subset_of_its_sectors() -> None:
    recording = record([("job", A, SMALL), *marks(A, 9)])
    cut = len(recording.disk.ops) - 1
    for mask in itertools.product((0, 1), repeat=8):
        writes, _ = at_cut(recording.disk.ops, cut)
        check(recording, cut, [image_after(recording.start, writes, [mask])])
    assert recording.disk.ops[cut][0] == "sync"


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_flipped_bit_costs_at_most_the_mark_it_sits_in(name: str) -> None:
    recording = record(SCRIPTS[name])
    rng = random.Random(name)
    for call in recording.calls:
        if not call.done or any(not other.done for other in recording.calls):
            continue
        writes, _ = at_cut(recording.disk.ops, call.end)
        image = image_after(recording.start, writes, [])
        slots = read_slots(PATH, SimDisk.holding(image))
        state = newest(slots)
        places = {slot.index: slot for slot in slots}
        for index in range(SLOTS):
            bit = rng.choice([rng.randrange(32768), rng.randrange(1024)])
            flipped = bytearray(image)
            flipped[index * 4096 + bit // 8] ^= 1 << bit % 8
            found = answer_of(read_image(bytes(flipped)))
            hurt = places.get(index)
            if state is None or hurt is None or hurt.kind is Kind.FORMAT:
                assert found == answer_of(state)
            elif hurt.kind is Kind.CLOSED:
                assert found == answer_of(state)
            elif hurt.kind is Kind.JOB:
                mirrored = len(state.job_payload) <= 4028
                if mirrored or hurt.job.job_id != state.job_id:
                    assert found == answer_of(state)
                else:
                    assert found in earlier(recording, call.end)
            elif hurt.sequence == state.mark_seq:
                assert found == answer_of(newest([s for s in slots if s is not hurt]))
                assert found == before_last_mark(recording, call.end)
            else:
                assert found == answer_of(state) or state.closed is not None


@pytest.mark.parametrize("kind", Kind)
def test_no_flipped_bit_of_a_slot_goes_unnoticed(kind: Kind) -> None:
    """All of its 32768, in one slot of each kind."""
    disk = record(SCRIPTS["finished"]).disk
    image = bytes(disk.data[disk.files[PATH]])
    index = next(slot.index for slot in read_slots(PATH, SimDisk.holding(image))
                 if slot.kind is kind)
    whole = image[index * 4096:(index + 1) * 4096]
    assert decode(whole, index) is not None
    for bit in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        assert decode(bytes(flipped), index) is None, bit


def earlier(recording: Recording, end: int) -> list[Any]:
    ends = [0, *(call.end for call in recording.calls if call.end <= end)]
    return [recording.owed(cut)[0].answer() for cut in ends]


def before_last_mark(recording: Recording, end: int) -> Any:
    """What was owed just before the newest mark was written."""
    last = [call for call in recording.calls
            if call.end <= end and call.call[0] == "mark"][-1]
    closings = [call for call in recording.calls
                if last.end <= call.start < end and call.call[0] == "close"]
    expect = recording.owed(last.start)[0]
    for call in closings:
        expect = expect.after(call.call)
    return expect.answer()


def test_a_torn_write_over_a_torn_slot_does_not_make_the_older_one_whole() -> None:
    disk = record([("job", A, SMALL), *marks(A, 1), ("close", A, "finished")]).disk
    slots = [what.data for kind, what in disk.ops if kind == "write"]
    for older, newer in itertools.permutations(set(slots), 2):
        for at in range(0, 4096, 512):
            assert older[at:at + 512] != newer[at:at + 512]


def test_a_cut_while_the_file_is_made_leaves_no_half_file() -> None:
    disk = SimDisk()
    journal = Journal.open(PATH, SLOTS, JOB_SLOTS, disk)
    journal.write_job(A, SMALL)
    journal.write_mark(A, b"mark")
    rng = random.Random(1)
    for cut in range(len(disk.ops) + 1):
        writes, names = at_cut(disk.ops, cut)
        for files, _ in itertools.product(names, range(20)):
            masks = [rng.choices((0, 1, 2), k=w.sectors) for w in writes if not w.sure]
            if PATH not in files:
                assert cut < len(disk.ops) - 3
                continue
            mine = [w.inode == files[PATH] for w in writes]
            assert all(mine)
            image = image_after(b"", writes, masks)
            assert len(image) == SLOTS * 4096
            later = SimDisk.holding(image)
            again = Journal.open(PATH, SLOTS, JOB_SLOTS, later)
            assert again.set_aside is None
            if cut == len(disk.ops):
                state = again.read()
                assert state is not None and state.mark_payload == b"mark"


job_ids = st.sampled_from([bytes([letter]) * 16 for letter in b"ABCDEF"])
steps = st.one_of(
    st.tuples(st.just("mark"), st.none(), st.binary(max_size=30)),
    st.tuples(st.just("mark"), st.none(), st.binary(max_size=30)),
    st.tuples(st.just("mark"), job_ids, st.binary(max_size=30)),
    st.tuples(st.just("job"), job_ids, st.sampled_from([SMALL, MEDIUM, LARGE, b""])),
    st.tuples(st.just("close"), job_ids, st.sampled_from(["finished", "cancelled"])),
    st.just(("restart",)),
    st.tuples(st.just("fail"),
              st.sampled_from(["fdatasync", "pwrite", "short", "killed"])),
)


def test_any_calls_any_failures_any_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """At most two failed syncs: after each, and then a restart, the file looks newer
    than the disk, and with eight slots for marks that cannot go on for ever."""
    seen = 0

    @settings(max_examples=700, deadline=None, derandomize=True,
              suppress_health_check=[HealthCheck.too_slow])
    @given(script=st.lists(steps, min_size=4, max_size=40),
           seed=st.integers(0, 1 << 32))
    def cut_everywhere(script: list[Step], seed: int) -> None:
        nonlocal seen
        failed_syncs = itertools.count()
        script = [step for step in script
                  if step != ("fail", "fdatasync") or next(failed_syncs) < 2]
        recording = record([("job", A, SMALL), ("mark", A, b"first"), *script])
        rng = random.Random(seed)
        for cut in range(len(recording.disk.ops) + 1):
            states = set(some_images(recording, cut, rng))
            check(recording, cut, states)
            seen += len(states)

    cut_everywhere()
    with capsys.disabled():
        print(f"\n{seen} states after a cut, any scripts")
    assert seen >= 20_000


def some_images(recording: Recording, cut: int, rng: random.Random) -> Iterator[bytes]:
    writes, _ = at_cut(recording.disk.ops, cut)
    for _ in range(3):
        masks = [rng.choices((0, 1, 2), (4, 6, 1), k=w.sectors)
                 if rng.random() < 0.6 else [rng.randint(0, 1)] * w.sectors
                 for w in writes if not w.sure]
        yield image_after(recording.start, writes, masks)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 32))
def test_ten_cuts_one_after_the_other(seed: int) -> None:
    """The journal goes on from what a cut left, torn slots and all, and is cut again.

    A job that a cut left half-written, a mark that made it or did not: each time
    the journal reopened must continue from exactly what a reader finds.
    """
    rng = random.Random(seed)
    image = None
    before = None
    count = 0
    for life in range(10):
        job_id = bytes([65 + life]) * 16
        payload = rng.choice([SMALL, MEDIUM, LARGE])
        script = [("job", job_id, payload), *marks(job_id, rng.randrange(1, 6), count)]
        answer: Any = before.answer() if before is not None else None
        if answer is not None and answer[3] is None:
            old = answer[0]
            script = [*marks(old, rng.randrange(3), 100 * life), *script]
            if rng.random() < 0.3:
                script.append(("close", old, "resumed"))
        if rng.random() < 0.3:
            script.append(("close", job_id, "finished"))
        recording = record(script, image, before)
        cut = rng.randrange(len(recording.disk.ops) + 1)
        writes, _ = at_cut(recording.disk.ops, cut)
        masks = [rng.choices((0, 1, 2), (3, 8, 1), k=w.sectors)
                 if rng.random() < 0.5 else [1] * w.sectors
                 for w in writes if not w.sure]
        image = image_after(recording.start, writes, masks)
        found = answer_of(read_image(image))
        fitting = [expect for expect in recording.owed(cut)
                   if agrees(found, expect.answer())]
        assert fitting, f"life {life}, cut {cut}: found {found}"
        before = fitting[0].after(("restart", b"", b""))
        count += 10
