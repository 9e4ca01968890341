# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The commands of a resume file that set what a print had set, besides motion.

klippy's own commands where there are some; the rest goes to the extra in one
_PLR_RESTORE.  `objects`: what klippy has now; what this machine lacks is left out.
"""
from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..record import Record
from ..saving.machine_state import PLANES

Command = tuple[str, str]  # a line of G-code, and why it is there
CARRIAGES_SPEED = 50  # mm/s
# Sections of printer.cfg that klippy does not list, because they have no status
SILENT = frozenset(("gcode_arcs", "input_shaper"))
# Sections of printer.cfg that have the same commands
PINS = ("output_pin", "pwm_tool", "pwm_cycle_time")
LEDS = ("led", "neopixel", "dotstar", "pca9533", "pca9632")
SENSORS = ("filament_switch_sensor", "filament_motion_sensor")
RETRACTION = {
    "retract_length": "RETRACT_LENGTH",
    "retract_speed": "RETRACT_SPEED",
    "unretract_extra_length": "UNRETRACT_EXTRA_LENGTH",
    "unretract_speed": "UNRETRACT_SPEED",
    "z_hop_height": "Z_HOP_HEIGHT",
}
# Commands of the file of which the record knows the outcome, by what they set.
COMMANDS_OF = {
    "retraction": "SET_RETRACTION",
    "shaper": "SET_INPUT_SHAPER",
    "skew": "SET_SKEW SKEW_PROFILE",
    "mesh": "BED_MESH_OFFSET",
    "extruders": "SYNC_EXTRUDER_MOTION SET_EXTRUDER_ROTATION_DISTANCE",
    "idle_timeout": "SET_IDLE_TIMEOUT",
    "sensors": "SET_FILAMENT_SENSOR",
    "temperature_fans": "SET_TEMPERATURE_FAN_TARGET",
    "tmc": "SET_TMC_CURRENT",
    "pins": "SET_PIN",
}


def known_commands(record: Record) -> frozenset[str]:
    """Those that need not be run again."""
    found = [COMMANDS_OF[what].split() for what in record.rare if what in COMMANDS_OF]
    if record.gcode.get("plane") is not None:
        found.append(list(PLANES))
    if "m73" in record.state["progress"]:
        found.append(["M73", "M117"])
    return frozenset(command for commands in found for command in commands)


def quoted(name: str) -> str:
    """As klippy's own splitting (shlex) undoes it."""
    return '"' + name.replace("\\", "\\\\") + '"'


def for_klippy(**what: Any) -> str:
    """A command that takes plain data.  Hex: up to v0.12 '#', '*' and ';' end it."""
    text = json.dumps(what, separators=(",", ":"), allow_nan=False)
    return f"_PLR_RESTORE DATA={text.encode().hex()}"


def first(record: Record) -> Iterator[Command]:
    """What other settings stand on: variables of macros."""
    variables = record.rare.get("variables")
    if variables:
        yield for_klippy(variables=variables), "variables of macros, as chosen"


def has_mesh(record: Record) -> bool:
    """Whether the points of the bed mesh are saved, and not its name only."""
    return bool(record.rare.get("mesh", {}).get("points"))


def mesh(
    record: Record, objects: frozenset[str], profiles: frozenset[str]
) -> Iterator[Command]:
    """profiles: those that are stored."""
    if "bed_mesh" not in objects:
        return
    saved = record.rare.get("mesh") or {}
    profile = record.state["mesh"].get("profile")
    if has_mesh(record):
        kept = {key: saved[key] for key in ("name", "points", "params")}
        yield for_klippy(mesh=kept), f"bed mesh {saved['name']}, from its points"
    elif profile in profiles:
        yield f"BED_MESH_PROFILE LOAD={quoted(profile)}", "bed mesh"
    else:
        return
    x, y = saved.get("offsets", (0.0, 0.0))
    z_fade = saved.get("tool_offset", 0.0)
    if x or y or z_fade:
        # Up to v0.12 there is no ZFADE: it is ignored there.
        yield f"BED_MESH_OFFSET X={x:.6f} Y={y:.6f} ZFADE={z_fade:.6f}", "of the mesh"


def feeders(record: Record, objects: frozenset[str]) -> Iterator[Command]:
    """Which motors move the filament of which extruder: before any filament moves."""
    for name, (queue, distance) in record.rare.get("extruders", {}).items():
        if not _is_there(name, ("extruder_stepper",), objects) and name not in objects:
            continue
        yield (
            f"SYNC_EXTRUDER_MOTION EXTRUDER={name} MOTION_QUEUE={queue or ''}",
            "moves with that extruder",
        )
        yield (
            f"SET_EXTRUDER_ROTATION_DISTANCE EXTRUDER={name} DISTANCE={distance:.6f}",
            "rotation distance",
        )


def before_motion(record: Record, objects: frozenset[str]) -> Iterator[Command]:
    """What bears on where the motors are: after the mesh, before the offsets."""
    rare = record.rare
    if "skew" in rare:
        # The extra looks whether it is there: up to v0.12 no list of klippy's says so.
        yield for_klippy(skew=rare["skew"]), "skew"
    yield from feeders(record, objects)
    if "input_shaper" in objects:
        words = [
            f"SHAPER_TYPE_{a}={kind} SHAPER_FREQ_{a}={hz:.6f} DAMPING_RATIO_{a}={d:.6f}"
            for a, (kind, hz, d) in rare.get("shaper", {}).items()
        ]
        if words:
            yield f"SET_INPUT_SHAPER {' '.join(words)}", "input shaper"
    for name, (run, hold) in rare.get("tmc", {}).items():
        held = f" HOLDCURRENT={hold:.6f}" if hold else ""
        if any(o.startswith("tmc") and o.split()[-1] == name for o in objects):
            yield f"SET_TMC_CURRENT STEPPER={name} CURRENT={run:.6f}{held}", "current"


def carriages(record: Record, objects: frozenset[str]) -> Iterator[Command]:
    """They move: when the nozzle is above everything printed."""
    saved = record.rare.get("carriages")
    if saved and "dual_carriage" in objects:
        yield for_klippy(carriages=saved), "modes and places of the carriages"
        yield (
            "RESTORE_DUAL_CARRIAGE_STATE NAME=_plr MOVE=1"
            f" MOVE_SPEED={CARRIAGES_SPEED}",
            "as they were",
        )


def settings(record: Record, objects: frozenset[str]) -> Iterator[Command]:
    """All that does not move."""
    rare = record.rare
    if rare.get("retraction") and "firmware_retraction" in objects:
        words = [
            f"{RETRACTION[key]}={value:.6f}"
            for key, value in rare["retraction"].items() if key in RETRACTION
        ]  # fmt: skip
        yield "SET_RETRACTION " + " ".join(words), "firmware retraction"
    if "idle_timeout" in rare and "idle_timeout" in objects:
        yield f"SET_IDLE_TIMEOUT TIMEOUT={rare['idle_timeout']:.3f}", "idle timeout"
    plane = record.gcode.get("plane")
    if plane and "gcode_arcs" in objects:
        yield PLANES[plane], "plane of arcs"
    yield from _outputs(rare, objects)
    yield from _display(record, objects)
    states = record.gcode.get("states")
    if states:
        yield for_klippy(states=states), "what SAVE_GCODE_STATE had kept"


def _outputs(rare: Mapping[str, Any], objects: frozenset[str]) -> Iterator[Command]:
    for name, value in rare.get("pins", {}).items():
        if _is_there(name, PINS, objects):
            yield f"SET_PIN PIN={quoted(name)} VALUE={value:.6f}", "pin"
    for name, width in rare.get("servos", {}).items():
        if _is_there(name, ("servo",), objects):
            yield f"SET_SERVO SERVO={quoted(name)} WIDTH={width:.7f}", "servo"
    for name, colors in rare.get("leds", {}).items():
        if _is_there(name, LEDS, objects):
            yield from ((line, "light") for line in _led(name, colors))
    for name, (target, low, high) in rare.get("temperature_fans", {}).items():
        if _is_there(name, ("temperature_fan",), objects):
            yield (
                f"SET_TEMPERATURE_FAN_TARGET TEMPERATURE_FAN={quoted(name)}"
                f" TARGET={target:.2f} MIN_SPEED={low:.4f} MAX_SPEED={high:.4f}",
                "temperature fan",
            )
    for name, enabled in rare.get("sensors", {}).items():
        if _is_there(name, SENSORS, objects):
            yield (
                f"SET_FILAMENT_SENSOR SENSOR={quoted(name)} ENABLE={int(enabled)}",
                "filament sensor",
            )


def _led(name: str, colors: list[list[float]]) -> Iterator[str]:
    """One command where all are alike, else one for each, sent with the last."""
    alike = all(color == colors[0] for color in colors)
    for index, (red, green, blue, white) in enumerate(colors[:1] if alike else colors):
        line = (
            f"SET_LED LED={quoted(name)} RED={red:.6f} GREEN={green:.6f}"
            f" BLUE={blue:.6f} WHITE={white:.6f}"
        )
        if not alike:
            line += f" INDEX={index + 1} TRANSMIT={int(index + 1 == len(colors))}"
        yield line


def _display(record: Record, objects: frozenset[str]) -> Iterator[Command]:
    progress = record.state["progress"]
    message, percent = progress.get("message"), progress.get("m73")
    if "display_status" not in objects or record.from_file:
        return
    if isinstance(percent, (int, float)) and 0 <= percent <= 1:
        yield f"M73 P{percent * 100:.2f}", "progress, as M73 had it"
    if "message" in progress:
        text = message if isinstance(message, str) else ""
        yield for_klippy(message=text[:300]), "M117"


def _is_there(name: str, modules: tuple[str, ...], objects: frozenset[str]) -> bool:
    return any(f"{module} {name}" in objects for module in modules)
