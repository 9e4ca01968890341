# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Prints with two tools: a changer, and two extruders."""
from __future__ import annotations

from pathlib import Path

from tests.virtual_printer import parts, tool_changer
from tests.virtual_printer.printer import VirtualPrinter

from .one_print import Until, after_plastic, in_turn, when
from .scene import Moment, Scene, gcode, within, write

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


def laying_with(name: str) -> Until:
    """Klippy reads ahead: the motors are still with the one before for a while."""

    def active(printer: VirtualPrinter) -> bool:
        ours = printer.objects("power_loss_recovery")["power_loss_recovery"]
        return bool(ours["mark"]) and ours["mark"]["state"]["tool"]["active"] == name

    return when(f"plastic of {name}", active)


def in_second(seconds: float) -> Until:
    return in_turn(laying_with("extruder1"), after_plastic(seconds))


EXTRUDERS = (
    Moment("in a layer of the second extruder", within(1.0, 5.0, in_second),
           "extruder1"),
    Moment("in the change back to the first", within(
        0.2, 2.5, lambda s: extruder("extruder", s)
    )),
    Moment("in the change to the second", within(
        0.2, 2.5, lambda s: in_turn(extruder("extruder"), extruder("extruder1", s))
    )),
    Moment("in the second again", within(1.0, 4.0, in_second), "extruder1"),
)  # fmt: skip

SCENES = (
    Scene("tool changer", write_changes, CHANGES, changer_config, tool_changer.tree),
    Scene("two extruders", write_extruders, EXTRUDERS, second_config),
)
