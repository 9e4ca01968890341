# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Prints in which a power cut can come at an odd moment: files, machines, moments.

Each scene is one print; what it lays is what `plain` lays, which has the same plastic
and nothing that waits for a person.
"""
from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.virtual_printer import parts, tool_changer
from tests.virtual_printer.klippy_tree import KlippyTree, prepare
from tests.virtual_printer.printer import VirtualPrinter

from .one_print import Until, after_plastic, is_paused, when

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
    UPDATE_DELAYED_GCODE ID=FRAME_IS_TAKEN DURATION=4
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
# One feeder for two hot ends: the motor that lays plastic goes with the active one.
# The second is as warm as its file says.
SECOND = """
[extruder1]
nozzle_diameter: 0.4
filament_diameter: 1.75
max_extrude_only_distance: 100
max_extrude_cross_section: 5
heater_pin: AUX2
sensor_type: temperature_host
sensor_path: {sensor}
control: watermark
min_temp: 0
max_temp: 300
[verify_heater extruder1]
max_error: 100000
[gcode_macro T0]
gcode:
    ACTIVATE_EXTRUDER EXTRUDER=extruder
    SYNC_EXTRUDER_MOTION EXTRUDER=extruder MOTION_QUEUE=extruder
    SET_GCODE_OFFSET X=0 Y=0 Z=0
    G4 P3000
[gcode_macro T1]
gcode:
    ACTIVATE_EXTRUDER EXTRUDER=extruder1
    SYNC_EXTRUDER_MOTION EXTRUDER=extruder MOTION_QUEUE=extruder1
    SET_GCODE_OFFSET X=1.5 Y=-1 Z=0.03
    G4 P3000
"""


@dataclass(frozen=True)
class Moment:
    """until: where to cut.  tool: the one to go on with, where that can be seen.
    by_hand: what a person does before the yes.  is_end: nothing is resumed."""

    name: str
    until: Callable[[random.Random], Until]
    tool: str = ""
    by_hand: str = ""
    is_end: bool = False


@dataclass(frozen=True)
class Scene:
    """write: the file and its plain twin, into a folder.  config: of the machine that
    prints in a folder.  steps: after the moments, cut in each step of a resume."""

    name: str
    write: Callable[[Path], tuple[Path, Path]]
    moments: tuple[Moment, ...]
    config: Callable[[Path], str] = lambda folder: ""
    tree: Callable[[], KlippyTree] = prepare
    steps: bool = False


def gcode(part: parts.Part, before: Mapping[int, str], at_end: str = "") -> str:
    """before: lines before what is laid of a layer, counted from 0."""
    lines, layer = [], -1
    for line in parts.gcode(part).split("\n"):
        if line == ";TYPE:Custom":
            lines += filter(None, at_end.split("\n"))
        lines.append(line)
        if line == ";LAYER_CHANGE":
            layer += 1
            lines += filter(None, before.get(layer, "").split("\n"))
    return "\n".join(lines) + "\n"


def write(folder: Path, text: str, plain: str) -> tuple[Path, Path]:
    paths = folder / "part.gcode", folder / "plain.gcode"
    for path, content in zip(paths, (text, plain), strict=True):
        path.write_text(content)
    return paths


def within(low: float, high: float, make: Callable[[float], Until]) -> Callable[
    [random.Random], Until
]:  # fmt: skip
    return lambda source: make(source.uniform(low, high))


# A print with everything that stands still in it

ODD = parts.Part(size=16, layers=7, long_line=60, relative_e=False)
AT_END = "M83\nG1 E-2 F1800\nG4 P15000"


def write_odd(folder: Path) -> tuple[Path, Path]:
    before = {
        1: f"M190 S{BED_HOTTER}", 2: "CLEAN_NOZZLE", 3: "TIMELAPSE_TAKE_FRAME",
        4: "TIMELAPSE_TAKE_FRAME", 5: "M600",
    }  # fmt: skip
    text = gcode(ODD, before, AT_END)
    return write(folder, text, gcode(ODD, {}))


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
    Moment("parked for a timelapse's frame",
           within(0.5, 2.5, lambda s: when("the frame", is_paused, s))),
    Moment("on the way back from a frame", lambda source: frame_over()),
    Moment("in M600, heaters off by the idle timeout",
           within(1.5, 3.0, idle)),
    Moment("right after RESUME", within(0.3, 2.0, after_plastic)),
    Moment("in the end G-code", within(0.5, 2.0, lambda s: when("end", all_laid, s)),
           is_end=True),
)  # fmt: skip


# A changer of tools, and two extruders


CHANGED = parts.Part(size=16, layers=5, long_line=60)


def write_changes(folder: Path) -> tuple[Path, Path]:
    text = tool_changer.gcode(CHANGED)
    return write(folder, text, text)


def changer_config(folder: Path) -> str:
    return tool_changer.config(folder / "mounted")


def changer(seconds: float = 0.0, **wanted: object) -> Until:
    return when(
        f"the changer: {wanted}",
        lambda p: wanted.items() <= tool_changer.status(p).items(), seconds,
    )  # fmt: skip


CHANGES = (
    Moment("in a layer of T1", within(
        2.0, 6.0, lambda s: changer(s, tool_number=1, status="ready")
    ), "tool T1"),
    Moment("in a change, no tool mounted",
           lambda source: changer(status="changing", detected_tool=None),
           by_hand="MOUNT_BY_HAND T=1"),
    Moment("in a change, the new tool mounted",
           lambda source: changer(status="changing", detected_tool="tool T0")),
    Moment("right after the change", within(
        0.0, 0.5, lambda s: changer(s, tool="tool T0", status="ready")
    )),
)  # fmt: skip


def write_extruders(folder: Path) -> tuple[Path, Path]:
    before = {n: f"M104 S215 T{n % 2}\nT{n % 2}" for n in range(CHANGED.layers)}
    text = gcode(CHANGED, before)
    return write(folder, text, text)


def second_config(folder: Path) -> str:
    sensor = folder / "celsius"
    sensor.write_text("215000")
    return SECOND.format(sensor=sensor)


def extruder(name: str, seconds: float = 0.0) -> Until:
    return when(
        name, lambda p: p.objects("toolhead")["toolhead"]["extruder"] == name, seconds
    )


def in_second(seconds: float) -> Until:
    def until(printer: VirtualPrinter) -> None:
        extruder("extruder1")(printer)
        after_plastic(seconds)(printer)

    return until


EXTRUDERS = (
    Moment("in a layer of the second extruder", within(1.0, 5.0, in_second),
           "extruder1"),
    Moment("in the change back to the first", within(
        0.2, 2.5, lambda s: extruder("extruder", s)
    )),
    Moment("in the change to the second", within(
        0.2, 2.5, lambda s: extruder("extruder1", s)
    )),
    Moment("in the second again", within(1.0, 4.0, in_second), "extruder1"),
)  # fmt: skip


# One object after the other, and a vase

FIRST = parts.Part(size=14, layers=4, long_line=30, centre=(80.0, 125.0))
NEXT = replace(FIRST, centre=(170.0, 125.0))


def one_after_the_other() -> str:
    lines = parts.gcode(FIRST).split("\n")
    begin, end = lines.index(";LAYER_CHANGE"), lines.index(";TYPE:Custom")
    other = parts.gcode(NEXT).split("\n")[begin:end]
    x, y = NEXT.centre
    define = [
        f"EXCLUDE_OBJECT_DEFINE NAME={name} CENTER={part.centre[0]},{part.centre[1]}"
        for name, part in (("one", FIRST), ("two", NEXT))
    ]
    over = [
        "EXCLUDE_OBJECT_END NAME=one", "G1 E-0.8 F2100",
        f"G1 Z{FIRST.layers * parts.LAYER + 3:.1f} F1200",
        f"G1 X{x - 40:.0f} Y{y - 20:.0f} F9000", "EXCLUDE_OBJECT_START NAME=two",
        "G1 E0.8 F2100",
    ]  # fmt: skip
    return "\n".join((
        *lines[:begin], *define, "EXCLUDE_OBJECT_START NAME=one", *lines[begin:end],
        *over, *other, "EXCLUDE_OBJECT_END NAME=two", *lines[end:],
    ))  # fmt: skip


def write_twice(folder: Path) -> tuple[Path, Path]:
    text = one_after_the_other()
    return write(folder, text, text)


def in_object(name: str, seconds: float) -> Until:
    def current(printer: VirtualPrinter) -> bool:
        status = printer.objects("exclude_object")["exclude_object"]
        return status["current_object"] == name

    def until(printer: VirtualPrinter) -> None:
        when(f"object {name}", current)(printer)
        after_plastic(seconds)(printer)

    return until


OBJECTS = (
    Moment("in the first object", within(8.0, 16.0, lambda s: in_object("one", s))),
    Moment("low in the second, beside the first", within(
        0.0, 3.0, lambda s: in_object("two", s)
    )),
    Moment("in the second again", within(1.0, 6.0, lambda s: in_object("two", s))),
)  # fmt: skip

TURNS, SIDES, RADIUS = 12, 72, 14.0


def vase() -> Iterator[str]:
    """One line from the first layer on, rising all the time."""
    base = replace(FIRST, centre=(125.0, 125.0), layers=1, long_line=0)
    lines = parts.gcode(base).split("\n")
    end = lines.index(";TYPE:Custom")
    cx, cy = base.centre
    step = 2 * math.pi * RADIUS / SIDES
    amount = step * parts.WIDTH * parts.LAYER / parts.FILAMENT_AREA
    yield from lines[:end]
    yield from ("G1 E-0.8 F2100", f"G1 X{cx + RADIUS:.3f} Y{cy:.3f} F9000",
                "G1 E0.8 F2100", "G1 F1500", ";TYPE:External perimeter")  # fmt: skip
    for n in range(1, TURNS * SIDES + 1):
        a = 2 * math.pi * n / SIDES
        z = parts.LAYER * (1 + n / SIDES)
        if n % SIDES == 1:
            yield ";LAYER_CHANGE"
            yield f";Z:{z:.3f}"
        yield (
            f"G1 X{cx + RADIUS * math.cos(a):.3f} Y{cy + RADIUS * math.sin(a):.3f}"
            f" Z{z:.4f} E{amount:.5f}"
        )
    yield from lines[end:]


def write_vase(folder: Path) -> tuple[Path, Path]:
    text = "\n".join(vase())
    return write(folder, text, text)


def write_simple(folder: Path) -> tuple[Path, Path]:
    text = parts.gcode(parts.Part(size=20, layers=4))
    return write(folder, text, text)


SCENES = (
    Scene("odd moments, absolute E", write_odd, ODD_MOMENTS, lambda folder: MOMENTS),
    Scene("a resume", write_simple, (
        Moment("in a layer", within(4.0, 8.0, after_plastic)),
    ), steps=True),
    Scene("tool changer", write_changes, CHANGES, changer_config, tool_changer.tree),
    Scene("two extruders", write_extruders, EXTRUDERS, second_config),
    Scene("one object after the other", write_twice, OBJECTS),
    Scene("vase", write_vase, (
        Moment("low in the spiral", within(6.0, 10.0, after_plastic)),
        Moment("higher", within(4.0, 9.0, after_plastic)),
        Moment("right after the resume", within(0.0, 0.5, after_plastic)),
    )),
)  # fmt: skip
