# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A firmware on the bench: a host that is a few lines, and a clock held by hand."""
from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from . import mcu_core
from .mcu import Firmware
from .mcu_core import DICTIONARY
from .protocol import CLOCK_FREQ, MESSAGE_MIN, SEQ_MASK, Message, decode_int, frame
from .world import World

SECOND = CLOCK_FREQ
MS = CLOCK_FREQ // 1000
COMMANDS = {m.name: m for m in DICTIONARY.commands.values()}
RESPONSES = {m.msgid: m for m in DICTIONARY.responses.values()}
PIN = DICTIONARY.pins


def encoded(name: str, *args: int | bytes) -> bytes:
    return COMMANDS[name].encode(args)


def decoded(payload: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The responses in one payload, by name, each with its arguments."""
    found, pos = [], 0
    while pos < len(payload):
        message: Message = RESPONSES[payload[pos]]
        pos += 1
        args: dict[str, Any] = {}
        for name, kind in zip(message.names, message.types, strict=True):
            if kind in ("%.*s", "%*s"):
                size = payload[pos]
                args[name] = payload[pos + 1 : pos + 1 + size]
                pos += 1 + size
                continue
            value, pos = decode_int(payload, pos)
            args[name] = value if kind == "%i" else value & 0xFFFFFFFF
        found.append((message.name, args))
    return found


class Board:
    """World, firmware and one end of a line; `clock` moves only in run().

    Times in calls are ticks of the firmware's own clock, as a host counts them.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seed: int = 1) -> None:
        self.clock = 7 * 2**32 + 12345
        monkeypatch.setattr(mcu_core, "world_clock", lambda: self.clock)
        self.world = World(seed)
        self.host, self.line = socket.socketpair()
        self.host.setblocking(False)
        self.line.setblocking(False)
        self.responses: list[tuple[str, dict[str, Any]]] = []
        self.answered = 0
        self._input = b""
        self.power_on()

    def power_on(self) -> None:
        self.firmware = Firmware(self.world, self.line.fileno())
        self.sent = 0

    def close(self) -> None:
        self.host.close()
        self.line.close()

    @property
    def now(self) -> int:
        return self.clock - self.firmware.powered_at

    # The host's side

    def post(self, payload: bytes) -> None:
        """Put a frame on the line; the firmware hears it when it listens."""
        self.host.send(frame(self.sent, payload))
        self.sent = (self.sent + 1) & SEQ_MASK

    def read(self) -> list[tuple[str, dict[str, Any]]]:
        """What has come since the last read; `answered` is the firmware's number."""
        try:
            self._input += self.host.recv(1 << 16)
        except BlockingIOError:
            pass
        new = []
        while len(self._input) >= MESSAGE_MIN:
            size = self._input[0]
            body, self._input = self._input[:size], self._input[size:]
            self.answered = body[1] & SEQ_MASK
            new += decoded(body[2:-3])
        self.responses += new
        return new

    def ask(self, name: str, *args: int) -> list[tuple[str, dict[str, Any]]]:
        """Send one command and return what comes back at once."""
        self.read()
        self.post(encoded(name, *args))
        self.listen()
        return self.read()

    def value(self, name: str, *args: int) -> dict[str, Any]:
        """The arguments of the only response to a command."""
        ((_, args_back),) = self.ask(name, *args)
        return args_back

    def said(self, name: str) -> list[dict[str, Any]]:
        self.read()
        return [args for text, args in self.responses if text == name]

    # Time

    def listen(self) -> None:
        try:
            self.firmware.reader.feed(os.read(self.line.fileno(), 1 << 16))
        except BlockingIOError:
            pass

    def look(self) -> None:
        """One turn of the machine's loop."""
        now = self.clock
        self.listen()
        self.firmware.run(now)

    def run(self, seconds: float, tick: float = 0.003) -> None:
        end = self.clock + int(seconds * SECOND)
        while self.clock < end:
            self.clock = min(self.clock + int(tick * SECOND), end)
            self.look()
            self.read()

    # A configuration: two XY motors, one switch, a heater

    A, B, TRSYNC, SWITCH, HEATER, ENABLE, ADC, BUTTONS = range(8)

    def configure(self, crc: int = 42) -> None:
        self.ask("allocate_oids", 8)
        for oid, pin in ((self.A, "SA"), (self.B, "SB")):
            self.ask("config_stepper", oid, PIN[pin], PIN["D" + pin[1]], 0, 0)
        self.ask("config_trsync", self.TRSYNC)
        self.ask("config_endstop", self.SWITCH, PIN["LX"], 0)
        self.ask("config_digital_out", self.HEATER, PIN["HE"], 0, 0, 5 * SECOND)
        self.ask("config_digital_out", self.ENABLE, PIN["EA"], 0, 0, 0)
        self.ask("set_digital_out_pwm_cycle", self.HEATER, SECOND // 10)
        self.ask("config_analog_in", self.ADC, PIN["TE"])
        self.ask("config_buttons", self.BUTTONS, 1)
        self.ask("buttons_add", self.BUTTONS, 0, PIN["ACOK"], 0)
        self.ask("finalize_config", crc)

    def home(self, at: int, timeout: int | None = None, rest: int = 500) -> None:
        """Arm the X switch from `at` on: both motors stop when it closes."""
        self.ask("trsync_start", self.TRSYNC, at, SECOND // 10, 2)
        for oid in (self.A, self.B):
            self.ask("stepper_stop_on_trigger", oid, self.TRSYNC)
        limit = 10 * SECOND if timeout is None else timeout
        self.ask("trsync_set_timeout", self.TRSYNC, (at + limit) & 0xFFFFFFFF)
        self.ask("endstop_home", self.SWITCH, at & 0xFFFFFFFF, 300, 4, rest, 1,
                 self.TRSYNC, 1)  # fmt: skip

    def net(self, motor: str) -> int:
        """Net steps of a motor by now."""
        return self.world.motors[motor].net_at(self.clock)

    def shutdown_reason(self) -> str | None:
        return self.firmware.shutdown_reason
