# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Journals as every released schema wrote them: 12 slots, gzipped.

Each holds a print that is complete, and then another that is not: two marks, the
newest with 300 excluded objects.  These files are never made again: who changes the
schema adds the journal of the one before.
"""
from __future__ import annotations

import gzip
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from moonraker_components.power_loss_recovery.journal import Journal, JournalTooNew
from moonraker_components.power_loss_recovery.record import Queued, from_payloads
from moonraker_components.power_loss_recovery.store.journal_format import (
    FORMAT_VERSION,
    newest,
)
from moonraker_components.power_loss_recovery.store.payloads import SCHEMA, pack
from tests.unit.samples import JOB, record, state
from tests.unit.tracker_bench import Bench

DATA = Path(__file__).resolve().parents[1] / "data"
NAMES = [f"OBJECT_{i}_ÄÖÜ_{i * 7919 % 1000}" for i in range(300)]
NEWEST = record(
    fraction=0.25, state=state(objects={"current": "A", "excluded": NAMES})
)
ADDED = {
    1: {},
    2: {"print_time": 12.5, "queued": Queued(90, 14.0),
        "live_position": (1.0, 2.0, 3.0)},
}  # fmt: skip


def test_there_is_one_of_every_schema() -> None:
    assert set(ADDED) == set(range(1, SCHEMA + 1))


@pytest.mark.parametrize("schema", sorted(ADDED))
def test_a_journal_of_an_older_plugin_is_read(tmp_path: Path, schema: int) -> None:
    path = tmp_path / "journal"
    packed = (DATA / f"journal_schema{schema}.gz").read_bytes()
    path.write_bytes(gzip.decompress(packed))
    journal = Journal(str(path))
    found = journal.read()
    assert found is not None and found.closed is None and found.job_id == b"B" * 16
    job, made = from_payloads(found.job_payload, found.mark_payload)
    assert job == replace(JOB, name="Würfel 测试.gcode")
    assert made == replace(NEWEST, **ADDED[schema])
    journal.write_job(b"C" * 16, found.job_payload)
    journal.write_mark(b"C" * 16, found.mark_payload)
    assert journal.set_aside is None and path.stat().st_size == 12 * 4096


@pytest.mark.asyncio
async def test_a_state_of_a_newer_plugin_is_said_and_left_as_it_is(
    bench: Bench,
) -> None:
    payload = pack({"schema": SCHEMA + 1})
    journal = Journal(bench.path)
    journal.write_job(b"A" * 16, payload)
    journal.write_mark(b"A" * 16, payload)
    before = Path(bench.path).read_bytes()
    await bench.tracker.load()
    assert bench.tracker.pending is None and Path(bench.path).read_bytes() == before
    assert len(bench.told) == 1
    assert f"schema {SCHEMA + 1}" in bench.told[0] and "update" in bench.told[0]


@pytest.mark.asyncio
async def test_a_file_of_a_newer_plugin_is_said_and_left_as_it_is(
    bench: Bench,
) -> None:
    """Also while printing: the newer plugin may come back and want it."""
    journal = Journal(bench.path)
    journal.write_job(b"A" * 16, b"job")
    journal.write_mark(b"A" * 16, b"mark")
    data = bytearray(Path(bench.path).read_bytes())
    for start in range(0, len(data), 4096):
        slot = data[start : start + 4096]
        if slot.startswith(b"PLRJOURN"):
            slot[8] = FORMAT_VERSION + 1
            slot[4092:] = _crc(slot)
            data[start : start + 4096] = slot
    Path(bench.path).write_bytes(data)
    with pytest.raises(JournalTooNew):
        newest(Journal(bench.path).slots())
    await bench.tracker.load()
    await bench.see()
    assert Path(bench.path).read_bytes() == data
    assert len(bench.told) == 1 and f"format {FORMAT_VERSION + 1}" in bench.told[0]


def _crc(slot: bytearray) -> bytes:
    return zlib.crc32(bytes(slot[:4092])).to_bytes(4, "little")
