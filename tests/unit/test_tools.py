# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Which tool a resume begins with, which one it goes on with, and when it refuses."""
from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moonraker_components.power_loss_recovery import files, plan, tools
from moonraker_components.power_loss_recovery.plan import Plan, Refusal
from moonraker_components.power_loss_recovery.planning.facts import Facts
from moonraker_components.power_loss_recovery.record import (
    Queued,
    Record,
    from_payloads,
    to_payloads,
)
from moonraker_components.power_loss_recovery.resuming import machine_facts, recovery
from moonraker_components.power_loss_recovery.saving.lineage import Pending
from moonraker_components.power_loss_recovery.store.payloads import RecordError
from tests.unit.fake_klippy import SETTINGS, FakeKlippy
from tests.unit.samples import (
    FACTS,
    GCODE,
    JOB,
    LINE,
    OBJECTS,
    head,
    record,
    state,
)

OFFSETS = {"tool T0": (0.0, 0.0, 0.0), "tool T1": (12.0, -3.0, 1.5),
           "tool T2": (-8.0, 0.0, -2.0)}  # fmt: skip
EXTRUDERS = ("extruder", "extruder1", "extruder2")


def status(seen: str | None, detects: bool = True) -> dict[str, Any]:
    """As klipper-toolchanger has it."""
    told: dict[str, Any] = {
        name: {
            "name": name, "toolchanger": "toolchanger", "tool_number": n,
            "extruder": EXTRUDERS[n], "gcode_x_offset": x, "gcode_y_offset": y,
            "gcode_z_offset": z,
        }
        for n, (name, (x, y, z)) in enumerate(OFFSETS.items())
    }  # fmt: skip
    told["toolchanger"] = {
        "status": "uninitialized", "tool": None, "tool_number": -1,
        "detected_tool": seen, "has_detection": detects,
    }  # fmt: skip
    return told


def changer(seen: str | None, *expected: int, detects: bool = True) -> tools.Changer:
    made = tools.read(status(seen, detects))
    assert made is not None
    return replace(made, expected=frozenset(expected) if expected else None)


def facts(made: tools.Changer | None) -> Facts:
    return replace(FACTS, changer=made, objects=OBJECTS | {*EXTRUDERS, "toolchanger"})


def using(number: int, **changes: Any) -> Record:
    name = f"tool T{number}"
    active = EXTRUDERS[number]
    heaters = {"extruder": 150.0, "extruder1": 140.0, "extruder2": 0.0, active: 215.0}
    return record(**{"state": state(
        tool={"active": active, "changer": {"number": number, "name": name}},
        heaters=heaters,
    ), **changes})  # fmt: skip


def make(rec: Record, made: tools.Changer | None) -> Plan:
    return plan.make(rec, JOB, head(), LINE, facts(made))


def script(made: Plan, name: str) -> str:
    return next(s.script for s in made.steps if s.name == name)


def test_the_mounted_tool_is_told_to_the_changer_and_nothing_changes() -> None:
    made = make(using(1), changer("tool T1", 1))
    names = [s.name for s in made.steps]
    assert names.index("true_z") < names.index("tool") < names.index("travel")
    assert script(made, "tool").startswith("INITIALIZE_TOOLCHANGER T=1\n")
    assert "SELECT_TOOL" not in script(made, "tool")
    assert "HEATER=extruder1 TARGET=165.0" in script(made, "soften")
    assert "HEATER=extruder1 TARGET=215.0" in script(made, "heat")
    assert "HEATER=extruder TARGET=150.0" in script(made, "bed")
    assert b"VERIFY_TOOLCHANGE_DURING_PRINT DURATION=30 FORCE=0" in made.prologue[-1]


def test_the_tool_is_looked_at_before_anything_moves() -> None:
    made = make(using(1), changer("tool T1", 1))
    moving = [s for s in made.steps if re.search("G1 |G28|_LIFT", s.script)]
    assert moving[0].script.startswith('_PLR_CHECK_TOOL NAME="tool T1"\n')


def test_with_the_new_tool_of_a_change_mounted_the_resume_changes_back() -> None:
    made = make(using(0), changer("tool T1", 0, 1))
    lines = script(made, "tool").split("\n")
    assert lines[:6] == [
        "INITIALIZE_TOOLCHANGER T=1", "_PLR_TAKE_POSITION", "G90", "G1 Z5.400 F1200",
        "SELECT_TOOL T=0 RESTORE_AXIS=",
        "SET_HEATER_TEMPERATURE HEATER=extruder1 TARGET=140.0",
    ]  # fmt: skip
    assert 'NAME="tool T1"' in script(made, "lift")
    assert "HEATER=extruder1" in script(made, "soften")
    assert "HEATER=extruder TARGET=215.0" in script(made, "heat")
    assert any("changes back first" in w for w in made.warnings)
    assert any("free of the docks" in w for w in made.warnings)


@pytest.mark.parametrize(("seen", "said"), [
    ("tool T2", "see T2 [tool T2]"), (None, "see no single tool"),
])  # fmt: skip
def test_another_tool_is_refused_and_the_one_to_mount_named(
    seen: str | None, said: str
) -> None:
    with pytest.raises(Refusal) as refused:
        make(using(1), changer(seen, 1, 0))
    assert "Mount T1 [tool T1] by hand" in str(refused.value)
    assert said in str(refused.value)


def test_without_sensors_the_owner_is_asked_to_look() -> None:
    made = make(using(2), changer(None, 2, detects=False))
    assert any("Nothing detects" in w and "T2 [tool T2]" in w for w in made.warnings)
    assert "INITIALIZE_TOOLCHANGER T=2" in script(made, "tool")
    assert "_PLR_CHECK_TOOL" not in script(made, "lift")
    assert not any(b"VERIFY_TOOLCHANGE" in line for line in made.prologue)


def test_of_a_print_that_only_the_file_tells_any_tool_may_be_mounted() -> None:
    made = make(using(1), changer("tool T2"))
    assert "SELECT_TOOL T=1" in script(made, "tool")


@pytest.mark.parametrize("gone", [
    None, tools.Changer(tools.KINDS[0], (), True, None),
])  # fmt: skip
def test_a_tool_that_is_gone_is_refused(gone: tools.Changer | None) -> None:
    with pytest.raises(Refusal, match="tool T1.*has not any more"):
        make(using(1), gone)


def test_a_print_that_used_no_tool_knows_nothing_of_the_changer() -> None:
    made = make(record(), changer("tool T2", 2))
    assert "tool" not in [s.name for s in made.steps]


def test_the_name_counts_when_a_number_was_given_to_another_tool() -> None:
    rec = using(1, state=state(tool={"changer": {"number": 0, "name": "tool T1"}}))
    assert "T=1" in script(make(rec, changer("tool T1", 0)), "tool")


def test_a_place_counts_with_the_offset_of_the_tool() -> None:
    """The nozzle of T1 reaches X 238 on a machine that goes to 250."""
    at = (240.0, 150.0, 0.4, 10.0)
    make(using(0, position=at), changer("tool T0", 0))
    with pytest.raises(Refusal, match="saved X is 252.00"):
        make(using(1, position=at), changer("tool T1", 1))
    make(using(2, position=(252.0, 150.0, 0.4, 10.0)), changer("tool T2", 2))


def test_purge_and_travel_stay_where_that_nozzle_can_go() -> None:
    for number, offset in enumerate(OFFSETS.values()):
        made = make(using(number), changer(f"tool T{number}", number))
        for line in script(made, "purge").split("\n") + script(made, "travel").split(
            "\n"
        ):
            for word in line.split():
                if word[0] in "XYZ" and line.startswith("G1"):
                    axis = "XYZ".index(word[0])
                    at = float(word[1:]) + offset[axis]
                    low, high = FACTS.axis_minimum[axis], FACTS.axis_maximum[axis]
                    assert low <= at <= high, (number, line)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_nozzle_is_lifted_as_high_whatever_its_offset(number: int) -> None:
    offset = OFFSETS[f"tool T{number}"][2]
    tall = using(number, position=(50.0, 50.0, 60.0, 1.0), toolhead_z=20.0)
    made = make(tall, changer(f"tool T{number}", number))
    lift = next(x for x in script(made, "lift").split("\n") if "_PLR_LIFT" in x)
    distance = lift.split("DISTANCE=")[1].split()[0]
    nozzle = 20.0 + float(distance) - offset
    assert nozzle >= 60.0 + plan.CLEARANCE - 1e-6


@pytest.mark.parametrize(("lines", "found"), [
    (b"T1\nG1 X1\n", {1}), (b"G1 X1\n t12 ; x\n", {12}),
    (b"SELECT_TOOL T=2\nT3", {2, 3}), (b"SELECT_TOOL X=1 ; T=2\n", set()),
    (b"; T1\nM104 S200 T1\nTURN_OFF T=1\nT1000\nTHING\n", set()),
])  # fmt: skip
def test_changes_to_come_are_found(lines: bytes, found: set[int]) -> None:
    assert tools.changes(lines) == found


def test_expected_are_the_old_tool_and_the_new_ones() -> None:
    made = tools.expecting(changer(None), using(1).state, b"T2\nG1 X1\n")
    assert made is not None and made.expected == {1, 2}
    assert tools.expecting(None, using(1).state, b"T2") is None


@pytest.mark.parametrize("bad", [
    3, {}, {"number": "1"}, {"number": True}, {"number": 1000}, {"number": -2},
    {"number": 1, "name": "a\nG28"}, {"number": 1, "name": 'x"; M112'},
    {"number": 1, "name": 7},
])  # fmt: skip
def test_a_tool_from_disk_is_not_trusted(bad: Any) -> None:
    rec = record(state=state(tool={"changer": bad}))
    with pytest.raises(RecordError):
        Record.from_dict({**rec.__dict__, "cause": None, "queued": None})


def test_it_survives_the_journal() -> None:
    rec = using(1, queued=Queued(500, 13.0))
    assert from_payloads(*to_payloads(JOB, rec))[1] == rec
    assert tools.selected(rec.state) == tools.Selected(1, "tool T1")
    none = state(tool={"changer": {"number": -1, "name": None}})
    assert tools.selected(none) is None


@pytest.mark.parametrize("name", tools.MMUS)
def test_an_mmu_is_named_because_its_filament_is_not_checked(name: str) -> None:
    made = replace(FACTS, objects=OBJECTS | {name})
    outlined = plan.outline(record(), JOB, made).warnings
    assert sum(f"[{name}] found: which filament" in w for w in outlined) == 1
    coloured = b"T3\n" + GCODE
    at = coloured.index(LINE)
    rec = record(file_position=at)
    found = plan.make(rec, JOB, head(coloured, at), LINE, made).warnings
    assert any(f"[{name}] found" in w for w in found)
    assert any("is that of T3" in w for w in found)
    without = plan.make(rec, JOB, head(coloured, at), LINE, FACTS).warnings
    assert not any("filament" in w for w in without)


class OtherKind:
    """A changer with other names than klipper-toolchanger's: all in one status, as an
    MMU of Happy Hare has it, {tool, gate, filament}."""

    name = "mmu"

    def objects(self, names: Collection[str]) -> list[str]:
        return [self.name]

    def read(self, status: Mapping[str, Any]) -> tools.Changer:
        told = status[self.name]
        made = tuple(tools.Tool(n, f"T{n}") for n in range(told["num_gates"]))
        loaded = told["filament"] == "Loaded" and told["tool"] >= 0
        mounted = made[told["tool"]] if loaded else None
        return tools.Changer(self, made, True, mounted)

    def initialize(self, tool: tools.Tool) -> str:
        return f"MMU_RECOVER TOOL={tool.number} LOADED=1"

    def select(self, tool: tools.Tool) -> str:
        return f"T{tool.number}"


def other(tool: int, filament: str = "Loaded") -> dict[str, Any]:
    return {"mmu": {"num_gates": 4, "tool": tool, "gate": tool, "filament": filament}}


@pytest.mark.asyncio
async def test_another_kind_needs_nothing_but_its_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tools, "KINDS", (*tools.KINDS, OtherKind()))
    rec = record(state=state(tool={"changer": {"number": 1, "name": "T1"}}))
    klippy = FakeKlippy()
    klippy.status |= other(1)
    same = (await recovery.facts(klippy.api, "extruder")).changer
    assert same is not None and tools.read(other(1)) == same
    assert script(make(rec, same), "tool").startswith("MMU_RECOVER TOOL=1 LOADED=1\n")
    changing = tools.expecting(tools.read(other(2)), rec.state, b"T2\n")
    lines = script(make(rec, changing), "tool").split("\n")
    assert lines[0] == "MMU_RECOVER TOOL=2 LOADED=1" and lines[4] == "T1"
    for seen in (other(3), other(2, "Unknown"), other(-1)):
        found = tools.expecting(tools.read(seen), rec.state, b"T2\n")
        with pytest.raises(Refusal, match=r"Mount T1 \[T1\] by hand"):
            make(rec, found)


@pytest.mark.asyncio
async def test_the_changer_is_asked_for_with_all_its_tools() -> None:
    klippy = FakeKlippy()
    assert (await machine_facts.facts(klippy.api, "extruder")).changer is None
    klippy.status |= status("tool T2")
    found = (await machine_facts.facts(klippy.api, "extruder")).changer
    assert found == tools.read(status("tool T2"))
    assert found is not None and found.mounted is not None
    assert [t.number for t in found.tools] == [0, 1, 2] and found.mounted.number == 2


@pytest.mark.asyncio
async def test_before_a_resume_what_was_to_come_is_read_from_the_file(
    tmp_path: Path,
) -> None:
    lines = GCODE + b"T2\nG1 X1 E1\nT0\n"
    (tmp_path / "part.gcode").write_bytes(lines)
    job = files.identify(tmp_path, str(tmp_path / "part.gcode"), 1.0).job
    rec = using(1, file_position=len(GCODE), line="T2")
    klippy = FakeKlippy()
    klippy.status |= {**status("tool T2"), "extruder1": {"temperature": 20.0}}
    klippy.status["configfile"]["settings"]["extruder1"] = SETTINGS["extruder"]

    async def in_thread(call: Any, *args: Any) -> Any:
        return call(*args)

    for queued, expected in ((len(GCODE), {1, 2}), (len(lines), {0, 1, 2})):
        pending = Pending(b"A" * 16, job, replace(rec, queued=Queued(queued, 1.0)))
        ready = await recovery.check(pending, tmp_path, klippy.api, in_thread)
        assert ready.facts.changer is not None
        assert ready.facts.changer.expected == expected
        assert "Change from T2 [tool T2] to T1 [tool T1]" in ready.outline.titles
