# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A print that stands still in every way: heat, macros, a timelapse, M600, its end, an
empty spool, a cancel.
"""
from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.virtual_printer import parts
from tests.virtual_printer.printer import PrinterError, VirtualPrinter

from .one_print import Condition, Until, after_plastic, in_turn, is_paused, when
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
# Two switches on one pin: what one does when it is off is seen beside the other.
SPOOL = f"""
[duplicate_pin_override]
pins: ACOK
[filament_switch_sensor spool]
switch_pin: ACOK
runout_gcode:
    PARK_FOR_FILAMENT
[filament_switch_sensor off]
switch_pin: ACOK
runout_gcode:
    CANCEL_PRINT
[gcode_macro PARK_FOR_FILAMENT]
gcode:
    G91
    G1 Z10 F1200
    G90
    G1 X10 Y{SIDE_Y} F9000
    G4 P3000
    G1 X40 F3000
"""
CANCELLED = f"""
[power_loss_recovery]
auto_resume: always
auto_resume_countdown: 10
[gcode_macro CANCEL_PRINT]
rename_existing: BASE_CANCEL_PRINT
gcode:
    G4 P1000
    G91
    G1 E-2 F1800
    G1 Z5 F1200
    G90
    G1 X10 Y{SIDE_Y} F9000
    TURN_OFF_HEATERS
    M107
    G4 P4000
    BASE_CANCEL_PRINT
"""
NOTHING_MISSING = "Nothing of the part is missing"
ODD = parts.Part(size=16, layers=5, long_line=60, relative_e=False)
FILMED = parts.Part(size=14, layers=4, long_line=40, relative_e=False)
SPOOLED = parts.Part(size=16, layers=4, long_line=60)
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


def write_spool(folder: Path) -> tuple[Path, Path]:
    text = gcode(SPOOLED, {0: "SET_FILAMENT_SENSOR SENSOR=off ENABLE=0"})
    return write(folder, text, gcode(SPOOLED, {}))


def write_cancelled(folder: Path) -> tuple[Path, Path]:
    return write(folder, gcode(SPOOLED, {}, AT_END), gcode(SPOOLED, {}))


def sensor(printer: VirtualPrinter, name: str) -> dict[str, bool]:
    name = f"filament_switch_sensor {name}"
    return printer.objects(name)[name]


def runs_out(printer: VirtualPrinter) -> bool:
    return not sensor(printer, "spool")["filament_detected"]


def end_of_spool(printer: VirtualPrinter) -> None:
    printer.machine("ac", ok=False)


def spool_empty(what: str, condition: Condition) -> Callable[[float], Until]:
    """Until that long after something has become true of a spool that ran out."""

    def make(seconds: float) -> Until:
        return in_turn(
            after_plastic(2.0 + seconds), end_of_spool, when(what, condition, seconds)
        )

    return make


def load_filament(printer: VirtualPrinter) -> None:
    """The print has to stand, and the sensors as they were."""
    when("the pause for filament", is_paused)(printer)
    enabled = [sensor(printer, name)["enabled"] for name in ("spool", "off")]
    if enabled != [True, False]:
        raise PrinterError(f"the sensors are {enabled}")
    printer.machine("ac", ok=True)
    when("the filament", lambda p: not runs_out(p))(printer)


def press_cancel(printer: VirtualPrinter) -> None:
    """It is answered when the macro has ended: nobody waits for that here."""
    with contextlib.suppress(PrinterError):
        printer.http("POST", "/printer/print/cancel", timeout=0.2)


def cancelling(what: str, condition: Condition) -> Callable[[float], Until]:
    def make(seconds: float) -> Until:
        return in_turn(
            after_plastic(2.0), press_cancel, when(what, condition, seconds)
        )

    return make


def waits_for_a_yes(printer: VirtualPrinter) -> list[str]:
    """With auto_resume: always."""

    def decided() -> dict[str, Any] | None:
        status = printer.get("/server/plr/status")
        auto = status["auto_resume"]
        return status if auto["seconds_left"] or auto["why_not"] else None

    status = printer.wait("auto_resume to decide", decided, 60)
    wrong = []
    if "cancel" not in status["auto_resume"]["why_not"]:
        wrong.append(f"it resumes by itself: {status['auto_resume']}")
    if "cancel" not in " ".join(status["warnings"]):
        wrong.append(f"the cancel is not told: {status['warnings']}")
    return wrong


def cancelled_at_end(printer: VirtualPrinter) -> None:
    """All plastic is laid, so that the oracle can judge the part.  klippy tells within
    a quarter of a second that it is cancelled; until then it is being cancelled."""
    when("the end", all_laid)(printer)
    press_cancel(printer)
    printer.wait(
        "the cancel on the disk",
        lambda: printer.get("/server/plr/status")["state"] == "idle", 60, 0.02,
    )  # fmt: skip


def nothing_left(printer: VirtualPrinter) -> list[str]:
    status = printer.get("/server/plr/status")
    asked = any("action:prompt_begin" in line for line in printer.console())
    if status["state"] != "idle" or asked:
        return [f"a cancelled print is offered: {status['record']}"]
    return []


def offered_to_finish(printer: VirtualPrinter) -> list[str]:
    shown = any(NOTHING_MISSING in line for line in printer.console())
    printer.gcode("PLR_RESET_PRINT_DATA")
    return [] if shown else ["it was not offered to finish"]


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
           offer=offered_to_finish, is_end=True),
)  # fmt: skip

FRAMES = (
    Moment("parked for a timelapse's frame",
           within(0.5, 2.5, lambda s: when("the frame", is_paused, s))),
    Moment("on the way back from a frame", lambda source: frame_over()),
)  # fmt: skip

RUNOUTS = (
    Moment("as the spool runs out, before the pause",
           within(0.0, 0.3, spool_empty("the runout", runs_out)), then=load_filament),
    Moment("while the runout's macro parks",
           within(0.2, 2.5, spool_empty("the parking", aside)), then=load_filament),
    Moment("paused for filament", within(4.0, 6.0, spool_empty("the pause", is_paused)),
           then=load_filament),
)  # fmt: skip

CANCELS = (
    Moment("right after Cancel was pressed",
           within(0.5, 0.9, cancelling("the press", lambda p: True)),
           offer=waits_for_a_yes),
    Moment("in CANCEL_PRINT, parked and cooling",
           within(0.5, 2.5, cancelling("the parking", aside)), offer=waits_for_a_yes),
    Moment("right after the cancel", lambda source: cancelled_at_end,
           offer=nothing_left, is_end=True, no_offer=True),
)  # fmt: skip

SCENES = (
    Scene("odd moments, absolute E", write_odd, ODD_MOMENTS, lambda folder: MOMENTS),
    Scene("timelapse, absolute E", write_frames, FRAMES, lambda folder: MOMENTS),
    Scene("filament runout", write_spool, RUNOUTS, lambda folder: SPOOL),
    Scene("cancel", write_cancelled, CANCELS, lambda folder: CANCELLED),
)
