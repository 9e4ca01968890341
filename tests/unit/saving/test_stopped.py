# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Asking a klippy that is shut down, until the boards have answered it."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.saving import stopped

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopped, "PERIOD", 0.0)


async def ask(answers: list[Any]) -> Mapping[str, Any] | None:
    async def query(wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        assert wanted == {"power_loss_recovery": ["stopped"]}
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer

    return await stopped.ask(query)


async def test_the_mark_is_waited_for() -> None:
    none = {"power_loss_recovery": {"stopped": None}}
    known = {"power_loss_recovery": {"stopped": {"file_position": 7}}}
    assert await ask([none, none, known]) == {"file_position": 7}


@pytest.mark.parametrize(
    "answer", [{}, {"power_loss_recovery": {}}, {"power_loss_recovery": {"stopped": 3}}]
)
async def test_an_extra_that_knows_nothing_is_given_up(answer: dict) -> None:
    assert await ask([answer]) is None
