# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Traps in the owner's macros: homing that moves Z, hooks that probe, early starts."""
from __future__ import annotations

import re
from collections.abc import Iterator

from ..planning.hooks import NAMES
from .findings import Evidence, Finding, bad, doubt, good
from .gcode_macros import Command, expanded, text_of

# Each of these touches the bed, or levels against it.
PROBING = frozenset(
    "QUAD_GANTRY_LEVEL Z_TILT_ADJUST BED_MESH_CALIBRATE PROBE PROBE_ACCURACY"
    " PROBE_CALIBRATE SCREWS_TILT_CALCULATE BED_TILT_CALIBRATE BED_SCREWS_ADJUST"
    " DELTA_CALIBRATE AXIS_TWIST_COMPENSATION_CALIBRATE".split()
)
HEATING = frozenset("M104 M109 M140 M190 SET_HEATER_TEMPERATURE".split())
MOVING = frozenset("G0 G1 G28 FORCE_MOVE MANUAL_STEPPER".split()) | PROBING
STARTS = ("print_start", "start_print")
# A condition that has to do with the axes that were asked for
ABOUT_AXES = re.compile(r"\bz\b|'z'|\"z\"|_z\b|\bz_|homez|all|homed|rawparams", re.I)
OTHERS = {
    "gcode_shell_command power_loss_resume": "YUMI_PLR or plr-klipper",
    "gcode_shell_command clear_plr": "YUMI_PLR or plr-klipper",
    "gcode_macro resume_interrupted": "YUMI_PLR or plr-klipper",
    "gcode_macro log_z": "YUMI_PLR or plr-klipper",
}


def homing(e: Evidence) -> Iterator[Finding]:
    """Whether G28 X Y leaves Z alone."""
    name = "homing"
    own = e.config.get("homing_override")
    if own is not None and _takes_x_or_y(own.get("axes", "xyz")):
        label = "[homing_override]"
        forced = own.get("set_position_z")
        if forced is not None:
            yield bad(
                name, f"{label} sets Z to {forced} before each G28 X Y: Klipper then"
                " believes a Z that is not true, above a part.",
                "Remove set_position_z; lift with SET_KINEMATIC_POSITION only if"
                " 'z' is not in printer.toolhead.homed_axes.",
            )  # fmt: skip
        yield from _judged(label, own.get("gcode", ""), e)
        return
    macro = text_of("g28", e.config)
    if macro is not None:
        yield from _judged("[gcode_macro G28]", macro, e)
    elif e.has("safe_z_home"):
        yield good(name, "G28 X Y leaves Z alone; [safe_z_home] only lifts.")
    else:
        yield good(name, "G28 X Y leaves Z alone.")


def _takes_x_or_y(axes: str) -> bool:
    return bool(set(axes.lower()) & {"x", "y"})


def _judged(label: str, text: str, e: Evidence) -> Iterator[Finding]:
    name = "homing"
    found = list(expanded(text, e.config, inside=("G28",)))
    mend = (
        "Let it home Z only if Z was asked for: {% if 'Z' in params or not ('X' in"
        " params or 'Y' in params) %}. A resume sends G28 X Y above the part."
    )
    homes = [c for c in found if _homes_z(c) or c.name in PROBING]
    always = [c for c in homes if not c.conditions]
    unclear = [c for c in homes if c.conditions and not _about_axes(c)]
    low = [c for c in _absolute_z(found) if not c.conditions]
    if always:
        yield bad(name, f"{label} homes Z at each G28 X Y: {always[0].line}", mend)
    elif unclear:
        yield doubt(name, f"{label} may home Z at G28 X Y: {unclear[0].line}", mend)
    elif low:
        yield doubt(
            name, f"{label} moves Z to a fixed height at G28 X Y, also down from above"
            f" a part: {low[0].line}",
            "Lift by a distance instead (G91, G0 Z5, G90), or only if Z is lower.",
        )  # fmt: skip
    else:
        yield good(name, f"{label} leaves Z alone at G28 X Y, as far as can be read.")


def _about_axes(command: Command) -> bool:
    return any(ABOUT_AXES.search(text) for text in command.conditions)


def _homes_z(command: Command) -> bool:
    """G28 with Z or without any axis; what is filled in by an expression is not."""
    if command.name != "G28":
        return False
    given = command.arguments.upper()
    if "{" in given or "RAWPARAMS" in given:
        return False
    return "Z" in given or not set(given) & {"X", "Y"}


def _absolute_z(found: list[Command]) -> Iterator[Command]:
    relative = False
    for command in found:
        if command.name in ("G90", "G91"):
            relative = command.name == "G91"
        elif command.name in ("G0", "G1") and not relative:
            if re.fullmatch(r"-?[\d.]+", command.parameter("Z") or ""):
                yield command


def hooks(e: Evidence) -> Iterator[Finding]:
    """Hooks run above the part: none may touch the bed."""
    clean = True
    for option in NAMES:
        text = e.own.get(option, "")
        if not text.strip():
            continue
        done = list(expanded(text, e.config))
        wrong = [
            c for c in done
            if not c.conditions
            and (c.name in PROBING or _homes_z(c) and not _homes_up(e))
        ]  # fmt: skip
        starts = [c for c in done if c.name.lower() in STARTS]
        clean = clean and not starts and not wrong
        if starts:
            yield bad(
                option, f"{option} runs {starts[0].name}, the start of a new print: it"
                " homes Z and purges where the part is.",
                "Take it out: a resume heats, homes and purges by itself.",
            )  # fmt: skip
        elif wrong:
            via = f" (in {wrong[0].via})" if wrong[0].via else ""
            yield bad(
                option, f"{option} runs {wrong[0].line}{via} above the part: it is"
                " refused there, and the resume fails.",
                "Use G28 X Y; Z is known by then, and the mesh is loaded by itself.",
            )  # fmt: skip
    if clean:
        yield good("hooks", "No hook of the resume touches the bed.")


def _homes_up(e: Evidence) -> bool:
    options = e.config.get("stepper_z", {})
    if options.get("homing_positive_dir", "").lower() in ("true", "yes", "1", "on"):
        return True
    try:
        place = float(options.get("position_endstop", ""))
        return place > float(options.get("position_max", "")) / 2
    except ValueError:
        return False


def force_move(e: Evidence) -> Iterator[Finding]:
    """SET_KINEMATIC_POSITION: whether it is there for those who use it."""
    name = "force_move"
    users = [
        label for label, text in _texts(e)
        if re.search(r"\b(SET_KINEMATIC_POSITION|FORCE_MOVE)\b", text)
    ]  # fmt: skip
    on = e.config.get("force_move", {}).get("enable_force_move", "").lower()
    there = on in ("true", "yes", "1", "on") or _is_kalico(e)
    if users and not there:
        yield bad(
            name, f"{users[0]} uses SET_KINEMATIC_POSITION or FORCE_MOVE, which Klipper"
            " does not have without [force_move].",
            "Add [force_move] with enable_force_move: True, or take it out.",
        )  # fmt: skip
    elif there:
        yield good(name, "SET_KINEMATIC_POSITION is there for macros that use it.")
    else:
        yield good(name, "SET_KINEMATIC_POSITION is not needed: a resume has its own.")


def _is_kalico(e: Evidence) -> bool:
    return "/klippy/plugins/" in "".join(e.links.extras) or e.has("danger_options")


def early(e: Evidence) -> Iterator[Finding]:
    """Nothing may move or heat when Klipper starts: the part is still on the bed."""
    name, clean = "start of Klipper", True
    for section, options in e.config.items():
        if not section.lower().startswith("delayed_gcode "):
            continue
        if not _is_positive(options.get("initial_duration", "0")):
            continue
        for command in expanded(options.get("gcode", ""), e.config):
            what = _danger(command)
            if what and not command.conditions:
                clean = False
                yield bad(
                    name, f"[{section}] {what} when Klipper starts, also after a power"
                    f" loss with the part on the bed: {command.line}",
                    "Remove it, or set its initial_duration to 0.",
                )  # fmt: skip
                break
    if clean:
        yield good(name, "Nothing moves or heats by itself when Klipper starts.")


def _danger(command: Command) -> str:
    if command.name == "SET_KINEMATIC_POSITION":
        return "tells Klipper a position that is not true"
    if command.name in MOVING:
        moves = [command.parameter(axis) for axis in "XYZ"]
        filament = command.name in ("G0", "G1") and not any(
            value is not None for value in moves
        )
        return "" if filament else "moves the machine"
    target = command.parameter("S") or command.parameter("TARGET") or "0"
    if command.name in HEATING and not re.fullmatch(r"0+(\.0*)?", target):
        return "heats"
    return ""


def starts(e: Evidence) -> Iterator[Finding]:
    """START_PRINT is not run again in a resume, and must not forget what is saved."""
    name, clean = "start macro", True
    hooked = " ".join(e.own.get(option, "") for option in NAMES)
    again = {c.name for c in expanded(hooked, e.config)}
    for macro in STARTS:
        for command in expanded(text_of(macro, e.config) or "", e.config):
            if command.via.lower() in STARTS:
                continue  # of the other start macro, which has its own turn
            text, mend = _missed(command)
            loop = command.name == "UPDATE_DELAYED_GCODE" and command.name in again
            if text and not loop:
                clean = False
                yield doubt(name, f"{macro.upper()} {text}.", mend)
    if clean:
        yield good(name, "The start macro does nothing that a resume would miss.")


def _missed(command: Command) -> tuple[str, str]:
    if command.name == "PLR_DISABLE":
        return (
            "turns saving off (PLR_DISABLE)", "Take it out: saving is on by itself."
        )
    if command.name == "PLR_RESET_PRINT_DATA":
        return (
            "forgets the interrupted print (PLR_RESET_PRINT_DATA)",
            "Take it out: without it, you are asked what to do.",
        )
    duration = command.parameter("DURATION") or "0"
    if command.name == "UPDATE_DELAYED_GCODE" and _is_positive(duration):
        return (
            f"starts something that goes on by itself ({command.line})",
            "A resume does not run the start macro: start it in restart_gcode too.",
        )
    return "", ""


def other_plugins(e: Evidence) -> Iterator[Finding]:
    found = {OTHERS[s.lower()] for s in e.config if s.lower() in OTHERS}
    for other in sorted(found):
        yield doubt(
            "other plugins", f"{other} is configured too: both would save and resume.",
            "Remove its include and its macros.",
        )  # fmt: skip


def _texts(e: Evidence) -> Iterator[tuple[str, str]]:
    for section, options in e.config.items():
        for option, text in options.items():
            if option == "gcode" or option.endswith("_gcode"):
                yield f"[{section}]", text


def _is_positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        # An expression: it is started with something.
        return bool(text.strip())
