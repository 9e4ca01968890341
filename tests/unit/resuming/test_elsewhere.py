# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The interrupted print, resumed at another place than the saved one."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from moonraker_components.power_loss_recovery import files
from moonraker_components.power_loss_recovery.files import Place
from moonraker_components.power_loss_recovery.plan import Refusal
from moonraker_components.power_loss_recovery.resuming import elsewhere, recovery
from moonraker_components.power_loss_recovery.saving.lineage import Pending
from tests.unit.resuming.test_recovery import Bench, in_thread
from tests.unit.samples import record, state

pytestmark = pytest.mark.asyncio
GCODE = b"""M104 S200
M83
;LAYER:0
G1 X10 Y10 Z.2 F6000
G1 X20 E1
;LAYER:1
G1 Z.4
G1 Y30 E1
;LAYER:2
G1 Z.6
G1 X100 Y100 E9
G1 Y30 E1
"""
SAVED_AT = GCODE.index(b"G1 X100 Y100")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    path = made.root / "part.gcode"
    path.write_bytes(GCODE)
    changed = state(
        coordinates={"homing_origin": [0.0, 0.0, -0.05], "speed_factor": 0.8},
        objects={"excluded": ["A"]}, heaters={"extruder": 220.0, "heater_bed": 70.0},
    )  # fmt: skip
    saved = replace(
        record(state=changed), file_position=SAVED_AT, line="G1 X100 Y100 E9",
        position=(20.0, 30.0, 0.6, 0.0), toolhead_z=0.55,
        purged=((6.0, 6.0, 66.0, 6.0),),
    )  # fmt: skip
    job = files.identify(made.root, str(path), 1.0).job
    made.pending = Pending(b"A" * 16, job, saved)
    return made


async def prepare(bench: Bench, place: Place) -> recovery.Prepared:
    ready = await recovery.check(bench.pending, bench.root, bench.klippy.api, in_thread)
    return await elsewhere.prepare(ready, place, in_thread)


async def test_the_place_is_the_files_and_the_rest_is_saved(bench: Bench) -> None:
    prepared = await prepare(bench, Place(layer=2))
    made, saved = prepared.pending.record, bench.pending.record
    assert prepared.pending.job_id == bench.pending.job_id
    assert made.file_position == GCODE.index(b";LAYER:1") and made.fraction == 0.0
    assert made.position == pytest.approx((20.0, 10.0, 0.2, 0.0))
    coordinates = made.state["coordinates"]
    assert coordinates["homing_origin"] == [0.0, 0.0, -0.05]
    assert coordinates["speed_factor"] == 0.8
    assert made.state["objects"]["excluded"] == ["A"]
    assert made.state["limits"] == saved.state["limits"]
    # The file's own word on the nozzle counts; of the bed it says nothing.
    assert (made.hotend_target, made.bed_target) == (200.0, 70.0)
    # Where the nozzle stands now is not where the place is.
    assert (made.toolhead_z, made.from_file) == (0.55, False)
    assert made.purged == saved.purged
    assert any("it had 220" in warning for warning in prepared.plan.warnings)


async def test_what_stands_above_an_earlier_place_is_kept_clear_of(
    bench: Bench,
) -> None:
    (bench.root / "part.gcode").write_bytes(GCODE)
    prepared = await prepare(bench, Place(z=0.4))
    assert prepared.head.top_z == pytest.approx(0.4)
    assert any("laid twice" in w and "Z 0.60" in w for w in prepared.plan.warnings)
    lift = next(step for step in prepared.plan.steps if step.name == "lift")
    assert "_PLR_ASSUME_Z Z=0.5500" in lift.script


async def test_a_gap_is_said(bench: Bench) -> None:
    later = GCODE.index(b"G1 Y30 E1\n", SAVED_AT)
    prepared = await prepare(bench, Place(position=later))
    assert any("stays unprinted" in w for w in prepared.plan.warnings)
    same = await prepare(bench, Place(position=SAVED_AT))
    assert not any("unprinted" in w or "twice" in w for w in same.plan.warnings)


async def test_a_place_that_is_none_is_refused(bench: Bench) -> None:
    with pytest.raises(files.FileProblem, match="no layer 99"):
        await prepare(bench, Place(layer=99))
    assert bench.klippy.sent == []


async def test_it_prints_on_from_there(bench: Bench) -> None:
    name = await bench.run(await prepare(bench, Place(layer=2)))
    text = (bench.root / name).read_bytes()
    assert text.endswith(GCODE[GCODE.index(b";LAYER:1") :])


async def test_two_carriages_go_on_where_the_same_nozzle_prints(bench: Bench) -> None:
    bench.klippy.become_idex()
    path = bench.root / "part.gcode"
    # The first two layers are the other one's.
    heat = b"M104 S200 T1\n"
    path.write_bytes(heat + GCODE.replace(b";LAYER:2", b"T1\n;LAYER:2"))
    saved = bench.pending.record
    rare = {"carriages": {"carriage_modes": ["INACTIVE", "PRIMARY"],
                          "axes_positions": [-20.0, 270.0]}}  # fmt: skip
    parts = {**saved.state, "tool": {"active": "extruder1"}, "rare": rare,
             "heaters": {"extruder1": 220.0, "heater_bed": 70.0}}  # fmt: skip
    saved = replace(
        saved, state=parts, file_position=SAVED_AT + len(heat) + len(b"T1\n")
    )
    job = files.identify(bench.root, str(path), 1.0).job
    bench.pending = Pending(b"A" * 16, job, saved)
    prepared = await prepare(bench, Place(layer=3))
    assert prepared.pending.record.extruder == "extruder1"
    scripts = "\n".join(step.script for step in prepared.plan.steps)
    assert "SET_DUAL_CARRIAGE CARRIAGE=1" in scripts
    assert b"RESTORE_DUAL_CARRIAGE_STATE" in b"\n".join(prepared.plan.prologue)
    with pytest.raises(Refusal, match=r"\[extruder1\] stands on the part"):
        await prepare(bench, Place(layer=2))
    assert bench.klippy.sent == []
