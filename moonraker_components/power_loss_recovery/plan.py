# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Record, file and machine: the ordered steps of a resume, or a refusal.

Why this order: a cold bed lets the part go, so the bed first.  The nozzle may be
frozen into the part: soften it, with the least heat that frees it.  Until Z is
known again Z only goes up, and X and Y are homed above everything printed.  Full
heat, ooze and purge come away from the part.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import purge, rotor
from .begun import split
from .disagree import differences
from .fits import outside
from .gcode.ahead import Reach
from .gcode.scan import Head
from .prologue import RETRACT_SPEED, TRAVEL_SPEED, Z_SPEED, build, retraction
from .record import Job, Record

# Frees a nozzle from most plastics without charring or dripping.
SOFT_BELOW_TARGET = 50.0
SOFT_MINIMUM = 150.0
LIFT = 10.0
CLEARANCE = 5.0  # of the travel above everything printed
TOP_MARGIN = 1.0
BED_NEARLY = 3.0  # degrees below the target that count as warm
HOTEND_NEARLY = 2.0
POSITION_MARGIN = 0.5  # mm outside the machine's limits that is rounding

HEAT_TIMEOUT = 1800.0
# A tall machine whose Z makes 5 mm/s needs minutes from the top to the bed.
MOVE_TIMEOUT = 600.0
Z_HOME_TIMEOUT = 600.0


# Of a driver that cannot be read
COUNTED = ", if the motor drivers never lost their power alone"


class Refusal(Exception):
    """Resuming is not possible; `reasons` says why, for a person."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(" ".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True)
class Facts:
    """The machine as klippy describes it.  mm and degrees C.

    toolhead_z: of the motors now, if klippy knows it (a resume that failed half way,
    or a klippy that was not restarted).  hotend: its temperature now.  fan_power:
    max_power by fan.  purge_flow: mm of filament per mm of travel.  hooks: options of
    the owner's G-code that are set.
    """

    axis_minimum: tuple[float, float, float]
    axis_maximum: tuple[float, float, float]
    min_extrude_temp: float
    z_switches: bool
    z_calibrated: bool
    objects: frozenset[str]
    toolhead_z: float | None = None
    hotend: float = 0.0
    mesh_profiles: frozenset[str] = frozenset()
    fan_power: Mapping[str, float] = field(default_factory=dict)
    purge_flow: float = purge.FLOW
    z_motors: Mapping[str, rotor.Motor] = field(default_factory=dict)
    z_strategy: str = "auto"
    hooks: frozenset[str] = frozenset()

    @property
    def measures_z(self) -> bool:
        return self.z_calibrated and self.z_switches and self.z_strategy != "assume"


@dataclass(frozen=True)
class Step:
    """Send `script`, then wait until each heater has its temperature.

    lowest_z: the lowest that the motors are in this step, mm; None if it leaves Z.
    """

    name: str
    title: str
    script: str
    timeout: float
    wait: Mapping[str, float] = field(default_factory=dict)
    lowest_z: float | None = None


@dataclass(frozen=True)
class Plan:
    """z: "measured", and "estimate" and "bound" in mm: where the nozzle is believed
    to stand before anything moves, and how wrong that can be; "counted" as in
    rotor.Rest."""

    steps: tuple[Step, ...]
    prologue: tuple[bytes, ...]
    first_line: bytes | None
    fraction: float
    warnings: tuple[str, ...]
    z: Mapping[str, Any]


def make(
    record: Record,
    job: Job,
    head: Head,
    line: bytes,
    facts: Facts,
    setup: Sequence[bytes] = (),
    rest: Reach | None = None,
) -> Plan:
    """Raises Refusal.  `line` is the text at record.file_position.  setup: lines of
    the file's start that are run again.  rest: where the rest is printed, if known."""
    reasons = _refusals(record, job, facts)
    origin = record.state["coordinates"]["homing_origin"]
    if rest is not None:
        reasons += outside(rest, origin, facts.axis_minimum, facts.axis_maximum)
    if reasons:
        raise Refusal(reasons)
    begun, first_line = split(record, head, line)
    stands = _stands(record, facts)
    warnings = _warnings(record, head, facts, stands)
    safe_z = _safe_z(record, head, facts)
    bed = (*facts.axis_minimum[:2], *facts.axis_maximum[:2])
    printed = head.first_extrusion is not None
    strip = purge.beside(bed, purge.shifted(head.printed_box, origin), printed)
    if not strip.on_bed:
        warnings.append(
            "There is no free strip of bed beside the part: the nozzle is purged in"
            " the air at a corner, above the part. Take the filament away."
        )
    steps = [*_free_the_nozzle(record, facts, stands, safe_z)]
    if facts.measures_z:
        steps.append(
            Step("true_z", "Find Z on the Z+ switches", "PLR_Z_HOME MODE=RESUME",
                 Z_HOME_TIMEOUT,
                 lowest_z=stands.z + _lift(stands, facts, safe_z))  # fmt: skip
        )
    steps += _purge(begun, facts, strip, safe_z)
    prologue = build(
        begun, safe_z - origin[2],
        head.object_definitions, facts.objects,
        head.firmware_retracted and "firmware_retraction" in facts.objects,
        facts.mesh_profiles, facts.fan_power, setup, head.settings,
    )  # fmt: skip
    z = {"measured": facts.measures_z, "estimate": stands.z, "bound": stands.bound,
         "counted": stands.counted}  # fmt: skip
    return Plan(
        tuple(steps), tuple(prologue), first_line, begun.fraction, tuple(warnings), z
    )


def _stands(record: Record, facts: Facts) -> rotor.Rest:
    """Where the nozzle stands now, before anything moves."""
    if facts.toolhead_z is not None:
        return rotor.Rest(facts.toolhead_z, {}, 0.0)
    z = record.toolhead_z
    if facts.measures_z:
        # A gantry on belts sags: its rotors have turned.
        return rotor.Rest(z, {}, 0.0)
    return rotor.rest(z, record.z_range or (z, z), record.z_phases, facts.z_motors)


def _refusals(record: Record, job: Job, facts: Facts) -> list[str]:
    reasons = []
    if record.hotend_target < facts.min_extrude_temp or not record.prints:
        reasons.append(
            "The print was still being prepared (homing, heating): nothing was"
            " printed yet. Start it again from the beginning."
        )
        return reasons
    if facts.z_strategy == "measure" and not facts.measures_z:
        reasons.append(
            "z_strategy is measure, and the Z+ switches are not there or not"
            " calibrated: run PLR_Z_HOME MODE=CALIBRATE, or set z_strategy to assume."
        )
    if record.from_file and facts.toolhead_z is None:
        reasons.append(
            "Nothing was saved of this print, so nobody knows where the nozzle is:"
            " home Z first, with "
            + ("PLR_Z_HOME MODE=RESUME." if facts.measures_z else
               "the nozzle beside the part.")
        )
    if record.file_position >= job.size:
        reasons.append("The file had been printed to its end: nothing is missing.")
    for i, axis in enumerate("XYZ"):
        at = record.motor_position(i)
        low, high = facts.axis_minimum[i], facts.axis_maximum[i]
        if not low - POSITION_MARGIN <= at <= high + POSITION_MARGIN:
            reasons.append(
                f"The saved {axis} is {at:.2f}, this machine goes from {low:.2f} to"
                f" {high:.2f}: was the configuration changed?"
            )
    if record.extruder != "extruder" and "dual_carriage" in facts.objects:
        reasons.append("Resuming on the second carriage is not possible yet.")
    return reasons


def _warnings(
    record: Record, head: Head, facts: Facts, stands: rotor.Rest
) -> list[str]:
    warnings = []
    if record.from_file:
        warnings.append(
            "Nothing was saved of this print: all is taken from the file. What was set"
            " by hand or by a macro is not known, such as Z offset, speed, flow, the"
            " bed mesh and excluded objects."
        )
    elif not facts.measures_z:
        if facts.z_switches and not facts.z_calibrated:
            warnings.append(
                "The Z+ switches are not calibrated (PLR_Z_HOME MODE=CALIBRATE)."
            )
        doubt = f" (in doubt by {stands.bound:.2f} mm{COUNTED * stands.counted})"
        warnings.append(
            f"Z is taken from the record{doubt if stands.bound else ''}, not measured."
            " If the gantry or the bed has moved since, the nozzle will be at the wrong"
            " height."
        )
    warnings += differences(record, head)
    profile = record.state["mesh"].get("profile")
    if profile and profile not in facts.mesh_profiles:
        warnings.append(
            f"The bed mesh {profile!r} was not stored with SAVE_CONFIG and is lost: the"
            " print goes on without a mesh."
        )
    if "homing_override" in facts.objects:
        warnings.append(
            "[homing_override] decides what G28 X Y does: it must not home Z, and not"
            " move it down."
        )
    if record.extruder != "extruder":
        warnings.append(
            f"The print was using [{record.extruder}]: that tool must be mounted now."
        )
    for name, target in _other_heaters(record):
        if name not in facts.objects:
            warnings.append(f"[{name}] was at {target:.0f} °C and is not there now.")
    return warnings


def _safe_z(record: Record, head: Head, facts: Facts) -> float:
    """Of the motors: above everything printed, as far as the machine goes."""
    top = (head.top_z or 0.0) + record.state["coordinates"]["homing_origin"][2]
    highest = max(top, record.motor_position(2), record.toolhead_z)
    # A bed mesh wants some room at the end of travel.
    return max(highest, min(highest + CLEARANCE, facts.axis_maximum[2] - TOP_MARGIN))


def _other_heaters(record: Record) -> list[tuple[str, float]]:
    return [
        (name, target)
        for name, target in record.heaters.items()
        if target > 0 and name not in (record.extruder, "heater_bed")
    ]


def _free_the_nozzle(
    record: Record, facts: Facts, stands: rotor.Rest, safe_z: float
) -> list[Step]:
    """Warm the bed, soften the nozzle, lift, home X and Y.

    A nozzle that is still soft is not frozen in, and must not rest on the part while
    the bed warms up: then the bed is waited for afterwards.
    """
    warm = [
        f"SET_HEATER_TEMPERATURE HEATER={name.split()[-1]} TARGET={target:.1f}"
        for name, target in _other_heaters(record)
        if name in facts.objects
    ]
    title, wait = "Turn the other heaters on", {}
    if record.bed_target > 0:
        title = f"Warm the bed to {record.bed_target:.0f} °C"
        warm.append(f"M140 S{record.bed_target:.1f}")
        wait = {"heater_bed": record.bed_target - BED_NEARLY}
    bed = Step("bed", title, "\n".join(warm), HEAT_TIMEOUT, wait)
    target = record.hotend_target
    soft = min(target, max(SOFT_MINIMUM, target - SOFT_BELOW_TARGET))
    free = [
        Step("soften", f"Soften the nozzle at {soft:.0f} °C",
             _heat(record, soft), HEAT_TIMEOUT,
             {record.extruder: soft - HOTEND_NEARLY}),
        _lift_step(record, facts, stands, safe_z),
        Step("home_xy", "Home X and Y", "G28 X Y\nM400", MOVE_TIMEOUT),
    ]  # fmt: skip
    if not warm:
        return free
    if facts.hotend < soft - HOTEND_NEARLY:
        return [bed, *free]
    start = replace(bed, title=title.replace("Warm", "Start to warm"), wait={})
    return [start, *free, replace(bed, name="bed_warm")]


def _lift(stands: rotor.Rest, facts: Facts, safe_z: float) -> float:
    """By how much: only up, and far enough to pass over other objects on the bed."""
    highest = facts.axis_maximum[2] - TOP_MARGIN
    return max(min(max(stands.z + LIFT, safe_z), highest) - stands.z, 0.0)


def _lift_step(
    record: Record, facts: Facts, stands: rotor.Rest, safe_z: float
) -> Step:
    lift = _lift(stands, facts, safe_z)
    lines = []
    if facts.toolhead_z is None:
        below = [f"{name}:{mm:.4f}" for name, mm in stands.below.items() if mm > 0]
        more = f" BELOW={','.join(below)}" if below else ""
        lines.append(f"_PLR_ASSUME_Z Z={stands.z:.4f}{more}")
    # What is left of the print, in a klippy that was not restarted since.
    if "exclude_object" in facts.objects:
        lines.append("EXCLUDE_OBJECT_END")
    if "bed_mesh" in facts.objects:
        lines.append("BED_MESH_CLEAR")
    lines += ["SET_GCODE_OFFSET X=0 Y=0 Z=0", "M220 S100", "M221 S100"]
    if "extruder1" in facts.objects:
        lines.append(f"ACTIVATE_EXTRUDER EXTRUDER={record.extruder}")
    lines += ["G91", f"G1 Z{lift:.3f} F{Z_SPEED}", "G90", "M400"]
    title = f"Lift the nozzle by {lift:.0f} mm"
    return Step("lift", title, "\n".join(lines), MOVE_TIMEOUT, lowest_z=stands.z)


def _purge(
    record: Record, facts: Facts, strip: purge.Strip, safe_z: float
) -> list[Step]:
    """Travel off the part, full heat there, purge, pull back, rise."""
    height = purge.HEIGHT if facts.measures_z else purge.HEIGHT_UNTRUSTED
    if not strip.on_bed:
        height = safe_z
    filament = max(strip.end_x - strip.x, strip.end_y - strip.y) * facts.purge_flow
    travel = Step(
        "travel", "Travel beside the part, above everything printed",
        "\n".join((
            "G90",
            f"G1 Z{safe_z:.3f} F{Z_SPEED * 2}",
            f"G1 X{strip.x:.3f} Y{strip.y:.3f} F{TRAVEL_SPEED}",
            "M400",
        )),
        MOVE_TIMEOUT, lowest_z=safe_z,
    )  # fmt: skip
    heat = Step(
        "heat", f"Heat the nozzle to {record.hotend_target:.0f} °C, off the part",
        _heat(record, record.hotend_target),
        HEAT_TIMEOUT,
        {record.extruder: record.hotend_target - HOTEND_NEARLY},
    )
    run = Step(
        "purge", "Purge and wipe beside the part",
        "\n".join((
            "G90", "M83", "G92 E0",
            f"G1 Z{height:.3f} F{Z_SPEED * 2}",
            f"G1 X{strip.end_x:.3f} Y{strip.end_y:.3f} E{filament:.3f} F900",
            f"G1 E-{retraction(record):.5f} F{RETRACT_SPEED}",
            f"G1 X{strip.x:.3f} Y{strip.y:.3f} F{TRAVEL_SPEED}",
            f"G1 Z{safe_z:.3f} F{Z_SPEED * 2}",
            "M400",
        )),
        MOVE_TIMEOUT, lowest_z=min(height, safe_z),
    )  # fmt: skip
    return [travel, heat, run]


def _heat(record: Record, target: float) -> str:
    return f"SET_HEATER_TEMPERATURE HEATER={record.extruder} TARGET={target:.1f}"
