# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""From the yes to the first command of the resume at klippy, for a long file.

    python -m tests.bench.resume_start [--size MB] [--share 0.9] [--runs 4]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment. The
print is that of long_print.py; virtual printer and Moonraker boot, and Resume is
pressed. klippy's M140 is a macro that says when it runs. Each run is cancelled when its
second step begins, so that the file has been read. Exit status 1 if a figure is missed.
"""
from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.virtual_printer.printer import VirtualPrinter

from . import long_print
from .ending import ended

MAX_FIRST = 0.5  # s
READ_TIMEOUT = 120.0


@dataclass(frozen=True)
class Run:
    """Seconds after the yes."""

    answered: float
    first: float
    read: float


class Client:
    def __init__(self, link: WebSocketClientConnection) -> None:
        self.link = link
        self.number = 0

    async def send(self, method: str) -> int:
        self.number += 1
        call = {"jsonrpc": "2.0", "method": method, "id": self.number}
        await self.link.write_message(json.dumps(call))
        return self.number

    async def next(self) -> Mapping[str, Any]:
        raw = await asyncio.wait_for(self.link.read_message(), READ_TIMEOUT)
        assert raw is not None, "Moonraker has closed the connection"
        return json.loads(raw)

    async def run(self) -> Run:
        began = time.monotonic()
        number = await self.send("server.plr.resume")
        answered = first = read = 0.0
        while not (answered and first and read):
            message = await self.next()
            now = time.monotonic() - began
            if message.get("id") == number:
                assert "result" in message, message
                answered = now
            elif message.get("method") == "notify_gcode_response":
                if "first command" in message["params"][0]:
                    first = first or now
            elif message.get("method") == "notify_plr_resume_progress":
                if message["params"][0]["number"] == 2:
                    read = now
        await self.send("server.plr.cancel")
        while True:
            message = await self.next()
            if message.get("method") == "notify_plr_status_changed":
                if message["params"][0]["state"] == "interrupted":
                    return Run(answered, first, read)


async def press(printer: VirtualPrinter, path: Path, runs: int) -> list[Run]:
    url = f"ws://127.0.0.1:{printer.port}/websocket"
    client = Client(await websocket_connect(url))
    found = []
    for number in range(runs):
        long_print.begin_run(path, number)
        await asyncio.sleep(0.1 * number)  # klippy tells its state at fixed instants
        found.append(await client.run())
    return found


def main() -> int:
    args = long_print.arguments(__doc__, size=500, share=0.9)
    with long_print.offered(args) as (printer, path):
        runs = asyncio.run(press(printer, path, args.runs))
    long_print.show(
        ["answered s", "first command s", "second step s"],
        [(f"{r.answered:.3f}", f"{r.first:.3f}", f"{r.read:.1f}") for r in runs],
    )
    worst = max(run.first for run in runs)
    middle = np.median([run.first for run in runs])
    print(f"\nfirst command: median {middle:.3f} s, worst {worst:.3f} s;"
          f" asked at most {MAX_FIRST} s")  # fmt: skip
    return ended(worst <= MAX_FIRST)


if __name__ == "__main__":
    raise SystemExit(main())
