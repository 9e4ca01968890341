# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from moonraker_components.power_loss_recovery import plan
from moonraker_components.power_loss_recovery.planning import objections
from moonraker_components.power_loss_recovery.planning.carriages import (
    Carriage,
    Pair,
    in_use,
    other_place,
    read,
    refusals,
    warnings,
)
from moonraker_components.power_loss_recovery.planning.facts import Facts
from moonraker_components.power_loss_recovery.record import Record
from tests.unit.samples import FACTS, JOB, LINE, OBJECTS, head, record, state

BOTH = frozenset({"dual_carriage", "extruder", "extruder1"})
FIRST, SECOND = ["PRIMARY", "INACTIVE"], ["INACTIVE", "PRIMARY"]
# As most are built: the first one parks at the left, the second one at the right.
PAIR = Pair(
    0, (Carriage(-50.0, 250.0, -50.0, False), Carriage(5.0, 300.0, 300.0, True)), 40.0
)
MODES = {
    "v0.12": SECOND,
    # From Klipper v0.13 on they are named, in any order.
    "v0.13": {"stepper_x": "INACTIVE", "dual_carriage": "PRIMARY"},
    "sorted": {"dual_carriage": "PRIMARY", "stepper_x": "INACTIVE"},
    "generic": {"carriage x": "INACTIVE", "dual_carriage u": "PRIMARY"},
}


def printed(modes: Any, extruder: str = "extruder", **changes: Any) -> Record:
    saved = {"carriages": {"carriage_modes": modes, "axes_positions": [1.0, 2.0]}}
    parts = state(tool={"active": extruder}, heaters={extruder: 215.0})
    return record(state={**parts, "rare": saved}, **changes)


def facts(pair: Pair | None = PAIR, **changes: Any) -> Facts:
    return replace(
        FACTS, objects=OBJECTS | BOTH, carriages=pair,
        axis_minimum=(-50.0, 0.0, -2.0), **changes,
    )  # fmt: skip


def make(rec: Record, machine: Facts, gcode: bytes | None = None) -> plan.Plan:
    known = head() if gcode is None else head(gcode, len(gcode))
    return plan.make(rec, JOB, known, LINE, machine)


def script(made: plan.Plan, name: str) -> list[str]:
    return next(s for s in made.steps if s.name == name).script.split("\n")


@pytest.mark.parametrize(("modes", "said"), [
    (["PRIMARY", "COPY"], "both carriages (copy mode)"),
    (["PRIMARY", "MIRROR"], "both carriages (mirror mode)"),
    ({"carriage x": "PRIMARY", "dual_carriage u": "COPY"}, "copy mode"),
    ({"dual_carriage": "MIRROR", "stepper_x": "PRIMARY"}, "mirror mode"),
    # Two on X and two on Y
    ({"x": "PRIMARY", "y": "PRIMARY", "u": "INACTIVE", "v": "MIRROR"}, "mirror mode"),
])  # fmt: skip
def test_both_carriages_in_use_is_refused_with_what_to_do(
    modes: Any, said: str
) -> None:
    (reason,) = refusals(printed(modes), BOTH, PAIR)
    assert "scripts/plr resume-file" in reason and said in reason
    # The machine has none any more: that is said elsewhere.
    assert list(refusals(printed(modes), frozenset())) == []


@pytest.mark.parametrize("modes", MODES.values(), ids=MODES)
def test_the_second_one_prints_on_with_its_own_nozzle(modes: Any) -> None:
    rec = printed(modes, "extruder1")
    assert in_use(rec) == 1
    assert list(refusals(rec, BOTH, PAIR)) == []


@pytest.mark.parametrize(("modes", "extruder", "said"), [
    (SECOND, "extruder", "The second carriage was moving, and [extruder] was in use"),
    (FIRST, "extruder1", "The first carriage was moving, and [extruder1] was in use"),
    (SECOND, "extruder2", "[extruder2] was in use"),
    # Nothing of it was saved, by whatever reason.
    (None, "extruder1", "not saved which carriage moved"),
])  # fmt: skip
def test_a_nozzle_that_is_not_that_carriages_is_refused(
    modes: Any, extruder: str, said: str
) -> None:
    (reason,) = refusals(printed(modes, extruder), BOTH, PAIR)
    assert said in reason and "scripts/plr resume-file" in reason


def test_what_is_in_doubt_is_refused_for_the_second_one() -> None:
    rec = printed(SECOND, "extruder1")
    (reason,) = refusals(rec, BOTH, None)
    assert "does not say" in reason
    (reason,) = refusals(rec, BOTH, PAIR, changes_tools=True)
    assert "tool changer" in reason
    two = {"x": "PRIMARY", "y": "INACTIVE", "dual_carriage u": "INACTIVE",
           "dual_carriage v": "PRIMARY"}  # fmt: skip
    assert list(refusals(printed(two, "extruder1"), BOTH, None))


@pytest.mark.parametrize("extruder", ["extruder", "extruder1"])
def test_without_room_beside_the_parked_one_there_is_no_purge(extruder: str) -> None:
    modes = SECOND if extruder == "extruder1" else FIRST
    # Both home to the left, as klippy allows it: the one that is there is in the way.
    left = Carriage(0.0, 200.0, 0.0, False), Carriage(50.0, 250.0, 50.0, False)
    reasons = list(refusals(printed(modes, extruder), BOTH, Pair(0, left, 50.0)))
    assert bool(reasons) == (extruder == "extruder")
    reasons = list(refusals(printed(modes, extruder), BOTH, replace(PAIR, apart=345.0)))
    assert "0 mm of bed" in reasons[0]


@pytest.mark.parametrize("modes", [
    FIRST, {"x": "PRIMARY", "u": "INACTIVE"}, None, [],
    {"x": "PRIMARY", "y": "PRIMARY", "u": "INACTIVE", "v": "INACTIVE"},
])  # fmt: skip
def test_the_first_one_prints_on(modes: Any) -> None:
    assert list(refusals(printed(modes), BOTH)) == []


def test_it_is_refused_before_anything_moves() -> None:
    found = objections.refusals(printed(["PRIMARY", "COPY"]), JOB, facts())
    assert len(found) == 1 and "copy mode" in found[0]


def test_the_tool_of_a_file_is_the_carriage() -> None:
    for extruder, index in (("extruder", 0), ("extruder1", 1)):
        rec = printed(None, extruder, from_file=True)
        assert in_use(rec) == index and list(refusals(rec, BOTH, PAIR)) == []
        (said,) = warnings(rec, BOTH)
        assert ("second" in said) == bool(index)
    assert list(warnings(printed(SECOND, "extruder1"), BOTH)) == []
    assert list(warnings(printed(None), frozenset())) == []


def test_another_place_is_one_of_the_same_nozzle() -> None:
    second, first = printed(SECOND, "extruder1"), printed(FIRST)
    assert list(other_place(second, second, BOTH)) == []
    (reason,) = other_place(first, second, BOTH)
    assert "[extruder1] stands on the part" in reason
    assert list(other_place(first, second, frozenset({"extruder1"}))) == []


LEGACY = {
    "stepper_x": {"position_min": -50.0, "position_max": 250.0,
                  "position_endstop": -50.0, "homing_positive_dir": False},
    "dual_carriage": {"axis": "x", "position_min": 5.0, "position_max": 300.0,
                      "position_endstop": 300.0, "homing_positive_dir": True,
                      "safe_distance": 40.0},
}  # fmt: skip
GENERIC = {
    "carriage x": {**LEGACY["stepper_x"], "axis": "x"},
    "carriage y": {"position_max": 200.0, "position_endstop": 0.0},
    "dual_carriage u": {**LEGACY["dual_carriage"], "primary_carriage": "x"},
}


@pytest.mark.parametrize("settings", [LEGACY, GENERIC])
def test_the_pair_is_read_from_klippys_settings(settings: dict[str, Any]) -> None:
    assert read(settings) == PAIR


def test_what_klippy_takes_by_default_is_taken_here() -> None:
    dual = {k: v for k, v in LEGACY["dual_carriage"].items() if k != "axis"}
    dual |= {"safe_distance": None, "homing_positive_dir": None}
    pair = read({**LEGACY, "dual_carriage": dual})
    assert pair == replace(PAIR, apart=50.0)
    y = read({"stepper_y": LEGACY["stepper_x"],
              "dual_carriage": {**dual, "axis": "y"}})  # fmt: skip
    assert y is not None and y.axis == 1


def test_kalico_leaves_the_parked_one_further_in() -> None:
    dual = {**LEGACY["dual_carriage"], "homing_retract_dist": 5.0}
    pair = read({**LEGACY, "dual_carriage": dual})
    assert pair is not None and pair.both[1].parked == 295.0
    assert replace(pair, apart=80.0).bed(0) == (5.0, 215.0)
    x = {**LEGACY["stepper_x"], "homing_retract_dist": 4.0}
    pair = read({**LEGACY, "stepper_x": x})
    assert pair is not None and pair.both[0].parked == -46.0
    assert replace(pair, apart=80.0).bed(1) == (34.0, 250.0)


@pytest.mark.parametrize("settings", [
    {}, {"dual_carriage": {}}, {**LEGACY, "dual_carriage": {"position_max": "x"}},
    {**GENERIC, "dual_carriage v": {}},
    {**GENERIC, "dual_carriage u": {"position_max": 3.0}},
    {"carriage 1": LEGACY["stepper_x"],
     "dual_carriage 0": {**LEGACY["dual_carriage"], "primary_carriage": "1"}},
])  # fmt: skip
def test_what_is_not_two_carriages_is_none(settings: dict[str, Any]) -> None:
    assert read(settings) is None


def test_the_bed_is_what_both_reach_and_the_parked_one_leaves_free() -> None:
    assert PAIR.bed(0) == (5.0, 250.0) and PAIR.bed(1) == (5.0, 250.0)
    near = replace(PAIR, apart=80.0)
    assert near.bed(0) == (5.0, 220.0) and near.bed(1) == (30.0, 250.0)
    turned = replace(PAIR, both=PAIR.both[::-1])
    assert turned.bed(0) == (5.0, 250.0) and turned.is_lower(1)


def test_it_is_made_active_between_z_and_the_first_travel() -> None:
    made = make(printed(SECOND, "extruder1"), facts())
    everything = "\n".join(step.script for step in made.steps)
    choices = [i for i, line in enumerate(everything.split("\n"))
               if "SET_DUAL_CARRIAGE" in line]  # fmt: skip
    lines = everything.split("\n")
    assert [lines[i][-1] for i in choices] == ["0", "1"]
    # A hook may have left the first one over the bed.
    assert lines[choices[0] + 1] == "G1 X-50.000 F6000" and choices[1] == choices[0] + 2
    assert lines[choices[0] - 1].startswith("G1 Z")
    assert lines.index("G28 X Y") < lines.index("PLR_Z_HOME MODE=RESUME PART_Z=0.400"
        " PART=90.00,90.00,160.00,160.00") < choices[0]  # fmt: skip
    assert not [line for line in lines[: choices[0]] if line.startswith("G1 X")]
    # Its own nozzle is freed, heated and purged.
    assert script(made, "soften")[0].startswith("SET_HEATER_TEMPERATURE HEATER=extrude")
    assert "HEATER=extruder1 " in script(made, "soften")[0]
    assert "ACTIVATE_EXTRUDER EXTRUDER=extruder1" in script(made, "lift")
    assert "HEATER=extruder1 TARGET=215.0" in script(made, "heat")[0]
    assert "SET_DUAL_CARRIAGE" not in "\n".join(
        s.script for s in make(printed(FIRST), facts(None)).steps
    )
    first = script(make(printed(FIRST), facts()), "travel")
    assert [line for line in first if "DUAL" in line] == [
        "SET_DUAL_CARRIAGE CARRIAGE=0"
    ]


def test_after_the_owners_hook_it_is_made_active_again() -> None:
    hooked = facts(hooks=frozenset({"restart_gcode"}))
    again = script(make(printed(SECOND, "extruder1"), hooked), "travel_again")
    moves = [i for i, line in enumerate(again) if line.startswith("G1 X")]
    assert again.index("SET_DUAL_CARRIAGE CARRIAGE=0") < moves[0]
    assert moves[0] < again.index("SET_DUAL_CARRIAGE CARRIAGE=1") < moves[1]


@pytest.mark.parametrize(("x", "fits"), [(20.0, True), (280.0, True), (-30.0, False)])
def test_the_saved_place_is_compared_with_its_own_travel(x: float, fits: bool) -> None:
    rec = printed(SECOND, "extruder1", position=(x, 150.0, 0.4, 10.0))
    reasons = objections.refusals(rec, JOB, facts())
    assert reasons == [] if fits else "from 5.00 to 300.00" in reasons[0]


@pytest.mark.parametrize(("modes", "extruder"), [
    (FIRST, "extruder"), (SECOND, "extruder1"),
])  # fmt: skip
def test_no_purge_where_the_other_one_stands_nor_beyond_the_bed(
    modes: Any, extruder: str
) -> None:
    near = facts(replace(PAIR, apart=80.0))
    least, most = near.carriages.bed(modes.index("PRIMARY"))
    strips = []
    for x in range(0, 250, 10):
        # A part that leaves room on few sides
        gcode = b"G90\nM83\nG1 X%d Y2 Z0.2 F6000\nG1 X%d Y248 E5\n" % (x, x + 30)
        strips.append(make(printed(modes, extruder), near, gcode).strip)
    for strip in strips:
        assert least <= strip.x <= strip.end_x <= most
    assert len(set(strips)) > 1


def test_the_first_way_is_where_the_other_one_was_not() -> None:
    made = make(printed(SECOND, "extruder1"), facts())
    text = [line.decode().partition(" ;")[0] for line in made.prologue]
    choice = text.index("SET_DUAL_CARRIAGE CARRIAGE=1")
    assert text[choice - 1].startswith("G0 Z")
    over = text[choice + 1]
    assert over.startswith("G0 X150.000000 Y150.000000")
    assert text[choice + 2].startswith("_PLR_RESTORE DATA=")
    assert text[choice + 3].startswith("RESTORE_DUAL_CARRIAGE_STATE NAME=_plr MOVE=1")
    assert text[choice + 4] == over
