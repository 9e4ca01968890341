# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The outages of the past: what is written of each, and when."""
from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, get_type_hints

import pytest

from moonraker_components.power_loss_recovery import answers
from moonraker_components.power_loss_recovery.saving.lineage import Pending
from moonraker_components.power_loss_recovery.saving.outages import MOST, Outages, lost
from tests.unit.samples import JOB, record

pytestmark = pytest.mark.asyncio
ONE, TWO = b"A" * 16, b"B" * 16
WHY: answers.Interruption = {
    "kind": "power_loss", "words": "Power loss", "thermal": False,
}  # fmt: skip
SAVING: answers.Saving = {
    "interval": 1.0, "reason": "save_interval", "latency_ms": 20.0,
    "writes_this_hour": 3, "held": None,
}  # fmt: skip


def pending(job_id: bytes = ONE, saved_at: float = 100.0) -> Pending:
    return Pending(job_id, JOB, replace(record(), saved_at=saved_at))


class Bench:
    def __init__(self) -> None:
        self.now = 160.0
        self.writes: list[Any] = []
        self.list = Outages(self.save, lambda: self.now)

    async def save(self, entries: list[answers.Outage]) -> None:
        self.writes.append(copy.deepcopy(entries))

    async def found(self, what: Pending | None = None, job: str = "00001A") -> None:
        await self.list.found(what or pending(), 1.5, WHY, job)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_an_outage_is_written_once_with_what_a_person_asks(bench: Bench) -> None:
    assert bench.list.is_new(pending())
    await bench.found()
    assert not bench.list.is_new(pending())
    (entry,) = bench.writes[-1]
    assert entry["file"] == "part.gcode" and entry["off_s"] == 60.0
    assert (entry["layer"], entry["layers"], entry["number"]) == (3, 10, 1)
    assert (entry["lost_s"], entry["ended"]) == (1.5, "")
    assert entry["history_job"] == "00001A"
    assert set(entry) == set(get_type_hints(answers.Outage)) and len(bench.writes) == 1


async def test_how_it_ends_is_written_once_for_each_event(bench: Bench) -> None:
    await bench.found()
    bench.now = 300.0
    await bench.list.ended(ONE, "resumed")
    await bench.list.ended(ONE, "standby")
    (entry,) = bench.list.newest(5)
    assert (entry["ended"], entry["ended_at"]) == ("cancelled", 300.0)
    await bench.list.ended(ONE, "complete")
    await bench.list.ended(TWO, "discarded")
    assert len(bench.writes) == 3 and entry["ended"] == "cancelled"


async def test_a_resumed_print_that_is_cut_again_is_its_next_outage(
    bench: Bench,
) -> None:
    await bench.found()
    await bench.list.ended(ONE, "resumed")
    # Cut before it had saved anything of its own.
    assert bench.list.is_new(pending())
    await bench.found(job="000042")
    second, first = bench.list.newest(5)
    assert first["ended"] == "interrupted" and second["number"] == 2
    assert second["history_job"] == "00001A"
    await bench.list.ended(ONE, "resumed")
    assert (second["ended"], first["ended"]) == ("resumed", "interrupted")


async def test_the_list_is_bounded(bench: Bench) -> None:
    for n in range(MOST + 5):
        await bench.found(pending(n.to_bytes(16, "big")))
    assert len(bench.list.entries) == MOST and len(bench.list.newest(3)) == 3
    assert bench.list.entries[0]["job"] == (MOST + 4).to_bytes(16, "big").hex()


async def test_what_the_database_has_is_not_trusted(bench: Bench) -> None:
    await bench.found()
    good = bench.writes[-1][0]
    bad: list[Any] = [None, 5, {}, {**good, "z": "x"}, {**good, "file": 5},
                      {**good, "more": 1}]  # fmt: skip
    bench.list.load([*bad, good])
    assert bench.list.entries == [good]
    for raw in (None, "x", {"a": 1}):
        Outages(bench.save, lambda: 0.0).load(raw)


async def test_a_database_that_fails_is_no_harm(bench: Bench) -> None:
    async def broken(entries: list[answers.Outage]) -> None:
        raise OSError("no space")

    bench.list.save = broken
    await bench.found()
    assert len(bench.list.entries) == 1


async def test_what_may_be_lost_is_an_upper_bound() -> None:
    assert lost(SAVING, 2, "save_interval") == pytest.approx(1.77)
    assert lost(SAVING, 2, "stop") == 0.0 == lost(SAVING, 2, "power loss")
    assert lost({**SAVING, "interval": None}, 2, "") is None
