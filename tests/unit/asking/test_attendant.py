# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The question, another print, and what happens without a yes, on a fake klippy."""
from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from moonraker.utils import ServerError

from moonraker_components.power_loss_recovery import component, files, sequence
from moonraker_components.power_loss_recovery.asking import (
    attempts,
    attendant,
    auto_resume,
    bed_holder,
)
from moonraker_components.power_loss_recovery.journal import JournalError
from moonraker_components.power_loss_recovery.saving import interruption
from moonraker_components.power_loss_recovery.settings import Settings
from tests.unit.journal_samples import A
from tests.unit.samples import GCODE, mark, state
from tests.unit.test_component import Bench, bench  # noqa: F401
from tests.unit.tracker_bench import LINES

pytestmark = pytest.mark.asyncio
BOOT = 1.7e9 + 120  # two minutes after the save
HOLD_60 = bed_holder.SCRIPT.format(60)
Configure = Callable[..., Awaitable[Bench]]


@pytest.fixture
def printer(bench: Bench) -> Bench:  # noqa: F811
    return bench


@pytest.fixture
def configure(printer: Bench, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """A boot with these options, and a bed that is still warm."""
    monkeypatch.setattr(attendant, "time", SimpleNamespace(time=lambda: BOOT))
    monkeypatch.setattr(attendant, "SENSOR_PERIOD", 0.01)
    monkeypatch.setattr(auto_resume, "CLOCK_PERIOD", 0.01)
    monkeypatch.setattr(bed_holder, "PERIOD", 0.02)
    monkeypatch.setattr(sequence, "KEEP_AWAKE_PERIOD", 0.05)
    monkeypatch.setattr(bed_holder, "KEEP_AWAKE_PERIOD", 0.05)
    printer.klippy.status["heater_bed"] = {"temperature": 58.0, "target": 0.0}
    printer.klippy.status["configfile"]["settings"] |= {
        "heater_bed": {"max_temp": 120.0}, "pause_resume": {},
    }  # fmt: skip

    async def boot(**options: Any) -> Bench:
        made = replace(Settings(auto_resume_countdown=0.1, hold_bed=0.0), **options)
        monkeypatch.setattr(
            component.Settings, "from_klippy", staticmethod(lambda section: made)
        )
        await printer.event("klippy_disconnect")
        printer.server.events.clear()
        printer.klippy.sent.clear()
        await printer.event("klippy_ready")
        return printer

    return boot


def prompts(printer: Bench) -> list[str]:
    return [x for x in printer.server.console() if "action:prompt_" in x]


def said(printer: Bench, text: str) -> bool:
    return any(text in line for line in printer.server.console())


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.005)


async def push(printer: Bench) -> None:
    """klippy's status as it is now."""
    bed = dict(printer.klippy.status["heater_bed"])
    printer.server.update({"heater_bed": bed}, 0.0)


async def print_other(
    printer: Bench, name: str = "other.gcode", at: str = "printing", **changes: Any
) -> None:
    path = printer.plr.resumer.gcodes / name
    path.write_bytes(GCODE)
    printer.klippy.status["print_stats"].update(state=at, filename=name)
    printer.server.update({
        "print_stats": {"state": at, "filename": name},
        "power_loss_recovery": {"pending_marks": 0, "mark": mark(
            **{"file_path": str(path), "job": 4, "file_position": LINES[4], **changes}
        )},
    }, 0.0)  # fmt: skip
    await printer.settle()


# The question


async def test_the_offer_says_why_and_the_announcement_stands_beside(
    configure: Configure,
) -> None:
    printer = await configure()
    (text,) = [line for line in prompts(printer) if "prompt_text" in line]
    assert "Power loss: part.gcode, layer 3 of 10" in text
    status = printer.plr.status()
    assert status["interruption"] == {
        "kind": "power_loss", "words": "Power loss", "thermal": False,
    }  # fmt: skip
    assert len(status["waiting"]) == 1 and status["warnings"] == []
    (entry,) = printer.server.entries
    assert "part.gcode was interrupted at layer 3 (Power loss)" in entry["description"]
    await printer.plr.resumer.discard()
    await printer.settle()
    assert prompts(printer)[-1] == "// action:prompt_end"
    assert printer.server.entries == []
    assert printer.plr.status()["interruption"] is None


async def test_a_bed_that_is_not_read_yet_is_not_taken_for_cold(
    configure: Configure, printer: Bench
) -> None:
    """klippy says 0.0 until it has: the offer does not wait, the doubt follows."""
    printer.klippy.status["heater_bed"]["temperature"] = 0.0
    await configure()
    assert printer.plr.status()["warnings"] == []
    assert said(printer, "prompt_show") and not said(printer, "without heat")
    printer.klippy.status["heater_bed"]["temperature"] = 24.0
    await push(printer)
    await until(lambda: said(printer, "from 60 to 24 °C"))


@pytest.mark.parametrize(("read", "answer"), [
    (58.0, "The print is resumed by itself in"), (24.0, "the bed has cooled to 24 °C"),
])  # fmt: skip
async def test_what_is_done_without_a_yes_waits_for_the_bed_s_sensor(
    configure: Configure, printer: Bench, read: float, answer: str
) -> None:
    printer.klippy.status["heater_bed"]["temperature"] = 0.0
    await configure(auto_resume="if_bed_warm", auto_resume_countdown=60.0, hold_bed=5.0)
    await asyncio.sleep(0.03)
    assert not said(printer, "by itself") and not said(printer, "not kept warm")
    printer.klippy.status["heater_bed"]["temperature"] = read
    await push(printer)
    await until(lambda: said(printer, answer))
    held = read > 50
    await until(lambda: said(printer, "not kept warm") != held)
    await until(lambda: (printer.plr.status()["hold_bed"] is not None) == held)


async def test_a_switch_that_is_not_read_yet_is_not_taken_for_an_empty_spool(
    configure: Configure,
) -> None:
    printer = await configure()
    spool, asking = "filament_switch_sensor spool", printer.plr.attendant
    asking.spools = (spool,)
    kept = printer.plr.tracker.pending.record
    rare = {"spools": {"spool": True}}
    saw = replace(kept, state={**kept.state, "rare": rare})
    printer.plr.tracker.update({spool: {"filament_detected": False}})
    waiting = asyncio.create_task(asking.sensors_read(saw))
    await asyncio.sleep(0.03)
    assert not waiting.done()
    printer.plr.tracker.update({spool: {"filament_detected": True}})
    await asyncio.wait_for(waiting, 1.0)


async def test_what_should_be_known_is_in_the_offer_and_in_the_status(
    configure: Configure, printer: Bench
) -> None:
    printer.klippy.status["heater_bed"]["temperature"] = 24.0
    printer.klippy.status["power_loss_recovery"]["z_homing"]["calibrated"] = False
    await configure()
    cold, trusted = printer.plr.status()["warnings"]
    assert "from 60 to 24 °C, it was without heat for 2 min" in cold
    assert "not measured" in trusted
    assert said(printer, cold) and said(printer, trusted)


async def test_what_the_cold_means_for_the_material_is_said_everywhere(
    configure: Configure, printer: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dialog, status and dry run; the file is read after the first two."""
    printer.klippy.status["heater_bed"]["temperature"] = 24.0
    monkeypatch.setattr(files, "material_of", lambda *args: "PLA")
    await configure()
    await until(lambda: said(printer, "PLA mostly lets go of smooth PEI"))
    (cold,) = printer.plr.status()["warnings"]
    assert "from 60 to 24 °C" in cold and "smooth PEI" in cold
    answer = await printer.plr.resumer.resume(dry_run=True)
    assert cold in answer["warnings"]


async def test_a_bed_that_is_kept_warm_again_is_known_to_have_been_cold(
    configure: Configure, printer: Bench
) -> None:
    printer.klippy.status["heater_bed"]["temperature"] = 24.0
    await configure()
    assert len(printer.plr.status()["warnings"]) == 1
    printer.klippy.status["heater_bed"]["temperature"] = 60.0
    await push(printer)
    (warm,) = printer.plr.status()["warnings"]
    assert "warm again, but was without heat meanwhile: it had 24 °C" in warm


async def test_an_mmu_is_named_in_the_offer(
    configure: Configure, printer: Bench
) -> None:
    printer.klippy.status["configfile"]["settings"] |= {"afc": {}, "afc_stepper a": {}}
    await configure()
    (named,) = printer.plr.status()["warnings"]
    assert named.startswith("[AFC] found") and said(printer, named)


async def test_a_place_that_is_only_approximate_is_said_to_be(
    configure: Configure, printer: Bench
) -> None:
    printer.klippy.status["power_loss_recovery"]["approximate"] = True
    await configure()
    (inexact,) = printer.plr.status()["warnings"]
    assert "the saved place is approximate" in inexact


async def test_while_klippy_is_away_nothing_is_shown(configure: Configure) -> None:
    printer = await configure()
    await printer.event("klippy_shutdown")
    assert prompts(printer)[-1] == "// action:prompt_end"
    printer.server.events.clear()
    printer.plr.changed()
    await printer.settle()
    assert prompts(printer) == []
    await printer.event("klippy_disconnect")
    await printer.event("klippy_ready")
    assert prompts(printer)[-1] == "// action:prompt_show"


async def test_later_is_not_asked_again_until_klippy_starts_anew(
    configure: Configure,
) -> None:
    printer = await configure()
    printer.server.send_event("server:gcode_response", "// action:prompt_end")
    printer.server.events.clear()
    printer.plr.changed()
    assert prompts(printer) == [] and printer.plr.state() == "interrupted"
    await printer.event("klippy_disconnect")
    await printer.event("klippy_ready")
    assert prompts(printer)[-1] == "// action:prompt_show"


async def test_a_resume_that_fails_is_asked_about_again(configure: Configure) -> None:
    printer = await configure()

    def fail() -> None:
        raise RuntimeError("No trigger on x")

    printer.klippy.at["G28 X Y"] = fail
    await printer.plr.resumer.resume()
    await printer.ended()
    await printer.settle()
    shown = prompts(printer)
    assert shown[-1] == "// action:prompt_show" and shown.count(shown[-1]) == 2


async def test_another_place_can_be_chosen(configure: Configure) -> None:
    printer = await configure()
    await printer.command("PLR_RESUME_FROM")
    assert said(printer, "Print interrupted: from where")
    assert said(printer, "PLR_RESUME_PRINT LAYER=")
    (printer.plr.resumer.gcodes / "part.gcode").unlink()
    assert any("No layers" in x for x in await printer.command("PLR_RESUME_FROM"))
    await printer.plr.resumer.discard()
    assert any("no interrupted" in x for x in await printer.command("PLR_RESUME_FROM"))


# Another print


async def test_another_print_is_warned_of_once_and_afterwards_it_is_offered_again(
    configure: Configure,
) -> None:
    printer = await configure()
    await print_other(printer)
    await print_other(printer, file_position=LINES[6])
    warned = [x for x in prompts(printer) if "another one begins" in x]
    assert len(warned) == 1
    assert said(printer, "other.gcode is being printed, while an interrupted print")
    assert said(printer, "Cancel this print|CANCEL_PRINT|warning")
    status = printer.plr.status()
    assert status["state"] == "printing" and len(status["waiting"]) == 1
    printer.server.events.clear()
    await print_other(printer, at="complete")
    assert printer.plr.state() == "interrupted"
    assert said(printer, "Another print has run since")
    assert prompts(printer)[-1] == "// action:prompt_show"
    # The nozzle is somewhere else now, and klippy does not know where.
    printer.klippy.status["print_stats"]["state"] = "complete"
    with pytest.raises(ServerError, match="PLR_Z_HOME MODE=RESUME, or G28"):
        await printer.plr.resumer.resume()
    printer.klippy.toolhead.update(homed_axes="xyz", position=[1.0, 2.0, 33.0, 0.0])
    await printer.plr.resumer.resume()
    await printer.ended()
    assert printer.klippy.started


async def test_the_same_file_again_is_named(configure: Configure) -> None:
    printer = await configure()
    cold = state(coordinates={"homed_axes": ""})
    await print_other(printer, "part.gcode", file_position=0, state=cold)
    assert said(printer, "part.gcode is being printed again from its beginning")
    assert printer.pending() and printer.plr.status()["record"] is None


async def test_one_cancelled_before_it_prints_brings_the_question_back(
    configure: Configure,
) -> None:
    printer = await configure()
    cold = state(heaters={"extruder": 0.0})
    await print_other(printer, file_position=0, state=cold)
    printer.server.events.clear()
    await print_other(printer, at="cancelled")
    assert prompts(printer)[-1] == "// action:prompt_show"
    assert not said(printer, "Another print has run since")


@pytest.mark.parametrize("saved", [False, True])
async def test_the_old_one_can_be_discarded_meanwhile(
    configure: Configure, saved: bool
) -> None:
    printer = await configure()
    place = {} if saved else {"state": state(heaters={"extruder": 0.0})}
    await print_other(printer, **place)
    await printer.plr.resumer.discard()
    assert prompts(printer)[-1] == "// action:prompt_end"
    assert printer.plr.attendant.waiting == () and printer.plr.state() == "printing"
    with pytest.raises(ServerError, match="no interrupted print"):
        await printer.plr.resumer.discard()
    await print_other(printer, file_position=LINES[6])
    await print_other(printer, at="complete")
    assert printer.plr.state() == "idle" and not printer.pending()


async def test_a_print_that_fails_is_asked_about_first(configure: Configure) -> None:
    printer = await configure()
    await print_other(printer)
    printer.server.events.clear()
    printer.server.update({"print_stats": {"message": "Move out of range"}}, 0.0)
    await print_other(printer, at="error")
    assert said(printer, "of the print failed: Move out of range: other.gcode")
    assert len(printer.plr.status()["waiting"]) == 2


# auto_resume


async def test_a_warm_bed_is_resumed_after_a_countdown(configure: Configure) -> None:
    printer = await configure(auto_resume="if_bed_warm")
    await printer.settle()
    assert said(printer, "Stop|PLR_STOP_AUTO_RESUME") and printer.klippy.sent == []
    left = printer.plr.status()["auto_resume"]["seconds_left"]
    assert left is not None and 0 < left <= 0.1
    await until(lambda: printer.klippy.started)
    assert printer.plr.status()["auto_resume"]["seconds_left"] is None


async def test_the_attempt_is_on_the_disk_before_anything_is_hot(
    configure: Configure, printer: Bench
) -> None:
    counted: list[int] = []

    def look() -> None:
        pending = printer.plr.tracker.pending
        assert pending is not None
        counted.append(pending.record.attempts)

    printer.klippy.at["M140"] = look
    await configure(auto_resume="always")
    await until(lambda: printer.klippy.started)
    assert counted == [1]


async def test_an_attempt_that_cannot_be_counted_is_none(
    configure: Configure, printer: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*args: Any, **changes: Any) -> None:
        raise JournalError("the disk is full")

    monkeypatch.setattr(printer.plr.tracker, "amend", full)
    await configure(auto_resume="always", hold_bed=30)
    for what in ("The bed is not kept warm", "It is not resumed by itself"):
        told = f"{what}: the attempt cannot be counted (the disk is full)"
        await until(lambda told=told: said(printer, told))  # type: ignore[misc]
    assert printer.klippy.sent == [] and printer.plr.state() == "interrupted"


async def test_a_loop_of_power_cuts_ends(configure: Configure, printer: Bench) -> None:
    await printer.plr.tracker.amend(A, attempts=2)
    await configure(auto_resume="always", hold_bed=30)
    await until(lambda: said(printer, "not resumed by itself: the power has failed"))
    assert said(printer, "The bed is not kept warm: the power has failed after 2")
    assert printer.klippy.sent == []


async def stop_command(printer: Bench) -> None:
    await printer.command("PLR_STOP_AUTO_RESUME")


async def stop_later(printer: Bench) -> None:
    printer.server.send_event("server:gcode_response", "// action:prompt_end")


async def stop_home(printer: Bench) -> None:
    printer.server.handlers["klippy_connection:gcode_received"]("G28")


async def stop_cancel(printer: Bench) -> None:
    await printer.plr.api._cancel()


async def stop_choose(printer: Bench) -> None:
    await printer.command("PLR_RESUME_FROM")


@pytest.mark.parametrize("stop", [
    stop_command, stop_later, stop_home, stop_cancel, stop_choose,
])  # fmt: skip
async def test_anybody_can_stop_it_and_it_stays_stopped(
    configure: Configure, stop: Callable[[Bench], Awaitable[None]]
) -> None:
    printer = await configure(auto_resume="always", auto_resume_countdown=0.3)
    await printer.settle()
    await stop(printer)
    assert said(printer, "It is not resumed by itself: it was stopped")
    assert printer.plr.status()["auto_resume"] == {
        "seconds_left": None, "why_not": "it was stopped",
    }  # fmt: skip
    await asyncio.sleep(0.4)
    assert printer.klippy.sent == [] and printer.plr.state() == "interrupted"
    # Not after a restart of klippy either.
    await printer.event("klippy_disconnect")
    await printer.event("klippy_ready")
    await until(lambda: said(printer, "counted down once since the host was started"))
    assert printer.klippy.sent == []


async def test_our_own_commands_do_not_stop_it(configure: Configure) -> None:
    printer = await configure(auto_resume="always", hold_bed=30)
    await printer.settle()
    for script in (
        HOLD_60, sequence.KEEP_AWAKE, "PLR_QUERY_SAVED_STATE",
        "_PLR_RESTORE_CALIBRATION X=1",
    ):  # fmt: skip
        printer.server.handlers["klippy_connection:gcode_received"](script)
    await until(lambda: printer.klippy.started)


async def test_discarded_it_is_over(configure: Configure) -> None:
    printer = await configure(auto_resume="always")
    await printer.settle()
    await printer.plr.resumer.discard()
    await asyncio.sleep(0.2)
    assert printer.klippy.sent == [] and printer.plr.state() == "idle"


@pytest.mark.parametrize("event", ["klippy_shutdown", "klippy_disconnect"])
async def test_a_klippy_that_goes_ends_the_countdown(
    configure: Configure, event: str
) -> None:
    printer = await configure(auto_resume="always")
    await printer.settle()
    await printer.event(event)
    await asyncio.sleep(0.2)
    assert printer.klippy.sent == []


async def test_another_print_ends_the_countdown(configure: Configure) -> None:
    printer = await configure(auto_resume="always")
    await printer.settle()
    await print_other(printer)
    await asyncio.sleep(0.2)
    assert printer.klippy.sent == [] and printer.klippy.started == []


async def test_what_would_be_refused_is_said_at_once(
    configure: Configure, printer: Bench
) -> None:
    (printer.plr.resumer.gcodes / "part.gcode").write_bytes(GCODE + b"\n")
    await configure(auto_resume="always", auto_resume_countdown=60.0)
    await until(lambda: said(printer, "It is not resumed by itself: Cannot resume"))
    assert not said(printer, "PLR_STOP_AUTO_RESUME|")


async def test_a_bed_that_cools_meanwhile_ends_it(configure: Configure) -> None:
    printer = await configure(auto_resume="if_bed_warm")
    await printer.settle()
    printer.klippy.status["heater_bed"]["temperature"] = 45.0
    await push(printer)
    await until(lambda: said(printer, "the bed has cooled to 45 °C, more than 10"))
    assert printer.klippy.sent == []
    # The question stands as before.
    assert said(printer, "Later|RESPOND")


async def test_a_clock_that_is_set_late_is_waited_for(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1.0]
    monkeypatch.setattr(attendant, "time", SimpleNamespace(time=lambda: clock[0]))
    printer = await configure(auto_resume="if_bed_warm")
    await asyncio.sleep(0.05)
    assert printer.plr.status()["auto_resume"]["seconds_left"] is None
    clock[0] = BOOT
    await until(lambda: printer.klippy.started)


async def test_a_clock_that_is_never_set_means_no(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendant, "time", SimpleNamespace(time=lambda: 1.0))
    monkeypatch.setattr(auto_resume, "CLOCK_TIMEOUT", 0.05)
    printer = await configure(auto_resume="if_bed_warm")
    await until(lambda: said(printer, "clock is not set yet"))
    assert printer.klippy.sent == []


async def test_after_a_shutdown_nobody_is_in_a_hurry(
    configure: Configure, printer: Bench
) -> None:
    hot = interruption.shutdown("Heater extruder not heating at expected rate")
    await printer.plr.tracker.amend(A, cause=hot)
    await configure(auto_resume="always", hold_bed=30)
    await until(lambda: said(printer, "it was no power loss (Klipper shut down: Hea"))
    assert said(printer, "The bed is not kept warm: Klipper shut down: Heater")
    assert said(printer, "A heater or its sensor has failed")
    assert printer.klippy.sent == []


# hold_bed


async def held(configure: Configure, **options: Any) -> Bench:
    printer = await configure(hold_bed=30, **options)
    await until(lambda: printer.plr.status()["hold_bed"])
    await push(printer)
    return printer


async def test_the_bed_is_kept_warm_and_klippy_awake(configure: Configure) -> None:
    printer = await held(configure)
    assert printer.klippy.sent == [HOLD_60]
    told = printer.plr.status()["hold_bed"]
    assert told is not None and told["target"] == 60.0
    assert 1790 < told["seconds_left"] <= 1800
    await until(lambda: sequence.KEEP_AWAKE in printer.klippy.sent)
    pending = printer.plr.tracker.pending
    assert pending is not None and pending.record.attempts == 1


async def test_later_lets_it_go_on(configure: Configure) -> None:
    printer = await held(configure)
    await stop_later(printer)
    await asyncio.sleep(0.1)
    assert printer.plr.status()["hold_bed"] is not None


async def test_nobody_answers_and_the_bed_goes_off(configure: Configure) -> None:
    printer = await configure(hold_bed=0.2 / 60)
    await until(lambda: HOLD_60 in printer.klippy.sent)
    await push(printer)
    await until(lambda: said(printer, "nobody has answered in time"))
    assert printer.klippy.sent[-1] == bed_holder.OFF
    assert printer.plr.status()["hold_bed"] is None
    # Not another time in this boot.
    printer.klippy.status["heater_bed"]["temperature"] = 58.0
    await printer.event("klippy_disconnect")
    await printer.event("klippy_ready")
    await until(lambda: said(printer, "its time is over"))
    assert printer.klippy.sent.count(HOLD_60) == 1


async def test_discarded_the_bed_goes_off(configure: Configure) -> None:
    printer = await held(configure)
    await printer.plr.resumer.discard()
    await printer.settle()
    assert printer.klippy.sent[-1] == bed_holder.OFF


async def test_moonraker_that_ends_turns_it_off(configure: Configure) -> None:
    printer = await held(configure)
    await printer.plr.on_exit()
    assert printer.klippy.sent[-1] == bed_holder.OFF


async def test_even_when_klippy_has_not_told_of_it_yet(configure: Configure) -> None:
    printer = await configure(hold_bed=30)
    bed_holder.PERIOD = 5.0
    await until(lambda: printer.plr.status()["hold_bed"])
    await printer.plr.on_exit()
    assert printer.klippy.sent[-1] == bed_holder.OFF


async def test_who_sets_another_temperature_has_it(configure: Configure) -> None:
    printer = await held(configure)
    printer.klippy.status["heater_bed"]["target"] = 40.0
    await push(printer)
    await until(lambda: said(printer, "somebody has set it to another temperature"))
    assert bed_holder.OFF not in printer.klippy.sent


async def test_a_resume_takes_the_bed_over(configure: Configure) -> None:
    printer = await held(configure)
    await printer.plr.resumer.resume()
    await printer.ended()
    assert printer.klippy.started and bed_holder.OFF not in printer.klippy.sent
    assert printer.plr.status()["hold_bed"] is None


async def test_the_hold_and_the_resume_are_one_attempt(configure: Configure) -> None:
    printer = await held(configure, auto_resume="always", auto_resume_attempts=1)
    await until(lambda: printer.klippy.started)
    pending = printer.plr.tracker.pending
    assert pending is not None and pending.record.attempts == 1


async def test_another_life_of_moonraker_is_no_other_attempt(
    configure: Configure,
) -> None:
    printer = await held(configure)
    pending = printer.plr.tracker.pending
    assert pending is not None and pending.record.attempts == 1
    later = attempts.Attempts(printer.plr)
    assert later.before(pending) == 1
    await later.load()
    assert later.before(pending) == 0
    await later.count(pending)
    pending = printer.plr.tracker.pending
    assert pending is not None and pending.record.attempts == 1
