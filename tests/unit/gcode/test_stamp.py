# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.gcode.errors import RewriteError
from moonraker_components.power_loss_recovery.gcode.stamp import (
    Stamp,
    original_fraction,
    read_stamp,
    to_original,
)

PLAIN = Stamp("parts/a.gcode", 1000, "0" * 64, 700, 700, 900, 900)
SPLIT = replace(PLAIN, tail_position=730, tail_offset=925, fraction=0.62)


def as_file(stamp: Stamp, text: bytes | None = None) -> io.BytesIO:
    text = stamp.to_bytes() if text is None else text
    return io.BytesIO(text.ljust(stamp.size, b"\n"))


def checked(text: bytes) -> bytes:
    """`text` with a checksum that fits, as a forger would make it."""
    body = text.partition(b"; plr_checksum: ")[0]
    digest = hashlib.sha256(body).hexdigest().encode()
    return body + b"; plr_checksum: " + digest + b"\n"


NAMES = st.text(st.characters(exclude_categories=["Cc"]), min_size=1, max_size=60)


@given(
    name=NAMES.filter(lambda n: "/" not in n and n not in (".", "..")),
    numbers=st.lists(st.integers(0, 10**12), min_size=4, max_size=4).map(sorted),
    split=st.integers(0, 200),
    fraction=st.floats(0, 1),
)
def test_a_stamp_comes_back_as_it_was(
    name: str, numbers: list[int], split: int, fraction: float
) -> None:
    stamp = Stamp(
        original=f"sub/{name}",
        original_size=2000 + numbers[2] + 200,
        fingerprint="ab" * 32,
        file_position=2000 + numbers[1],
        tail_position=2000 + numbers[1] + split,
        first_line_offset=20000 + numbers[0],
        tail_offset=20000 + numbers[0] + split,
        fraction=fraction if split else 0.0,
    )
    text = stamp.to_bytes()
    assert all(line.startswith(b"; ") for line in text.splitlines())

    class Sized(io.BytesIO):
        def tell(self) -> int:
            return stamp.size

    assert read_stamp(Sized(text)) == stamp


def test_its_length_does_not_depend_on_the_offsets() -> None:
    far = replace(PLAIN, first_line_offset=10**15, tail_offset=10**15)
    assert len(far.to_bytes()) == len(PLAIN.to_bytes())


@pytest.mark.parametrize("text", [b"", b"G28\n", b"; power_loss_recovery\n"])
def test_any_other_file_has_none(text: bytes) -> None:
    assert read_stamp(io.BytesIO(text)) is None


def test_a_damaged_or_cut_stamp_is_an_error_and_not_trusted() -> None:
    text = PLAIN.to_bytes()
    with pytest.raises(RewriteError, match="checksum"):
        read_stamp(as_file(PLAIN, text.replace(b"00700", b"00701", 1)))
    title = text.index(b"\n") + 1
    for length in range(title, len(text), 7):
        with pytest.raises(RewriteError):
            read_stamp(io.BytesIO(text[:length]))


def test_the_file_must_be_as_long_as_the_stamp_says() -> None:
    with pytest.raises(RewriteError, match="its stamp promises 1200"):
        read_stamp(io.BytesIO(PLAIN.to_bytes().ljust(PLAIN.size + 1)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"parts/a.gcode"', b'"../a.gcode"'),
        (b'"parts/a.gcode"', b'"/a.gcode"'),
        (b'"parts/a.gcode"', b'"a\\nM112"'),
        (b'"parts/a.gcode"', b"[" * 5000),
        (b'"parts/a.gcode"', b"7"),
        (b"version: 1", b"version: 2"),
        (b"fraction: 0.0", b"fraction: nan"),
        (b"fraction: 0.0", b"fraction: 0.5"),
        (b"fraction: 0.0", b"fraction: 0.0\n; plr_more: 1"),
        (b"; plr_fraction: 0.0\n", b""),
        (b"00700", b"-0700"),
        (b"00700", b"9" * 30),
        (b'"' + b"0" * 64 + b'"', b'"00"'),
        (b'"' + b"0" * 64 + b'"', b"null"),
    ],
)
def test_nothing_in_it_is_trusted_even_with_a_good_checksum(
    old: bytes, new: bytes
) -> None:
    text = PLAIN.to_bytes()
    assert text.count(old) >= 1
    with pytest.raises(RewriteError):
        read_stamp(as_file(PLAIN, checked(text.replace(old, new))))


@pytest.mark.parametrize(
    "change",
    [
        {"file_position": 1001, "tail_position": 1001},
        {"tail_position": 699},
        {"tail_position": 701},
        {"tail_offset": 899},
        {"fraction": 0.1},
        {"file_position": True},
        {"original": "a//b"},
    ],
)
def test_contradictions_cannot_be_made(change: dict[str, Any]) -> None:
    with pytest.raises(RewriteError):
        replace(PLAIN, **change)


def test_offsets_lead_back_to_the_original() -> None:
    assert to_original(PLAIN, 899) is None
    assert to_original(PLAIN, 900) == 700
    assert to_original(PLAIN, 950) == 750
    assert to_original(PLAIN, PLAIN.size) == PLAIN.original_size
    assert to_original(SPLIT, 899) is None
    assert to_original(SPLIT, 900) == 700
    assert to_original(SPLIT, 925) == 730
    for stamp, offset in ((SPLIT, 910), (PLAIN, PLAIN.size + 1)):
        with pytest.raises(RewriteError, match="is not a line"):
            to_original(stamp, offset)


def test_a_remainder_cut_again_adds_up() -> None:
    assert original_fraction(SPLIT, 900, 0.5) == pytest.approx(0.81)
    assert original_fraction(SPLIT, 925, 0.5) == 0.5
    assert original_fraction(PLAIN, 900, 0.5) == 0.5
