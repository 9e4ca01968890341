# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The answer of server.plr.status, for programs and people."""
from __future__ import annotations

import pytest

from moonraker_components.power_loss_recovery import answers
from moonraker_components.power_loss_recovery.faces.endpoints import ENDPOINTS
from moonraker_components.power_loss_recovery.settings import Settings
from tests.unit.test_component import Bench, bench  # noqa: F401
from tests.unit.typed import problems

pytestmark = pytest.mark.asyncio


async def test_the_answer_is_what_is_documented(bench: Bench) -> None:  # noqa: F811
    assert problems(bench.plr.status(), answers.Status) == []
    answer = await bench.plr.resumer.resume(dry_run=True)
    assert problems(answer, answers.Resume) == []
    assert problems(await bench.plr.resumer.points(), answers.Points) == []
    assert problems(await bench.plr.api.layers.get(), answers.Layer) == []
    history: answers.History = {"outages": bench.plr.outages.list.newest(9)}
    assert history["outages"] and problems(history, answers.History) == []
    assert problems(await bench.plr.checker.check(), answers.Check) == []
    known = {answers.Status, answers.Resume, answers.Points, answers.Layer,
             answers.History, answers.Check, answers.Rehearsal}  # fmt: skip
    assert {endpoint.answer for endpoint in ENDPOINTS} == known


async def test_every_state_has_its_meaning(bench: Bench) -> None:  # noqa: F811
    assert bench.plr.status()["meaning"] == answers.STATES["interrupted"]
    bench.plr.tracker.keeper.end(b"A" * 16, "complete")
    assert bench.plr.status()["meaning"] == answers.STATES["ending"]


@pytest.mark.parametrize(("temperature", "told"), [(24.0, 24.0), (0.0, None)])
async def test_the_bed_is_told_then_and_now(
    bench: Bench, temperature: float, told: float | None,  # noqa: F811
) -> None:  # fmt: skip
    bench.plr.tracker.update({"heater_bed": {"temperature": temperature}})
    record = bench.plr.status()["record"]
    assert record is not None and (record["bed"], record["bed_now"]) == (60.0, told)


async def test_the_last_errors_are_kept(bench: Bench) -> None:  # noqa: F811
    for n in range(15):
        bench.plr.set_error(f"error {n}")
    bench.plr.last_error = ""
    errors = bench.plr.status()["last_errors"]
    assert [error["text"] for error in errors[:2]] == ["error 14", "error 13"]
    assert len(errors) == 10


async def test_saves_at_events_only_have_no_interval(bench: Bench) -> None:  # noqa: F811
    bench.plr.tracker.configure(Settings(save_interval=0))
    status = bench.plr.status()
    assert status["saving"]["interval"] is None
    assert problems(status, answers.Status) == []
