# A TMC2209 stepper driver on its one-wire UART
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The driver as its UART shows it: frames, registers, and where its field points.

Source: Trinamic's TMC2209 datasheet, rev. 1.09: frames and CRC in 4.1 and 4.2,
registers in 5.  Registers last as long as the driver has power, not as long as
the micro-controller runs.  Coil currents and the motor's turning are in motor.py:
here they are only told.
"""
from __future__ import annotations

import math

from .motor import FULL_STEPS_PER_CYCLE, Motor
from .protocol import CLOCK_FREQ

SYNC = 0x05
WRITE = 0x80
# The address that replies carry: the host's
MASTER = 0xFF
READ_BYTES, WRITE_BYTES = 4, 8
BITS = 10  # of a byte on the wire: start, 8 data, lowest first, stop

GCONF, GSTAT, IFCNT, SLAVECONF = 0x00, 0x01, 0x02, 0x03
OTP_READ, IOIN, FACTORY_CONF = 0x05, 0x06, 0x07
IHOLD_IRUN, TPOWERDOWN, TSTEP, TPWMTHRS, TCOOLTHRS = 0x10, 0x11, 0x12, 0x13, 0x14
VACTUAL, SGTHRS, SG_RESULT, COOLCONF = 0x22, 0x40, 0x41, 0x42
MSCNT, MSCURACT, CHOPCONF = 0x6A, 0x6B, 0x6C
DRV_STATUS, PWMCONF, PWM_SCALE, PWM_AUTO = 0x6F, 0x70, 0x71, 0x72

# What can be written, and what it is after power up
DEFAULTS = {
    GCONF: 0x101, GSTAT: 0x1, SLAVECONF: 0, FACTORY_CONF: 0, IHOLD_IRUN: 0x11F10,
    TPOWERDOWN: 20, TPWMTHRS: 0, TCOOLTHRS: 0, VACTUAL: 0, SGTHRS: 0, COOLCONF: 0,
    CHOPCONF: 0x10000053, PWMCONF: 0xC10D0024,
}  # fmt: skip
READABLE = {GCONF, GSTAT, IFCNT, OTP_READ, IOIN, FACTORY_CONF, TSTEP, SG_RESULT,
            MSCNT, MSCURACT, CHOPCONF, DRV_STATUS, PWMCONF, PWM_SCALE,
            PWM_AUTO}  # fmt: skip
VERSION = 0x21
TSTEP_STANDSTILL = 0xFFFFF
# The microstep table has so many entries, and this amplitude
TABLE, AMPLITUDE = 1024, 248
STANDSTILL = CLOCK_FREQ // 10


def crc8(data: bytes) -> int:
    """Polynomial x^8 + x^2 + x + 1, the lowest bit of each byte first (4.2)."""
    crc = 0
    for byte in data:
        for bit in range(8):
            mix = (crc >> 7) ^ ((byte >> bit) & 1)
            crc = ((crc << 1) & 0xFF) ^ (0x07 if mix else 0)
    return crc


def framed(data: bytes) -> bytes:
    """Bytes as bits on the wire, each with its start and stop bit."""
    bits = 0
    for number, byte in enumerate(data):
        bits |= (0x200 | byte << 1) << (BITS * number)
    return bits.to_bytes((BITS * len(data) + 7) // 8, "little")


def unframed(line: bytes) -> bytes | None:
    """The bytes in bits from the wire; None when a start or stop bit is wrong."""
    bits = int.from_bytes(line, "little")
    data = bytearray()
    for number in range(8 * len(line) // BITS):
        symbol = bits >> (BITS * number) & 0x3FF
        if symbol & 1 or not symbol & 0x200:
            return None
        data.append(symbol >> 1 & 0xFF)
    return bytes(data)


class Tmc2209:
    """One driver and its motor.  `address` is set by its MS1 and MS2 pins."""

    def __init__(self, motor: Motor, address: int = 0) -> None:
        self.motor = motor
        self.address = address
        self.reset()

    def reset(self) -> None:
        """Power has come back: everything that was written is lost."""
        self.registers = dict(DEFAULTS)
        self.written = 0

    def receive(self, line: bytes, clock: int) -> bytes:
        """Bits from the host, all of them heard at `clock`; returns the reply's.

        A request that is spoilt, or is not for this driver, has no reply; nor has a
        write, which IFCNT counts instead.
        """
        data = unframed(line)
        if data is None or len(data) not in (READ_BYTES, WRITE_BYTES):
            return b""
        # The upper half of the first byte is reserved, but in the checksum.
        if data[0] & 0x0F != SYNC or crc8(data[:-1]) != data[-1]:
            return b""
        register = data[2] & ~WRITE
        write = len(data) == WRITE_BYTES
        if data[1] != self.address or bool(data[2] & WRITE) != write:
            return b""
        if write:
            self._write(register, int.from_bytes(data[3:7], "big"))
            return b""
        value = self._read(register, clock)
        reply = bytes((SYNC, MASTER, register)) + value.to_bytes(4, "big")
        return framed(reply + bytes((crc8(reply),)))

    def reply_delay(self) -> int:
        """Bit times between a request's end and its reply (SENDDELAY)."""
        delay = self.registers[SLAVECONF] >> 8 & 0xF
        return 8 * (delay | 1)

    def _write(self, register: int, value: int) -> None:
        self.written = (self.written + 1) & 0xFF
        if register == GSTAT:
            # Flags are cleared by writing them.
            self.registers[GSTAT] &= ~value
        elif register in self.registers:
            self.registers[register] = value

    def _read(self, register: int, clock: int) -> int:
        if register not in READABLE:
            return 0
        if register == IFCNT:
            return self.written
        if register == IOIN:
            return VERSION << 24 | int(not self.motor.energised)
        if register == TSTEP:
            return TSTEP_STANDSTILL
        if register == MSCNT:
            return self.mscnt(clock)
        if register == MSCURACT:
            return self._currents(clock)
        if register == DRV_STATUS:
            return self._drv_status(clock)
        return self.registers.get(register, 0)

    def mscnt(self, clock: int) -> int:
        """Entry of the microstep table that the field points at.

        It goes down while the DIR pin is high, and from 0 at power up.
        """
        turned = self.motor.phase_at(clock)
        if self.motor.reversed:
            turned = -turned
        entries = TABLE // (self.motor.microsteps * FULL_STEPS_PER_CYCLE)
        return -turned * entries % TABLE

    def _currents(self, clock: int) -> int:
        """MSCURACT: CUR_B and CUR_A, nine bits each, with sign."""
        at = self.mscnt(clock)
        a, b = (
            round(AMPLITUDE * math.sin(math.tau * (at + offset) / TABLE)) & 0x1FF
            for offset in (0, TABLE // 4)
        )
        return b << 16 | a

    def _drv_status(self, clock: int) -> int:
        """No error; the current is IHOLD's at standstill, else IRUN's."""
        moved = self.motor.net_at(clock) != self.motor.net_at(clock - STANDSTILL)
        current = self.registers[IHOLD_IRUN]
        scale = (current >> 8 if moved else current) & 0x1F
        spread = self.registers[GCONF] >> 2 & 1
        return int(not moved) << 31 | (1 - spread) << 30 | scale << 16
