# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What happens when requests, klippy and Moonraker's own end meet at a bad moment."""
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from moonraker.common import KlippyState, WebRequest
from moonraker.utils import ServerError

from moonraker_components.power_loss_recovery import files, sequence
from moonraker_components.power_loss_recovery.component import PowerLossRecovery
from moonraker_components.power_loss_recovery.journal import Journal
from moonraker_components.power_loss_recovery.resuming import resumer
from tests.unit.fake_klippy import FakeKlippy
from tests.unit.journal_samples import A, interrupted
from tests.unit.samples import GCODE, LINE, mark, record, state

pytestmark = pytest.mark.asyncio
LOST = "Lost communication with MCU 'head'\nOnce the underlying issue is corrected"
STATES = {"klippy_ready": KlippyState.READY, "klippy_shutdown": KlippyState.SHUTDOWN}


class FakeServer:
    """Moonraker, as far as the component asks for it."""

    error = ServerError

    def __init__(self, folder: Path, klippy: FakeKlippy) -> None:
        self.klippy = klippy
        self.events: list[tuple[str, Any]] = []
        self.handlers: dict[str, Any] = {}
        self.stored: dict[str, Any] = {}
        self.entries: list[dict[str, Any]] = []
        self.process = 100
        self.jobs: list[dict[str, Any]] = []
        self.fields: list[Any] = []
        gcodes = folder / "gcodes"
        self.requests: list[str] = []  # to klippy, beside its G-code
        connection = SimpleNamespace(state=KlippyState.READY, request=self.request)
        self.connection = connection
        self.components = {
            "file_manager": SimpleNamespace(get_directory=lambda root: str(gcodes)),
            "klippy_connection": connection,
            "klippy_apis": SimpleNamespace(
                run_gcode=klippy.run_gcode, query_objects=klippy.query,
                get_object_list=klippy.list_objects, start_print=klippy.start_print,
                subscribe_objects=self.subscribe,
            ),
            "database": SimpleNamespace(
                register_local_namespace=lambda name: None,
                get_item=self.get_item, insert_item=self.insert_item,
            ),
            "announcements": SimpleNamespace(
                get_announcements=self.get_announcements,
                remove_announcement=self.remove_announcement,
                add_internal_announcement=self.announce,
            ),
            "history": SimpleNamespace(register_auxiliary_field=self.fields.append),
            "internal_transport": SimpleNamespace(call_method=self.call_method),
            "job_state": SimpleNamespace(
                get_last_stats=lambda: klippy.status["print_stats"]
            ),
        }  # fmt: skip
        self.folder = folder
        self.update: Any = None

    async def request(self, asked: WebRequest) -> None:
        self.requests.append(asked.get_endpoint())

    async def subscribe(self, wanted: Any, callback: Any) -> dict[str, Any]:
        self.update = callback
        return await self.klippy.query(wanted)

    @property
    def enabled(self) -> Any:
        return self.stored.get("enabled")

    async def get_item(self, namespace: str, key: str, default: Any) -> Any:
        return self.stored.get(key, default)

    async def insert_item(self, namespace: str, key: str, value: Any) -> None:
        self.stored[key] = value

    async def call_method(self, name: str, **arguments: Any) -> Any:
        if name != "server.history.list":
            raise ServerError(f"No method {name} available")
        return {"jobs": self.jobs}

    async def get_announcements(self, dismissed: bool) -> list[dict[str, Any]]:
        return list(self.entries)

    async def remove_announcement(self, entry_id: str) -> None:
        self.entries = [e for e in self.entries if e["entry_id"] != entry_id]

    def announce(self, *args: str) -> None:
        keys = ("title", "description", "url", "priority", "feed")
        self.entries.append(dict(zip(keys, args, strict=True), entry_id=str(args)))

    def get_event_loop(self) -> Any:
        async def in_thread(call: Any, *args: Any) -> Any:
            await asyncio.sleep(0)
            return call(*args)

        return SimpleNamespace(
            create_task=asyncio.ensure_future, run_in_thread=in_thread
        )

    def get_klippy_info(self) -> dict[str, Any]:
        return {"process_id": self.process}

    def get_app_args(self) -> dict[str, str]:
        return {"data_path": str(self.folder)}

    def lookup_component(self, name: str, *default: Any) -> Any:
        return self.components.get(name, *default)

    def register_notification(self, name: str) -> None:
        pass

    def register_endpoint(self, path: str, kind: Any, handler: Any) -> None:
        self.handlers[path] = handler

    def register_event_handler(self, event: str, handler: Any) -> None:
        self.handlers[event] = handler

    def register_remote_method(self, name: str, handler: Any) -> None:
        self.handlers[name] = handler

    def send_event(self, name: str, *args: Any) -> None:
        self.events.append((name, args[0]))
        if name in self.handlers:
            self.handlers[name](*args)

    def console(self) -> list[str]:
        return [text for name, text in self.events if name == "server:gcode_response"]


class Bench:
    def __init__(self, folder: Path) -> None:
        self.klippy = FakeKlippy()
        self.server = FakeServer(folder, self.klippy)
        self.journal = str(folder / "plr" / "journal")
        config = SimpleNamespace(
            get_server=lambda: self.server, get=lambda key, default: default,
            error=ValueError,
        )  # fmt: skip
        self.plr = PowerLossRecovery(config)  # type: ignore[arg-type]

    async def event(self, name: str) -> None:
        self.server.connection.state = STATES.get(name, KlippyState.DISCONNECTED)
        await self.server.handlers[f"server:{name}"]()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(60):
            await asyncio.sleep(0)

    async def until(self, script: str) -> None:
        """Until klippy hangs in it."""
        self.klippy.hangs = script
        await asyncio.wait_for(self.klippy.hanging.wait(), 5)

    async def ended(self) -> None:
        async def waiting() -> None:
            while self.plr.resumer.task is not None:
                await asyncio.sleep(0.001)

        await asyncio.wait_for(waiting(), 5)

    async def command(self, name: str, **params: str) -> list[str]:
        before = len(self.server.console())
        self.server.handlers["plr_command"](name, params)
        await self.settle()
        return self.server.console()[before:]

    def pending(self) -> bool:
        found = Journal(self.journal).read()
        return found is not None and found.closed is None


@pytest_asyncio.fixture
async def bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    """A printer that has just been switched on after a power loss."""
    monkeypatch.setattr(sequence, "TEMPERATURE_PERIOD", 0.001)
    monkeypatch.setattr(resumer, "START_TIMEOUT", 0.05)
    gcodes = tmp_path / "gcodes"
    gcodes.mkdir()
    (gcodes / "part.gcode").write_bytes(GCODE)
    (tmp_path / "plr").mkdir()
    job = files.identify(gcodes, str(gcodes / "part.gcode"), 1.0).job
    journal = tmp_path / "plr" / "journal"
    interrupted(journal, job, record(line=LINE.decode())).close()
    made = Bench(tmp_path)
    await made.plr.component_init()
    await made.event("klippy_ready")
    yield made
    await made.plr.close()


async def test_after_the_boot_it_is_offered_and_nothing_is_done(bench: Bench) -> None:
    assert bench.plr.state() == "interrupted"
    assert any("prompt_begin" in line for line in bench.server.console())
    assert bench.klippy.sent == []


async def test_a_resume_goes_through(bench: Bench) -> None:
    answer = await bench.plr.resumer.resume()
    assert answer["steps"] and bench.plr.state() == "resuming"
    await bench.ended()
    assert len(bench.klippy.started) == 1
    assert any("The print goes on." in line for line in bench.server.console())
    assert bench.plr.last_error == "" and bench.plr.resumer.step is None


async def test_a_dry_run_does_nothing(bench: Bench) -> None:
    assert (await bench.plr.resumer.resume(dry_run=True))["dry_run"] is True
    await bench.settle()
    assert bench.klippy.sent == [] and bench.plr.state() == "interrupted"


async def test_two_resumes_at_once_are_one(bench: Bench) -> None:
    results = await asyncio.gather(
        bench.plr.resumer.resume(), bench.plr.resumer.resume(), return_exceptions=True
    )
    assert len([r for r in results if isinstance(r, ServerError)]) == 1
    with pytest.raises(ServerError, match="already under way"):
        await bench.plr.resumer.resume()
    with pytest.raises(ServerError, match="already under way"):
        await bench.plr.resumer.discard()
    await bench.ended()
    assert len(bench.klippy.started) == 1 and bench.pending()


async def test_discard_and_resume_at_once_is_one_of_them(bench: Bench) -> None:
    results = await asyncio.gather(
        bench.plr.resumer.discard(), bench.plr.resumer.resume(), return_exceptions=True
    )
    await bench.settle()
    assert results[0] is None and isinstance(results[1], ServerError)
    assert bench.klippy.sent == [] and not bench.pending()
    with pytest.raises(ServerError, match="no interrupted print"):
        await bench.plr.resumer.resume()


async def test_a_refused_resume_can_be_asked_again(bench: Bench) -> None:
    path = bench.plr.resumer.gcodes / "part.gcode"
    path.rename(path.with_name("away"))
    with pytest.raises(ServerError, match="is gone"):
        await bench.plr.resumer.resume()
    path.with_name("away").rename(path)
    await bench.plr.resumer.resume()
    await bench.ended()
    assert bench.klippy.started


@pytest.mark.parametrize("state", [KlippyState.STARTUP, KlippyState.SHUTDOWN,
                                   KlippyState.DISCONNECTED])  # fmt: skip
async def test_while_klippy_is_not_ready_nothing_is_resumed(
    bench: Bench, state: KlippyState
) -> None:
    bench.server.connection.state = state
    with pytest.raises(ServerError, match="not ready"):
        await bench.plr.resumer.resume()
    assert bench.klippy.sent == [] and bench.plr.state() == "interrupted"


async def test_klippy_that_stops_while_it_is_prepared_stops_it(bench: Bench) -> None:
    task = asyncio.ensure_future(bench.plr.resumer.resume())
    await asyncio.sleep(0)
    bench.server.connection.state = KlippyState.SHUTDOWN
    with pytest.raises(ServerError, match="stopped meanwhile"):
        await task
    assert bench.klippy.sent == []


async def test_before_the_first_status_klippy_itself_is_asked(bench: Bench) -> None:
    """Ready, but not subscribed yet: our copy of its state says nothing."""
    bench.plr.tracker.klippy_gone()
    bench.klippy.status["print_stats"]["state"] = "printing"
    with pytest.raises(ServerError, match="print is running"):
        await bench.plr.resumer.resume()
    assert bench.klippy.sent == []


async def test_a_shutdown_in_the_sequence_ends_it_and_loses_nothing(
    bench: Bench,
) -> None:
    await bench.plr.resumer.resume()
    await bench.until("G28 X Y")
    bench.klippy.gone = True
    await bench.event("klippy_shutdown")
    await bench.ended()
    assert bench.plr.state() == "interrupted" and bench.pending()
    assert "stopped" in bench.plr.last_error
    bench.klippy.gone, bench.klippy.hangs = False, ""
    await bench.event("klippy_ready")
    await bench.plr.resumer.resume()
    await bench.ended()
    assert bench.klippy.started


async def test_why_klippy_stopped_it_is_told_and_nothing_more_is_sent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KlippyState.SHUTDOWN, "_state_message", LOST, raising=False)
    await bench.plr.resumer.resume()
    await bench.until("G28 X Y")
    sent = len(bench.klippy.sent)
    await bench.event("klippy_shutdown")
    await bench.ended()
    error = bench.plr.last_error
    assert "stopped: Klipper shut down: Lost communication with MCU 'head'" in error
    assert "cable of that board, then FIRMWARE_RESTART" in error
    assert any(error in line for line in bench.server.console())
    assert bench.klippy.sent[sent:] == []


async def test_the_same_if_the_step_fails_before_moonraker_knows(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KlippyState.SHUTDOWN, "_state_message", LOST, raising=False)

    def lost() -> None:
        bench.server.connection.state = KlippyState.SHUTDOWN
        raise ServerError(LOST)

    bench.klippy.at["G28 X Y"] = lost
    await bench.plr.resumer.resume()
    await bench.ended()
    error = bench.plr.last_error
    assert "stopped: Klipper shut down: Lost communication with MCU 'head'" in error
    assert "\n" not in error


async def test_a_restart_in_the_sequence_is_told(bench: Bench) -> None:
    await bench.plr.resumer.resume()
    await bench.until("G28 X Y")
    await bench.event("klippy_disconnect")
    await bench.ended()
    assert "stopped: Klipper was restarted, or has ended" in bench.plr.last_error
    bench.klippy.hangs = ""
    await bench.event("klippy_ready")
    await bench.plr.resumer.resume()
    assert bench.plr.last_error == ""


async def test_stopped_before_its_first_step_it_is_not_under_way_for_ever(
    bench: Bench,
) -> None:
    await bench.plr.resumer.resume()
    assert bench.plr.resumer.task is not None
    bench.plr.resumer.task.cancel()
    await bench.ended()
    assert bench.plr.state() == "interrupted"
    await bench.plr.resumer.resume()
    await bench.ended()
    assert bench.klippy.started


async def test_an_error_nobody_thought_of_ends_it_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise ZeroDivisionError("no idea")

    monkeypatch.setattr(resumer.recovery, "carry_out", broken)
    await bench.plr.resumer.resume()
    await bench.ended()
    assert "no idea" in bench.plr.last_error and bench.pending()


async def test_a_failed_resume_can_be_tried_again(bench: Bench) -> None:
    def fail() -> None:
        raise RuntimeError("No trigger on x")

    bench.klippy.at["G28 X Y"] = fail
    await bench.plr.resumer.resume()
    await bench.ended()
    assert "No trigger on x" in bench.plr.last_error
    assert any("can be tried again" in line for line in bench.server.console())
    await bench.plr.resumer.resume()
    await bench.ended()
    assert bench.klippy.started and bench.plr.last_error == ""


async def test_when_moonraker_ends_the_heaters_are_off(bench: Bench) -> None:
    await bench.plr.resumer.resume()
    await bench.until("G28 X Y")
    await bench.plr.on_exit()
    assert bench.klippy.sent[-3] == "TURN_OFF_HEATERS"
    await bench.plr.close()
    assert bench.plr.resumer.task is None and bench.pending()


async def test_a_print_that_moonraker_finds_running_is_not_offered(
    bench: Bench,
) -> None:
    bench.server.events.clear()
    bench.plr.tracker.klippy_gone()
    path = str(bench.plr.resumer.gcodes / "part.gcode")
    bench.klippy.status["print_stats"].update(state="printing", filename="part.gcode")
    bench.klippy.status["power_loss_recovery"]["mark"] = mark(file_path=path)
    await bench.event("klippy_ready")
    assert not any("prompt_begin" in line for line in bench.server.console())
    assert bench.plr.state() == "printing"
    with pytest.raises(ServerError, match="no interrupted print"):
        await bench.plr.resumer.discard()


async def test_what_is_kept_is_not_shown_as_another_print(bench: Bench) -> None:
    path = bench.plr.resumer.gcodes / "other.gcode"
    path.write_bytes(GCODE + b"; other\n")
    cold = mark(file_path=str(path), file_position=0, job=1,
                state=state(heaters={"extruder": 0.0}))  # fmt: skip
    bench.plr._handle_update({
        "print_stats": {"state": "printing", "filename": "other.gcode"},
        "power_loss_recovery": {"mark": cold, "pending_marks": 1}, "toolhead": {},
    }, 0.0)  # fmt: skip
    await bench.settle()
    assert bench.plr.state() == "printing"
    assert bench.plr.status()["record"] is None and bench.pending()
    assert bench.plr.tracker.status_of("toolhead") == {}


async def test_a_start_that_moonraker_has_dropped_is_asked_for(bench: Bench) -> None:
    path = bench.plr.resumer.gcodes / "other.gcode"
    path.write_bytes(GCODE + b"; other\n")
    bench.klippy.status["print_stats"].update(state="printing", filename="other.gcode")
    for place in (0, GCODE.index(b"G1 X100 Y100"), GCODE.index(b"G1 X150 Y100")):
        published = mark(file_path=str(path), file_position=place, job=1)
        update = {"power_loss_recovery": {"mark": published, "pending_marks": 1}}
        bench.plr._handle_update(update, 0.0)
        await bench.settle()
    assert bench.plr.state() == "printing"
    told = bench.plr.status()["record"]
    assert told is not None and told["file"] == "other.gcode"


async def test_an_end_that_moonraker_has_dropped_is_asked_for(bench: Bench) -> None:
    bench.plr.tracker.klippy_gone()
    path = str(bench.plr.resumer.gcodes / "part.gcode")
    bench.klippy.status["print_stats"].update(state="printing", filename="part.gcode")
    bench.klippy.status["power_loss_recovery"]["mark"] = mark(file_path=path)
    await bench.event("klippy_ready")
    assert bench.plr.state() == "printing"
    bench.klippy.status["print_stats"]["state"] = "cancelled"
    bench.plr._handle_update({"power_loss_recovery": {"mark": None}}, 0.0)
    await bench.settle()
    assert bench.plr.state() == "idle" and not bench.pending()


async def test_without_its_section_in_klippy_nothing_is_resumed(bench: Bench) -> None:
    del bench.klippy.status["configfile"]["settings"]["power_loss_recovery"]
    del bench.klippy.status["power_loss_recovery"]
    bench.plr.tracker.klippy_gone()
    await bench.event("klippy_ready")
    assert "no [power_loss_recovery]" in bench.plr.last_error
    with pytest.raises(ServerError, match="power_loss_recovery"):
        await bench.plr.resumer.resume()


async def test_how_saves_are_spaced_is_in_the_status(bench: Bench) -> None:
    bench.klippy.status["configfile"]["settings"]["mcu head"] = {}
    await bench.event("klippy_ready")
    assert bench.plr.status()["saving"]["reason"] == "save_interval"
    busy = {"last_stats": {"mcu_task_avg": 0.003, "mcu_task_stddev": 0.0}}
    bench.server.update({"mcu head": busy, "mcu other": busy, "heater_bed": {}}, 1.0)
    saving = bench.plr.status()["saving"]
    assert saving["reason"] == "mcu head is busy (120 %)"
    assert set(saving) == {
        "interval", "reason", "latency_ms", "writes_this_hour", "held",
    }  # fmt: skip


async def test_an_end_that_is_not_durable_yet_is_not_told_as_one(bench: Bench) -> None:
    bench.plr.tracker.keeper.end(A, "complete")
    assert bench.plr.state() == "ending"
    await bench.plr.tracker.keeper.close_ended()
    assert bench.plr.state() == "idle" and not bench.pending()


async def test_turned_off_stays_off(bench: Bench) -> None:
    assert any("no longer saved" in x for x in await bench.command("PLR_DISABLE"))
    assert bench.server.stored["enabled"] is False and not bench.plr.status()["enabled"]
    assert any("off" in x for x in await bench.command("PLR_QUERY_SAVED_STATE"))
    await bench.command("PLR_ENABLE")
    assert bench.plr.tracker.enabled


async def test_commands_are_answered_on_the_console(bench: Bench) -> None:
    answers = await bench.command("PLR_RESUME_PRINT", LAYER="0")
    assert any("layer is" in line for line in answers) and bench.klippy.sent == []
    answers = await bench.command("PLR_RESET_PRINT_DATA")
    assert any("forgotten" in line for line in answers) and not bench.pending()
    answers = await bench.command("PLR_RESET_PRINT_DATA")
    assert any("no interrupted print" in line for line in answers)
    assert any("not known" in line for line in await bench.command("PLR_NONSENSE"))
