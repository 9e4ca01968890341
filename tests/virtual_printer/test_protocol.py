# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The wire protocol is Klipper's, and survives a bad line as a real firmware does."""
from __future__ import annotations

import importlib.util
import os
import types
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .protocol import (
    COMMANDS,
    RESPONSES,
    STATIC_STRINGS,
    SYNC,
    CommandError,
    Dictionary,
    FrameReader,
    Message,
    crc16_ccitt,
    decode_int,
    encode_int,
    frame,
)

DICTIONARY = Dictionary(("PA0", "PA1"))
INT32 = st.integers(-(2**31), 2**32 - 1)
# What an argument of this type can hold.
RANGES = {
    "%u": st.integers(0, 2**32 - 1),
    "%i": st.integers(-(2**31), 2**31 - 1),
    "%hu": st.integers(0, 2**16 - 1),
    "%hi": st.integers(-(2**15), 2**15 - 1),
    "%c": st.integers(0, 255),
    "%*s": st.binary(max_size=255),
}


def command(name: str, *args: int | bytes) -> bytes:
    return by_name(name).encode(args)


def by_name(name: str) -> Message:
    return next(m for m in DICTIONARY.commands.values() if m.name == name)


class Line:
    """A FrameReader with a record of what came through."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.answers: list[int] = []
        self.reader = FrameReader(self.heard.append, self.answers.append)

    def feed(self, *parts: bytes) -> Line:
        for part in parts:
            self.reader.feed(part)
        return self


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, list[int | bytes]]:
    message = draw(st.sampled_from(list(DICTIONARY.commands.values())))
    return message.name, [draw(RANGES[kind]) for kind in message.types]


# Integers and messages


@given(INT32)
def test_an_integer_is_read_back_modulo_32_bits(value: int) -> None:
    out = bytearray()
    encode_int(out, value)
    decoded, end = decode_int(bytes(out), 0)
    assert end == len(out) <= 5
    assert decoded & 0xFFFFFFFF == value & 0xFFFFFFFF


@pytest.mark.parametrize(
    "value, size",
    [(95, 1), (96, 2), (-32, 1), (-33, 2), (12287, 2), (12288, 3), (-4096, 2),
     (1572863, 3), (1572864, 4), (201326591, 4), (201326592, 5)],
)  # fmt: skip
def test_integers_take_the_bytes_that_protocol_md_says(value: int, size: int) -> None:
    out = bytearray()
    encode_int(out, value)
    assert len(out) == size


def test_the_checksum_is_that_of_a_known_frame() -> None:
    # The check value of CRC-16/MCRF4XX, and the acknowledgement of frame 0.
    assert crc16_ccitt(b"123456789") == 0x6F91
    assert frame(1, b"") == bytes((5, 0x11, 0x8F, 0x08, 0x7E))


@given(st.lists(messages(), min_size=1, max_size=3))
def test_a_payload_is_decoded_into_what_was_encoded(
    wanted: list[tuple[str, list[int | bytes]]],
) -> None:
    payload = b"".join(command(name, *args) for name, args in wanted)
    assert list(DICTIONARY.decode(payload)) == wanted


def test_an_unknown_command_is_named_as_the_firmware_names_it() -> None:
    with pytest.raises(CommandError, match="Invalid command"):
        list(DICTIONARY.decode(b"\x7f"))


def test_a_payload_that_ends_too_early_is_a_parser_error() -> None:
    with pytest.raises(CommandError, match="Command parser error"):
        list(DICTIONARY.decode(command("queue_step", 1, 5000, 3, 2)[:-1]))


def test_every_shutdown_text_fits_the_dictionary_of_strings() -> None:
    assert len(set(DICTIONARY.strings.values())) == len(STATIC_STRINGS)


# Frames


def test_frames_are_handled_in_order_and_acknowledged_after_that() -> None:
    order: list[str] = []
    reader = FrameReader(
        lambda payload: order.append(payload.decode()),
        lambda seq: order.append(f"ack {seq}"),
    )
    reader.feed(frame(0, b"a") + frame(1, b"b"))
    assert order == ["a", "ack 1", "b", "ack 2"]


@given(st.integers(1, 70))
def test_frames_arrive_in_pieces_of_any_size(size: int) -> None:
    stream = b"".join(frame(n, bytes([n]) * (n * 3)) for n in range(16))
    line = Line()
    for at in range(0, len(stream), size):
        line.feed(stream[at : at + size])
    assert line.heard == [bytes([n]) * (n * 3) for n in range(16)]
    assert line.answers == [*range(1, 16), 0]


def test_a_host_that_starts_at_one_learns_where_the_firmware_is() -> None:
    line = Line().feed(frame(1, b"x"))
    assert (line.heard, line.answers) == ([], [0])


def test_a_repeated_frame_is_answered_but_not_handled_twice() -> None:
    line = Line().feed(frame(0, b"a"), frame(0, b"a"), frame(1, b"b"))
    assert line.heard == [b"a", b"b"]
    assert line.answers == [1, 1, 2]


def test_frames_after_a_lost_one_wait_until_it_is_sent_again() -> None:
    line = Line().feed(frame(0, b"a"), frame(2, b"c"), frame(3, b"d"))
    assert line.heard == [b"a"]
    # Each is a request for number 1: a second answer alike makes the host resend.
    assert line.answers == [1, 1, 1]
    line.feed(bytes([SYNC]) + frame(1, b"b") + frame(2, b"c") + frame(3, b"d"))
    assert line.heard == [b"a", b"b", b"c", b"d"]
    assert line.answers[3:] == [2, 3, 4]


@pytest.mark.parametrize(
    "spoil", [0, 1, 2, 3, 4, 5, 6], ids=lambda n: f"byte {n}"
)
def test_a_spoilt_frame_is_asked_for_once_and_the_next_resend_is_heard(
    spoil: int,
) -> None:
    bad = bytearray(frame(0, b"ab"))
    bad[spoil] ^= 0x48
    line = Line().feed(bytes(bad))
    assert line.heard == []
    line.feed(bytes([SYNC]) + frame(0, b"ab"), bytes([SYNC]) + frame(0, b"ab"))
    assert line.heard == [b"ab"]
    assert line.answers.count(0) <= 1


@given(st.binary(max_size=200))
def test_a_resend_is_heard_after_any_garbage(garbage: bytes) -> None:
    line = Line().feed(garbage)
    if line.heard:
        return  # The garbage was a frame.
    for _ in range(16):
        # A host repeats with a SYNC in front until it is answered by the next.
        line.feed(bytes([SYNC]) + frame(0, b"hello"))
    assert line.heard == [b"hello"]


def test_garbage_is_skipped_to_the_next_sync_across_reads() -> None:
    line = Line().feed(b"\xff\xff\xff\xff\xff\xff", b"\x05\x10\x00\x00\x00")
    # The second read is still the spoilt part: no frame can begin in it.
    line.feed(b"\x05\x10", bytes([SYNC]), frame(0, b"a"))
    assert line.heard == [b"a"]
    assert line.answers == [0, 1]


def test_a_frame_for_somebody_else_is_not_ours() -> None:
    body = b"\x06\x20a"
    crc = crc16_ccitt(body)
    line = Line().feed(body + bytes((crc >> 8, crc & 0xFF, SYNC)))
    assert line.heard == []


# klippy's own idea of it


@pytest.fixture(scope="module")
def msgproto() -> types.ModuleType:
    tree = os.environ.get("PLR_KLIPPER_PATH")
    if not tree:
        pytest.skip("PLR_KLIPPER_PATH names no Klipper tree")
    path = Path(tree) / "klippy" / "msgproto.py"
    spec = importlib.util.spec_from_file_location("klippy_msgproto", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def parser(msgproto: types.ModuleType) -> object:
    parser = msgproto.MessageParser()
    parser.process_identify(DICTIONARY.blob)
    return parser


def test_klippy_reads_our_dictionary(parser: object) -> None:
    assert parser.get_constant_float("CLOCK_FREQ") == 20e6  # type: ignore[attr-defined]
    for text in COMMANDS:
        found = parser.lookup_command(text)  # type: ignore[attr-defined]
        assert found.msgformat == text


def test_klippys_integers_and_checksum_are_ours(msgproto: types.ModuleType) -> None:
    for value in (0, 95, 96, -1, -33, 12288, -4097, 2**26, -(2**31), 2**32 - 1):
        theirs: list[int] = []
        msgproto.PT_uint32().encode(theirs, value)
        ours = bytearray()
        encode_int(ours, value)
        assert list(ours) == theirs, value
    data = [5, 0x11, 3, 4]
    assert list(frame(1, bytes(data[2:]))[-3:-1]) == msgproto.crc16_ccitt(
        [7, 0x11, 3, 4]
    )


@given(message=messages())
def test_klippys_encoding_of_a_command_is_decoded(
    parser: object, message: tuple[str, list[int]]
) -> None:
    name, args = message
    form = by_name(name)
    pin = [key.endswith("pin") for key in form.names]
    args = [v % 2 if p else v for p, v in zip(pin, args, strict=True)]
    # klippy knows pins by their names.
    named = [("PA0", "PA1")[v] if p else v for p, v in zip(pin, args, strict=True)]
    text = next(f for f in COMMANDS if f.split()[0] == name)
    encoded = parser.lookup_command(text).encode(named)  # type: ignore[attr-defined]
    assert list(DICTIONARY.decode(bytes(encoded))) == [(name, args)]
    assert form.encode(args) == bytes(encoded)


def test_klippy_decodes_each_of_our_responses(parser: object) -> None:
    for text in RESPONSES:
        name = text.split()[0]
        form = DICTIONARY.responses[name]
        args: list[int | bytes] = [
            b"\x01\x02" if kind in ("%.*s", "%*s") else n + 2
            for n, kind in enumerate(form.types)
        ]
        packet = list(frame(3, DICTIONARY.response(name, args)))
        assert parser.check_packet(packet) == len(packet)  # type: ignore[attr-defined]
        said = parser.parse(packet)  # type: ignore[attr-defined]
        assert said["#name"] == name
        for key, value in zip(form.names, args, strict=True):
            if key == "static_string_id":
                assert said[key] == STATIC_STRINGS[int(value) - 2]
            else:
                got = said[key]
                assert (bytes(got) if isinstance(value, bytes) else got) == value


def test_the_dictionary_is_what_identify_hands_out() -> None:
    assert b'"CLOCK_FREQ": 20000000' in zlib.decompress(DICTIONARY.blob)
