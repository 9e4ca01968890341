# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The order of a resume, what it never does, and when there is none."""
from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery import plan
from moonraker_components.power_loss_recovery.gcode.scan import Footprint
from moonraker_components.power_loss_recovery.plan import Plan, Refusal
from moonraker_components.power_loss_recovery.planning import purge, rotor
from moonraker_components.power_loss_recovery.planning.facts import Facts
from moonraker_components.power_loss_recovery.planning.steps import Step
from moonraker_components.power_loss_recovery.record import Record
from tests.unit.samples import FACTS, JOB, LINE, OBJECTS, head, record, state

TALL = b"""G90
M83
G1 X50 Y50 Z60 F6000
G1 X60 Y50 E5
"""


def make(
    rec: Record | None = None, facts: Facts = FACTS, gcode: bytes | None = None,
    line: bytes = LINE,
) -> Plan:  # fmt: skip
    known = head() if gcode is None else head(gcode, len(gcode))
    return plan.make(rec or record(), JOB, known, line, facts)


def step(made: Plan, name: str) -> Step:
    return next(s for s in made.steps if s.name == name)


def names(made: Plan) -> list[str]:
    return [s.name for s in made.steps]


def untrusted(**changes: Any) -> Facts:
    return replace(FACTS, z_switches=False, z_calibrated=False, **changes)


def lifted(line: str) -> float:
    """mm, of a _PLR_LIFT"""
    match = re.search(r"DISTANCE=([\d.]+)", line)
    assert match is not None
    return float(match[1])


def heights(made: Plan, start: float) -> list[tuple[str, float, float]]:
    """(step, from, to) of each motion of Z, from `start` on the motors."""
    z, absolute, found = start, True, []
    for s in made.steps:
        if s.name == "true_z":
            z = FACTS.axis_maximum[2] - 2
        for line in s.script.split("\n"):
            match = re.search(r"Z(-?[\d.]+)", line)
            if line in ("G90", "G91"):
                absolute = line == "G90"
            elif line.startswith("_PLR_LIFT"):
                found.append((s.name, z, z := z + lifted(line)))
            elif line.startswith("G1") and match:
                to = float(match[1]) + (0.0 if absolute else z)
                found.append((s.name, z, to))
                z = to
    return found


def test_the_order_is_the_one_that_keeps_the_part() -> None:
    assert names(make()) == [
        "bed", "soften", "lift", "home_xy", "true_z", "travel", "heat", "purge",
    ]  # fmt: skip


def test_without_switches_z_is_assumed_and_the_owner_told() -> None:
    made = make(facts=untrusted())
    assert "true_z" not in names(made)
    assert any("not measured" in w for w in made.warnings)
    made = make(facts=replace(FACTS, z_calibrated=False))
    assert "true_z" not in names(made)
    assert any("not calibrated" in w for w in made.warnings)


def test_a_bed_without_heat_is_not_waited_for() -> None:
    made = make(record(state=state(heaters={"heater_bed": 0.0})))
    assert names(made)[0] == "soften"


def test_a_chamber_is_heated_even_when_the_bed_is_not() -> None:
    heaters = {"heater_bed": 0.0, "heater_generic the chamber": 55.0, "extruder1": 0.0}
    rec = record(state=state(heaters=heaters))
    facts = replace(FACTS, objects=OBJECTS | {"heater_generic the chamber"})
    made = make(rec, facts)
    warm = step(made, "bed")
    assert warm.script == "SET_HEATER_TEMPERATURE HEATER=chamber TARGET=55.0"
    assert not warm.wait and made.warnings == ()


def test_a_heater_that_is_gone_is_said_and_left_out() -> None:
    rec = record(state=state(heaters={"heater_generic chamber": 55.0}))
    made = make(rec)
    assert "chamber" not in step(made, "bed").script
    assert any("[heater_generic chamber]" in w for w in made.warnings)


def test_a_nozzle_that_is_still_soft_leaves_the_part_before_the_bed_is_warm() -> None:
    made = make(facts=replace(FACTS, hotend=200.0))
    order = names(made)
    assert order.index("bed") < order.index("lift") < order.index("bed_warm")
    assert order.index("bed_warm") < order.index("heat")
    assert not step(made, "bed").wait
    assert step(made, "bed_warm").wait


def test_the_bed_is_waited_for_before_anything_moves() -> None:
    made = make()
    assert step(made, "bed").wait == {"heater_bed": 57.0}
    assert "G1" not in step(made, "bed").script + step(made, "soften").script


@pytest.mark.parametrize(("target", "soft"), [(215, 165), (180, 150), (300, 250)])
def test_the_nozzle_is_softened_with_the_least_heat(target: float, soft: float) -> None:
    made = make(record(state=state(heaters={"extruder": target})))
    assert f"TARGET={soft:.1f}" in step(made, "soften").script
    assert step(made, "soften").wait == {"extruder": soft - 2}
    assert step(made, "heat").wait == {"extruder": target - 2}


@given(
    st.floats(0.2, 231), st.one_of(st.none(), st.floats(0.2, 231)),
    st.booleans(), st.sampled_from([None, TALL]), st.floats(-2, 3),
)  # fmt: skip
def test_z_only_goes_up_until_it_is_known(
    recorded: float, now: float | None, trusted: bool, gcode: bytes | None, dz: float
) -> None:
    rec = record(toolhead_z=recorded,
                 state=state(coordinates={"homing_origin": [0, 0, dz]}))  # fmt: skip
    facts = replace(FACTS, toolhead_z=now, z_switches=trusted)
    made = make(rec, facts, gcode)
    start = recorded if now is None else now
    moves = heights(made, start)
    top = FACTS.axis_maximum[2]
    for name, before, after in moves:
        if name == "lift":
            assert before <= after + 5e-4 and after <= max(top, start)
    before_true = names(made)[: names(made).index("home_xy") + 1]
    assert [m[0] for m in moves if m[0] in before_true] == ["lift"]


@given(st.floats(0.2, 231), st.floats(-2, 3), st.sampled_from([None, TALL]))
def test_travel_is_above_everything_printed(
    recorded: float, dz: float, gcode: bytes | None
) -> None:
    rec = record(toolhead_z=recorded,
                 state=state(coordinates={"homing_origin": [0, 0, dz]}))  # fmt: skip
    made = make(rec, gcode=gcode)
    printed = max(recorded, 0.4 + dz, (60.0 if gcode else 0.4) + dz)
    safe = [to for name, _, to in heights(made, recorded) if name == "travel"][0]
    assert safe >= printed - 1e-3
    assert safe >= min(printed + plan.CLEARANCE, FACTS.axis_maximum[2] - 1) - 1e-3
    in_file = float(re.search(rb"G0 Z(-?[\d.]+)", b"\n".join(made.prologue))[1])  # type: ignore[index]
    assert in_file + dz == pytest.approx(max(safe, 0.4 + dz), abs=2e-3)


def test_x_and_y_are_homed_above_the_objects_that_are_done() -> None:
    """One by one: the object in work is low, another one is 60 mm tall."""
    rec = record(toolhead_z=2.0)
    lift = [m for m in heights(make(rec, gcode=TALL), 2.0) if m[0] == "lift"][0]
    assert lift[2] >= 60.0 + plan.CLEARANCE


def test_z_that_klippy_knows_is_not_assumed_again() -> None:
    """After a resume that failed half way the head is not where it was saved."""
    made = make(facts=replace(FACTS, toolhead_z=33.0))
    assert "_PLR_ASSUME_Z" not in step(made, "lift").script
    assert heights(made, 33.0)[0] == ("lift", 33.0, 43.0)
    assert "_PLR_ASSUME_Z Z=0.4000" in step(make(), "lift").script.split("\n")[0]


def test_without_switches_the_snap_of_the_rotors_is_taken_out() -> None:
    phases = {"stepper_z": (8, 64), "stepper_z1": (24, 64)}
    rec = record(z_range=(0.4, 0.4), z_phases=phases)
    motor = rotor.Motor(step_dist=0.0025, cycle=64, phase=0, moved=0)
    facts = replace(FACTS, z_switches=False, z_motors=dict.fromkeys(phases, motor))
    made = make(rec, facts)
    first = step(made, "lift").script.split("\n")[0]
    assert first == "_PLR_ASSUME_Z Z=0.3800 BELOW=stepper_z1:0.0400"
    assert made.z == {"measured": False, "estimate": pytest.approx(0.38),
                      "bound": pytest.approx(0.008), "apart": None}  # fmt: skip
    assert any("in doubt by 0.01 mm)" in w for w in made.warnings)
    counted = replace(motor, counted=True)
    made = make(rec, replace(facts, z_motors=dict.fromkeys(phases, counted)))
    assert made.z["apart"] == pytest.approx(0.156)
    said = "in doubt by 0.01 mm; by 0.16 mm if the board was restarted, or had power,"
    assert any(said in w for w in made.warnings)
    made = make(rec, replace(facts, z_motors={}))
    assert made.z["bound"] is None
    assert any("in doubt by what its motors turned" in w for w in made.warnings)


@pytest.mark.parametrize(("strategy", "calibrated", "measured"), [
    ("auto", True, True), ("auto", False, False), ("assume", True, False),
    ("measure", True, True),
])  # fmt: skip
def test_the_owner_says_where_z_comes_from(
    strategy: str, calibrated: bool, measured: bool
) -> None:
    made = make(facts=replace(FACTS, z_strategy=strategy, z_calibrated=calibrated))
    assert ("true_z" in names(made)) is measured
    assert made.z["measured"] is measured


def test_z_that_must_be_measured_and_cannot_be_is_refused() -> None:
    with pytest.raises(Refusal, match="PLR_Z_HOME MODE=CALIBRATE"):
        make(facts=replace(FACTS, z_strategy="measure", z_calibrated=False))


def test_nothing_of_the_old_print_bends_the_sequence() -> None:
    lines = step(make(), "lift").script.split("\n")
    moved = next(i for i, line in enumerate(lines) if "_PLR_LIFT" in line)
    for command in ("BED_MESH_CLEAR", "SET_GCODE_OFFSET X=0 Y=0 Z=0", "M221 S100",
                    "M220 S100", "EXCLUDE_OBJECT_END"):  # fmt: skip
        assert lines.index(command) < moved
    bare = make(facts=replace(FACTS, objects=frozenset({"extruder", "heater_bed"})))
    assert not [x for x in ("BED_MESH", "EXCLUDE") if x in step(bare, "lift").script]


def test_how_high_the_print_is_does_not_depend_on_where_the_motors_were_left() -> None:
    """At the top, when Z was not found there."""

    def clear(toolhead_z: float) -> str:
        made = make(record(toolhead_z=toolhead_z))
        match = re.search(r"CLEAR=([\d.]+)", step(made, "lift").script)
        assert match is not None
        return match[1]

    assert clear(230.0) == clear(0.4) and 5.4 <= float(clear(0.4)) < 20


@pytest.mark.parametrize("left", [231.9, 234.148, 460.0])
def test_a_height_that_a_failed_homing_has_left_is_no_place_to_go(left: float) -> None:
    """klippy counts on from an assumed Z, beyond the end of travel."""
    made = make(record(toolhead_z=left))
    travels = [to for name, _, to in heights(made, left) if name == "travel"]
    assert max(travels) <= FACTS.axis_maximum[2]


def test_each_step_says_how_far_down_it_goes() -> None:
    for facts in (FACTS, untrusted()):
        made = make(facts=facts)
        for s in made.steps:
            lowest = [to for name, _, to in heights(made, 0.4) if name == s.name]
            if lowest and s.name not in ("lift", "true_z"):
                assert s.lowest_z == pytest.approx(min(lowest))
        assert step(made, "lift").lowest_z == 0.4


def test_relative_motion_is_always_ended() -> None:
    for s in make().steps:
        lines = s.script.split("\n")
        if "G91" in lines:
            assert "G90" in lines[lines.index("G91"):]


def test_full_heat_comes_off_the_part() -> None:
    made = make()
    hot = [s.name for s in made.steps if "TARGET=215.0" in s.script]
    assert hot == ["heat"]
    assert names(made).index("travel") < names(made).index("heat")


def test_the_purge_is_higher_when_z_is_not_sure() -> None:
    def height(facts: Facts) -> float:
        return min(to for n, _, to in heights(make(facts=facts), 0.4) if n == "purge")

    assert height(FACTS) == purge.HEIGHT
    assert height(untrusted()) == purge.HEIGHT_UNTRUSTED


def test_a_part_at_an_unknown_place_is_purged_above() -> None:
    known = replace(head(), footprint=Footprint(None, 0.4))
    assert known.first_extrusion is not None
    made = plan.make(record(), JOB, known, LINE, FACTS)
    assert any("no free strip" in w for w in made.warnings)
    assert min(z for n, _, z in heights(made, 0.4) if n == "purge") >= 5.4


def test_a_further_resume_purges_elsewhere_until_no_strip_is_left() -> None:
    used: tuple[purge.Box, ...] = ()
    for _ in range(10):
        strip = make(record(purged=used)).strip
        assert strip.on_bed
        used = purge.note(used, strip)
    assert len(set(used)) == 10
    everywhere = make(record(purged=((0.0, 0.0, 250.0, 250.0),)))
    assert not everywhere.strip.on_bed
    assert any("no free strip" in w for w in everywhere.warnings)


def test_an_offset_of_the_tool_moves_the_part_under_it() -> None:
    gcode = b"G90\nM83\nG1 X0 Y40 Z1\nG1 X250 Y250 E5\n"
    x = state(coordinates={"homing_origin": [0.0, -30.0, 0.0]})
    front = step(make(gcode=gcode), "travel").script
    moved = step(make(record(state=x), gcode=gcode), "travel").script
    assert "Y6.000" in front and "Y6.000" not in moved


@pytest.mark.parametrize(("flow", "said"), [(0.2, "E11.400"), (0.05, "E2.850")])
def test_the_purge_is_what_the_nozzle_can_take(flow: float, said: str) -> None:
    made = make(facts=replace(FACTS, purge_flow=flow))
    assert said in step(made, "purge").script


def test_the_tool_that_printed_is_active_before_anything_is_pushed() -> None:
    heaters = {"extruder1": 240.0, "extruder": 180.0}
    rec = record(state=state(tool={"active": "extruder1"}, heaters=heaters))
    facts = replace(FACTS, objects=OBJECTS | {"extruder1"})
    made = make(rec, facts)
    assert "ACTIVATE_EXTRUDER EXTRUDER=extruder1" in step(made, "lift").script
    assert "HEATER=extruder TARGET=180.0" in step(made, "bed").script
    assert step(made, "heat").wait == {"extruder1": 238.0}
    assert any("[extruder1]" in w for w in made.warnings)


@pytest.mark.parametrize("changes", [
    {"coordinates": {"homed_axes": ""}}, {"coordinates": {"homed_axes": "xy"}},
    {"heaters": {"extruder": 0.0}}, {"heaters": {"extruder": 150.0}},
])  # fmt: skip
def test_a_print_in_preparation_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="nothing was printed yet"):
        make(record(state=state(**changes)))


def test_a_print_at_its_end_is_refused() -> None:
    with pytest.raises(Refusal, match="to its end"):
        make(record(file_position=JOB.size))


@pytest.mark.parametrize(("position", "axis"), [
    ((-1.0, 10, 1, 0), "X"), ((10, 251.0, 1, 0), "Y"), ((10, 10, 233.0, 0), "Z"),
])  # fmt: skip
def test_a_place_outside_of_the_machine_is_refused(position: Any, axis: str) -> None:
    with pytest.raises(Refusal, match=f"The saved {axis} is"):
        make(record(position=position))


def test_g92_and_offsets_count_for_what_is_inside() -> None:
    rec = record(position=(-50.0, 10, 1, 0),
                 state=state(coordinates={"g92": [60.0, 0, 0]}))  # fmt: skip
    assert make(rec).steps
    rec = record(state=state(coordinates={"homing_origin": [200.0, 0, 0]}))
    with pytest.raises(Refusal, match="The saved X is 350.00"):
        make(rec)


def test_all_reasons_are_given_at_once() -> None:
    with pytest.raises(Refusal) as e:
        make(record(position=(999, 999, 1, 0)))
    assert len(e.value.reasons) == 2


def test_a_second_carriage_that_was_not_saved_is_refused() -> None:
    rec = record(state=state(tool={"active": "extruder1"},
                             heaters={"extruder1": 240.0}))  # fmt: skip
    facts = replace(FACTS, objects=OBJECTS | {"extruder1", "dual_carriage"})
    with pytest.raises(Refusal, match="not saved which carriage"):
        make(rec, facts)


@pytest.mark.parametrize(("facts", "changes", "said"), [
    (replace(FACTS, objects=OBJECTS | {"homing_override"}), {}, "homing_override"),
    (FACTS, {"mesh": {"profile": "default"}}, "'default' was not stored"),
    (FACTS, {"coordinates": {"absolute_extrude": True}}, "Filament (M82/M83): "),
])  # fmt: skip
def test_what_is_not_sure_is_said_before_the_owner_says_yes(
    facts: Facts, changes: dict[str, Any], said: str
) -> None:
    assert any(said in w for w in make(record(state=state(**changes)), facts).warnings)


def test_a_plain_case_warns_of_nothing() -> None:
    assert make().warnings == ()


def test_a_line_that_is_partly_laid_goes_on_inside() -> None:
    made = make(record(fraction=0.5))
    assert made.fraction == 0.5 and made.first_line is not None
    text = b"\n".join(made.prologue)
    assert b"G0 X125.000000 Y150.000000" in text
    assert b"E2.5" in made.first_line


def test_a_line_that_cannot_be_split_is_run_again() -> None:
    made = make(record(fraction=0.5), line=b"M106 S10")
    assert (made.fraction, made.first_line) == (0.0, None)


PAUSING = replace(FACTS, objects=OBJECTS | {"pause_resume"})


def test_a_paused_print_is_paused_beside_the_part_before_the_way_to_it() -> None:
    made = make(record(paused=True), PAUSING)
    lines = [line.split(b" ;")[0] for line in made.prologue]
    over = next(i for i, line in enumerate(lines) if line.startswith(b"G0 X150"))
    assert lines.count(b"PAUSE") == 1
    pause = lines.index(b"PAUSE")
    assert pause < over
    # Nothing has moved since the purge, which ends beside the part at a safe height.
    assert not any(line[:2] in (b"G0", b"G1") for line in lines[:pause])
    assert any("paused again" in w for w in made.warnings)


def test_without_pause_resume_the_card_itself_is_paused() -> None:
    assert any(line.startswith(b"M25 ;") for line in make(record(paused=True)).prologue)
    assert not any(line.startswith(b"M25") for line in make(record()).prologue)


@pytest.mark.parametrize(("paused", "facts"), [(False, PAUSING), (True, FACTS)])
def test_a_print_that_ran_or_cannot_pause_goes_on(paused: bool, facts: Facts) -> None:
    made = make(record(paused=paused), facts)
    assert not any(line.startswith(b"PAUSE") for line in made.prologue)
