# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Thousands of requests that must be refused, on real Moonraker and klippy with a
print that waits to be resumed.  The tests run in the order they are written."""
from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.faces.endpoints import ENDPOINTS
from tests.virtual_printer import malformed, outage, parts, quick
from tests.virtual_printer.clients import Answer, over_http, over_websocket
from tests.virtual_printer.printer import PrinterError, VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

COUNT = int(os.environ.get("PLR_MALFORMED", "10000"))


@pytest.fixture(scope="module")
def printer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualPrinter]:
    folder = tmp_path_factory.mktemp("part")
    part = parts.write(folder / "part.gcode", parts.Part(size=40, layers=4))
    with VirtualPrinter(seed=31, config=quick.CONFIG) as printer:
        printer.power_on()
        printer.print_file(part)
        printer.wait(
            "a save", lambda: printer.get("/server/plr/status")["record"], 60
        )
        printer.cut_power()
        printer.power_on()
        outage.wait_offer(printer)
        yield printer


def snapshot(printer: VirtualPrinter) -> dict[str, Any]:
    """Everything that a request could have changed."""
    status = printer.get("/server/plr/status")
    record = status["record"] or {}
    heaters = printer.objects("extruder", "heater_bed", "print_stats", "webhooks")
    journal = (printer.data / "plr" / "journal").read_bytes()
    return {
        "state": status["state"], "enabled": status["enabled"],
        "errors": status["last_errors"],
        "place": (record.get("file"), record.get("file_position")),
        "nozzle": printer.machine("state")["nozzle"],
        "targets": [heaters[name]["target"] for name in ("extruder", "heater_bed")],
        "klippy": heaters["webhooks"]["state"],
        "printing": heaters["print_stats"]["state"],
        "journal": hashlib.sha256(journal).hexdigest(),
        "outages": printer.get("/server/plr/history"),
        "files": sorted(str(path) for path in printer.gcodes.rglob("*")),
    }  # fmt: skip


def send_all(
    printer: VirtualPrinter, requests: list[malformed.Request]
) -> list[tuple[malformed.Request, Answer]]:
    rpc = [request for request in requests if request.rpc is not None]
    http = [request for request in requests if request.rpc is None]
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(over_http, printer.port, http)
        found = list(
            zip(rpc, asyncio.run(over_websocket(printer.port, rpc)), strict=True)
        )
        return found + list(zip(http, answers.result(), strict=True))


def log(printer: VirtualPrinter) -> str:
    folder = printer.data / "logs"
    names = ("moonraker.log", "moonraker.out")
    return "".join(
        (folder / name).read_text(errors="replace")
        for name in names
        if (folder / name).exists()
    )


def test_every_malformed_request_is_refused_with_a_reason(
    printer: VirtualPrinter,
) -> None:
    before = snapshot(printer)
    requests = malformed.requests(COUNT)
    began = time.monotonic()
    answered = send_all(printer, requests)
    took = time.monotonic() - began
    kinds = Counter("rpc" if r.rpc is not None else "http" for r, _ in answered)
    codes = Counter(answer.code for _, answer in answered)
    print(f"\n{len(answered)} requests in {took:.1f} s: {dict(kinds)}, {dict(codes)}")
    obeyed = [(r, a) for r, a in answered if not a.refused]
    assert obeyed == [], f"{len(obeyed)}, such as {obeyed[:5]}"
    assert {r.endpoint for r in requests} == {e.name for e in ENDPOINTS}
    assert len(answered) >= 5000
    assert snapshot(printer) == before
    assert "Traceback" not in log(printer)


def test_klippy_was_not_told_anything(printer: VirtualPrinter) -> None:
    said = "\n".join(printer.console())
    assert "M112" not in said and "Unknown command" not in said


def test_two_who_press_resume_at_once_start_one(printer: VirtualPrinter) -> None:
    def press(_: int) -> str:
        try:
            return "yes" if printer.post("/server/plr/resume")["steps"] else "no"
        except PrinterError as e:
            return str(e)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(press, range(8)))
    assert answers.count("yes") == 1, answers
    refused = [answer for answer in answers if answer != "yes"]
    assert all("409" in a and "under way" in a for a in refused), answers


def test_a_resume_is_cancelled_and_leaves_the_machine_cold(
    printer: VirtualPrinter,
) -> None:
    assert printer.get("/server/plr/status")["state"] == "resuming"
    printer.post("/server/plr/cancel")
    printer.wait(
        "the end of the resume",
        lambda: printer.get("/server/plr/status")["state"] == "interrupted", 90,
    )  # fmt: skip
    heaters = printer.objects("extruder", "heater_bed")
    assert all(heater["target"] == 0 for heater in heaters.values())
    status = printer.get("/server/plr/status")
    assert "stopped" in status["last_error"] and status["record"] is not None
    with pytest.raises(PrinterError, match="409: No resume is under way"):
        printer.post("/server/plr/cancel")
    assert "Traceback" not in log(printer)
