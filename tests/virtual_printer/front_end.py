# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A front end as far as dialogs go: what it shows, when, and the button pressed."""
from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tornado.websocket import websocket_connect

from .printer import PrinterError

PROMPT = "// action:prompt_"
PERIOD = 0.02


@dataclass
class Dialog:
    """buttons: G-code by label.  shown: monotonic seconds."""

    title: str
    text: str = ""
    buttons: dict[str, str] = field(default_factory=dict)
    shown: float = 0.0


class FrontEnd:
    """Connects as soon as Moonraker lets it, and follows the prompt protocol.

    reads_back: as Mainsail and Fluidd, which load the console of the past; not as
    KlipperScreen, which knows only what it is told.  Its own thread keeps the link.
    """

    def __init__(
        self, port: int, name: str = "mainsail", kind: str = "web",
        reads_back: bool = True,
    ) -> None:  # fmt: skip
        self.port, self.name, self.kind = port, name, kind
        self.reads_back = reads_back
        self.dialog: Dialog | None = None
        self.dialogs: list[Dialog] = []
        self.events: list[tuple[float, str]] = []  # of Moonraker, by name
        self.connected = threading.Event()
        self._made: Dialog | None = None
        self._ids = itertools.count(1)
        self._stop = threading.Event()
        self._link: Any = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)

    def __enter__(self) -> FrontEnd:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # What a person does

    def press(self, label: str) -> None:
        assert self.dialog is not None, f"no dialog to press {label} in"
        self.send("printer.gcode.script", script=self.dialog.buttons[label])

    def send(self, method: str, **params: Any) -> None:
        asyncio.run_coroutine_threadsafe(self._send(method, params), self._loop)

    def wait(self, title: str | None, seconds: float = 10.0) -> Dialog | None:
        """Until a dialog is shown whose title ends so, or none is for None."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            now = self.dialog
            if (now is None) == (title is None) and (
                now is None or now.title.endswith(str(title))
            ):
                return now
            time.sleep(PERIOD)
        raise PrinterError(f"{self.name} shows {self.dialog}, expected {title!r}")

    def when(self, event: str) -> float:
        """The last time that Moonraker told of it."""
        return max(at for at, name in self.events if name == event)

    # The link

    def _run(self) -> None:
        self._loop.run_until_complete(self._follow())
        self._loop.close()

    async def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                url = f"ws://127.0.0.1:{self.port}/websocket"
                self._link = await websocket_connect(url)
            except OSError:
                await asyncio.sleep(PERIOD)
                continue
            await self._send("server.connection.identify", {
                "client_name": self.name, "version": "1", "type": self.kind,
                "url": "http://localhost",
            })  # fmt: skip
            if self.reads_back:
                await self._send("server.gcode_store", {"count": 1000})
            self.connected.set()
            await self._listen()
            self.connected.clear()
            self.dialog = self._made = None

    async def _send(self, method: str, params: dict[str, Any]) -> None:
        request = {
            "jsonrpc": "2.0", "method": method, "params": params, "id": next(self._ids),
        }  # fmt: skip
        await self._link.write_message(json.dumps(request))

    async def _listen(self) -> None:
        waiting = None
        while not self._stop.is_set():
            waiting = waiting or asyncio.ensure_future(self._link.read_message())
            done, _ = await asyncio.wait([waiting], timeout=0.2)
            if not done:
                continue
            raw, waiting = waiting.result(), None
            if raw is None:
                return
            self._hear(json.loads(raw))
        self._link.close()

    def _hear(self, message: dict[str, Any]) -> None:
        if "method" in message:
            self.events.append((time.monotonic(), message["method"]))
            if message["method"] == "notify_gcode_response":
                self._line(message["params"][0])
        elif isinstance(message.get("result"), dict):
            for entry in message["result"].get("gcode_store", ()):
                self._line(entry["message"])

    def _line(self, line: str) -> None:
        if not line.startswith(PROMPT):
            return
        kind, _, rest = line[len(PROMPT) :].partition(" ")
        if kind == "end":
            self.dialog = self._made = None
        elif kind == "begin":
            self._made = Dialog(rest)
        elif self._made is None:
            return
        elif kind == "text":
            self._made.text = rest
        elif kind == "footer_button":
            label, gcode, _ = rest.split("|")
            self._made.buttons[label] = gcode
        elif kind == "show":
            self._made.shown = time.monotonic()
            self.dialog = self._made
            self.dialogs.append(self._made)
