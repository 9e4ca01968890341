# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Commands that live in Moonraker answer on the console, and say what happened."""
from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from moonraker.utils import ServerError

from moonraker_components.power_loss_recovery.faces import console
from moonraker_components.power_loss_recovery.files import Place
from moonraker_components.power_loss_recovery.saving import mesh_keeper

pytestmark = pytest.mark.asyncio
MESH = {"name": "adaptive", "points": [[0.1, 0.2], [0.3, 0.4]], "params": {}}


class Component:
    """What the console and the mesh keeper ask of the component."""

    def __init__(self) -> None:
        self.methods: dict[str, Callable[..., None]] = {}
        self.told: list[str] = []
        self.sent: list[str] = []
        self.stored: dict[str, Any] = {}
        self.places: list[Place | None] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.fails: Exception | None = None
        self.server = SimpleNamespace(
            error=ServerError, register_remote_method=self.methods.__setitem__
        )
        self.eventloop = SimpleNamespace(create_task=self._create_task)
        self.tracker = SimpleNamespace(
            enabled=True, printing=object(), asked=False, trouble="",
            save_now=self._save_now,
        )  # fmt: skip
        self.resumer = SimpleNamespace(discard=self._fail, resume=self._resume)
        self.attendant = SimpleNamespace(
            resume_from=self._fail, auto=SimpleNamespace(stop_asked=lambda: False)
        )
        self.database = SimpleNamespace(
            insert_item=self._insert, get_item=self._get_item
        )
        self.klippy_apis = SimpleNamespace(run_gcode=self._run_gcode)
        self.attendant = SimpleNamespace(
            resume_from=self._fail, auto=SimpleNamespace(stop_asked=lambda: False)
        )
        self.tell = self.told.append
        self.checker = SimpleNamespace(tell=self._fail)
        self.rehearsal = SimpleNamespace(start=self._rehearse)
        console.Console(self)  # type: ignore[arg-type]
        mesh_keeper.MeshKeeper(self, "plr")  # type: ignore[arg-type]

    def _create_task(self, work: Any) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def _resume(self, place: Place | None) -> None:
        self.places.append(place)
        await self._fail()

    async def _rehearse(self) -> dict[str, Any]:
        return {"file": "part.gcode", "steps": ["Lift"], "warnings": []}

    async def _fail(self) -> None:
        if self.fails is not None:
            raise self.fails

    async def _insert(self, namespace: str, key: str, value: Any) -> None:
        await self._fail()
        assert namespace == "plr"
        self.stored[key] = value

    async def _get_item(self, namespace: str, key: str, default: Any) -> Any:
        await self._fail()
        return self.stored.get(key, default)

    async def _run_gcode(self, script: str) -> None:
        await self._fail()
        self.sent.append(script)

    def _save_now(self) -> None:
        self.tracker.asked = True
        self.saves = getattr(self, "saves", 0) + 1

    def status(self) -> dict[str, Any]:
        return {
            "record": {"summary": "part.gcode, layer 3"}, "enabled": True,
            "state": "printing", "calibration": None,
        }  # fmt: skip

    async def set_enabled(self, enabled: bool) -> None:
        self.tracker.enabled = enabled

    async def run(self, command: str, **params: Any) -> list[str]:
        return await self.call("plr_command", command=command, params=params)

    async def call(self, method: str, **params: Any) -> list[str]:
        self.methods[method](**params)
        await asyncio.gather(*self.tasks)
        return self.told


@pytest.fixture
def component(monkeypatch: pytest.MonkeyPatch) -> Component:
    monkeypatch.setattr(console, "SAVE_TIMEOUT", 0.05)
    monkeypatch.setattr(console, "SAVE_POLL", 0.01)
    return Component()


async def test_a_save_is_answered_when_it_is_done(component: Component) -> None:
    component.methods["plr_command"](command="PLR_SAVE_PRINT_STATE", params={})
    await asyncio.sleep(0.02)
    assert component.told == []
    component.tracker.asked = False
    await asyncio.gather(*component.tasks)
    assert component.told == ["Saved: part.gcode, layer 3."]


async def test_a_save_that_does_not_come_is_said(component: Component) -> None:
    component.tracker.trouble = "The disk is full."
    (answer,) = await component.run("PLR_SAVE_PRINT_STATE")
    assert answer == "PLR_SAVE_PRINT_STATE: not saved yet. The disk is full."


@pytest.mark.parametrize(("change", "said"), [
    ({"enabled": False}, "saving is off. PLR_ENABLE"),
    ({"printing": None}, "nothing is being printed"),
])  # fmt: skip
async def test_what_cannot_be_saved_is_said(
    component: Component, change: dict[str, Any], said: str
) -> None:
    component.tracker.__dict__.update(change)
    (answer,) = await component.run("PLR_SAVE_PRINT_STATE")
    assert said in answer and not component.tracker.asked


async def test_a_line_of_every_layer_is_not_answered(component: Component) -> None:
    assert await component.run("PLR_SAVE_PRINT_STATE_WITH_LAYER") == []
    assert component.tracker.asked


async def test_every_command_of_klippy_is_known_here(component: Component) -> None:
    from klippy_extras.power_loss_recovery.commands import REMOTE_COMMANDS

    for name in REMOTE_COMMANDS:
        component.told.clear()
        await component.run(name)
        assert not [text for text in component.told if "not known" in text]
    assert "not known here" in (await component.run("PLR_X"))[-1]


async def test_a_resume_may_name_its_place(component: Component) -> None:
    await component.run("PLR_RESUME_PRINT", Z="12.5")
    assert component.places == [Place(z=12.5)]
    for bad in ({"Z": "12\n"}, {"LAYER": 1, "Z": 2}, {"DRY_RUN": True}):
        (answer,) = (await component.run("PLR_RESUME_PRINT", **bad))[-1:]
        assert answer.startswith("PLR_RESUME_PRINT: ")
    assert len(component.places) == 1


async def test_an_error_is_answered(component: Component) -> None:
    component.fails = ServerError("There is no interrupted print", 404)
    for name in ("PLR_RESET_PRINT_DATA", "PLR_RESUME_PRINT"):
        component.told.clear()
        (answer,) = await component.run(name)
        assert answer == f"{name}: There is no interrupted print"


async def test_a_mesh_is_kept_and_given_back(component: Component) -> None:
    (answer,) = await component.call("plr_save_mesh", mesh=MESH)
    assert "adaptive is kept, with its 2 x 2 points" in answer
    await component.call("plr_load_mesh")
    name, _, data = component.sent[0].partition(" DATA=")
    assert name == "_PLR_GIVE_MESH" and json.loads(bytes.fromhex(data)) == MESH


async def test_without_a_mesh_it_is_said(component: Component) -> None:
    (answer,) = await component.call("plr_load_mesh")
    assert "no mesh is kept" in answer and component.sent == []


async def test_a_mesh_that_cannot_be_kept_is_said(component: Component) -> None:
    component.fails = ServerError("disk full", 500)
    (answer,) = await component.call("plr_save_mesh", mesh=MESH)
    assert "not kept: disk full" in answer
    assert "disk full" in (await component.call("plr_load_mesh"))[-1]


async def test_a_mesh_beyond_reason_is_refused(
    component: Component, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_keeper, "MAX_BYTES", 10)
    (answer,) = await component.call("plr_save_mesh", mesh=MESH)
    assert "too many" in answer and component.stored == {}
