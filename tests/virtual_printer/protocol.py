# Klipper's wire protocol, the micro-controller's side of it
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Framing, variable length integers and the data dictionary.

Source: Klipper's docs/Protocol.md.  A frame is
`length, 0x10|sequence, payload..., crc16 (2 bytes), 0x7e`; a payload is one or
more messages, each a one-byte id and its arguments.  One dictionary serves
Klipper v0.12 to master and Kalico: host code looks messages up by their whole
format string.
"""
from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence

MESSAGE_MIN = 5
MESSAGE_MAX = 64
SYNC = 0x7E
SEQ_MASK = 0x0F
DEST = 0x10

# Frequency of the simulated clock, ticks per second.
CLOCK_FREQ = 20_000_000
ADC_MAX = 4095
MOVE_COUNT = 2048

COMMANDS = (
    "identify offset=%u count=%c",
    "allocate_oids count=%c",
    "get_config",
    "finalize_config crc=%u",
    "get_clock",
    "get_uptime",
    "emergency_stop",
    "config_reset",
    "config_stepper oid=%c step_pin=%c dir_pin=%c invert_step=%c step_pulse_ticks=%u",
    "queue_step oid=%c interval=%u count=%hu add=%hi",
    "set_next_step_dir oid=%c dir=%c",
    "reset_step_clock oid=%c clock=%u",
    "stepper_get_position oid=%c",
    "stepper_stop_on_trigger oid=%c trsync_oid=%c",
    "config_trsync oid=%c",
    "trsync_start oid=%c report_clock=%u report_ticks=%u expire_reason=%c",
    "trsync_set_timeout oid=%c clock=%u",
    "trsync_trigger oid=%c reason=%c",
    "config_endstop oid=%c pin=%c pull_up=%c",
    "endstop_home oid=%c clock=%u sample_ticks=%u sample_count=%c rest_ticks=%u"
    " pin_value=%c trsync_oid=%c trigger_reason=%c",
    "endstop_query_state oid=%c",
    "config_digital_out oid=%c pin=%u value=%c default_value=%c max_duration=%u",
    "set_digital_out_pwm_cycle oid=%c cycle_ticks=%u",
    "queue_digital_out oid=%c clock=%u on_ticks=%u",
    "update_digital_out oid=%c value=%c",
    "set_digital_out pin=%u value=%c",
    "config_analog_in oid=%c pin=%u",
    "query_analog_in oid=%c clock=%u sample_ticks=%u sample_count=%c rest_ticks=%u"
    " min_value=%hu max_value=%hu range_check_count=%c",
    "config_buttons oid=%c button_count=%c",
    "buttons_add oid=%c pos=%c pin=%u pull_up=%c",
    "buttons_query oid=%c clock=%u rest_ticks=%u retransmit_count=%c invert=%c",
    "buttons_ack oid=%c count=%c",
    "config_tmcuart oid=%c rx_pin=%u pull_up=%c tx_pin=%u bit_time=%u",
    "tmcuart_send oid=%c write=%*s read=%c",
)
RESPONSES = (
    "identify_response offset=%u data=%.*s",
    "config is_config=%c crc=%u is_shutdown=%c move_count=%hu",
    "clock clock=%u",
    "uptime high=%u clock=%u",
    "stats count=%u sum=%u sumsq=%u",
    "starting",
    "is_shutdown static_string_id=%hu",
    "shutdown clock=%u static_string_id=%hu",
    "stepper_position oid=%c pos=%i",
    "trsync_state oid=%c can_trigger=%c trigger_reason=%c clock=%u",
    "endstop_state oid=%c homing=%c next_clock=%u pin_value=%c",
    "analog_in_state oid=%c next_clock=%u value=%hu",
    "buttons_state oid=%c ack_count=%c state=%*s",
    "tmcuart_response oid=%c read=%*s",
)
STATIC_STRINGS = (
    "Emergency stop",
    "Command request",
    "Missed scheduling of next digital out event",
    "Scheduled digital out event will exceed max_duration",
    "ADC out of range",
    "Timer too close",
    "Invalid command",
    "Command parser error",
    "Invalid oid type",
    "Invalid count parameter",
    "update_digital_out not valid with active queue",
    "Move queue overflow",
    "Can't reset time when stepper active",
    "Not a valid uart pin",
    "tmcuart data too large",
)
_SIGNED = {"%i", "%hi"}
_BYTES = {"%*s", "%.*s"}


class CommandError(Exception):
    """A command the firmware answers by a shutdown; its text is the reason."""


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        byte = (byte ^ (byte << 4)) & 0xFF
        table.append((byte << 8) ^ (byte >> 4) ^ (byte << 3))
    return table


_CRC = _crc_table()


def crc16_ccitt(data: bytes) -> int:
    """The checksum of Klipper's frames (docs/Protocol.md; msgproto.py)."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC[(byte ^ crc) & 0xFF]
    return crc


def encode_int(out: bytearray, v: int) -> None:
    if v >= 0xC000000 or v < -0x4000000:
        out.append((v >> 28) & 0x7F | 0x80)
    if v >= 0x180000 or v < -0x80000:
        out.append((v >> 21) & 0x7F | 0x80)
    if v >= 0x3000 or v < -0x1000:
        out.append((v >> 14) & 0x7F | 0x80)
    if v >= 0x60 or v < -0x20:
        out.append((v >> 7) & 0x7F | 0x80)
    out.append(v & 0x7F)


def decode_int(data: bytes, pos: int) -> tuple[int, int]:
    """The integer at `pos`, sign extended, and the position after it."""
    c = data[pos]
    pos += 1
    v = c & 0x7F
    if (c & 0x60) == 0x60:
        v |= -0x20
    while c & 0x80:
        c = data[pos]
        pos += 1
        v = (v << 7) | (c & 0x7F)
    return v, pos


def decode_bytes(data: bytes, pos: int) -> tuple[bytes, int]:
    """The buffer at `pos`, behind its length, and the position after it."""
    begin = pos + 1
    end = begin + data[pos]
    if end > len(data):
        raise IndexError("a buffer that ends before its length")
    return data[begin:end], end


def frame(seq: int, payload: bytes) -> bytes:
    body = bytes((len(payload) + MESSAGE_MIN, DEST | (seq & SEQ_MASK))) + payload
    crc = crc16_ccitt(body)
    return body + bytes((crc >> 8, crc & 0xFF, SYNC))


class Message:
    """One format string: its id, its name and its argument types."""

    def __init__(self, msgid: int, msgformat: str) -> None:
        self.msgid = msgid
        self.name = msgformat.split()[0]
        args = [a.split("=") for a in msgformat.split()[1:]]
        self.names = [a[0] for a in args]
        self.types = [a[1] for a in args]

    def encode(self, args: Sequence[int | bytes]) -> bytes:
        out = bytearray((self.msgid,))
        for kind, value in zip(self.types, args, strict=True):
            if isinstance(value, bytes):
                out.append(len(value))
                out += value
            else:
                encode_int(out, value if kind in _SIGNED else value & 0xFFFFFFFF)
        return bytes(out)


class Dictionary:
    """The data dictionary: message ids, pins, static strings, constants."""

    def __init__(self, pins: Sequence[str]) -> None:
        # Only the two identify messages have fixed ids (0 and 1).
        ids: dict[str, int] = {}
        for n, fmt in enumerate([*RESPONSES, *COMMANDS]):
            ids[fmt] = n + 2
        ids["identify_response offset=%u data=%.*s"] = 0
        ids["identify offset=%u count=%c"] = 1
        self.commands = {ids[f]: Message(ids[f], f) for f in COMMANDS}
        self.responses = {f.split()[0]: Message(ids[f], f) for f in RESPONSES}
        self.pins = {name: n for n, name in enumerate(pins)}
        self.pin_names = list(pins)
        self.strings = {s: n + 2 for n, s in enumerate(STATIC_STRINGS)}
        data = {
            "version": "v0.12.0-virtual",
            "build_versions": "virtual printer",
            "app": "Klipper",
            "commands": {f: ids[f] for f in COMMANDS},
            "responses": {f: ids[f] for f in RESPONSES},
            "enumerations": {"pin": self.pins, "static_string_id": self.strings},
            "config": {
                "CLOCK_FREQ": CLOCK_FREQ,
                "ADC_MAX": ADC_MAX,
                "MCU": "virtual",
                "STATS_SUMSQ_BASE": 256,
                "STEPPER_STEP_BOTH_EDGE": 1,
                "STEPPER_BOTH_EDGE": 1,
                "PWM_MAX": 255,
            },
        }
        self.blob = zlib.compress(json.dumps(data).encode())

    def response(self, name: str, args: Sequence[int | bytes]) -> bytes:
        return self.responses[name].encode(args)

    def decode(self, payload: bytes) -> Iterator[tuple[str, list[int | bytes]]]:
        """Yield (name, arguments) of each message in a payload from the host.

        CommandError where src/command.c would shut down.
        """
        pos, end = 0, len(payload)
        commands = self.commands
        while pos < end:
            message = commands.get(payload[pos])
            if message is None:
                raise CommandError("Invalid command")
            pos += 1
            args: list[int | bytes] = []
            for kind in message.types:
                try:
                    if kind in _BYTES:
                        value, pos = decode_bytes(payload, pos)
                        args.append(value)
                        continue
                    number, pos = decode_int(payload, pos)
                except IndexError:
                    raise CommandError("Command parser error") from None
                args.append(number if kind in _SIGNED else number & 0xFFFFFFFF)
            yield message.name, args


class FrameReader:
    """Splits the host's byte stream into frames, in sequence (src/command.c).

    `handle(payload)` is called for each frame that carries the next sequence
    number; `answer(seq)` acknowledges, or asks again for what was missed: a host
    that sees the same number twice sends everything again from there.
    """

    def __init__(
        self, handle: Callable[[bytes], None], answer: Callable[[int], None]
    ) -> None:
        self.handle = handle
        self.answer = answer
        # A host starts at 1 and learns from the first answer where we are.
        self.next_seq = 0
        self._buffer = b""
        self._need_sync = False
        self._need_valid = False

    def feed(self, data: bytes) -> None:
        buf = self._buffer + data
        pos, end = 0, len(buf)
        while pos < end:
            if self._need_sync:
                pos = self._resync(buf, pos)
                continue
            if end - pos < MESSAGE_MIN:
                break
            length = buf[pos]
            known = MESSAGE_MIN <= length <= MESSAGE_MAX
            if not known or buf[pos + 1] & ~SEQ_MASK != DEST:
                pos = self._bad(buf, pos)
                continue
            if end - pos < length:
                break
            body = buf[pos : pos + length - 3]
            tail = buf[pos + length - 3 : pos + length]
            crc = crc16_ccitt(body)
            if tail != bytes((crc >> 8, crc & 0xFF, SYNC)):
                pos = self._bad(buf, pos)
                continue
            pos += length
            self._need_valid = False
            self._frame(body[1] & SEQ_MASK, body[2:])
        self._buffer = buf[pos:]

    def _bad(self, buf: bytes, pos: int) -> int:
        if buf[pos] == SYNC:
            # A host that sends again begins with one.
            return pos + 1
        self._need_sync = True
        return self._resync(buf, pos)

    def _resync(self, buf: bytes, pos: int) -> int:
        """Skip to behind the next SYNC; ask again once for what was spoilt."""
        nxt = buf.find(SYNC, pos)
        if nxt >= 0:
            self._need_sync = False
        if not self._need_valid:
            self._need_valid = True
            self.answer(self.next_seq)
        return len(buf) if nxt < 0 else nxt + 1

    def _frame(self, seq: int, payload: bytes) -> None:
        if seq == self.next_seq:
            self.next_seq = (seq + 1) & SEQ_MASK
            # As the firmware does: answers first, then the acknowledgement.  A
            # host that sees the acknowledgement first asks a second time.
            self.handle(payload)
        self.answer(self.next_seq)
