# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A power cut and its resume, as a front end that knows only the API sees them.

One print, cut once; `scripts/test --moonraker VERSION` runs it on each Moonraker.
The tests run in the order they are written.
"""
from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.websocket import websocket_connect

from moonraker_components.power_loss_recovery import answers
from moonraker_components.power_loss_recovery.faces.endpoints import ENDPOINTS
from tests.unit.typed import problems
from tests.virtual_printer import outage, parts
from tests.virtual_printer.printer import PrinterError, VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PART = parts.Part(size=20, layers=4)
SEED = 33
REPO = Path(__file__).resolve().parents[2]


class Listener(threading.Thread):
    """Notifications of ours, by name, from a websocket."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.heard: list[tuple[str, Any]] = []
        self.start()

    def run(self) -> None:
        asyncio.run(self._listen())

    async def _listen(self) -> None:
        link = await websocket_connect(f"ws://127.0.0.1:{self.port}/websocket")
        while (raw := await link.read_message()) is not None:
            message = json.loads(raw)
            if str(message.get("method", "")).startswith("notify_plr_"):
                self.heard.append((message["method"], message["params"][0]))

    def of(self, name: str) -> list[Any]:
        return [what for method, what in list(self.heard) if method == name]


class Bench:
    def __init__(self, printer: VirtualPrinter, part: Path) -> None:
        self.printer = printer
        self.part = part
        self.listener: Listener | None = None

    def ask(self, name: str, **arguments: Any) -> Any:
        """An endpoint's answer, which must be what the table says."""
        endpoint = next(e for e in ENDPOINTS if e.name == name)
        answer = self.printer.http(endpoint.method, endpoint.path, arguments)
        assert problems(answer, endpoint.answer) == []
        return answer

    def state(self) -> str:
        status = self.ask("status")
        assert status["meaning"] == answers.STATES[status["state"]]
        return str(status["state"])


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    part = parts.write(tmp_path_factory.mktemp("part") / "part.gcode", PART)
    with VirtualPrinter(seed=SEED) as printer:
        printer.power_on()
        outage.calibrate(printer)
        yield Bench(printer, part)


# What belongs to the computer that the tests run on, and not to the printer
HOST = ("journal", "clock", "gcodes")


def test_the_doctor_finds_nothing_wrong_with_a_good_machine(bench: Bench) -> None:
    def alarms(found: list[dict[str, str]]) -> list[dict[str, str]]:
        return [f for f in found if f["state"] in ("bad", "doubt")
                and f["name"] not in HOST]  # fmt: skip

    inside = bench.ask("check")
    assert alarms(inside["findings"]) == []
    command = [sys.executable, str(REPO / "scripts" / "plr"), "doctor", "--json",
               "--printer-data", str(bench.printer.data)]  # fmt: skip
    outside = json.loads(subprocess.run(command, capture_output=True).stdout)
    assert alarms(outside["findings"]) == []
    for found in (inside, outside):
        (live,) = [f for f in found["findings"] if f["name"] == "Z+ switches now"]
        assert live["found"] == "All are open."
    before = len(bench.printer.console())
    bench.printer.gcode("PLR_CHECK")

    def answered() -> bool:
        lines = bench.printer.console()[before:]
        return any(f"[  ok] {live['name']}: {live['found']}" in text for text in lines)

    bench.printer.wait("PLR_CHECK", answered, 20)


def test_the_doctor_sees_a_switch_that_is_not_plugged_in(bench: Bench) -> None:
    bench.printer.machine("switch", pin="ZP2", kind="pressed")
    found = bench.ask("check")
    bench.printer.machine("switch", pin="ZP2")
    (live,) = [f for f in found["findings"] if f["name"] == "Z+ switches now"]
    assert live["state"] == "bad" and "stepper_z2" in live["found"] and live["mend"]


def test_before_and_while_it_prints(bench: Bench) -> None:
    assert bench.state() == "idle" and bench.ask("history") == {"outages": []}
    with pytest.raises(PrinterError, match="404: There is no interrupted print"):
        bench.ask("points")
    bench.printer.print_file(bench.part)
    bench.printer.wait("a save", lambda: bench.ask("status")["record"], 120)
    assert bench.state() == "printing"
    for name in ("points", "layer", "resume"):
        with pytest.raises(PrinterError, match="409: A print is running"):
            bench.ask(name)
    assert bench.ask("history") == {"outages": []}
    outage.cut_and_boot(bench.printer, 9.0)


def test_after_the_cut_it_says_what_was_interrupted(bench: Bench) -> None:
    bench.printer.wait(
        "the bed's sensor", lambda: bench.ask("status")["record"]["bed_now"], 10
    )
    status = bench.ask("status")
    record = status["record"]
    assert status["state"] == "interrupted" and record["file"] == "part.gcode"
    assert 0 < record["percent"] < 100 and record["layers"] == 4 and record["ago"]
    assert record["bed"] == 50.0 and record["bed_now"] > 15.0
    points = bench.ask("points")
    assert [point["layer"] for point in points["points"]] == [1, 2, 3, 4]
    layer = bench.ask("layer")
    assert layer["printed"] and layer["rest"] and layer["whole"]
    assert layer["seam"] == layer["rest"][0][:2]
    assert points["saved"] == record["file_position"]
    (waiting,) = bench.ask("history")["outages"]
    assert waiting["ended"] == "" and waiting["z"] == record["z"]
    assert 0 < waiting["lost_s"] < 3


def test_a_dry_run_says_what_would_be_done(bench: Bench) -> None:
    here = bench.ask("resume", dry_run=True)
    assert here["dry_run"] and any("Z+" in title for title in here["steps"])
    trusted = bench.ask("resume", dry_run=True, z_strategy="assume")
    assert not any("Z+" in title for title in trusted["steps"])
    assert any("not measured" in warning for warning in trusted["warnings"])
    layer = bench.ask("resume", dry_run=True, layer=2)
    assert layer["warnings"] != here["warnings"]
    with pytest.raises(PrinterError, match="409: Cannot resume: .*no layer 99"):
        bench.ask("resume", layer=99)
    assert bench.state() == "interrupted"


def test_it_is_cancelled_and_can_be_pressed_again(bench: Bench) -> None:
    bench.listener = Listener(bench.printer.port)
    bench.ask("resume")
    bench.printer.wait(
        "homing", lambda: (bench.ask("status")["step"] or {}).get("name") == "home_xy",
        120, 0.05,
    )  # fmt: skip
    assert bench.ask("cancel")["state"] == "resuming"
    bench.printer.wait("the end", lambda: bench.state() == "interrupted", 90)
    status = bench.ask("status")
    assert "stopped" in status["last_errors"][0]["text"]
    heaters = bench.printer.objects("extruder", "heater_bed")
    assert all(heater["target"] == 0 for heater in heaters.values())
    assert bench.printer.machine("state")["nozzle"][2] > status["record"]["z"] + 5


def test_it_goes_through_and_tells_each_step(bench: Bench) -> None:
    assert bench.listener is not None
    bench.listener.heard.clear()
    steps = bench.ask("resume")["steps"]
    bench.printer.wait("the print", lambda: bench.state() == "printing", 300)
    told = bench.listener.of("notify_plr_resume_progress")
    assert [problems(step, answers.Step) for step in told] == [[]] * len(steps)
    assert [step["title"] for step in told] == steps
    assert told[-1]["number"] == told[-1]["of"] == len(steps)
    changes = bench.listener.of("notify_plr_status_changed")
    assert {"resuming", "printing"} <= {status["state"] for status in changes}
    assert all(problems(status, answers.Status) == [] for status in changes)
    (outage_,) = bench.ask("history")["outages"]
    assert outage_["ended"] == "resumed"


def test_the_part_comes_out_whole(bench: Bench) -> None:
    outage.finish(bench.printer)
    whole = outage.run_undisturbed(bench.part, SEED)
    assert outage.judge_printed(whole, bench.printer).reasons() == []


def test_the_history_links_the_rest_to_its_beginning(bench: Bench) -> None:
    (ended,) = bench.ask("history", limit=5)["outages"]
    assert ended["ended"] == "complete" and ended["number"] == 1
    jobs = bench.printer.get("/server/history/list", order="asc")["jobs"]
    beginning, rest = jobs[0], jobs[-1]
    assert beginning["filename"] == "part.gcode"
    assert beginning["job_id"] == ended["history_job"]
    assert rest["filename"].startswith(".plr/")

    def original(job: Any) -> Any:
        fields = {field["name"]: field for field in job["auxiliary_data"]}
        return fields["resumed_from"]["value"]

    assert original(beginning) is None and original(rest) == beginning["job_id"]


def test_the_database_has_it_and_nobody_else_can_write_it(bench: Bench) -> None:
    kept = {"namespace": "power_loss_recovery", "key": "outages"}
    value = bench.printer.get("/server/database/item", **kept)["value"]
    assert value == bench.ask("history")["outages"]
    with pytest.raises(PrinterError, match="403"):
        bench.printer.post("/server/database/item", **kept, value=[])


def test_a_resume_is_rehearsed_without_heat_and_without_plastic(bench: Bench) -> None:
    bench.printer.gcode("TURN_OFF_HEATERS\nG28")
    before = bench.printer.machine("state")
    lowest = bench.printer.machine("range", since=before["clock"])
    began = bench.ask("rehearse")
    assert began["file"] == "part.gcode" and len(began["steps"]) >= 4
    hottest = 0.0

    def over() -> bool:
        nonlocal hottest
        heaters = bench.printer.objects("extruder", "heater_bed").values()
        hottest = max(hottest, *(heater["target"] for heater in heaters))
        return any("rehearsal" in line and ("went well" in line or "failed" in line)
                   for line in bench.printer.console())  # fmt: skip

    bench.printer.wait("the end of the rehearsal", over, 180)
    assert any("The rehearsal went well" in line for line in bench.printer.console())
    assert hottest == 0.0 and bench.state() == "idle"
    after = bench.printer.machine("state")
    assert after["e"] == before["e"] and after["nozzle"][2] > PART.layers * parts.LAYER
    for motor, (low, _) in bench.printer.machine(
        "range", since=before["clock"]
    ).items():
        assert low >= lowest[motor][0] - 0.01
