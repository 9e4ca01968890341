# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a resume asks klippy for, and the machine as it is before one."""
from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import plan, sequence, tools
from ..planning import carriages, hooks, purge, restore, rotor, spools
from ..planning.facts import KINEMATICS, Facts
from ..settings import Settings

Query = Callable[[Mapping[str, list[str] | None]], Awaitable[dict[str, Any]]]

G92_NOISE = 1e-4  # mm


@dataclass(frozen=True)
class Klippy:
    """What a resume needs of klippy, all of it awaitable and injected."""

    run_gcode: sequence.RunGcode
    query: Query
    list_objects: Callable[[], Awaitable[list[str]]]
    start_print: Callable[[str], Awaitable[object]]


async def facts(
    klippy: Klippy, extruder: str, z_strategy: str | None = None
) -> Facts:
    """The machine, from klippy.  Raises plan.Refusal if it is not as needed.

    z_strategy: instead of the configured one.
    """
    names = await klippy.list_objects()
    wanted: dict[str, list[str] | None] = {
        "toolhead": ["axis_minimum", "axis_maximum", "homed_axes", "position"],
        "gcode_move": ["position", "gcode_position", "homing_origin"],
        "power_loss_recovery": ["z_homing", "z_motors"],
        "print_stats": ["state"],
        "configfile": ["settings"],
    }
    missing = [name for name in wanted if name not in names]
    if missing:
        raise plan.Refusal([f"Klipper has no [{name}]." for name in missing])
    if "bed_mesh" in names:
        wanted["bed_mesh"] = ["profiles"]
    if extruder in names:
        wanted[extruder] = ["temperature"]
    wanted |= dict.fromkeys(tools.objects(names))
    wanted |= {n: ["filament_detected"] for n in names if n.startswith(spools.KIND)}
    status = await klippy.query(wanted)
    settings, toolhead = status["configfile"]["settings"], status["toolhead"]
    reasons = _unfit(status, settings, extruder)
    if reasons:
        raise plan.Refusal(reasons)
    extra = status["power_loss_recovery"]
    z_homing = extra["z_homing"]
    low, high = toolhead["axis_minimum"], toolhead["axis_maximum"]
    known = "z" in toolhead["homed_axes"]
    fans = {
        name: float(settings.get(name.lower(), {}).get("max_power", 1.0))
        for name in names
        if name.split()[0] in ("fan", "fan_generic")
    }
    own = settings.get("power_loss_recovery", {})
    return Facts(
        axis_minimum=(low[0], low[1], low[2]),
        axis_maximum=(high[0], high[1], high[2]),
        min_extrude_temp=float(settings[extruder].get("min_extrude_temp", 170.0)),
        z_switches=bool(z_homing["available"]),
        z_calibrated=bool(z_homing["calibrated"]),
        objects=frozenset(names) | (restore.SILENT & set(settings)),
        toolhead_z=float(toolhead["position"][2]) if known else None,
        hotend=float(status.get(extruder, {}).get("temperature", 0.0)),
        mesh_profiles=frozenset(status.get("bed_mesh", {}).get("profiles", ())),
        fan_power=fans,
        purge_flow=purge.flow(settings[extruder]),
        z_motors={name: rotor.Motor(**now) for name, now in extra["z_motors"].items()},
        z_strategy=z_strategy or Settings.from_klippy(own).z_strategy,
        changer=tools.read(status),
        spools={name: status[name] for name in spools.watching(names, settings)},
        carriages=carriages.read(settings),
        hooks=frozenset(n for n in hooks.NAMES if str(own.get(n) or "").strip()),
    )


def _unfit(
    status: Mapping[str, Any], settings: Mapping[str, Any], extruder: str
) -> list[str]:
    reasons = []
    if status["print_stats"].get("state") in ("printing", "paused"):
        reasons.append("A print is running.")
    if extruder not in settings:
        reasons.append(f"This printer has no [{extruder}] any more.")
    kinematics = settings.get("printer", {}).get("kinematics", "")
    if kinematics not in KINEMATICS:
        reasons.append(f"Resuming on {kinematics} kinematics is not possible yet.")
    move = status["gcode_move"]
    shift = move["position"][2] - move["gcode_position"][2] - move["homing_origin"][2]
    if abs(shift) > G92_NOISE:
        reasons.append(
            f"A G92 has shifted Z by {shift:.3f} mm. Run RESTART, then resume."
        )
    return reasons
