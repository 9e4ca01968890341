# What every part of the firmware stands on: clock, timers, wire, shutdown
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The firmware's core: src/sched.c, src/basecmd.c and src/command.c of Klipper.

Parts of the firmware derive from Core and are put together in mcu.py.  A part has
a cmd_NAME method for each of its commands; `_halt` and `_clear` are extended by
those that have something to end or to forget.
"""
from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable
from typing import TypeVar

from .protocol import (
    CLOCK_FREQ,
    MOVE_COUNT,
    CommandError,
    Dictionary,
    FrameReader,
    frame,
)
from .world import ALL_PINS, World

DICTIONARY = Dictionary(ALL_PINS)
STATS_PERIOD = 5 * CLOCK_FREQ
NEVER = 1 << 62
Oid = TypeVar("Oid")


def world_clock() -> int:
    """Ticks of the world's clock: Klipper's host clock is CLOCK_MONOTONIC_RAW."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) * CLOCK_FREQ // 10**9


class Core:
    """Clock, timers, wire and the commands that concern the whole firmware."""

    def __init__(self, world: World, fd: int) -> None:
        self.world = world
        self.fd = fd
        self.powered_at = world_clock()
        self.reader = FrameReader(self._payload, self._ack)
        self.oids: dict[int, object] = {}
        self.crc: int | None = None
        self.shutdown_reason: str | None = None
        self.timers: list[tuple[int, int, Callable[[int], None]]] = []
        self._timer_id = 0
        self.settled = self.powered_at
        self.ends = NEVER
        self._handlers = {
            m.name: getattr(self, "cmd_" + m.name)
            for m in DICTIONARY.commands.values()
        }
        self._in_shutdown = {"get_config", "get_clock", "get_uptime", "config_reset",
                             "identify", "emergency_stop"}  # fmt: skip
        self.at(self.powered_at + STATS_PERIOD, self._stats)

    # Clock and timers

    def now(self) -> int:
        """The clock; it stands still where the power was cut."""
        return min(world_clock(), self.ends)

    def clock32(self, clock: int) -> int:
        return (clock - self.powered_at) & 0xFFFFFFFF

    def clock64(self, clock32: int) -> int:
        """The instant near now whose low 32 bits these are."""
        now = self.now() - self.powered_at
        diff = (clock32 - now) & 0xFFFFFFFF
        if diff >= 0x80000000:
            diff -= 0x100000000
        return self.powered_at + now + diff

    def at(self, clock: int, callback: Callable[[int], None]) -> None:
        self._timer_id += 1
        heapq.heappush(self.timers, (clock, self._timer_id, callback))

    def settle(self, until: int) -> None:
        """Decide everything up to `until`; mcu.py knows how."""
        raise NotImplementedError

    def _oid(self, oid: int, kind: type[Oid]) -> Oid:
        obj = self.oids.get(oid)
        if not isinstance(obj, kind):
            raise CommandError("Invalid oid type")
        return obj

    # Wire

    def _send(self, payload: bytes) -> None:
        try:
            os.write(self.fd, frame(self.reader.next_seq, payload))
        except OSError:
            pass  # Nobody reads: the host is gone.

    def send(self, name: str, *args: int | bytes) -> None:
        self._send(DICTIONARY.response(name, args))

    def _ack(self, seq: int) -> None:
        self._send(b"")

    def _payload(self, payload: bytes) -> None:
        try:
            for name, args in DICTIONARY.decode(payload):
                if self.shutdown_reason is not None and name not in self._in_shutdown:
                    self.send("is_shutdown", DICTIONARY.strings[self.shutdown_reason])
                    continue
                self._handlers[name](*args)
        except CommandError as e:
            self.shutdown(str(e))

    # Basic commands

    def cmd_identify(self, offset: int, count: int) -> None:
        self.send("identify_response", offset, DICTIONARY.blob[offset : offset + count])

    def cmd_allocate_oids(self, count: int) -> None:
        self.oids = {}

    def cmd_get_config(self) -> None:
        self.send("config", int(self.crc is not None), self.crc or 0,
                  int(self.shutdown_reason is not None),
                  MOVE_COUNT if self.crc is not None else 0)  # fmt: skip

    def cmd_finalize_config(self, crc: int) -> None:
        self.crc = crc

    def cmd_get_clock(self) -> None:
        self.send("clock", self.clock32(self.now()))

    def cmd_get_uptime(self) -> None:
        ticks = self.now() - self.powered_at
        self.send("uptime", ticks >> 32, ticks & 0xFFFFFFFF)

    def cmd_emergency_stop(self) -> None:
        self.shutdown("Command request")

    def cmd_config_reset(self) -> None:
        if self.shutdown_reason is None:
            return
        self._clear()
        self.at(self.now() + STATS_PERIOD, self._stats)

    def _clear(self) -> None:
        """Forget the configuration."""
        self.oids, self.crc, self.shutdown_reason = {}, None, None
        self.timers = []

    def _stats(self, clock: int) -> None:
        self.send("stats", 100, 20_000, 20_000)
        self.at(clock + STATS_PERIOD, self._stats)

    def shutdown(self, reason: str, clock: int | None = None) -> None:
        """As src/sched.c: steps end, outputs fall to their defaults."""
        clock = self.now() if clock is None else clock
        self.settle(clock)
        self._shut(reason, clock)

    def _shut(self, reason: str, clock: int) -> None:
        if self.shutdown_reason is not None:
            return
        self.shutdown_reason = reason
        self._halt(clock)
        self.world.note(clock, "shutdown", reason)
        self.send("shutdown", self.clock32(clock), DICTIONARY.strings[reason])

    def _halt(self, clock: int) -> None:
        """End what goes on: the firmware is shut down."""
