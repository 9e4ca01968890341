# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Steps run in order; whatever goes wrong, the heaters are off afterwards."""
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from moonraker_components.power_loss_recovery import sequence
from moonraker_components.power_loss_recovery.planning.steps import Step

pytestmark = pytest.mark.asyncio
SAFE = ["TURN_OFF_HEATERS", "G91\nG1 Z5 F600", "G90"]
COLD = Step("home", "Home", "G28 X Y", 5.0)
HOT = Step("heat", "Heat", "M104 S200", 5.0, {"extruder": 198.0})


class Klippy:
    def __init__(self, *temperatures: dict[str, float]) -> None:
        self.sent: list[str] = []
        self.reported: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.hangs: set[str] = set()
        self.readings = list(temperatures)

    async def run_gcode(self, script: str) -> str:
        self.sent.append(script)
        if script in self.hangs:
            await asyncio.Event().wait()
        if script in self.fails:
            raise self.fails[script]
        return "ok"

    async def temperatures(self) -> dict[str, float]:
        if len(self.readings) > 1:
            return self.readings.pop(0)
        return self.readings[0]

    def report(self, index: int, step: Step) -> None:
        self.reported.append(f"{index} {step.name}")

    async def run(self, *steps: Step) -> None:
        await sequence.run(steps, self.run_gcode, self.temperatures, self.report)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "TEMPERATURE_PERIOD", 0.001)


async def test_steps_run_one_after_the_other_and_are_told() -> None:
    klippy = Klippy({"extruder": 20.0}, {"extruder": 197.9}, {"extruder": 198.0})
    await klippy.run(COLD, HOT)
    assert klippy.sent == ["G28 X Y", "M104 S200"]
    assert klippy.reported == ["0 home", "1 heat"]
    assert len(klippy.readings) == 1


async def test_all_heaters_of_a_step_are_waited_for() -> None:
    both = Step("heat", "Heat", "", 5.0, {"a": 10.0, "b": 10.0})
    klippy = Klippy({"a": 11.0, "b": 1.0}, {"a": 1.0, "b": 11.0}, {"a": 11.0, "b": 11})
    await klippy.run(both)
    assert len(klippy.readings) == 1 and klippy.sent == []


async def test_a_step_that_fails_ends_it_with_the_reason() -> None:
    klippy = Klippy({})
    klippy.fails["G28 X Y"] = RuntimeError("No trigger on x")
    with pytest.raises(sequence.SequenceError, match="Home: No trigger on x") as e:
        await klippy.run(COLD, HOT)
    assert e.value.step is COLD
    assert klippy.sent == ["G28 X Y", *SAFE]


async def test_a_heater_that_never_gets_hot_is_given_up() -> None:
    klippy = Klippy({"extruder": 20.0})
    slow = Step("heat", "Heat", "M104 S200", 0.05, {"extruder": 198.0})
    with pytest.raises(sequence.SequenceError, match="not done after 0 s"):
        await klippy.run(slow, COLD)
    assert klippy.sent == ["M104 S200", *SAFE]


async def test_a_command_that_never_returns_is_given_up() -> None:
    klippy = Klippy({})
    klippy.hangs.add("G28 X Y")
    with pytest.raises(sequence.SequenceError, match="given up"):
        await klippy.run(Step("home", "Home", "G28 X Y", 0.05))
    assert klippy.sent == ["G28 X Y", *SAFE]


async def test_a_heater_that_was_turned_off_ends_it_at_once() -> None:
    klippy = Klippy({"extruder": 20.0}, {})
    with pytest.raises(sequence.SequenceError, match=r"\[extruder\] was turned off"):
        await asyncio.wait_for(klippy.run(HOT), 2)
    assert klippy.sent[-3:] == SAFE


async def test_stopping_it_in_a_command_makes_safe() -> None:
    klippy = Klippy({})
    klippy.hangs.add("G28 X Y")
    task = asyncio.ensure_future(klippy.run(COLD, HOT))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert klippy.sent == ["G28 X Y", *SAFE]


async def test_stopping_it_while_heating_makes_safe() -> None:
    klippy = Klippy({"extruder": 20.0})
    task = asyncio.ensure_future(klippy.run(HOT))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert klippy.sent == ["M104 S200", *SAFE]


async def test_with_klippy_gone_it_still_ends_with_the_first_reason() -> None:
    klippy = Klippy({})
    for script in ("G28 X Y", *SAFE):
        klippy.fails[script] = RuntimeError(f"gone: {script}")
    with pytest.raises(sequence.SequenceError, match="gone: G28 X Y"):
        await klippy.run(COLD)
    assert klippy.sent == ["G28 X Y", *SAFE]


async def test_a_lift_that_klippy_refuses_does_not_leave_it_relative() -> None:
    klippy = Klippy({})
    klippy.fails["G91\nG1 Z5 F600"] = RuntimeError("Must home axis first")
    await sequence.make_safe(klippy.run_gcode)
    assert klippy.sent == SAFE


async def test_making_safe_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sequence, "ABORT_TIMEOUT", 0.01)
    klippy = Klippy({})
    klippy.hangs.add("TURN_OFF_HEATERS")
    await asyncio.wait_for(sequence.make_safe(klippy.run_gcode), 2)
    assert klippy.sent == SAFE


async def test_a_report_that_fails_makes_safe() -> None:
    klippy = Klippy({})

    def report(index: int, step: Step) -> None:
        raise RuntimeError("no websocket")

    with pytest.raises(sequence.SequenceError, match="no websocket"):
        await sequence.run([COLD], klippy.run_gcode, klippy.temperatures, report)
    assert klippy.sent == SAFE


async def test_each_step_is_surrounded() -> None:
    klippy = Klippy({})

    def note(word: str) -> Callable[[Step], Awaitable[None]]:
        async def around(step: Step) -> None:
            klippy.sent.append(f"{word} {step.name}")

        return around

    await sequence.run([COLD], klippy.run_gcode, klippy.temperatures, klippy.report,
                       note("before"), note("after"))  # fmt: skip
    assert klippy.sent == ["before home", "G28 X Y", "after home"]


async def test_klippy_is_kept_awake_in_a_long_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sequence, "KEEP_AWAKE_PERIOD", 0.01)
    klippy = Klippy(*[{"extruder": 20.0}] * 30, {"extruder": 200.0})
    await klippy.run(HOT)
    assert klippy.sent.count(sequence.KEEP_AWAKE) >= 2


async def test_cancelled_at_whatever_moment_it_stops_and_is_safe() -> None:
    """Also in the very moment in which a step is done."""
    done = False
    for ticks in range(1, 100):
        klippy = Klippy({"extruder": 200.0})
        task = asyncio.ensure_future(klippy.run(COLD, HOT))
        for _ in range(ticks):
            await asyncio.sleep(0)
        done = not task.cancel()
        if done:
            break
        with pytest.raises(asyncio.CancelledError):
            await task
        assert klippy.sent[-3:] == SAFE, ticks
    assert done and ticks > 5
