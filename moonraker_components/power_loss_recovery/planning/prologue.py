# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The first lines of a resume file: everything the tail relies on.

They are run by a printer that the sequence has prepared: hot, homed, purged, Z
true, the nozzle off the part with its filament pulled back.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..gcode.replay import Setting
from ..gcode.rewriter import commented
from ..record import Record
from . import carriages, restore
from .restore import Command

TRAVEL_SPEED = 6000  # mm/min
Z_SPEED = 600
RETRACT_SPEED = 1800
# Filament pulled back at least, for the way from the purge to the part.
RETRACT = 0.8
# Less is the rounding of relative E, added up over a print.
RETRACT_NOISE = 0.01
# Klipper spreads a move of the filament over up to 0.2 s around it, where there is
# pressure advance: it would begin above the part. Klipper: kinematics/extruder.py.
SPREAD = 0.1  # s
MIN_SPEED = 0.001
# What a file's M106 P0, P1 and so on are called
NUMBERED_FAN = re.compile(r"fan(\d*)")
# More than Klipper's exclude_object lets through (initial_extrusion_moves), and even.
EXCLUSION_MOVES = 6
# What a record says, or the sequence has done before.
IN_RECORD = frozenset(
    "ACTIVATE_EXTRUDER BED_MESH_CLEAR BED_MESH_PROFILE M220 M221 SET_GCODE_OFFSET"
    " SET_PRINT_STATS_INFO".split()
)
# What only a saved one says.
SAVED = frozenset("M204 SET_PRESSURE_ADVANCE SET_VELOCITY_LIMIT".split())
LIMITS = {
    "max_velocity": "VELOCITY",
    "max_accel": "ACCEL",
    "square_corner_velocity": "SQUARE_CORNER_VELOCITY",
    "minimum_cruise_ratio": "MINIMUM_CRUISE_RATIO",
    "max_accel_to_decel": "ACCEL_TO_DECEL",
}


def retraction(record: Record) -> float:
    """How far the filament is pulled back between purge and part, mm."""
    return max(record.retracted, RETRACT)


def build(
    record: Record,
    safe_z: float,
    definitions: Sequence[bytes],
    objects: frozenset[str],
    firmware_retracted: bool,
    mesh_profiles: frozenset[str] = frozenset(),
    fan_power: Mapping[str, float] | None = None,
    setup: Sequence[bytes] = (),
    settings: Sequence[Setting] = (),
    cold: bool = False,
) -> list[bytes]:
    """Lines without line ends.

    record: as it is where the first unprinted path begins, in the middle of a line
    that was begun.  safe_z: above everything printed, mm, free of G92 and offsets set.
    definitions: the file's EXCLUDE_OBJECT_DEFINE lines.  objects: what klippy has,
    to leave out what this machine lacks; mesh_profiles likewise.  fan_power: the
    max_power of each fan, which klippy counts into the speed that it tells.
    setup: lines of the file's start that run first.  settings: what the file has set
    before and a record does not know.  cold: no filament can be
    moved, and none was on the way here.
    """
    lines = [b"; From here on it runs: what the rest of the file relies on."]
    excluding = "exclude_object" in objects
    lines += setup
    known = IN_RECORD if record.from_file else IN_RECORD | SAVED
    known |= restore.known_commands(record)
    lines += [_from_file(s, objects) for s in settings if s.name not in known]
    lines += _lines(restore.first(record))
    lines += _lines(restore.mesh(record, objects, mesh_profiles))
    lines += _lines(restore.before_motion(record, objects))
    lines += _lines(_settings(record, objects))
    lines += _lines(restore.settings(record, objects))
    if excluding:
        lines += definitions
        lines += _lines(_excluded(record))
    if record.paused and "pause_resume" in objects:
        lines.append(commented("PAUSE", "as it was; RESUME prints on from here"))
    elif record.paused:
        lines.append(commented("M25", "paused, as it was; M24 prints on from here"))
    fans = _fans(record, objects, fan_power or {})
    lines += _lines(_approach(record, safe_z, objects, fans, cold))
    if record.gcode.get("retracted") is not None:
        firmware_retracted = record.gcode["retracted"]
    lines += _lines(() if cold else _filament(record, firmware_retracted))
    lines += _lines(_modal(record))
    current = record.state["objects"].get("current")
    if excluding and current:
        # After the way there: klippy leaves out all motion in an excluded object.
        start_of = f"EXCLUDE_OBJECT_START NAME={restore.quoted(current)}"
        lines.append(commented(start_of, f"was being printed, {_source(record)}"))
    return lines


def _lines(commands: Iterable[Command]) -> Iterator[bytes]:
    return (commented(*command) for command in commands)


def _from_file(setting: Setting, objects: frozenset[str]) -> bytes:
    # M117 would show the comment; a name may hold any byte.
    if setting.name in ("M117", "M486"):
        return setting.line
    line, extruder = setting.line, f"extruder{setting.tool or ''}"
    if setting.tool is not None and "extruder1" in objects and extruder in objects:
        # Another one is in use now.
        line = line.partition(b";")[0].strip() + b" EXTRUDER=" + extruder.encode()
    return line + b" ; from the file"


def _source(record: Record) -> str:
    return "from the file" if record.from_file else "from the saved state"


def _settings(record: Record, objects: frozenset[str]) -> Iterator[Command]:
    state, source = record.state, _source(record)
    x, y, z = state["coordinates"]["homing_origin"]
    yield (
        f"SET_GCODE_OFFSET X={x:.6f} Y={y:.6f} Z={z:.6f}",
        f"offsets, babysteps included, {source}",
    )
    limits = [
        f"{LIMITS[k]}={v:.4f}" for k, v in state["limits"].items() if k in LIMITS
    ]
    if limits:
        yield "SET_VELOCITY_LIMIT " + " ".join(limits), f"limits, {source}"
    for name, (advance, smooth) in state["tool"].get("pressure_advance", {}).items():
        if name not in objects:
            continue
        yield (
            f"SET_PRESSURE_ADVANCE EXTRUDER={name} ADVANCE={advance:.6f}"
            f" SMOOTH_TIME={smooth:.6f}",
            f"pressure advance, {source}",
        )
    coordinates = state["coordinates"]
    yield f"M220 S{coordinates['speed_factor'] * 100:.4f}", f"speed factor, {source}"
    yield f"M221 S{coordinates['extrude_factor'] * 100:.4f}", f"flow, {source}"
    progress = state["progress"]
    layer, layers = progress.get("layer"), progress.get("layers")
    if isinstance(layers, int):
        yield f"SET_PRINT_STATS_INFO TOTAL_LAYER={layers}", f"layers, {source}"
    if isinstance(layer, int):
        yield f"SET_PRINT_STATS_INFO CURRENT_LAYER={layer}", f"this layer, {source}"


def _excluded(record: Record) -> Iterator[Command]:
    for name in record.state["objects"].get("excluded") or ():
        yield (
            f"EXCLUDE_OBJECT NAME={restore.quoted(name)}",
            f"had been excluded, {_source(record)}",
        )


def _fans(
    record: Record, objects: frozenset[str], power: Mapping[str, float]
) -> Iterator[Command]:
    macro = any(name.lower() == "gcode_macro m106" for name in objects)
    for name, value in record.state["fans"].items():
        number = NUMBERED_FAN.fullmatch(name) if record.from_file else None
        if number is not None and (macro or "fan" in objects):
            # Klipper's own M106 knows one fan and no P: the last one wins.
            which = f" P{number[1]}" if number[1] else ""
            yield f"M106{which} S{value * 255:.2f}", "fan, from the file"
            continue
        # What klippy tells has max_power in it.
        most = 1.0 if record.from_file else power.get(name) or 1.0
        speed = min(value / most, 1.0)
        if name not in objects:
            continue
        if name == "fan":
            yield f"M106 S{speed * 255:.2f}", f"part fan, {_source(record)}"
        else:
            fan = name.split()[-1]
            yield f"SET_FAN_SPEED FAN={fan} SPEED={speed:.4f}", _source(record)


def _approach(
    record: Record,
    safe_z: float,
    objects: frozenset[str],
    fans: Iterator[Command],
    cold: bool,
) -> Iterator[Command]:
    """G0, and Z alone: what reads a file's height from "G1 Z" must not find it."""
    gx, gy, gz = record.state["coordinates"]["g92"]
    start = record.position
    x, y, z = start[0] + gx, start[1] + gy, start[2] + gz
    yield "G90", "absolute coordinates, for the way there"
    yield "M83", "relative filament, for the way there"
    excluding = "exclude_object" in objects and not cold
    if excluding and record.state["objects"].get("excluded"):
        for i in range(EXCLUSION_MOVES):
            yield (
                f"G1 E{'-' if i % 2 == 0 else ''}0.01 F{RETRACT_SPEED}",
                "Klipper prints 5 moves of an excluded object before it believes it",
            )
    yield f"G0 Z{max(safe_z, z):.6f} F{Z_SPEED}", "up, above everything printed"
    over = f"G0 X{x:.6f} Y{y:.6f} F{TRAVEL_SPEED}"
    if "dual_carriage" in objects and carriages.prints_alone(record):
        # The other one comes to where it stood, up to v0.12 before this one, and
        # klippy does not look what is in its way.
        yield carriages.choice(record), "this one was printing"
        yield over, "where the other one was not"
    yield from restore.carriages(record, objects)
    yield over, "over the place"
    yield from fans
    yield f"G0 Z{z:.6f} F{Z_SPEED}", "down to the part"
    if gx or gy or gz:
        yield (
            f"G92 X{start[0]:.6f} Y{start[1]:.6f} Z{start[2]:.6f}",
            f"G92 of the file, {_source(record)}",
        )


def _filament(record: Record, firmware_retracted: bool) -> Iterator[Command]:
    yield f"G4 P{SPREAD * 1000:.0f}", "all still, before filament comes"
    forward = retraction(record)
    flow = record.state["coordinates"]["extrude_factor"]
    if record.retracted > RETRACT_NOISE:
        forward -= record.retracted
        if firmware_retracted and not record.from_file:
            # What G10 pulls back again is in it; the file does not count that.
            length = record.rare.get("retraction", {}).get("retract_length")
            forward += record.retracted if length is None else length * flow
    # M221 is in force again, and both are what the motor does.
    forward /= flow
    if forward >= 0.00001:
        yield f"G1 E{forward:.9f} F{RETRACT_SPEED}", "filament forward again"
    if firmware_retracted:
        # G11 in the tail does nothing unless a G10 came before.
        yield "G10", "pulled back by the firmware, as it was"


def _modal(record: Record) -> Iterator[Command]:
    coordinates, source = record.state["coordinates"], _source(record)
    yield f"G92 E{record.position[3]:.6f}", f"filament as the file counts it, {source}"
    if coordinates["absolute_extrude"]:
        yield "M82", f"absolute filament, {source}"
    if not coordinates["absolute_coordinates"]:
        yield "G91", f"relative coordinates, {source}"
    if record.speed >= MIN_SPEED:
        yield f"G1 F{record.speed:.3f}", f"speed, {source}"
