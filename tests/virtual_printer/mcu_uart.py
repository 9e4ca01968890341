# The UARTs of the stepper drivers
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What src/tmcuart.c of Klipper does: it clocks bits out and in, and reads none."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .mcu_core import DICTIONARY, Core
from .protocol import CLOCK_FREQ, CommandError
from .world import UART_PINS

DATA_MAX = 10
# From the command to the first bit, and how long a reply's start is waited for.
LEAD_IN = CLOCK_FREQ * 200 // 1_000_000
TURN_ROUND, SYNC_BITS = 4, 64


@dataclass
class Uart:
    pin: str
    bit_time: int  # ticks
    active: bool = False
    generation: int = 0


class Uarts(Core):
    """One wire each, to one driver."""

    def cmd_config_tmcuart(
        self, oid: int, rx_pin: int, pull_up: int, tx_pin: int, bit_time: int
    ) -> None:
        if rx_pin != tx_pin:
            raise CommandError("Not a valid uart pin")
        self.oids[oid] = Uart(DICTIONARY.pin_names[rx_pin], bit_time)

    def cmd_tmcuart_send(self, oid: int, write: bytes, read: int) -> None:
        uart = self._oid(oid, Uart)
        if uart.active:
            return
        if len(write) > DATA_MAX or read > DATA_MAX:
            raise CommandError("tmcuart data too large")
        uart.active = True
        sent = self.now() + LEAD_IN + 8 * len(write) * uart.bit_time
        self._later(uart, sent, lambda at: self._sent(oid, uart, write, read, at))

    def _sent(self, oid: int, uart: Uart, write: bytes, read: int, clock: int) -> None:
        """The last bit has gone: the driver does what it was told."""
        driver = self.world.drivers.get(UART_PINS.get(uart.pin, ""))
        reply = b"" if driver is None else driver.receive(write, clock)
        if not read:
            self._report(oid, uart, b"")
            return
        if reply and driver is not None:
            bits = driver.reply_delay() + 8 * read
        else:
            bits = TURN_ROUND + SYNC_BITS
        # Bits that do not come are read from a line that is high.
        data = reply.ljust(read, b"\xff")[:read] if reply else b""
        end = clock + bits * uart.bit_time
        self._later(uart, end, lambda at: self._report(oid, uart, data))

    def _report(self, oid: int, uart: Uart, data: bytes) -> None:
        uart.active = False
        self.send("tmcuart_response", oid, data)

    def _later(self, uart: Uart, clock: int, call: Callable[[int], None]) -> None:
        generation = uart.generation

        def due(at: int) -> None:
            if uart.generation == generation:
                call(at)

        self.at(clock, due)

    def _halt(self, clock: int) -> None:
        for obj in self.oids.values():
            if isinstance(obj, Uart):
                obj.active = False
                obj.generation += 1
        super()._halt(clock)
