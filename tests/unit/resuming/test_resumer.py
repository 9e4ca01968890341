# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A resume that is cancelled, begins while its file is read, or goes elsewhere."""
from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest
from moonraker.utils import ServerError

from moonraker_components.power_loss_recovery import files
from moonraker_components.power_loss_recovery.journal import JournalError
from moonraker_components.power_loss_recovery.resuming import recovery
from tests.unit.samples import LINE, state
from tests.unit.test_component import Bench, bench  # noqa: F401

pytestmark = pytest.mark.asyncio
HANGS = [
    "M140", "SET_HEATER_TEMPERATURE", "_PLR_ASSUME_Z", "G28 X Y", "PLR_Z_HOME",
    "G1 X", "M83",
]  # fmt: skip


def reading_takes(
    bench: Bench,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None = None,
) -> threading.Event:
    """The file is examined in a real thread, until the event is set."""
    go, examine = threading.Event(), files.examine

    def slow(*args: Any) -> Any:
        assert go.wait(5)
        if error is not None:
            raise error
        return examine(*args)

    async def in_thread(call: Any, *args: Any) -> Any:
        return await asyncio.to_thread(call, *args)

    monkeypatch.setattr(files, "examine", slow)
    bench.plr.eventloop.run_in_thread = in_thread
    return go


async def until(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it does not come to that")


@pytest.mark.parametrize("script", HANGS)
async def test_cancelled_in_any_step_it_is_safe_and_can_be_tried_again(
    bench: Bench, script: str,  # noqa: F811
) -> None:  # fmt: skip
    await bench.plr.resumer.resume()
    await bench.until(script)
    bench.klippy.hangs = ""
    bench.plr.resumer.cancel_asked()
    status = bench.plr.status()
    assert status["state"] == "resuming" and status["step"] is not None
    assert status["step"]["name"] == "stopping" and "Klipper" in status["step"]["title"]
    with pytest.raises(ServerError, match="Too late"):
        bench.plr.resumer.cancel_asked()
    await bench.ended()
    assert bench.klippy.sent[-3:] == ["TURN_OFF_HEATERS", "G91\nG1 Z5 F600", "G90"]
    # A hook in which klippy waits for heat is ended, beside all G-code.
    assert bench.server.requests == ["power_loss_recovery/stop_hook"]
    assert any("use the emergency stop" in line for line in bench.server.console())
    assert bench.klippy.status["extruder"]["target"] == 0
    assert bench.plr.state() == "interrupted" and bench.pending()
    assert "stopped" in bench.plr.last_error
    assert bench.plr.status()["last_errors"][0]["text"] == bench.plr.last_error
    await bench.plr.resumer.resume()
    await bench.ended()
    assert bench.klippy.started


def place_of_purge(bench: Bench) -> str:  # noqa: F811
    """Where the filament flows."""
    (line,) = [x for script in bench.klippy.sent for x in script.split("\n")
               if x.startswith("G1 X") and " E" in x]  # fmt: skip
    return line.partition(" E")[0]


async def test_a_further_resume_purges_beside_the_strip_of_the_one_before(
    bench: Bench,  # noqa: F811
) -> None:
    """The first is stopped after its purge, or the power fails there."""
    places = []
    for number in range(3):
        bench.klippy.hangs = "G92 E0" if number < 2 else ""
        bench.klippy.sent.clear()
        bench.klippy.hanging.clear()
        answer = await bench.plr.resumer.resume(dry_run=True)
        await bench.plr.resumer.resume()
        if number < 2:
            await bench.until("G92 E0")
            bench.plr.resumer.cancel_asked()
        await bench.ended()
        places.append(place_of_purge(bench))
        assert answer["purge"] is not None
        purge = answer["purge"]
        assert places[-1] == f"G1 X{purge['end_x']:.3f} Y{purge['end_y']:.3f}"
        pending = bench.plr.tracker.pending
        assert pending is not None and len(pending.record.purged) == number + 1
    assert len(set(places)) == 3 and bench.klippy.started


async def test_a_resume_that_was_stopped_before_has_used_no_strip(
    bench: Bench,  # noqa: F811
) -> None:
    bench.klippy.hangs = "G28"
    await bench.plr.resumer.resume()
    await bench.until("G28")
    bench.plr.resumer.cancel_asked()
    await bench.ended()
    pending = bench.plr.tracker.pending
    assert pending is not None and pending.record.purged == ()


async def test_a_resume_goes_on_if_its_strip_cannot_be_saved(
    bench: Bench, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:  # fmt: skip
    async def full(*args: Any, **changes: Any) -> None:
        raise JournalError("the disk is full")

    monkeypatch.setattr(bench.plr.tracker, "amend", full)
    await bench.plr.resumer.resume()
    await bench.ended()
    assert bench.klippy.started


@pytest.mark.parametrize("ticks", range(0, 120, 4))
async def test_cancelled_at_whatever_moment_it_stops(
    bench: Bench, ticks: int,  # noqa: F811
) -> None:  # fmt: skip
    await bench.plr.resumer.resume()
    for _ in range(ticks):
        await asyncio.sleep(0)
    try:
        bench.plr.resumer.cancel_asked()
    except ServerError:
        await bench.ended()
        assert bench.klippy.started
        return
    await bench.ended()
    assert "stopped" in bench.plr.last_error and not bench.klippy.started
    assert bench.klippy.status["extruder"].get("target", 0) == 0
    assert bench.klippy.status["heater_bed"]["target"] == 0


async def test_cancelled_while_it_heats_it_is_cold(bench: Bench) -> None:  # noqa: F811
    bench.klippy._heat = lambda name, target: bench.klippy.status[name].update(  # type: ignore[method-assign]
        target=target
    )
    await bench.plr.resumer.resume()
    await until(lambda: bench.klippy.status["heater_bed"]["target"] > 0)
    bench.plr.resumer.cancel_asked()
    await bench.ended()
    assert bench.klippy.status["heater_bed"]["target"] == 0 and bench.pending()


async def test_without_a_resume_there_is_nothing_to_cancel(
    bench: Bench,  # noqa: F811
) -> None:
    with pytest.raises(ServerError, match="No resume"):
        bench.plr.resumer.cancel_asked()
    await bench.plr.resumer.resume()
    await bench.ended()
    with pytest.raises(ServerError, match="No resume"):
        bench.plr.resumer.cancel_asked()


async def test_a_print_that_begins_is_not_cancelled_half_way(
    bench: Bench,  # noqa: F811
) -> None:
    await bench.plr.resumer.resume()
    await bench.until("SDCARD_PRINT_FILE")
    with pytest.raises(ServerError, match="its print begins"):
        bench.plr.resumer.cancel_asked()
    assert bench.klippy.status["extruder"]["target"] > 0


async def test_a_klippy_that_goes_while_it_is_made_safe_does_not_stop_that(
    bench: Bench,  # noqa: F811
) -> None:
    await bench.plr.resumer.resume()
    await bench.until("G28 X Y")
    bench.klippy.hangs = ""
    bench.plr.resumer.cancel_asked()
    bench.plr.resumer.cancel()
    await bench.ended()
    assert "TURN_OFF_HEATERS" in bench.klippy.sent


async def test_the_bed_warms_up_while_the_file_is_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:  # fmt: skip
    go = reading_takes(bench, monkeypatch)
    answer = await bench.plr.resumer.resume()
    await until(lambda: bench.klippy.sent)
    assert bench.klippy.sent == ["M140 S60.0"]
    await asyncio.sleep(0.02)
    assert bench.klippy.sent == ["M140 S60.0"] and bench.plr.state() == "resuming"
    go.set()
    await bench.ended()
    assert bench.klippy.started
    of = f"of {len(answer['steps'])}:"
    said = [line for line in bench.server.console() if of in line]
    assert len(said) == len(answer["steps"])
    for title in answer["steps"]:
        assert any(title in line for line in said)


async def test_a_file_that_cannot_be_resumed_ends_it_safely(
    bench: Bench, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:  # fmt: skip
    error = files.FileProblem("All plastic of the file had been laid.")
    go = reading_takes(bench, monkeypatch, error)
    await bench.plr.resumer.resume()
    await until(lambda: bench.klippy.sent)
    go.set()
    await bench.ended()
    assert bench.plr.last_error == f"The resume failed: {error}"
    assert bench.klippy.sent[1] == "TURN_OFF_HEATERS" and not bench.klippy.started
    assert bench.klippy.status["heater_bed"]["target"] == 0
    assert bench.plr.state() == "interrupted" and bench.pending()


async def test_a_resume_that_is_cancelled_while_it_reads_is_cold(
    bench: Bench, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:  # fmt: skip
    go = reading_takes(bench, monkeypatch)
    await bench.plr.resumer.resume()
    await until(lambda: bench.klippy.sent)
    bench.plr.resumer.cancel_asked()
    await bench.ended()
    go.set()
    assert bench.klippy.status["heater_bed"]["target"] == 0 and bench.pending()


async def test_another_place_or_strategy_can_be_named(
    bench: Bench,  # noqa: F811
) -> None:
    position = (bench.plr.resumer.gcodes / "part.gcode").read_bytes().index(LINE)
    answer = await bench.plr.resumer.resume(
        True, files.Place(position=position), "assume"
    )
    assert not any("Z+" in title for title in answer["steps"])
    assert not answer["z"]["measured"] and bench.klippy.sent == []
    with pytest.raises(ServerError, match="Cannot resume: .*no layer 99"):
        await bench.plr.resumer.resume(place=files.Place(layer=99))
    assert bench.plr.resumer.task is None and bench.klippy.sent == []
    await bench.plr.resumer.resume(place=files.Place(position=position))
    await bench.ended()
    assert bench.klippy.started


async def test_what_is_known_early_is_what_the_whole_plan_says(
    bench: Bench,  # noqa: F811
) -> None:
    pending = bench.plr.tracker.pending
    assert pending is not None
    ready = await recovery.check(
        pending, bench.plr.resumer.gcodes, bench.klippy.api,
        bench.plr.eventloop.run_in_thread,
    )  # fmt: skip
    found = await recovery.read(ready, bench.plr.eventloop.run_in_thread)
    made = recovery.planned(ready, found).plan
    assert made.steps[0] == ready.outline.first
    assert tuple(step.title for step in made.steps) == ready.outline.titles


async def test_the_layers_are_read_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:  # fmt: skip
    read, layers = [], files.layers

    def counted(path: Any) -> Any:
        read.append(path)
        return layers(path)

    monkeypatch.setattr(files, "layers", counted)
    found = await asyncio.gather(*(bench.plr.resumer.points() for _ in range(20)))
    assert len(read) == 1 and found[0]["file"] == "part.gcode"
    assert [point["z"] for point in found[0]["points"]] == [0.2, 0.4]
    bench.klippy.status["print_stats"]["state"] = "printing"
    bench.plr.tracker.update(bench.klippy.status)
    with pytest.raises(ServerError, match="print is running"):
        await bench.plr.resumer.points()


async def test_an_outage_is_in_the_history_until_its_end(
    bench: Bench,  # noqa: F811
) -> None:
    bench.server.jobs = [
        {"job_id": "00000B", "filename": "other.gcode", "start_time": 1.0},
        {"job_id": "00000A", "filename": "part.gcode", "start_time": 1.0},
    ]
    bench.plr.outages.list.entries.clear()
    await bench.event("klippy_ready")
    await bench.event("klippy_ready")
    (outage,) = bench.plr.outages.list.newest(10)
    assert outage["ended"] == "" and outage["history_job"] == "00000A"
    assert bench.server.stored["outages"] == [outage]
    await bench.plr.resumer.resume()
    await bench.ended()
    (field,) = bench.server.fields
    field.tracker.reset()
    assert (field.name, field.as_dict()["value"]) == ("resumed_from", "00000A")
    bench.klippy.status["print_stats"]["filename"] = "another.gcode"
    field.tracker.reset()
    assert field.as_dict()["value"] is None
    await bench.settle()
    assert bench.server.stored["outages"][0]["ended"] == "resumed"


async def test_a_discarded_outage_is_one(bench: Bench) -> None:  # noqa: F811
    await bench.plr.resumer.discard()
    await bench.settle()
    assert bench.plr.outages.list.newest(1)[0]["ended"] == "discarded"


async def test_without_a_bed_the_nozzle_is_not_softened_until_the_file_is_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:  # fmt: skip
    pending = bench.plr.tracker.pending
    assert pending is not None
    cold = state(heaters={"heater_bed": 0.0})
    bench.plr.tracker.keeper.pending = replace(
        pending, record=replace(pending.record, state=cold)
    )
    go = reading_takes(bench, monkeypatch)
    await bench.plr.resumer.resume()
    await asyncio.sleep(0.05)
    assert bench.klippy.sent == []
    go.set()
    await bench.ended()
    assert bench.klippy.started and "EXTRUDER" in bench.klippy.sent[0].upper()


async def test_a_file_that_is_being_read_is_not_read_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:  # fmt: skip
    """A thread cannot be stopped: pressing Resume and Cancel must not pile them up."""
    go = reading_takes(bench, monkeypatch)
    slow, began = files.examine, []

    def counted(*args: Any) -> Any:
        began.append(args)
        return slow(*args)

    monkeypatch.setattr(files, "examine", counted)
    for _ in range(5):
        await bench.plr.resumer.resume()
        await until(lambda: began)
        bench.plr.resumer.cancel_asked()
        await bench.ended()
    go.set()
    await bench.plr.resumer.resume()
    await bench.ended()
    assert bench.klippy.started and len(began) == 1
