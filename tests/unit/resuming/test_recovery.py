# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""One resume against a klippy that obeys, fails, vanishes or is taken away."""
from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moonraker_components.power_loss_recovery import files, sequence
from moonraker_components.power_loss_recovery.plan import Refusal
from moonraker_components.power_loss_recovery.planning.steps import Step
from moonraker_components.power_loss_recovery.record import Phases
from moonraker_components.power_loss_recovery.resuming import recovery
from moonraker_components.power_loss_recovery.saving.lineage import Pending
from tests.unit.fake_klippy import FakeKlippy
from tests.unit.samples import GCODE, record, state

pytestmark = pytest.mark.asyncio
SAFE = ["TURN_OFF_HEATERS", "G91\nG1 Z5 F600", "G90"]


async def in_thread(call: Any, *args: Any) -> Any:
    await asyncio.sleep(0)
    return call(*args)


class Bench:
    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "gcodes"
        self.root.mkdir()
        (self.root / "part.gcode").write_bytes(GCODE)
        self.scratch = tmp_path / "plr"
        self.scratch.mkdir()
        self.klippy = FakeKlippy()
        self.heights: list[float] = []
        self.steps: list[str] = []
        path = str(self.root / "part.gcode")
        job = files.identify(self.root, path, 1.0).job
        self.pending = Pending(b"A" * 16, job, record())

    async def prepare(self) -> recovery.Prepared:
        return await recovery.prepare(
            self.pending, self.root, self.klippy.api, in_thread
        )

    async def run(self, prepared: recovery.Prepared | None = None) -> str:
        def report(index: int, step: Step) -> None:
            self.steps.append(step.name)

        async def note_z(z: float, phases: Phases) -> None:
            self.heights.append(z)

        prepared = prepared or await self.prepare()
        making = asyncio.get_running_loop().create_future()
        making.set_result(prepared)
        return await recovery.carry_out(
            prepared.plan.steps[0], making, self.root, self.scratch,
            self.klippy.api, in_thread, report, note_z,
        )  # fmt: skip

    def resume_files(self) -> list[str]:
        return [p.name for p in (self.root / ".plr").glob("*")]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(sequence, "TEMPERATURE_PERIOD", 0.001)
    return Bench(tmp_path)


async def test_preparing_sends_nothing(bench: Bench) -> None:
    prepared = await bench.prepare()
    assert bench.klippy.sent == [] and prepared.plan.warnings == ()
    assert not (bench.root / ".plr").exists()


@pytest.mark.parametrize("running", ["printing", "paused"])
async def test_while_something_prints_nothing_is_resumed(
    bench: Bench, running: str
) -> None:
    bench.klippy.status["print_stats"]["state"] = running
    with pytest.raises(Refusal, match="print is running"):
        await bench.prepare()


@pytest.mark.parametrize("name", ["power_loss_recovery", "print_stats"])
async def test_a_klippy_without_what_is_needed_is_refused(
    bench: Bench, name: str
) -> None:
    del bench.klippy.status[name]
    with pytest.raises(Refusal, match=name):
        await bench.prepare()


@pytest.mark.parametrize("kinematics", ["delta", "polar", "none", ""])
async def test_a_machine_that_cannot_lift_z_alone_is_refused(
    bench: Bench, kinematics: str
) -> None:
    settings = bench.klippy.status["configfile"]["settings"]
    settings["printer"]["kinematics"] = kinematics
    with pytest.raises(Refusal, match="kinematics"):
        await bench.prepare()


async def test_a_tool_that_is_gone_is_refused(bench: Bench) -> None:
    rec = record(state=state(tool={"active": "extruder1"},
                             heaters={"extruder1": 240.0}))  # fmt: skip
    bench.pending = replace(bench.pending, record=rec)
    with pytest.raises(Refusal, match=r"no \[extruder1\]"):
        await bench.prepare()


async def test_a_z_shifted_by_g92_is_refused(bench: Bench) -> None:
    bench.klippy.status["gcode_move"]["position"] = [0.0, 0.0, 3.0, 0.0]
    with pytest.raises(Refusal, match="G92 has shifted Z by 3.000"):
        await bench.prepare()
    bench.klippy.status["gcode_move"]["homing_origin"] = [0.0, 0.0, 3.0, 0.0]
    await bench.prepare()


async def test_a_changed_file_is_refused(bench: Bench) -> None:
    (bench.root / "part.gcode").write_bytes(GCODE + b"\n")
    with pytest.raises(files.FileProblem, match="was changed"):
        await bench.prepare()


def put(bench: Bench, gcode: bytes) -> None:
    """Let that be the file that was interrupted at POSITION."""
    path = bench.root / "part.gcode"
    path.write_bytes(gcode)
    job = files.identify(bench.root, str(path), 1.0).job
    bench.pending = replace(bench.pending, job=job)


async def test_a_rest_beyond_the_machine_is_refused(bench: Bench) -> None:
    put(bench, GCODE + b"G1 X-20 Y100 E5\n")
    with pytest.raises(Refusal, match="goes in X from -20.00 to 150.00"):
        await bench.prepare()
    put(bench, GCODE + b"G1 Z240\nG1 X150 E5\n")
    with pytest.raises(Refusal, match="goes in Z from -2.00 to 240.00"):
        await bench.prepare()
    assert bench.klippy.sent == []


async def test_a_rest_that_nobody_can_follow_is_no_reason(bench: Bench) -> None:
    put(bench, GCODE + b"G1 X100 Y100 E5\n" * 5000 + b"G20\nG1 X999 E5\n")
    await bench.prepare()
    # Nor one that goes where this machine has just printed.
    bench.klippy.toolhead["axis_minimum"][0] = 110.0
    put(bench, GCODE)
    await bench.prepare()


async def test_a_whole_resume_ends_with_the_print(bench: Bench) -> None:
    name = await bench.run()
    assert bench.klippy.started == [name] and bench.resume_files() == [Path(name).name]
    assert bench.steps == [
        "bed", "soften", "lift", "home_xy", "true_z", "travel", "heat", "purge",
    ]  # fmt: skip
    assert bench.klippy.status["extruder"]["target"] == 215.0
    assert SAFE[0] not in bench.klippy.sent
    source = files.identify(bench.root, str(bench.root / name), 2.0)
    assert source.job.name == "part.gcode" and source.stamp is not None


async def test_z_is_noted_before_it_falls_and_after_it_moved(bench: Bench) -> None:
    """After a cut in a step, Z must not be taken for higher than it is."""
    lowest: list[float] = []
    run_gcode = bench.klippy.run_gcode

    async def watch(script: str) -> str:
        before = bench.klippy.toolhead["position"][2]
        answer = await run_gcode(script)
        now = bench.klippy.toolhead["position"][2]
        if "G1 Z" in script or "_PLR_LIFT" in script:
            moves = [float(x.split()[1][1:]) for x in script.split("\n")
                     if x.startswith("G1 Z") and "G91" not in script]  # fmt: skip
            lowest.append(min([before, now, *moves]))
            if before > 0:
                assert bench.heights[-1] <= lowest[-1]
        return answer

    bench.klippy.run_gcode = watch  # type: ignore[method-assign]
    await bench.run()
    assert bench.heights[0] == 0.4
    assert 229.0 in bench.heights and bench.heights[-1] == 5.4
    assert lowest[1:] == [5.4, 1.2]


async def test_a_failing_step_leaves_a_safe_machine_and_no_file(bench: Bench) -> None:
    def fail() -> None:
        raise RuntimeError("No trigger on x after full movement")

    bench.klippy.at["G28 X Y"] = fail
    with pytest.raises(sequence.SequenceError, match="Home X and Y: No trigger on x"):
        await bench.run()
    assert bench.klippy.sent[-3:] == SAFE and bench.klippy.started == []
    assert bench.resume_files() == []
    assert bench.heights[-1] == bench.klippy.toolhead["position"][2] == 15.4


async def test_the_second_attempt_knows_where_the_first_one_left_z(
    bench: Bench,
) -> None:
    def fail() -> None:
        raise RuntimeError("No trigger on x after full movement")

    bench.klippy.at["G28 X Y"] = fail
    with pytest.raises(sequence.SequenceError):
        await bench.run()
    bench.klippy.sent.clear()
    await bench.run()
    assert not [s for s in bench.klippy.sent if "_PLR_ASSUME_Z" in s]
    assert bench.klippy.started


async def test_another_print_meanwhile_is_left_alone(bench: Bench) -> None:
    bench.klippy.at["G28 X Y"] = bench.klippy.another_print
    with pytest.raises(sequence.SequenceError, match="another print was started"):
        await bench.run()
    assert bench.klippy.sent[-1].startswith("G28 X Y")
    assert bench.klippy.started == []


async def test_another_print_while_heating_is_left_alone(bench: Bench) -> None:
    def start_it() -> None:
        bench.klippy._heat = lambda name, target: None  # type: ignore[method-assign]
        bench.klippy.another_print()

    bench.klippy.at["M140"] = start_it
    with pytest.raises(sequence.SequenceError, match="another print was started"):
        await bench.run()
    assert bench.klippy.sent == ["M140 S60.0"]


async def test_another_print_at_the_last_moment_is_left_alone(bench: Bench) -> None:
    purge = "M83\nG92 E0"
    bench.klippy.at[purge] = bench.klippy.another_print
    with pytest.raises((recovery.Interrupted, sequence.SequenceError)):
        await bench.run()
    assert purge in bench.klippy.sent[-1] and bench.klippy.started == []


async def test_a_heater_turned_off_by_the_owner_ends_it(bench: Bench) -> None:
    cold = {"temperature": 100.0, "target": 0.0}

    def turn_off() -> None:
        bench.klippy._heat = lambda name, target: (  # type: ignore[method-assign]
            bench.klippy.status.update({name: cold})
        )

    bench.klippy.at["TARGET=215"] = turn_off
    with pytest.raises(sequence.SequenceError, match=r"\[extruder\] was turned off"):
        await bench.run()
    assert bench.klippy.sent[-3:] == SAFE


async def test_a_disk_that_is_full_is_noticed_before_the_nozzle_is_hot(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_resume_file", full)
    with pytest.raises(sequence.SequenceError, match="No space left"):
        await bench.run()
    assert bench.klippy.sent[-3:] == SAFE
    assert "home_xy" not in bench.steps


async def test_stopped_in_a_command_it_cools_down(bench: Bench) -> None:
    bench.klippy.hangs = "G28 X Y"
    task = asyncio.ensure_future(bench.run())
    await asyncio.wait_for(bench.klippy.hanging.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.klippy.sent[-3:] == SAFE and bench.resume_files() == []


async def test_stopped_at_the_start_of_the_print_it_cools_down(bench: Bench) -> None:
    bench.klippy.hangs = "SDCARD_PRINT_FILE"
    task = asyncio.ensure_future(bench.run())
    await asyncio.wait_for(bench.klippy.hanging.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.klippy.sent[-3:] == SAFE


async def test_a_print_that_does_not_start_is_an_error_and_cools_down(
    bench: Bench,
) -> None:
    def fail() -> None:
        raise RuntimeError("Unable to open file")

    bench.klippy.at["SDCARD_PRINT_FILE"] = fail
    with pytest.raises(RuntimeError, match="Unable to open file"):
        await bench.run()
    assert bench.klippy.sent[-3:] == SAFE


async def test_a_klippy_that_vanishes_ends_it(bench: Bench) -> None:
    def vanish() -> None:
        bench.klippy.gone = True

    bench.klippy.at["G28 X Y"] = vanish
    with pytest.raises(sequence.SequenceError, match="Klippy Disconnected"):
        await asyncio.wait_for(bench.run(), 5)
    assert bench.resume_files() == []


async def test_an_older_resume_file_is_replaced(bench: Bench) -> None:
    first = await bench.run()
    bench.klippy.status["print_stats"]["state"] = "standby"
    second = await bench.run()
    assert first != second and bench.resume_files() == [Path(second).name]
    assert (bench.root / "part.gcode").read_bytes() == GCODE


async def test_a_rest_beyond_the_machine_is_noticed_while_the_bed_heats(
    bench: Bench,
) -> None:
    put(bench, GCODE + b"G1 X-20 Y100 E5\n")
    ready = await recovery.check(
        bench.pending, bench.root, bench.klippy.api, in_thread
    )

    async def make() -> recovery.Prepared:
        return recovery.planned(ready, await recovery.read(ready, in_thread))

    with pytest.raises(Refusal, match="goes in X from -20.00"):
        await recovery.carry_out(
            ready.outline.first, asyncio.ensure_future(make()), bench.root,
            bench.scratch, bench.klippy.api, in_thread, lambda *_: None,
        )  # fmt: skip
    assert bench.klippy.started == [] and bench.resume_files() == []
    assert bench.klippy.sent[0].startswith("M140") and SAFE[0] in bench.klippy.sent
    assert not any("G28" in script for script in bench.klippy.sent)
