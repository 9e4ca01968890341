# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What the machine does before the print goes on, in order.

Why this order: a cold bed lets the part go, so the bed first.  The nozzle may be
frozen into the part: soften it, with the least heat that frees it.  Until Z is
known again Z only goes up, and X and Y are homed above everything printed.  Full
heat, ooze and purge come away from the part.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from .. import tools
from ..record import Record
from . import carriages, purge, restore, rotor
from .facts import Facts
from .prologue import TRAVEL_SPEED, Z_SPEED

# Frees a nozzle from most plastics without charring or dripping.
SOFT_BELOW_TARGET = 50.0
SOFT_MINIMUM = 150.0
LIFT = 10.0
CLEARANCE = 5.0  # of the travel above everything printed
TOP_MARGIN = 1.0
BED_NEARLY = 3.0  # degrees below the target that count as warm
HOTEND_NEARLY = 2.0

HEAT_TIMEOUT = 1800.0
# A tall machine whose Z makes 5 mm/s needs minutes from the top to the bed.
MOVE_TIMEOUT = 600.0
Z_HOME_TIMEOUT = 600.0


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


def build(
    record: Record,
    facts: Facts,
    stands: rotor.Rest,
    strip: purge.Strip,
    safe_z: float,
    clear_z: float,
) -> list[Step]:
    """The first, and the titles of all, depend on record and facts alone.

    safe_z: of the nozzle, above everything printed and where it stood, mm.  clear_z:
    the same without where it stood.
    """
    offset = max(tools.offset(record.state, facts.changer)[2], 0.0)
    steps = _free_the_nozzle(
        record, facts, stands, safe_z + offset, clear_z + offset
    )
    if facts.measures_z:
        steps.append(
            Step("true_z", "Find Z on the Z+ switches", "PLR_Z_HOME MODE=RESUME",
                 Z_HOME_TIMEOUT,
                 lowest_z=stands.z + lift(stands, facts, safe_z))  # fmt: skip
        )
    return [
        *steps, *_tool(record, facts, safe_z), *_purge(record, facts, strip, safe_z)
    ]


def _free_the_nozzle(
    record: Record, facts: Facts, stands: rotor.Rest, safe_z: float, clear_z: float
) -> list[Step]:
    """Warm the bed, soften the nozzle, lift, home X and Y.

    A nozzle that is still soft is not frozen in, and must not rest on the part while
    the bed warms up: then the bed is waited for afterwards.
    """
    warm = [
        f"SET_HEATER_TEMPERATURE HEATER={name.split()[-1]} TARGET={target:.1f}"
        for name, target in record.other_heaters
        if name in facts.objects
    ]
    title, wait = "Turn the other heaters on", {}
    if record.bed_target > 0:
        title = f"Warm the bed to {record.bed_target:.0f} °C"
        warm.append(f"M140 S{record.bed_target:.1f}")
        if "heater_bed" in facts.objects:
            wait = {"heater_bed": record.bed_target - BED_NEARLY}
    bed = Step("bed", title, "\n".join(warm), HEAT_TIMEOUT, wait)
    target = record.hotend_target
    nozzle, mounted = record.extruder, tools.mount(record.state, facts.changer)
    if mounted is not None and mounted.mounted.extruder in facts.objects:
        nozzle = mounted.mounted.extruder or nozzle
    soft = min(target, max(SOFT_MINIMUM, target - SOFT_BELOW_TARGET))
    free = [
        Step("soften", f"Soften the nozzle at {soft:.0f} °C",
             _heat(nozzle, soft), HEAT_TIMEOUT, _hot(nozzle, soft)),
        _lift_step(record, facts, stands, safe_z, clear_z),
        Step("home_xy", "Home X and Y", "G28 X Y\nM400", MOVE_TIMEOUT),
    ]  # fmt: skip
    if not warm:
        return free
    if facts.hotend < soft - HOTEND_NEARLY:
        return [bed, *free]
    start = replace(bed, title=title.replace("Warm", "Start to warm"), wait={})
    return [start, *free, replace(bed, name="bed_warm")]


def lift(stands: rotor.Rest, facts: Facts, safe_z: float) -> float:
    """By how much: only up, and far enough to pass over other objects on the bed."""
    highest = facts.axis_maximum[2] - TOP_MARGIN
    return max(min(max(stands.z + LIFT, safe_z), highest) - stands.z, 0.0)


def _lift_step(
    record: Record, facts: Facts, stands: rotor.Rest, safe_z: float, clear_z: float
) -> Step:
    distance = lift(stands, facts, safe_z)
    lines = []
    tool = tools.mount(record.state, facts.changer)
    if tool is not None and tool.changer.detects:
        # Since the yes, somebody may have changed it.
        lines.append(f"_PLR_CHECK_TOOL NAME={restore.quoted(tool.mounted.name)}")
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
    # Else a tool that shares its feeder with another one purges nothing.
    lines += [command for command, _ in restore.feeders(record, facts.objects)]
    if facts.z_switches and facts.toolhead_z is None:
        # After a cut while Z was measured the switches may be near.
        lines.append(f"_PLR_LIFT DISTANCE={distance:.3f} CLEAR={clear_z:.3f}")
    else:
        lines += ["G91", f"G1 Z{distance:.3f} F{Z_SPEED}", "G90"]
    lines.append("M400")
    return Step(
        "lift", "Lift the nozzle", "\n".join(lines), MOVE_TIMEOUT, lowest_z=stands.z
    )


def _tool(record: Record, facts: Facts, safe_z: float) -> list[Step]:
    """Have the changer know what is mounted, and change if it was changing then."""
    tool = tools.mount(record.state, facts.changer)
    if tool is None:
        return []
    lines = [tool.changer.kind.initialize(tool.mounted), "_PLR_TAKE_POSITION"]
    title = f"Go on with {tool.wanted}"
    if tool.changes:
        title = f"Change from {tool.mounted} to {tool.wanted}"
        # Measured Z is at its top, and a change begins with a lift.
        lines += ["G90", f"G1 Z{safe_z:.3f} F{Z_SPEED * 2}"]
        lines.append(tool.changer.kind.select(tool.wanted))
        lines += [
            _heat(name, record.heaters.get(name, 0.0))
            for name in (tool.mounted.extruder,)
            if name in facts.objects and name != record.extruder
        ]
    # Its macros may leave what they like.
    lines += ["SET_GCODE_OFFSET X=0 Y=0 Z=0", "M220 S100", "M221 S100", "G90", "M400"]
    lowest = safe_z + min(tool.wanted.offset[2], tool.mounted.offset[2], 0.0)
    return [
        Step("tool", title, "\n".join(lines), HEAT_TIMEOUT,
             lowest_z=lowest if tool.changes else None)
    ]  # fmt: skip


def _purge(
    record: Record, facts: Facts, strip: purge.Strip, safe_z: float
) -> list[Step]:
    """Travel off the part, full heat there, purge, pull back, rise."""
    height = purge.height(record, facts.measures_z)
    below = min(tools.offset(record.state, facts.changer)[2], 0.0)
    if not strip.on_bed:
        height = safe_z
    travel = Step(
        "travel", "Travel beside the part, above everything printed",
        "\n".join((
            "G90",
            f"G1 Z{safe_z:.3f} F{Z_SPEED * 2}",
            *_carriage(record, facts),
            f"G1 X{strip.x:.3f} Y{strip.y:.3f} F{TRAVEL_SPEED}",
            "M400",
        )),
        MOVE_TIMEOUT, lowest_z=safe_z + below,
    )  # fmt: skip
    heat = Step(
        "heat", f"Heat the nozzle to {record.hotend_target:.0f} °C, off the part",
        _heat(record.extruder, record.hotend_target),
        HEAT_TIMEOUT,
        _hot(record.extruder, record.hotend_target),
    )
    if facts.cold(record):
        stay = Step("purge", "Purge nothing: the nozzle is cold", "M400", MOVE_TIMEOUT)
        return [travel, heat, stay]
    run = Step(
        "purge", "Purge and wipe beside the part",
        "\n".join(purge.script(strip, height, safe_z, record, facts.purge_flow)),
        MOVE_TIMEOUT, lowest_z=min(height, safe_z) + below,
    )  # fmt: skip
    return [travel, heat, run]


def _carriage(record: Record, facts: Facts) -> Iterator[str]:
    """Have the toolhead be the one that was printing.

    Not before: Z is measured with the first one, as it was calibrated, and up to v0.12
    klippy loses X when Z homes while the second one is active.
    """
    pair = facts.carriages
    if pair is None:
        return
    if carriages.in_use(record):
        # A hook may have left the first one over the bed, in the way.
        parked = pair.both[0].parked
        yield "SET_DUAL_CARRIAGE CARRIAGE=0"
        yield f"G1 {'XY'[pair.axis]}{parked:.3f} F{TRAVEL_SPEED}"
    yield carriages.choice(record)


def _hot(nozzle: str, target: float) -> dict[str, float]:
    """What to wait for; a heater that is off gets nowhere."""
    return {nozzle: target - HOTEND_NEARLY} if target > 0 else {}


def _heat(heater: str, target: float) -> str:
    return f"SET_HEATER_TEMPERATURE HEATER={heater} TARGET={target:.1f}"
