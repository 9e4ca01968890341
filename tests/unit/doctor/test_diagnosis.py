# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Faults planted one by one into a machine with nothing wrong: each is found, alone."""
from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from moonraker_components.power_loss_recovery.doctor import diagnosis
from moonraker_components.power_loss_recovery.doctor.findings import (
    BAD,
    DOUBT,
    GOOD,
    UNKNOWN,
    Clock,
    Disk,
    Evidence,
)
from moonraker_components.power_loss_recovery.doctor.klipper_config import load
from tests.unit import healthy
from tests.unit.healthy import (
    EXTRA,
    FILES,
    NOW,
    OURS,
    with_disk,
    with_extra,
    with_links,
    with_moonraker,
    with_options,
    with_plr,
    with_server,
    with_z_homing,
    without,
)
from tests.virtual_printer import guide, variants

Plant = Callable[[Evidence], Evidence]
OWN = "power_loss_recovery"


@pytest.fixture
def good(tmp_path: Path) -> Evidence:
    return healthy.evidence(tmp_path)


def alarms(e: Evidence) -> list[tuple[str, str, str]]:
    """State, name and text of all that is not well."""
    return [(f.state, f.name, f.found) for f in diagnosis.examine(e)
            if f.state in (BAD, DOUBT)]  # fmt: skip


def homing(gcode: str, **options: str) -> Plant:
    return lambda e: with_options(e, "homing_override", gcode=gcode, **options)


def macro(name: str, gcode: str) -> Plant:
    return lambda e: with_options(e, f"gcode_macro {name}", gcode=gcode)


def own(**options: str) -> Plant:
    return lambda e: with_options(e, OWN, **options)


def no_switches(e: Evidence) -> Evidence:
    kept = {k: v for k, v in e.own.items() if not k.startswith("pin_")}
    return replace(e, config={**e.config, OWN: kept})


def boot(gcode: str) -> Plant:
    def plant(e: Evidence) -> Evidence:
        return with_options(e, "delayed_gcode at_start", initial_duration="1",
                            gcode=gcode)  # fmt: skip

    return plant


# state, name, words of the finding; the fault
FAULTS: list[tuple[str, str, str, Plant]] = [
    (BAD, "klippy", "not ready", lambda e: replace(
        e, klippy_state="shutdown", klippy_message="MCU lost", endstops={}, status={})),
    (BAD, "printer.cfg", "not there", lambda e: replace(
        e, config_problems=["printer.cfg includes x.cfg, which is not there"])),
    (BAD, "Klipper version", "older", lambda e: replace(e, klippy_version="v0.11.0-9")),
    (DOUBT, "Klipper version", "newer", lambda e: replace(
        e, klippy_version="v0.15.0-1-gabc")),
    (BAD, "Moonraker version", "older", lambda e: with_server(
        e, moonraker_version="v0.8.0-38-gabc")),
    (DOUBT, "Moonraker version", "newer", lambda e: with_server(
        e, moonraker_version="0.12.0")),
    (BAD, "Moonraker", "did not load. [power_loss_recovery]: journal_path",
     lambda e: with_server(e, failed_components=[OWN], components=[],
                           warnings=["[power_loss_recovery]: journal_path: no"])),
    (BAD, "Moonraker", "not loaded", lambda e: with_server(e, components=["server"])),
    (BAD, "moonraker.conf", "has no [power_loss_recovery]", lambda e: replace(
        with_server(e, components=["server"]),
        moonraker_config={"server": {"port": "7125"}})),
    (BAD, "moonraker.conf", "cannot be read", lambda e: replace(
        e, moonraker_problems=["moonraker.conf cannot be read"])),
    (BAD, "virtual_sdcard", "no [virtual_sdcard]",
     lambda e: without(e, "virtual_sdcard")),
    (BAD, "pause_resume", "no [pause_resume]", lambda e: without(e, "pause_resume")),
    (BAD, "respond", "no [respond]", lambda e: without(e, "respond")),
    (BAD, "save_variables", "no [save_variables]",
     lambda e: without(e, "save_variables")),
    (BAD, "save_variables", "cannot be read", lambda e: replace(
        e, variables_problem="no section headers")),
    (BAD, "save_variables", "in memory (tmpfs)", lambda e: replace(
        e, variables_disk=Disk("/tmp/variables.cfg", "tmpfs", "tmpfs"))),
    (BAD, "kinematics", "delta", lambda e: with_options(
        e, "printer", kinematics="delta")),
    (DOUBT, "macros", "buttons", lambda e: without(
        e, "gcode_macro RESUME_INTERRUPTED_PRINT")),
    (BAD, "extra", "without our part", lambda e: replace(e, status={})),
    (BAD, "extra", "prints are not saved", lambda e: with_extra(
        e, trouble="prints are not saved: this Klipper looks different")),
    (DOUBT, "extra", "approximate", lambda e: with_extra(e, approximate=True)),
    (BAD, "power_loss_pin", "mains have failed", lambda e: with_extra(
        e, power_loss={"available": True, "lost": True})),
    (BAD, "Z+ switches", "stepper_z3", lambda e: with_options(
        e, OWN, pin_stepper_z3="")),
    (BAD, "Z+ switches", "more than once", own(pin_stepper_z1="!ZP0")),
    (BAD, "Z+ switches", "pin of [fan]", own(pin_stepper_z1="^FAN0")),
    (BAD, "Z+ switches", "measure", lambda e: with_options(
        no_switches(e), OWN, z_strategy="measure")),
    (DOUBT, "Z+ switches", "looks like belts", no_switches),
    (DOUBT, "z_strategy", "not used", own(z_strategy="assume")),
    (BAD, "Z+ switches now", "Pressed now: stepper_z2", lambda e: replace(
        e, endstops={**e.endstops, "z_plus stepper_z2": "TRIGGERED"})),
    (BAD, "calibration", "none is stored", lambda e: with_z_homing(
        e, calibrated=False, calibration_problem="none is stored.")),
    (BAD, "calibration", "older than a change", lambda e: with_z_homing(
        e, calibrated=False, calibration_problem="the calibration is older than a"
        " change of the config: z_position was '230', is '232'.")),
    (DOUBT, "calibration", "400 days old", lambda e: with_z_homing(
        e, calibration_time=NOW - 400 * 86400)),
    (DOUBT, "calibration", "from the future", lambda e: with_z_homing(
        e, calibration_time=NOW + 9 * 86400)),
    (DOUBT, "second copy", "no second copy", lambda e: with_plr(
        e, calibration={"second_copy": False})),
    (BAD, "homing", "homes Z at each G28 X Y: G28", homing("G28")),
    (BAD, "homing", "homes Z at each G28 X Y: G28 Z", homing(
        "G91\nG0 Z5\nG90\nG28 X Y\nG0 X100 Y100\nG28 Z")),
    (BAD, "homing", "sets Z to 0", homing("G28 X Y", set_position_z="0")),
    (BAD, "homing", "homes Z at each G28 X Y: G28 Z0", lambda e: homing(
        "_Z\nG28 X Y")(macro("_z", "G28 Z0")(e))),
    (DOUBT, "homing", "may home Z", homing(
        "G28 X Y\n{% if printer.foo.bar %}\nG28 Z\n{% endif %}")),
    (DOUBT, "homing", "fixed height", homing("G90\nG0 Z10 F600\nG28 X\nG28 Y")),
    (BAD, "homing", "[gcode_macro G28]", lambda e: with_options(
        e, "gcode_macro G28", rename_existing="G28.1", gcode="G28.1 X Y\nPROBE")),
    (BAD, "restart_gcode", "homes Z and purges", own(
        restart_gcode="START_PRINT BED=60")),
    (BAD, "restart_gcode", "QUAD_GANTRY_LEVEL", own(restart_gcode="QUAD_GANTRY_LEVEL")),
    (BAD, "before_resume_gcode", "G28 (in _MINE)", lambda e: own(
        before_resume_gcode="_MINE")(macro("_mine", "G28")(e))),
    (BAD, "force_move", "[gcode_macro lift]", macro(
        "lift", "SET_KINEMATIC_POSITION Z=10\nG91\nG1 Z5\nG90")),
    (BAD, "start of Klipper", "moves the machine", boot("G28")),
    (BAD, "start of Klipper", "heats", boot("M140 S60")),
    (BAD, "start of Klipper", "not true", lambda e: boot(
        "SET_KINEMATIC_POSITION X=0 Y=0 Z=0")(
            with_options(e, "force_move", enable_force_move="True"))),
    (BAD, "start of Klipper", "moves the machine", lambda e: boot("_PARK")(
        macro("_park", "G1 X0 Y0 F6000")(e))),
    (DOUBT, "start macro", "PLR_DISABLE", macro("PRINT_START", "PLR_DISABLE\nG28")),
    (DOUBT, "start macro", "PLR_RESET_PRINT_DATA", macro(
        "START_PRINT", "PLR_RESET_PRINT_DATA\nG28")),
    (DOUBT, "start macro", "goes on by itself", macro(
        "START_PRINT", "UPDATE_DELAYED_GCODE ID=bedfans DURATION=1")),
    (DOUBT, "other plugins", "YUMI_PLR", lambda e: with_options(
        e, "gcode_shell_command POWER_LOSS_RESUME", command="bash plr.sh")),
    (BAD, "saving", "Saving is off", lambda e: with_plr(e, enabled=False)),
    (BAD, "saving", "disk is full", lambda e: with_plr(e, trouble="the disk is full")),
    (BAD, "journal", "in memory (tmpfs)", lambda e: with_disk(
        e, kind="tmpfs", volatile="tmpfs")),
    (BAD, "journal", "read-only", lambda e: with_disk(e, options=frozenset({"ro"}))),
    (BAD, "journal", "No space left", lambda e: with_disk(
        e, error="No space left on device")),
    (BAD, "journal", "1 MiB are free", lambda e: with_disk(e, free=1 << 20)),
    (DOUBT, "journal", "only 30 MiB", lambda e: with_disk(e, free=30 << 20)),
    (DOUBT, "journal", "takes 0.80 s", lambda e: with_disk(e, latency=0.8)),
    (BAD, "journal", "takes 3.00 s", lambda e: with_disk(e, latency=3.0)),
    (DOUBT, "journal", "without barriers", lambda e: with_disk(
        e, options=frozenset({"rw", "nobarrier"}))),
    (DOUBT, "journal", "overlay", lambda e: with_disk(e, kind="overlay")),
    (DOUBT, "journal", "vfat", lambda e: with_disk(e, kind="vfat")),
    (DOUBT, "journal", "another computer", lambda e: with_disk(e, kind="nfs4")),
    (DOUBT, "gcodes", "50 MiB", lambda e: replace(e, gcodes_free=50 << 20)),
    (BAD, "gcodes", "prints from /media/usb", lambda e: replace(
        e, roots={**e.roots, "virtual_sdcard": "/media/usb"})),
    (BAD, "clock", "not set", lambda e: with_z_homing(
        replace(e, clock=Clock(3600.0)), calibration_time=None)),
    (DOUBT, "clock", "no network time", lambda e: replace(
        e, clock=Clock(NOW, synchronised=False, battery=False))),
    (BAD, "job queue", "onto the interrupted one", lambda e: with_moonraker(
        e, "job_queue", load_on_startup="True")),
    (BAD, "power", "cuts the power", lambda e: with_moonraker(
        e, "power printer", off_when_shutdown="True")),
    (DOUBT, "power", "switched off in a print", lambda e: with_moonraker(
        e, "power printer", bound_services="klipper")),
    (DOUBT, "updates", "does not restart both", lambda e: with_moonraker(
        e, "update_manager power_loss_recovery", managed_services="klipper")),
    (DOUBT, "updates", "we run from", lambda e: replace(
        e, roots={**e.roots, "update_manager power_loss_recovery": "/home/pi/old"})),
    (DOUBT, "updates", "untracked", lambda e: with_links(
        e, dirty=["klippy/extras/power_loss_recovery"])),
    (BAD, "links", "has no link", lambda e: with_links(e, extras={})),
    (BAD, "links", "leads nowhere", lambda e: with_links(e, extras={EXTRA: ""})),
    (BAD, "links", "leads nowhere", lambda e: with_links(e, component_to="")),
    (DOUBT, "links", "may not fit", lambda e: with_links(
        e, extras={EXTRA: "/home/pi/old/klippy_extras/power_loss_recovery"})),
    (BAD, "links", "two of us", lambda e: with_links(e, extras={
        EXTRA: OURS, EXTRA.replace("extras", "plugins"): OURS})),
    (DOUBT, "links", "link to a folder", lambda e: with_links(e, folder_link=True)),
    (BAD, "klipper-plr", "another plugin", lambda e: with_links(
        e, older=EXTRA + ".py")),
]  # fmt: skip


def label(fault: tuple[str, str, str, Plant]) -> str:
    return f"{fault[1]}: {fault[2]}".replace("[", "").replace("]", "")


def test_a_good_machine_has_no_alarm(good: Evidence) -> None:
    found = diagnosis.examine(good)
    assert [f for f in found if f.state != GOOD] == []
    assert diagnosis.summary(found).startswith("All is well that was looked at; ")


@pytest.mark.parametrize("fault", FAULTS, ids=label)
def test_a_planted_fault_is_found_and_no_other(
    fault: tuple[str, str, str, Plant], good: Evidence
) -> None:
    state, name, words, plant = fault
    ((found_state, found_name, text),) = alarms(plant(good))
    assert (found_state, found_name) == (state, name) and words in text


@pytest.mark.parametrize("fault", FAULTS, ids=label)
def test_each_fault_has_a_mend(
    fault: tuple[str, str, str, Plant], good: Evidence
) -> None:
    (found,) = [f for f in diagnosis.examine(fault[3](good)) if f.state in (BAD, DOUBT)]
    assert found.mend and found.mend[0].isupper() and "\n" not in found.mend


def test_the_figure_of_the_issue() -> None:
    assert len({label(fault) for fault in FAULTS}) >= 25


# What looks like a fault, and is none

INNOCENT: dict[str, Plant] = {
    "a lead screw without switches": lambda e: replace(
        no_switches(without(e, *healthy.MOTORS)),
        config={**no_switches(without(e, *healthy.MOTORS)).config,
                "stepper_z": {"rotation_distance": "8", "position_max": "250"}}),
    "homing_override of Z alone": homing("G28 Z", axes="z"),
    "homing_override that looks at its axes": homing(
        "{% set all = not ('X' in params or 'Y' in params or 'Z' in params) %}\n"
        "{% if all or 'X' in params %}\nG28 X\n{% endif %}\n"
        "{% if all or 'Z' in params %}\nG0 X100 Y100\nG28 Z\n{% endif %}"),
    "homing_override that lifts": homing("G91\nG0 Z5 F600\nG90\nG28 X\nG28 Y"),
    "homing_override that lifts if low": homing(
        "{% if printer.toolhead.position.z < 10 %}\nG90\nG0 Z10\n{% endif %}\nG28 X Y"),
    "safe_z_home": lambda e: with_options(
        e, "safe_z_home", home_xy_position="100,100", z_hop="10"),
    "a G28 that passes on what was asked": macro("G28", "G28.1 {rawparams}"),
    "a light at the start": boot("SET_LED LED=case RED=1\nM140 S0\nM84"),
    "motion at the start, if asked for": boot(
        "{% if printer['gcode_macro x'].on %}\nG28\n{% endif %}"),
    "a hook that homes X and Y": own(before_resume_gcode="G28 X Y\nG1 X100 Y100"),
    "G28 in a hook where Z homes at its top": lambda e: with_options(
        own(restart_gcode="G28")(e), "stepper_z", position_endstop="230"),
    "the vendor's version": lambda e: replace(e, klippy_version="09faed31-dirty"),
    "Kalico's version": lambda e: replace(e, klippy_version="v2025.07.00-12-gabc"),
    "no version at all": lambda e: replace(e, klippy_version="?"),
    "SET_KINEMATIC_POSITION with force_move": lambda e: with_options(
        macro("lift", "SET_KINEMATIC_POSITION Z=1")(e), "force_move",
        enable_force_move="True"),
    "a clock module without network": lambda e: replace(
        e, clock=Clock(NOW, synchronised=False, battery=True)),
    "a locked supply": lambda e: with_moonraker(
        e, "power printer", bound_services="klipper", locked_while_printing="True"),
    "start macro and hook start the same": lambda e: own(
        restart_gcode="UPDATE_DELAYED_GCODE ID=fans DURATION=1")(
            macro("START_PRINT", "UPDATE_DELAYED_GCODE ID=fans DURATION=1")(e)),
}  # fmt: skip


@pytest.mark.parametrize("what", INNOCENT)
def test_no_false_alarm(what: str, good: Evidence) -> None:
    assert alarms(INNOCENT[what](good)) == []


# Of Klipper's own examples, those that really home Z with X and Y
HOME_Z = {"printer-hiprecy-leo-2019.cfg", "printer-lulzbot-mini1-2016.cfg"}


def test_klippers_own_configurations_raise_no_false_alarm(good: Evidence) -> None:
    tree = Path(os.environ.get("PLR_KLIPPER_PATH", "/nowhere"))
    paths = sorted([*tree.glob("config/*.cfg"), *tree.glob("klippy/config/*.cfg")])
    if not paths:
        pytest.skip("this Klipper tree has no config folder")
    added = {
        name: options for name, options in good.config.items()
        if name in ("virtual_sdcard", "pause_resume", "respond", "save_variables")
        or name == "gcode_macro RESUME_INTERRUPTED_PRINT"
    }  # fmt: skip
    for path in paths:
        found = load(str(path), FILES)
        mine = {**found.sections, **added, OWN: {}}
        e = replace(good, config=mine, config_problems=found.problems)
        names = {name for _, name, _ in alarms(e)} - {"kinematics", "Z+ switches"}
        assert names == ({"homing"} if path.name in HOME_Z else set()), path.name


VARIANTS = [
    variants.LEAD_SCREWS, variants.LEAD_SCREWS_TMC, variants.ONE_SCREW,
    variants.TRIDENT, variants.TWO_MOTORS, variants.ONE_MOTOR, variants.CARTESIAN,
    variants.SECOND_MCU,
]  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_no_kind_of_machine_is_a_fault(
    variant: variants.Variant, tmp_path: Path
) -> None:
    assert alarms(healthy.evidence(tmp_path, "", variant)) == []


def test_the_guides_configuration_is_good(tmp_path: Path) -> None:
    assert alarms(healthy.evidence(tmp_path, guide.config())) == []


def test_without_klipper_and_moonraker_the_files_are_still_examined(
    good: Evidence,
) -> None:
    silent = replace(without(good, "respond"), klippy_state="", klippy_version="",
                     status={}, endstops={}, moonraker=None, plr=None)  # fmt: skip
    assert [(s, n) for s, n, _ in alarms(silent)] == [(BAD, "respond")]
    unknown = {f.name for f in diagnosis.examine(silent) if f.state == UNKNOWN}
    assert unknown == {"klippy", "Moonraker", "Z+ switches now", "calibration"}
    assert "4 not looked at" in diagnosis.summary(diagnosis.examine(silent))


LINES = ["G28", "G28 Z", "G0 Z5", "{% if a %}", "{% else %}", "{% endif %}", "{x}",
         "PROBE", "_A", "G91", "{#", "#}", "%}"]  # fmt: skip
TEXTS = st.text(alphabet=st.sampled_from("GMXYZ0123 .={}%#;\n'\"ifel_")) | st.lists(
    st.sampled_from(LINES)
).map("\n".join)


@hypothesis.given(TEXTS, TEXTS)
@hypothesis.settings(max_examples=150)
def test_whatever_is_in_a_macro_the_doctor_goes_on(first: str, second: str) -> None:
    base = Evidence({"printer": {"kinematics": "corexy"}}, Clock(NOW))
    e = replace(base, config={
        "homing_override": {"gcode": first, "axes": second},
        "gcode_macro _a": {"gcode": second},
        "gcode_macro START_PRINT": {"gcode": first},
        OWN: {"restart_gcode": first, "pin_stepper_z": second, "z_strategy": first},
        "stepper_z": {"rotation_distance": first, "position_endstop": second},
        "delayed_gcode x": {"initial_duration": second, "gcode": first},
    })  # fmt: skip
    assert not [f for f in diagnosis.examine(e) if "check of ours failed" in f.found]


def test_a_check_that_fails_does_not_hide_the_others(good: Evidence) -> None:
    broken = replace(without(good, "respond"), gcodes_free="much")  # type: ignore[arg-type]
    found = diagnosis.examine(broken)
    assert [f.name for f in found if f.state == BAD] == ["respond"]
    assert [f.name for f in found if f.state == UNKNOWN] == ["journal"]


def test_the_list_is_for_people_and_the_gravest_comes_first(good: Evidence) -> None:
    plants = [with_disk(good, latency=0.8), without(good, "respond")]
    both = replace(plants[0], config=plants[1].config)
    lines = diagnosis.lines(diagnosis.examine(both))
    assert lines[0].startswith("[ BAD] respond: There is no [respond]")
    assert lines[1] == "       -> Add [respond] to printer.cfg."
    assert lines[2].startswith("[look] journal: ")
    assert lines[-1].startswith("1 to mend, 1 to look at; ")


def test_includes_are_followed_and_what_is_missing_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "printer.cfg").write_text(
        "[include a/*.cfg]\n[include none/*.cfg]\n[include gone.cfg]\n"
        "[extruder]\nControl: pid # here\n"
        "#*# <---------------------- SAVE_CONFIG ---------------------->\n"
        "#*# DO NOT EDIT THIS BLOCK OR BELOW. The contents are auto-generated.\n"
        "#*#\n#*# [extruder]\n#*# pid_kp = 20\n"
    )
    (tmp_path / "a" / "x.cfg").write_text("[fan]\npin: PA1\n[include ../printer.cfg]\n")
    found = load(str(tmp_path / "printer.cfg"), FILES)
    assert found.sections["extruder"] == {"control": "pid", "pid_kp": "20"}
    assert found.sections["fan"] == {"pin": "PA1"}
    assert len(found.files) == 2
    assert "gone.cfg" in found.problems[1] and "itself" in found.problems[0]
