# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""How long server.plr.status takes while printing, and what a flood of it does.

    python -m tests.bench.status [--clients 50] [--seconds 30] [--flood 20]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment. Half of
the clients are on websockets, half use HTTP, each asks once a second, at instants of
its own. Then all ask as fast as they are answered: saving must go on, and the queue of
moves must never run dry. Exit status 1 if a figure is missed.
"""
from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import websocket_connect

from tests.virtual_printer import parts, quick
from tests.virtual_printer.printer import VirtualPrinter

from .ending import ended

MAX_MEDIAN, MAX_P99 = 10.0, 50.0  # ms
PART = parts.Part(size=60, layers=20, long_line=0)
Ask = Callable[[], Awaitable[None]]


async def on_websocket(port: int) -> Ask:
    link = await websocket_connect(f"ws://127.0.0.1:{port}/websocket")
    number = 0

    async def ask() -> None:
        nonlocal number
        number += 1
        call = {"jsonrpc": "2.0", "method": "server.plr.status", "id": number}
        await link.write_message(json.dumps(call))
        while True:
            answer = json.loads(await link.read_message() or "{}")
            if answer.get("id") == number:
                assert answer["result"]["state"] == "printing", answer
                return

    return ask


def over_http(port: int) -> Ask:
    client = AsyncHTTPClient(force_instance=True)

    async def ask() -> None:
        response = await client.fetch(f"http://127.0.0.1:{port}/server/plr/status")
        assert json.loads(response.body)["result"]["state"] == "printing"

    return ask


async def load(port: int, clients: int, seconds: float, flood: bool) -> np.ndarray:
    """Milliseconds of each request."""
    asks = [
        over_http(port) if n % 2 else await on_websocket(port) for n in range(clients)
    ]
    rng, took = random.Random(1), []
    end = time.monotonic() + seconds

    async def client(ask: Ask, first: float) -> None:
        await asyncio.sleep(first)
        while (began := time.monotonic()) < end:
            await ask()
            took.append(1000 * (time.monotonic() - began))
            if not flood:
                await asyncio.sleep(1.0 - (time.monotonic() - began))

    await asyncio.gather(*(client(ask, rng.random()) for ask in asks))
    return np.array(took)


def progress(printer: VirtualPrinter) -> dict[str, Any]:
    found = printer.objects("toolhead", "print_stats")
    status = printer.get("/server/plr/status")
    return {
        "stalls": found["toolhead"]["stalls"],
        "printing": found["print_stats"]["state"],
        "position": status["record"]["file_position"],
        "saved_ago": time.time() - status["record"]["saved_at"],
    }


def measure(clients: int, seconds: float, flood_seconds: float) -> bool:
    with (
        tempfile.TemporaryDirectory(prefix="plr-status-") as folder,
        VirtualPrinter(seed=1, config=quick.CONFIG) as printer,
    ):
        printer.power_on()
        printer.print_file(parts.write(Path(folder) / "part.gcode", PART))
        printer.wait(
            "a save", lambda: printer.get("/server/plr/status")["record"], 30
        )
        asked = asyncio.run(load(printer.port, clients, seconds, False))
        before = progress(printer)
        flooded = asyncio.run(load(printer.port, clients, flood_seconds, True))
        after = progress(printer)
    rows = (("once a second", asked, seconds), ("flood", flooded, flood_seconds))
    print("| status, while printing | requests/s | median ms | p99 ms | worst ms |")
    print("|---|---|---|---|---|")
    for name, ms, took in rows:
        quantiles = np.percentile(ms, [50, 99, 100])
        figures = " | ".join(f"{value:.1f}" for value in quantiles)
        print(f"| {clients} clients, {name} | {len(ms) / took:.0f} | {figures} |")
    median, p99 = np.percentile(asked, [50, 99])
    stalls = after["stalls"] - before["stalls"]
    print(f"\nasked: median at most {MAX_MEDIAN} ms, p99 at most {MAX_P99} ms")
    print(
        f"in the flood: {stalls} stalls, asked 0; saved"
        f" {after['position'] - before['position']} bytes of the print further,"
        f" {after['saved_ago']:.1f} s before its end"
    )
    goes_on = after["printing"] == "printing" and after["position"] > before["position"]
    return bool(
        median <= MAX_MEDIAN and p99 <= MAX_P99 and stalls == 0 and goes_on
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--flood", type=float, default=20.0)
    args = parser.parse_args()
    good = measure(args.clients, args.seconds, args.flood)
    return ended(good)


if __name__ == "__main__":
    raise SystemExit(main())
