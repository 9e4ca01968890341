# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The first lines of a resume file: everything the tail relies on.

They are run by a printer that the sequence has prepared: hot, homed, purged, Z
true, the nozzle off the part with its filament pulled back.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .gcode.rewriter import commented
from .record import Record

TRAVEL_SPEED = 6000  # mm/min
Z_SPEED = 600
RETRACT_SPEED = 1800
# Filament pulled back at least, for the way from the purge to the part.
RETRACT = 0.8
# Less is the rounding of relative E, added up over a print.
RETRACT_NOISE = 0.01
MIN_SPEED = 0.001

Command = tuple[str, str]  # a line of G-code, and why it is there


def retraction(record: Record) -> float:
    """How far the filament is pulled back between purge and part, mm."""
    return max(record.retracted, RETRACT)


def build(
    record: Record,
    start: tuple[float, float, float, float],
    safe_z: float,
    definitions: Sequence[bytes],
    objects: frozenset[str],
    firmware_retracted: bool,
    mesh_profiles: frozenset[str] = frozenset(),
    fan_power: Mapping[str, float] | None = None,
) -> list[bytes]:
    """Lines without line ends.

    start: where the first unprinted path begins, x, y, z, e in the file's own
    coordinates.  safe_z: above everything printed, mm, free of G92 and offsets set.
    definitions: the file's EXCLUDE_OBJECT_DEFINE lines.  objects: what klippy has,
    to leave out what this machine lacks; mesh_profiles likewise.  fan_power: the
    max_power of each fan, which klippy counts into the speed that it tells.
    """
    lines = [commented(*c) for c in _settings(record, objects, mesh_profiles)]
    excluding = "exclude_object" in objects
    if excluding:
        lines += definitions
        lines += [commented(*c) for c in _excluded(record)]
    fans = _fans(record, objects, fan_power or {})
    lines += [commented(*c) for c in _approach(record, start, safe_z, fans)]
    lines += [commented(*c) for c in _filament(record, firmware_retracted)]
    lines += [commented(*c) for c in _modal(record, start)]
    current = record.state["objects"].get("current")
    if excluding and current:
        # After the way there: klippy leaves out all motion in an excluded object.
        start_of = f"EXCLUDE_OBJECT_START NAME={_quoted(current)}"
        lines.append(commented(start_of, "was being printed"))
    return lines


def _quoted(name: str) -> str:
    """As klippy's own splitting (shlex) undoes it."""
    return '"' + name.replace("\\", "\\\\") + '"'


def _settings(
    record: Record, objects: frozenset[str], mesh_profiles: frozenset[str]
) -> Iterator[Command]:
    state = record.state
    profile = state["mesh"].get("profile")
    if profile in mesh_profiles and "bed_mesh" in objects:
        yield f"BED_MESH_PROFILE LOAD={_quoted(profile)}", "the mesh that was loaded"
    x, y, z = state["coordinates"]["homing_origin"]
    yield f"SET_GCODE_OFFSET X={x:.6f} Y={y:.6f} Z={z:.6f}", "offsets as they were"
    names = {
        "max_velocity": "VELOCITY",
        "max_accel": "ACCEL",
        "square_corner_velocity": "SQUARE_CORNER_VELOCITY",
        "minimum_cruise_ratio": "MINIMUM_CRUISE_RATIO",
        "max_accel_to_decel": "ACCEL_TO_DECEL",
    }
    limits = [
        f"{names[k]}={v:.4f}" for k, v in state["limits"].items() if k in names
    ]
    if limits:
        yield "SET_VELOCITY_LIMIT " + " ".join(limits), "limits as they were"
    for name, (advance, smooth) in state["tool"].get("pressure_advance", {}).items():
        if name not in objects:
            continue
        yield (
            f"SET_PRESSURE_ADVANCE EXTRUDER={name} ADVANCE={advance:.6f}"
            f" SMOOTH_TIME={smooth:.6f}",
            "as it was",
        )
    coordinates = state["coordinates"]
    yield f"M220 S{coordinates['speed_factor'] * 100:.4f}", "speed factor"
    yield f"M221 S{coordinates['extrude_factor'] * 100:.4f}", "flow"
    progress = state["progress"]
    layer, layers = progress.get("layer"), progress.get("layers")
    if isinstance(layers, int):
        yield f"SET_PRINT_STATS_INFO TOTAL_LAYER={layers}", "for the front end"
    if isinstance(layer, int):
        yield f"SET_PRINT_STATS_INFO CURRENT_LAYER={layer}", "for the front end"


def _excluded(record: Record) -> Iterator[Command]:
    for name in record.state["objects"].get("excluded") or ():
        yield f"EXCLUDE_OBJECT NAME={_quoted(name)}", "had been excluded"


def _fans(
    record: Record, objects: frozenset[str], power: Mapping[str, float]
) -> Iterator[Command]:
    for name, value in record.state["fans"].items():
        speed = min(value / (power.get(name) or 1.0), 1.0)
        if name not in objects:
            continue
        if name == "fan":
            yield f"M106 S{speed * 255:.2f}", "part fan as it was"
        else:
            fan = name.split()[-1]
            yield f"SET_FAN_SPEED FAN={fan} SPEED={speed:.4f}", "fan as it was"


def _approach(
    record: Record,
    start: tuple[float, float, float, float],
    safe_z: float,
    fans: Iterator[Command],
) -> Iterator[Command]:
    gx, gy, gz = record.state["coordinates"]["g92"]
    x, y, z = start[0] + gx, start[1] + gy, start[2] + gz
    yield "G90", "absolute, for the way there"
    yield "M83", "relative filament, for the way there"
    yield f"G1 Z{max(safe_z, z):.4f} F{Z_SPEED}", "above everything printed"
    yield f"G1 X{x:.4f} Y{y:.4f} F{TRAVEL_SPEED}", "over the place"
    yield from fans
    yield f"G1 Z{z:.4f} F{Z_SPEED}", "down to the part"
    if gx or gy or gz:
        yield f"G92 X{start[0]:.5f} Y{start[1]:.5f} Z{start[2]:.5f}", "G92 of the file"


def _filament(record: Record, firmware_retracted: bool) -> Iterator[Command]:
    forward = retraction(record)
    if not firmware_retracted and record.retracted > RETRACT_NOISE:
        forward -= record.retracted
    if forward >= 0.00001:
        yield f"G1 E{forward:.5f} F{RETRACT_SPEED}", "filament forward"
    if firmware_retracted:
        # G11 in the tail does nothing unless a G10 came before.
        yield "G10", "pulled back by the firmware, as it was"


def _modal(
    record: Record, start: tuple[float, float, float, float]
) -> Iterator[Command]:
    coordinates = record.state["coordinates"]
    yield f"G92 E{start[3]:.5f}", "filament as the file counts it"
    if coordinates["absolute_extrude"]:
        yield "M82", "absolute filament, as in the file"
    if not coordinates["absolute_coordinates"]:
        yield "G91", "relative, as in the file"
    if record.speed >= MIN_SPEED:
        yield f"G1 F{record.speed:.3f}", "speed as it was"
