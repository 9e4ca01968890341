# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What is kept of a start is read, and never run."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.gcode.beginning import (
    LONGEST,
    as_comments,
    end_of,
    newest_layer,
)
from moonraker_components.power_loss_recovery.gcode.lexer import command_name

PRIME = b"M109 S200\nG1 X0 Y0 E9 ; prime\n"


@pytest.mark.parametrize(
    "layer",
    [b";LAYER:0", b";LAYER_CHANGE", b"; layer 1, Z = 0.2", b";BEFORE_LAYER_CHANGE"],
)
def test_the_start_goes_on_to_the_first_layers_first_path(layer: bytes) -> None:
    start = PRIME + layer + b"\nG1 Z.2 F600\ng1 X5 Y5\n"
    assert end_of(start + b"G1 X9 Y9 E1\nG1 X1 E1\n") == len(start)


def test_a_file_without_layers_starts_up_to_its_first_path() -> None:
    assert end_of(PRIME) == len(b"M109 S200\n")


def test_a_start_that_is_cut_before_its_first_path_is_kept_whole() -> None:
    assert end_of(b"G28\n;LAYER:0\nG1 Z1\nG1 X") == len(b"G28\n;LAYER:0\nG1 Z1\n")
    assert end_of(b"") == 0


def test_a_start_that_does_not_end_is_not_kept() -> None:
    assert end_of(b"G1 Z1\n" * (LONGEST // 6 + 1)) == 0


def test_the_layer_in_progress_is_told_by_its_newest_notes() -> None:
    layer = b";LAYER_CHANGE\n;Z:0.6\n;BEFORE_LAYER_CHANGE\nG92 E0\n;0.6\n"
    older = layer.replace(b"0.6", b"0.4") + b"G1 X1 Y1 E1\n" * 30
    assert newest_layer(older + layer + b"G1 X2\nG1 X3\n") == layer + b"G1 X2\n"
    assert newest_layer(b"G1 X1\n") == newest_layer(b"") == b""


def test_comments_and_blank_lines_stay_as_they_are() -> None:
    lines = b";a\r\n\r\n  ; b\nG28\r\n\tM83\nT0"
    assert as_comments(lines) == (
        b";a\r\n\r\n  ; b\n; G28\r\n; \tM83\n; T0\n"
    )


ODD = st.text("\x0b\x0c\x1c\r\n\t ;G28\xa0\u2028").map(str.encode)


@given(st.binary(max_size=80) | ODD)
def test_no_line_of_it_is_a_command(lines: bytes) -> None:
    for line in as_comments(lines).split(b"\n"):
        assert command_name(line) == ""
