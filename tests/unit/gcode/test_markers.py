# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

import pytest

from moonraker_components.power_loss_recovery.gcode.errors import ScanError
from moonraker_components.power_loss_recovery.gcode.markers import (
    Markers,
    find_markers,
    setup_lines,
)
from moonraker_components.power_loss_recovery.gcode.scan import scan

SETUP = b";;;;; PLR_RESUME - INITIAL PRINTER SETUP STARTS ;;;;;"
PRINT = b";;;;; PLR_RESUME - PRINT GCODE STARTS ;;;;;"
START = b"; made by hand\nSTART_PRINT BED=60\n; a note just above\n"


@pytest.mark.parametrize("eol", [b"\n", b"\r\n"])
def test_both_placeholders_of_the_guide_are_found(eol: bytes) -> None:
    data = (START + SETUP + b"\nG28\n" + PRINT + b"\nG1 X1\n").replace(b"\n", eol)
    expected = Markers(data.index(SETUP), data.index(PRINT))
    assert find_markers(data, len(data)) == expected
    assert scan(data, len(data)).markers == expected


def test_they_are_optional_and_count_only_before_the_end() -> None:
    data = START + SETUP + b"\n" + PRINT + b"\n"
    assert find_markers(START, len(START)) == Markers()
    assert find_markers(data, data.index(PRINT)).print_gcode is None


def test_the_first_of_each_counts() -> None:
    data = b"\n".join([SETUP, SETUP, PRINT, PRINT, b""])
    assert find_markers(data, len(data)) == Markers(0, 2 * len(SETUP) + 2)


@pytest.mark.parametrize(
    "line",
    [
        b"M117 PLR_RESUME - PRINT GCODE STARTS",
        b"; see PLR_RESUME - PRINT GCODE STARTS",
        b"; PLR_RESUME - PRINT GCODE STARTS later",
        b"PLR_RESUME - PRINT GCODE STARTS",
        b";" + b" " * 100 + b"PLR_RESUME - PRINT GCODE STARTS",
    ],
)
def test_text_like_a_placeholder_is_none(line: bytes) -> None:
    assert find_markers(line + b"\n", len(line) + 1) == Markers()


def test_only_settings_are_run_again() -> None:
    harmless = [
        b"M83",
        b"G90 ; absolute",
        b"SET_VELOCITY_LIMIT ACCEL=3000",
        b"EXCLUDE_OBJECT_DEFINE NAME='a b'",
        b"SET_GCODE_VARIABLE MACRO=A VARIABLE=b VALUE=1",
        b"M486 T2",
        b"n5 g21",
    ]
    moving = [b"G28", b"M109 S210", b"START_PRINT BED=60", b"G1 X1", b"T1", b"M140 S6"]
    data = b"\r\n".join([b"; note", b"", *harmless, *moving, SETUP, b"M82", b""])
    markers = find_markers(data, len(data))
    assert setup_lines(data, markers) == (harmless, moving)


def test_without_the_marker_nothing_is_run_again() -> None:
    assert setup_lines(b"M83\n", Markers(print_gcode=4)) == ([], [])


def test_a_marker_deep_in_the_file_is_refused() -> None:
    with pytest.raises(ScanError, match="within the first"):
        setup_lines(b"", Markers(setup=1 << 30))
