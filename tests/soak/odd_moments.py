# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A print that stands still in every way: heat, macros, a timelapse, M600, its end."""
from __future__ import annotations

from pathlib import Path

from tests.virtual_printer import parts
from tests.virtual_printer.printer import VirtualPrinter

from .one_print import Until, after_plastic, is_paused, when
from .scene import Moment, Scene, gcode, within, write

BED_HOTTER = 70
SIDE_Y = 235.0  # where the macros of `MOMENTS` go
MOMENTS = f"""
[gcode_macro PAUSE]
rename_existing: BASE_PAUSE
gcode:
    BASE_PAUSE
[gcode_macro RESUME]
rename_existing: BASE_RESUME
gcode:
    BASE_RESUME
[gcode_macro CLEAN_NOZZLE]
gcode:
    SAVE_GCODE_STATE NAME=clean
    M83
    G1 E-1 F1800
    G91
    G1 Z3 F1200
    G90
    G1 X200 Y{SIDE_Y} F9000
    G4 P4000
    G1 X220 F9000
    G1 E1 F1800
    RESTORE_GCODE_STATE NAME=clean MOVE=1 MOVE_SPEED=100
[gcode_macro M600]
gcode:
    PAUSE
    G91
    G1 Z10 F1200
    G90
    G1 X10 Y10 F9000
[gcode_macro TIMELAPSE_TAKE_FRAME]
description: In the shape of moonraker-timelapse's
variable_is_paused: False
variable_e: 0.0
variable_absolute: False
gcode:
    SET_GCODE_VARIABLE MACRO=TIMELAPSE_TAKE_FRAME VARIABLE=e VALUE={{printer.gcode_move.gcode_position.e}}
    SET_GCODE_VARIABLE MACRO=TIMELAPSE_TAKE_FRAME VARIABLE=absolute VALUE={{printer.gcode_move.absolute_extrude}}
    M83
    G0 E-1 F900
    SET_GCODE_VARIABLE MACRO=TIMELAPSE_TAKE_FRAME VARIABLE=is_paused VALUE=True
    BASE_PAUSE
    G90
    G0 X40 Y{SIDE_Y} F6000
    UPDATE_DELAYED_GCODE ID=FRAME_IS_TAKEN DURATION=8
    M400
[delayed_gcode FRAME_IS_TAKEN]
gcode:
    {{% set frame = printer['gcode_macro TIMELAPSE_TAKE_FRAME'] %}}
    BASE_RESUME VELOCITY=100
    SET_GCODE_VARIABLE MACRO=TIMELAPSE_TAKE_FRAME VARIABLE=is_paused VALUE=False
    G0 E1 F900
    {{% if frame.absolute %}}
        M82
        G92 E{{frame.e}}
    {{% endif %}}
"""  # noqa: E501
ODD = parts.Part(size=16, layers=5, long_line=60, relative_e=False)
FILMED = parts.Part(size=14, layers=4, long_line=40, relative_e=False)
AT_END = "M83\nG1 E-2 F1800\nG4 P15000"


def write_odd(folder: Path) -> tuple[Path, Path]:
    before = {1: f"M190 S{BED_HOTTER}", 2: "CLEAN_NOZZLE", 3: "M600"}
    text = gcode(ODD, before, AT_END)
    return write(folder, text, gcode(ODD, {}))


def write_frames(folder: Path) -> tuple[Path, Path]:
    frames = dict.fromkeys(range(1, FILMED.layers), "TIMELAPSE_TAKE_FRAME")
    return write(folder, gcode(FILMED, frames), gcode(FILMED, {}))


def aside(printer: VirtualPrinter) -> bool:
    return printer.machine("state")["nozzle"][1] > SIDE_Y - 1


def warming(printer: VirtualPrinter) -> bool:
    return printer.objects("heater_bed")["heater_bed"]["target"] == BED_HOTTER


def idle(seconds: float) -> Until:
    """Paused, and the idle timeout has turned the heaters off."""

    def cold(printer: VirtualPrinter) -> bool:
        return printer.objects("extruder")["extruder"]["target"] == 0

    def until(printer: VirtualPrinter) -> None:
        when("the pause", is_paused)(printer)
        # Restored in the resume, where the pause has to outlast a busy computer
        printer.gcode("SET_IDLE_TIMEOUT TIMEOUT=8")
        when("the idle timeout", cold, seconds)(printer)

    return until


def frame_over() -> Until:
    def until(printer: VirtualPrinter) -> None:
        when("the frame", is_paused)(printer)
        when("the frame's end", lambda p: not is_paused(p), 0.1)(printer)

    return until


def all_laid(printer: VirtualPrinter) -> bool:
    """The record says that nothing of the part is left."""
    record = printer.get("/server/plr/status")["record"]
    text = (printer.gcodes / "part.gcode").read_bytes()
    return record is not None and record["file_position"] >= text.index(b"G4 P15000")


ODD_MOMENTS = (
    Moment("while the bed heats up in the print",
           within(1.5, 4.0, lambda s: when("the heating", warming, s))),
    Moment("in a macro, beside the part",
           within(0.2, 3.0, lambda s: when("the macro", aside, s))),
    Moment("in M600, heaters off by the idle timeout",
           within(1.5, 3.0, idle)),
    Moment("right after RESUME", within(0.3, 2.0, after_plastic)),
    Moment("in the end G-code", within(0.5, 2.0, lambda s: when("end", all_laid, s)),
           is_end=True),
)  # fmt: skip

FRAMES = (
    Moment("parked for a timelapse's frame",
           within(0.5, 2.5, lambda s: when("the frame", is_paused, s))),
    Moment("on the way back from a frame", lambda source: frame_over()),
)  # fmt: skip

SCENES = (
    Scene("odd moments, absolute E", write_odd, ODD_MOMENTS, lambda folder: MOMENTS),
    Scene("timelapse, absolute E", write_frames, FRAMES, lambda folder: MOMENTS),
)
