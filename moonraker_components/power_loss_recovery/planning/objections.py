# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What speaks against a resume: reasons not to do it, and things to know before."""
from __future__ import annotations

from .. import tools
from ..record import Job, Record
from . import carriages, cooling, rotor, spools
from .facts import Facts

POSITION_MARGIN = 0.5  # mm outside the machine's limits that is rounding
# Of drivers that cannot be read
APART = (
    "; by {:.2f} mm if the board was restarted, or had power, apart from its motor"
    " drivers"
)


def refusals(record: Record, job: Job, facts: Facts) -> list[str]:
    reasons = []
    # A nozzle of several may still be cold when it is chosen.
    preparing = facts.cold(record) and not (facts.begun or record.from_file)
    if preparing or not record.homed:
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
    offset = tools.offset(record.state, facts.changer)
    lowest, highest = carriages.limits(
        record, facts.axis_minimum, facts.axis_maximum, facts.carriages
    )
    for i, axis in enumerate("XYZ"):
        at = record.motor_position(i) + offset[i]
        low, high = lowest[i], highest[i]
        if not low - POSITION_MARGIN <= at <= high + POSITION_MARGIN:
            reasons.append(
                f"The saved {axis} is {at:.2f}, this machine goes from {low:.2f} to"
                f" {high:.2f}: was the configuration changed?"
            )
    reasons += tools.refusals(record.state, facts.changer)
    reasons += carriages.refusals(
        record, facts.objects, facts.carriages, facts.changer is not None
    )
    return reasons


def warnings(record: Record, facts: Facts, stands: rotor.Rest) -> list[str]:
    """Those that do not need the file; disagree.py has the others."""
    found = []
    if facts.outage is not None:
        found += cooling.warnings(record, facts.outage)
    if record.from_file:
        found.append(
            "Nothing was saved of this print: all is taken from the file. What was set"
            " by hand or by a macro is not known, such as Z offset, speed, flow, the"
            " bed mesh and excluded objects."
        )
    elif not facts.measures_z:
        if facts.z_switches and not facts.z_calibrated:
            found.append(
                "The Z+ switches are not calibrated (PLR_Z_HOME MODE=CALIBRATE)."
            )
        found.append(
            f"Z is taken from the record{_doubt(stands)}, not measured."
            " If the gantry or the bed has moved since, the nozzle will be at the wrong"
            " height."
        )
    if facts.cold(record):
        found.append(
            f"[{record.extruder}] was at {record.hotend_target:.0f} °C, too cold to"
            " push filament: nothing is purged, and the file heats it as it goes on."
        )
    profile = record.state["mesh"].get("profile")
    if profile and profile not in facts.mesh_profiles:
        found.append(
            f"The bed mesh {profile!r} was not stored with SAVE_CONFIG and is lost: the"
            " print goes on without a mesh."
        )
    if "homing_override" in facts.objects:
        found.append(
            "[homing_override] decides what G28 X Y does: it must not home Z, and not"
            " move it down."
        )
    empty = spools.empty(record, facts.spools)
    if empty:
        found.append(spools.warning(empty))
    if record.paused:
        found.append(
            "The print was paused: it is made ready and paused again, beside the part."
            " Load the filament if that is why, then RESUME."
        )
    found += tools.warnings(record.state, facts.changer)
    found += tools.mmu_warnings(tools.mmus(facts.objects))
    found += carriages.warnings(record, facts.objects)
    if (
        record.extruder != "extruder" and facts.changer is None
        and "dual_carriage" not in facts.objects
    ):  # fmt: skip
        found.append(
            f"The print was using [{record.extruder}]: that tool must be mounted now."
        )
    for name, target in (("heater_bed", record.bed_target), *record.other_heaters):
        if target > 0 and name not in facts.objects:
            found.append(f"[{name}] was at {target:.0f} °C and is not there now.")
    return found


def _doubt(stands: rotor.Rest) -> str:
    if stands.bound is None:
        return " (in doubt by what its motors turned when they got power again)"
    if not stands.bound:
        return ""
    apart = "" if stands.apart is None else APART.format(stands.apart)
    return f" (in doubt by {stands.bound:.2f} mm{apart})"
