# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A pause on a real klippy without a board: the place that is saved of it.

test_tools.py cuts the power of such a print.
"""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moonraker_components.power_loss_recovery.saving import machine_state
from tests.e2e.parked import AFTER, PLACE, REACHED, Parked, planned

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CONFIG = """
[gcode_macro M600]
gcode:
    PAUSE
    G91
    G1 E-30 F1800
    G1 Z10 F1200
    G90
    G1 X10 Y10 F9000
"""
BEFORE = b"""PRINT_START BED=60 EXTRUDER=215
G90
M82
SET_GCODE_OFFSET Z=0.05
G92 E0
G1 X100 Y100 Z0.2 F6000
M221 S96
G1 X150 Y100 E5 F1800
G1 E4.2 F2100
M600
"""
PRINT = BEFORE + AFTER


class Pausing(Parked):
    MACROS = CONFIG


@pytest.fixture
def klippy(tmp_path: Path) -> Iterator[Pausing]:
    """Parked in M600, with the filament out."""
    (tmp_path / "part.gcode").write_bytes(PRINT)
    with Pausing(tmp_path / "part.gcode", True) as klippy:
        klippy.print_file(until="paused")
        klippy.api.gcode(REACHED)
        yield klippy


STOPPED = BEFORE.replace(b"M600", b"M25")


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Pausing]:
    """By M25, without PAUSE."""
    (tmp_path / "part.gcode").write_bytes(STOPPED + PRINT[len(BEFORE) :])
    with Pausing(tmp_path / "part.gcode", True) as klippy:
        klippy.print_file(until="paused")
        klippy.api.gcode(REACHED)
        yield klippy



def test_the_saved_place_is_the_one_before_the_pause(klippy: Pausing) -> None:
    mark = klippy.mark()
    assert mark["file_position"] == len(BEFORE) and mark["paused"] is True
    assert mark["position"] == pytest.approx(PLACE)
    assert mark["live_position"] == pytest.approx([10.0, 10.0, 10.25])
    assert mark["retracted"] == pytest.approx(0.8 * 0.96)
    coordinates = mark["state"]["coordinates"]
    assert coordinates["homing_origin"] == pytest.approx([0.0, 0.0, 0.05])
    assert coordinates["extrude_factor"] == pytest.approx(0.96)


def test_a_print_that_m25_stopped_is_paused_again_at_its_place(
    stopped: Pausing,
) -> None:
    """Also if the nozzle was moved away by hand since."""
    stopped.api.gcode("G91\nG1 Z10 F1200\nG90\nG1 X10 Y10 F9000")
    stopped.api.gcode(REACHED)
    status = stopped.api.objects("power_loss_recovery", "print_stats")
    machine_state.complete(status)
    mark = status["power_loss_recovery"]["mark"]
    assert mark["file_position"] == len(STOPPED) and mark["paused"] is True
    assert mark["position"] == pytest.approx(PLACE)
    lines = planned(mark, STOPPED + PRINT[len(BEFORE) :]).prologue
    pause = next(i for i, line in enumerate(lines) if line.startswith(b"PAUSE"))
    over = next(i for i, line in enumerate(lines) if line.startswith(b"G0 X150"))
    assert pause < over
    stopped.api.gcode("M24")
    stopped.wait_printed()


def test_after_resume_the_place_stays_until_the_motors_are_back(
    klippy: Pausing,
) -> None:
    klippy.mark()
    # Without a board some klippys plan all the rest in no time, and its end counts.
    klippy.api.gcode("RESUME\nM25")
    mark = klippy.mark()
    assert mark["live_position"][2] > 1.0, "not on the way back"
    assert mark["file_position"] == len(BEFORE)
    assert not mark.get("paused") and mark["position"] == pytest.approx(PLACE)
    klippy.api.gcode("M24")
    klippy.wait_printed()
    klippy.api.gcode(REACHED)
    mark = klippy.mark()
    assert mark["file_position"] == len(PRINT) and "paused" not in mark


def test_a_resume_pauses_and_goes_on_there(klippy: Pausing, tmp_path: Path) -> None:
    made = planned(klippy.mark(), PRINT)
    klippy.api.gcode("RESUME")
    klippy.wait_printed()
    whole = klippy.move()
    (tmp_path / "empty.gcode").write_bytes(b"G4 P1\n")
    with Pausing(tmp_path / "empty.gcode", True) as again:
        for step in made.steps:
            again.api.gcode(step.script)
        for line in made.prologue:
            beside = again.move()["gcode_position"]
            again.api.gcode(line.decode())
            if line.startswith(b"PAUSE"):
                assert again.api.objects("pause_resume")["pause_resume"]["is_paused"]
                # As an owner's PAUSE parks
                again.api.gcode("G90\nG1 X200 Y240 F9000\nG1 Z50 F1200\nRESUME")
                assert list(again.move()["gcode_position"])[:3] == pytest.approx(
                    list(beside)[:3]
                )
        at = again.move()
        assert list(at["gcode_position"]) == pytest.approx(PLACE, abs=1e-4)
        for line in PRINT[len(BEFORE) :].split(b"\n"):
            again.api.gcode(line.decode())
        resumed = again.move()
    for key in ("absolute_coordinates", "absolute_extrude", "extrude_factor", "speed"):
        assert resumed[key] == pytest.approx(whole[key]), key
    for key in ("gcode_position", "homing_origin"):
        assert list(resumed[key])[:3] == pytest.approx(list(whole[key])[:3]), key
