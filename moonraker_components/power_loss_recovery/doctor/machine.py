# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What Klipper has to have for a resume: sections, Z motors, the calibration."""
from __future__ import annotations

from collections.abc import Iterator

from ..planning.facts import KINEMATICS
from ..prompts import span
from .findings import SECTION, Evidence, Finding, bad, doubt, good, unknown

OLD_CALIBRATION = 365 * 86400.0
# A lead screw turns once for 2 to 8 mm, and has no gear before it.
LONGEST_LEAD = 16.0
NEEDED = {
    "virtual_sdcard": (
        "Klipper cannot print files from the host",
        "Add [virtual_sdcard] with the path of your G-code folder to printer.cfg.",
    ),
    "pause_resume": (
        "PAUSE, RESUME and CANCEL_PRINT are missing",
        "Add [pause_resume] to printer.cfg.",
    ),
    "respond": (
        "front ends cannot close our dialogs",
        "Add [respond] to printer.cfg.",
    ),
}


def klippy(e: Evidence) -> Iterator[Finding]:
    if e.ready:
        yield good("klippy", "Klipper is ready.")
    elif e.klippy_state:
        yield bad(
            "klippy", f"Klipper is not ready ({e.klippy_state}): {e.klippy_message}",
            "Put right what it says, then FIRMWARE_RESTART.",
        )  # fmt: skip
    else:
        yield unknown("klippy", "Klipper does not answer: its files were read instead.")
    for problem in e.config_problems:
        yield bad("printer.cfg", problem, "Correct this line of the configuration.")


def sections(e: Evidence) -> Iterator[Finding]:
    if not e.has(SECTION):
        yield bad(
            "printer.cfg", "printer.cfg has no [power_loss_recovery].",
            "Run scripts/install.sh, or add the section.",
        )  # fmt: skip
    for name, (found, mend) in NEEDED.items():
        if e.has(name):
            yield good(name, f"[{name}] is there.")
        else:
            yield bad(name, f"There is no [{name}]: {found}.", mend)
    yield from _save_variables(e)
    kinematics = e.config.get("printer", {}).get("kinematics", "")
    if kinematics in KINEMATICS:
        yield good("kinematics", f"{kinematics} can be resumed.")
    elif kinematics:
        yield bad(
            "kinematics", f"Resuming on {kinematics} kinematics is not possible yet.",
            "PLR_DISABLE turns saving off on this printer.",
        )  # fmt: skip
    if e.has(SECTION) and not e.has("gcode_macro resume_interrupted_print"):
        yield doubt(
            "macros", "The buttons are missing: our macros are not included.",
            "Add [include power-loss-recovery/power_loss_recovery.cfg] to printer.cfg.",
        )  # fmt: skip


def _save_variables(e: Evidence) -> Iterator[Finding]:
    name = "save_variables"
    if not e.has(name):
        if e.switches:
            yield bad(
                name, "There is no [save_variables]: the calibration of the Z+ switches"
                " cannot be stored.",
                "Add [save_variables] with a filename to printer.cfg.",
            )  # fmt: skip
        else:
            yield good(name, "[save_variables] is not needed without Z+ switches.")
    elif e.variables_problem:
        yield bad(
            name, f"The file of [save_variables] cannot be read: {e.variables_problem}",
            "Restart Moonraker, which mends it from its second copy; or correct it.",
        )  # fmt: skip
    else:
        yield good(name, "[save_variables] is there.")


def extra(e: Evidence) -> Iterator[Finding]:
    """What the part inside Klipper says of itself."""
    if not e.ready:
        return
    trouble = str(e.extra.get("trouble") or "")
    if not e.extra:
        yield bad(
            "extra", "Klipper runs without our part of it.",
            "Run scripts/install.sh, then restart the Klipper service (not RESTART).",
        )  # fmt: skip
    elif trouble:
        yield bad("extra", trouble, "Restart Klipper; if it stays, make a bug report.")
    elif e.extra.get("approximate") is True:
        yield doubt(
            "extra", "This Klipper's virtual_sdcard looks different: the saved place is"
            " approximate.",
            "Use Klipper v0.12 or newer, or Kalico, instead of the vendor's.",
        )  # fmt: skip
    else:
        yield good("extra", "Our part of Klipper runs.")
    if _pin_is_on(e):
        yield bad(
            "power_loss_pin", "power_loss_pin says that the mains have failed, now.",
            "Check its wire, or put ! before the pin (or take it away).",
        )  # fmt: skip


def _pin_is_on(e: Evidence) -> bool:
    found = e.extra.get("power_loss")
    return isinstance(found, dict) and found.get("lost") is True


def switches(e: Evidence) -> Iterator[Finding]:
    """The Z+ switches: one for each motor, on a pin of its own, open now."""
    name, pins, motors = "Z+ switches", e.switches, e.z_motors
    strategy = e.own.get("z_strategy", "auto")
    if not pins:
        yield from _without_switches(e, strategy)
        return
    if set(pins) != set(motors):
        wrong = sorted(set(pins) ^ set(motors))
        yield bad(
            name, f"Each Z motor needs its own switch; look at {', '.join(wrong)}.",
            "Set pin_NAME in [power_loss_recovery] for each Z motor, and no other.",
        )  # fmt: skip
    users = _users(e)
    shared = [pin for pin in map(bare, pins.values()) if len(users[pin]) > 1]
    for pin in dict.fromkeys(shared):
        yield bad(
            name, f"Pin {pin} is used more than once: {', '.join(users[pin])}.",
            "A Z+ switch needs a pin of its own.",
        )  # fmt: skip
    if set(pins) == set(motors) and not shared:
        yield good(name, f"Each Z motor has its switch: {', '.join(motors)}.")
    if strategy == "assume":
        yield doubt(
            "z_strategy", "z_strategy is assume: the Z+ switches are not used.",
            "Set z_strategy: auto.",
        )  # fmt: skip
    yield from _live(e)


def _without_switches(e: Evidence, strategy: str) -> Iterator[Finding]:
    name = "Z+ switches"
    if strategy == "measure":
        yield bad(
            name, "z_strategy is measure, but there is no Z+ switch: each resume is"
            " refused.",
            "Set pin_stepper_z (and pin_stepper_z1...), or z_strategy: auto.",
        )  # fmt: skip
        return
    belts = [motor for motor in e.z_motors if _is_belt(e, motor)]
    if belts:
        yield doubt(
            name, f"Z has no Z+ switches and looks like belts ({', '.join(belts)}): it"
            " can sink while it has no power, and Z is trusted from the record.",
            "Fit Z+ switches, or be sure that Z stays where it is without power.",
        )  # fmt: skip
    else:
        yield good(name, "None: Z is taken from the record, as for lead screws.")


def _is_belt(e: Evidence, motor: str) -> bool:
    options = e.config.get(motor, {})
    try:
        lead = abs(float(options.get("rotation_distance", "8")))
    except ValueError:
        return False
    return "gear_ratio" in options or lead > LONGEST_LEAD


def bare(pin: str) -> str:
    """A pin's name without what klippy lets one write around it."""
    return "".join(pin.split()).lstrip("^~!").removeprefix("mcu:")


def _users(e: Evidence) -> dict[str, list[str]]:
    """Options that name each of the switches' pins."""
    found: dict[str, list[str]] = {bare(pin): [] for pin in e.switches.values()}
    for section, options in e.config.items():
        own = section == SECTION
        for option, value in options.items():
            is_pin = option.startswith("pin_stepper_z") if own else (
                option == "pin" or option.endswith("_pin"))  # fmt: skip
            if is_pin and bare(value) in found:
                found[bare(value)].append(f"{option} of [{section}]")
    return found


def _live(e: Evidence) -> Iterator[Finding]:
    name = "Z+ switches now"
    states = {m: e.endstops.get(f"z_plus {m}") for m in e.switches}
    if not all(states.values()):
        yield unknown(name, "Not asked: Klipper is not ready, or it prints.")
        return
    pressed = [motor for motor, state in states.items() if state != "open"]
    if pressed:
        yield bad(
            name, f"Pressed now: {', '.join(pressed)}.",
            "If Z is not at its top: check the plug and the wire, then ^ and ! of the"
            " pin. QUERY_ENDSTOPS shows each while you press it by hand.",
        )  # fmt: skip
    else:
        yield good(name, "All are open.")


def calibration(e: Evidence) -> Iterator[Finding]:
    name = "calibration"
    if not e.switches:
        return
    homing = e.extra.get("z_homing")
    if not isinstance(homing, dict):
        yield unknown(name, "Klipper has to be ready for that.")
        return
    if not homing.get("calibrated"):
        found = str(homing.get("calibration_problem") or "none is stored.")
        yield bad(
            name, f"The Z+ switches are not calibrated: {found}",
            "Home and level the machine, then PLR_Z_HOME MODE=CALIBRATE.",
        )  # fmt: skip
        return
    when = homing.get("calibration_time")
    age = e.clock.now - when if isinstance(when, (int, float)) else None
    if age is not None and age > OLD_CALIBRATION:
        yield doubt(
            name, f"The calibration is {span(age)} old.",
            "Level the machine and run PLR_Z_HOME MODE=CALIBRATE again.",
        )  # fmt: skip
    elif age is not None and age < -86400:
        yield doubt(
            name, "The calibration is from the future: the host's clock was wrong"
            " then, or is wrong now.",
            "Check the clock, then calibrate again.",
        )  # fmt: skip
    else:
        yield good(name, "The Z+ switches are calibrated.")
    told = (e.plr or {}).get("calibration")
    if isinstance(told, dict) and told.get("second_copy") is False:
        yield doubt(
            "second copy", "There is no second copy of the calibration: a power loss"
            " can take it.",
            "Restart Klipper while Moonraker runs; see moonraker.log if it stays.",
        )  # fmt: skip
