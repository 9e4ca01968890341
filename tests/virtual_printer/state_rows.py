# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a print can set, row by row: how it is set, and where klippy shows it.

Where no status shows it, klippy's own answer on the console does; where there is
none of that either, the attribute that the extra reads.  README.md has the same rows.
"""
from __future__ import annotations

from dataclasses import dataclass

# Attributes, as the extra tells them
RARE = "power_loss_recovery.rare"
GCODE = "power_loss_recovery.mark.state.gcode"


@dataclass(frozen=True)
class Row:
    """name: in owners' words, as in README.md.  gcode: sets it.  status: paths into
    klippy's objects; an object's name is up to the first dot.  console: commands that
    make klippy tell."""

    name: str
    gcode: str = ""
    status: tuple[str, ...] = ()
    console: tuple[str, ...] = ()


ROWS = (
    Row("speed and flow factor", "M220 S90\nM221 S96",
        ("gcode_move.speed_factor", "gcode_move.extrude_factor")),
    Row("offsets and babysteps", "SET_GCODE_OFFSET X=0.1 Y=-0.2 Z=0.03",
        ("gcode_move.homing_origin",)),
    Row("G-code states saved by name", "SAVE_GCODE_STATE NAME=mine",
        (f"{GCODE}.states.mine",)),
    Row("plane of arcs (G17 to G19)", "G18", (f"{GCODE}.plane",)),
    Row("temperatures of nozzle, bed and chamber",
        "SET_HEATER_TEMPERATURE HEATER=chamber TARGET=31",
        ("extruder.target", "heater_bed.target", "heater_generic chamber.target")),
    Row("temperature fans: target and limits",
        "SET_TEMPERATURE_FAN_TARGET TEMPERATURE_FAN=board TARGET=52 MIN_SPEED=0.25"
        " MAX_SPEED=0.9",
        ("temperature_fan board.target", f"{RARE}.temperature_fans")),
    Row("fans", "M106 S128\nSET_FAN_SPEED FAN=exhaust SPEED=0.4",
        ("fan.speed", "fan_generic exhaust.speed")),
    Row("speed and acceleration limits",
        "SET_VELOCITY_LIMIT VELOCITY=210 ACCEL=3210 SQUARE_CORNER_VELOCITY=6.5",
        ("toolhead.max_velocity", "toolhead.max_accel",
         "toolhead.square_corner_velocity")),
    Row("pressure advance and its smooth time",
        "SET_PRESSURE_ADVANCE EXTRUDER=extruder ADVANCE=0.045 SMOOTH_TIME=0.03",
        ("extruder.pressure_advance", "extruder.smooth_time")),
    Row("extruder sync and rotation distance",
        "SYNC_EXTRUDER_MOTION EXTRUDER=extruder MOTION_QUEUE=\n"
        "SET_EXTRUDER_ROTATION_DISTANCE EXTRUDER=extruder DISTANCE=22.5",
        ("extruder.motion_queue",),
        ("SET_EXTRUDER_ROTATION_DISTANCE EXTRUDER=extruder",)),
    Row("firmware retraction: lengths, speeds, and whether it is pulled back",
        "SET_RETRACTION RETRACT_LENGTH=0.75 RETRACT_SPEED=33"
        " UNRETRACT_EXTRA_LENGTH=0.02 UNRETRACT_SPEED=22",
        ("firmware_retraction", f"{GCODE}.retracted"), ("GET_RETRACTION",)),
    Row("bed mesh, also one that was never stored: its points and offsets",
        "BED_MESH_OFFSET X=1.5 Y=-2.5",
        ("bed_mesh.profile_name", "bed_mesh.probed_matrix", "bed_mesh.mesh_matrix",
         f"{RARE}.mesh")),
    Row("skew correction", "SET_SKEW XY=140.4,140.1,99.2 XZ=140.3,140.2,99.3",
        (f"{RARE}.skew",), ("GET_CURRENT_SKEW",)),
    Row("input shaper",
        "SET_INPUT_SHAPER SHAPER_FREQ_X=61.5 SHAPER_TYPE_Y=zv DAMPING_RATIO_Y=0.08",
        (), ("SET_INPUT_SHAPER",)),
    Row("motor currents (TMC)",
        "SET_TMC_CURRENT STEPPER=stepper_z CURRENT=0.65 HOLDCURRENT=0.4",
        ("tmc2209 stepper_z.run_current", "tmc2209 stepper_z.hold_current")),
    Row("objects, and those excluded", "EXCLUDE_OBJECT NAME=two",
        ("exclude_object.objects", "exclude_object.excluded_objects",
         "exclude_object.current_object")),
    Row("layers, message (M117) and progress (M73)",
        "SET_PRINT_STATS_INFO TOTAL_LAYER=77 CURRENT_LAYER=12\n"
        "M117 15 * über #half\nM73 P42",
        ("print_stats.info", "display_status.message", "display_status.progress")),
    Row("idle timeout", "SET_IDLE_TIMEOUT TIMEOUT=4321", (f"{RARE}.idle_timeout",)),
    Row("filament sensors: on or off", "SET_FILAMENT_SENSOR SENSOR=spool ENABLE=0",
        ("filament_switch_sensor spool.enabled",)),
    Row("output pins", "SET_PIN PIN=light VALUE=1\nSET_PIN PIN=laser VALUE=77",
        ("output_pin light.value", "output_pin laser.value")),
    Row("servos", "SET_SERVO SERVO=lid ANGLE=120", ("servo lid.value",)),
    Row("lights", "SET_LED LED=strip RED=0.7", ("led strip.color_data",)),
    Row("variables of macros that `restore_variables` names",
        "SET_GCODE_VARIABLE MACRO=COUNTER VARIABLE=layers VALUE=17\n"
        "SET_GCODE_VARIABLE MACRO=COUNTER VARIABLE=names"
        " VALUE=\"['a b', ('x', 1.5), None]\"",
        ("gcode_macro COUNTER.layers", "gcode_macro COUNTER.names")),
    Row("dual carriages: modes and places"),
)  # fmt: skip
# Its machine has two carriages: tests/e2e/test_state_carriages.py.
ELSEWHERE = ("dual carriages: modes and places",)
# PyPI's klippy cannot load [input_shaper]: its C code has other arguments.
NOT_IN_PACKAGE = ("input shaper",)
# Not restorable, with the reason: README.md names each.
LOST = (
    "templates on fans, pins and lights",
    "driver registers (SET_TMC_FIELD)",
    "print time and filament used",
    "applied (Z_TILT_ADJUST, QUAD_GANTRY_LEVEL)",
    "delayed_gcode, TUNING_TOWER, SDCARD_LOOP",
    "cycle times of pins",
    "E offsets of excluded objects",
    "fans of heaters and controllers",
)


def here(is_package: bool = False) -> tuple[Row, ...]:
    """Those that this trial's machine has.  is_package: of a klippy from PyPI."""
    absent = ELSEWHERE + (NOT_IN_PACKAGE if is_package else ())
    return tuple(row for row in ROWS if row.name not in absent)


def all_gcode(is_package: bool = False) -> list[str]:
    rows = here(is_package)
    return [line for row in rows for line in row.gcode.split("\n") if line]
