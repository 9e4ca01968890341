# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""klippy's own API socket, for tests that need no Moonraker."""
from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

from .printer import READY_TIMEOUT, PrinterError, VirtualPrinter


class Klippy:
    """A running klippy.  Requests raise PrinterError with klippy's message."""

    def __init__(self, printer: VirtualPrinter, ready: bool = True) -> None:
        """Wait for klippy; with `ready` false, also for one that refuses to run."""
        self.printer = printer
        self._next = 0
        self._received = b""
        self.console: list[str] = []
        self._socket = self._connect()
        self.info: dict[str, Any] = {}
        deadline = time.monotonic() + READY_TIMEOUT
        while time.monotonic() < deadline:
            self.info = self.request("info")
            if self.info["state"] != "startup":
                break
            time.sleep(0.1)
        if ready and self.info["state"] != "ready":
            raise PrinterError(f"klippy is not ready: {self.info['state_message']}")
        template = {"method": "klippy_gcode"}
        self.request("gcode/subscribe_output", response_template=template)

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + READY_TIMEOUT
        while True:
            link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                link.connect(str(self.printer.uds))
                return link
            except OSError as e:
                link.close()
                if time.monotonic() > deadline:
                    raise PrinterError(f"klippy does not listen: {e}") from e
                time.sleep(0.1)

    def close(self) -> None:
        self._socket.close()

    def request(self, method: str, timeout: float = 180.0, **params: Any) -> Any:
        number = self.send(method, **params)
        return self.answer(number, timeout)

    def send(self, method: str, **params: Any) -> int:
        self._next += 1
        message = {"id": self._next, "method": method, "params": params}
        self._socket.sendall(json.dumps(message).encode() + b"\x03")
        return self._next

    def answer(self, number: int, timeout: float = 180.0) -> Any:
        """The answer to a request that was sent; console lines are kept."""
        self._socket.settimeout(timeout)
        while True:
            answer = self._take(number)
            if answer is not None:
                return answer["result"]
            try:
                data = self._socket.recv(65536)
            except OSError as e:
                raise PrinterError(f"no answer from klippy: {e}") from e
            if not data:
                raise PrinterError("klippy has closed the connection")
            self._received += data

    def has_answer(self, number: int) -> bool:
        """Whether the answer to a request has come, which is then taken."""
        self._socket.settimeout(0.001)
        with contextlib.suppress(TimeoutError):
            self._received += self._socket.recv(65536)
        return self._take(number) is not None

    def _take(self, number: int) -> dict[str, Any] | None:
        while b"\x03" in self._received:
            text, self._received = self._received.split(b"\x03", 1)
            message = json.loads(text)
            if message.get("method") == "klippy_gcode":
                self.console.append(message["params"]["response"])
            elif message.get("id") == number:
                if "error" in message:
                    raise PrinterError(str(message["error"].get("message")))
                return message
        return None

    def gcode(self, script: str, timeout: float = 180.0) -> None:
        self.request("gcode/script", timeout, script=script)

    def objects(self, *names: str) -> dict[str, Any]:
        wanted = dict.fromkeys(names)
        return self.request("objects/query", objects=wanted)["status"]
