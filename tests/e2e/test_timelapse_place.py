# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A frame of a timelapse on a real klippy without a board: what is saved of it.

The macro has the shape of moonraker-timelapse's: it pulls the filament back, pauses
the print, parks, and a delayed G-code ends the pause by itself. A power cut in between
must leave what the rest of the file expects, and no pause that nobody has asked for.
"""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.parked import AFTER, PLACE, REACHED, Parked, planned

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CONFIG = """
[gcode_macro PAUSE]
rename_existing: BASE_PAUSE
gcode:
    BASE_PAUSE
[gcode_macro TIMELAPSE_TAKE_FRAME]
variable_is_paused: False
variable_e: 0.0
variable_absolute: False
gcode:
    SET_GCODE_VARIABLE MACRO=TIMELAPSE_TAKE_FRAME VARIABLE=e VALUE={printer.gcode_move.gcode_position.e}
    SET_GCODE_VARIABLE MACRO=TIMELAPSE_TAKE_FRAME VARIABLE=absolute VALUE={printer.gcode_move.absolute_extrude}
    M83
    G0 E-1 F900
    SET_GCODE_VARIABLE MACRO=TIMELAPSE_TAKE_FRAME VARIABLE=is_paused VALUE=True
    BASE_PAUSE
    G90
    G0 X10 Y240 F6000
    M400
[gcode_macro FRAME_IS_TAKEN]
gcode:
    {% set frame = printer['gcode_macro TIMELAPSE_TAKE_FRAME'] %}
    RESUME VELOCITY=100
    SET_GCODE_VARIABLE MACRO=TIMELAPSE_TAKE_FRAME VARIABLE=is_paused VALUE=False
    G0 E1 F900
    {% if frame.absolute %}
        M82
        G92 E{frame.e}
    {% endif %}
[firmware_retraction]
retract_length: 0.5
[gcode_macro FRAME_WITH_G10]
gcode:
    G10
    SET_GCODE_VARIABLE MACRO=TIMELAPSE_TAKE_FRAME VARIABLE=is_paused VALUE=True
    BASE_PAUSE
    G90
    G0 X10 Y240 F6000
    M400
[gcode_macro OLD_M600]
gcode:
    M83
    G1 E-2 F1800
    BASE_PAUSE
    G91
    G1 Z10 F1200
    G90
    G1 X10 Y10 F9000
"""  # noqa: E501
BEFORE = b"""PRINT_START BED=60 EXTRUDER=215
G90
M82
G92 E0
G1 X100 Y100 Z0.2 F6000
M221 S96
G1 X150 Y100 E5 F1800
G1 E4.2 F2100
"""


class Pausing(Parked):
    MACROS = CONFIG


@pytest.fixture
def klippy(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pausing]:
    """Parked in a line of the file that pauses."""
    part = tmp_path / "part.gcode"
    part.write_bytes(BEFORE + request.param + b"\n" + AFTER)
    with Pausing(part, True) as klippy:
        klippy.print_file(until="paused")
        klippy.api.gcode(REACHED)
        yield klippy


def assert_as_before(mark: dict[str, Any], line: bytes) -> None:
    """As the file had left it when that line began."""
    assert mark["file_position"] == len(BEFORE) + len(line) + 1
    assert mark["position"] == pytest.approx(PLACE)
    assert mark["retracted"] == pytest.approx(0.8 * 0.96)
    assert mark["state"]["coordinates"]["absolute_extrude"] is True
    assert mark["state"]["coordinates"]["absolute_coordinates"] is True
    assert mark["state"]["coordinates"]["extrude_factor"] == pytest.approx(0.96)
    assert mark["state"]["gcode"]["retracted"] is False


FRAME, WITH_G10, OLD = b"TIMELAPSE_TAKE_FRAME", b"FRAME_WITH_G10", b"OLD_M600"


@pytest.mark.parametrize(("klippy", "line"), [(n, n) for n in (
    FRAME, WITH_G10, OLD
)], indirect=["klippy"])  # fmt: skip
def test_what_a_macro_did_before_it_paused_is_not_the_files(
    klippy: Pausing, line: bytes
) -> None:
    assert_as_before(klippy.mark(), line)


@pytest.mark.parametrize(("klippy", "paused"), [
    (FRAME, False), (WITH_G10, False), (OLD, True)
], indirect=["klippy"])  # fmt: skip
def test_only_a_pause_that_waits_for_a_person_is_one(
    klippy: Pausing, paused: bool
) -> None:
    assert (klippy.mark().get("paused") is True) == paused


@pytest.mark.parametrize("klippy", [FRAME], indirect=True)
def test_after_the_frame_the_print_goes_on_as_it_was(klippy: Pausing) -> None:
    klippy.mark()
    klippy.api.gcode("FRAME_IS_TAKEN")
    klippy.wait_printed()
    klippy.api.gcode(REACHED)
    mark = klippy.mark()
    assert "paused" not in mark and mark["position"][3] == pytest.approx(10.0)
    assert mark["retracted"] == pytest.approx(0.0, abs=1e-6)



@pytest.mark.parametrize("klippy", [FRAME], indirect=True)
def test_a_resume_lays_what_is_left_and_waits_for_nobody(
    klippy: Pausing, tmp_path: Path
) -> None:
    made = planned(klippy.mark(), BEFORE + FRAME + b"\n" + AFTER)
    assert not any(line.startswith(b"PAUSE") for line in made.prologue)
    assert not any("It was paused" in text for text in made.warnings)
    klippy.api.gcode("FRAME_IS_TAKEN")
    klippy.wait_printed()
    whole = klippy.api.objects("gcode_move")["gcode_move"]
    (tmp_path / "empty.gcode").write_bytes(b"G4 P1\n")
    with Pausing(tmp_path / "empty.gcode", True) as again:
        for step in made.steps:
            again.api.gcode(step.script)
        for line in (*made.prologue, *AFTER.split(b"\n")):
            again.api.gcode(line.decode())
        resumed = again.api.objects("gcode_move")["gcode_move"]
    for key in ("absolute_coordinates", "absolute_extrude", "extrude_factor"):
        assert resumed[key] == pytest.approx(whole[key]), key
    assert list(resumed["gcode_position"]) == pytest.approx(
        list(whole["gcode_position"]), abs=1e-4
    )
