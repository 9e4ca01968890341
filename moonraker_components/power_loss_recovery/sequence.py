# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Runs the steps of a plan, one by one, with a safe way out of each.

Heaters are waited for here and not in klippy: a klippy that waits for a heater
takes no other command, and the resume could not be stopped.
"""
from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from .planning.steps import Step

TEMPERATURE_PERIOD = 0.5
ABORT_TIMEOUT = 60.0
# klippy counts a long wait for a heater as idle, and would turn the heaters off.
KEEP_AWAKE_PERIOD = 60.0
KEEP_AWAKE = "G4 P1"
# Heaters first; then up and away from the part, if Z may be moved at all.  Each for
# itself: klippy gives up a script at the first error, and must not stay in G91.
MAKE_SAFE = ("TURN_OFF_HEATERS", "G91\nG1 Z5 F600", "G90")

RunGcode = Callable[[str], Awaitable[object]]
# Of the heaters that are on.
ReadTemperatures = Callable[[], Awaitable[dict[str, float]]]
Report = Callable[[int, Step], None]
Around = Callable[[Step], Awaitable[None]]


async def nothing(step: Step) -> None:
    """The default for what is done before and after a step."""


class SequenceError(Exception):
    """A step failed; `step` is the one.  The printer has been made safe."""

    def __init__(self, step: Step, why: str) -> None:
        super().__init__(f"{step.title}: {why}")
        self.step = step


class HeaterOff(Exception):
    """Somebody, or klippy, wants no heat: the resume stops."""


async def run(
    steps: Sequence[Step],
    run_gcode: RunGcode,
    temperatures: ReadTemperatures,
    report: Report,
    before: Around = nothing,
    after: Around = nothing,
    done: int = 0,
) -> None:
    """`done`: how many steps of the plan were run before these.

    Raises SequenceError when a step fails; asyncio.CancelledError goes on to the
    caller.  Either way the heaters are off and the nozzle is up, as far as klippy
    still answers.
    """
    for index, step in enumerate(steps, done):
        try:
            report(index, step)
            await before(step)
            await _within(step.timeout, _do(step, run_gcode, temperatures))
            await after(step)
        except asyncio.CancelledError:
            await make_safe(run_gcode)
            raise
        except asyncio.TimeoutError:
            await make_safe(run_gcode)
            raise SequenceError(
                step, f"not done after {step.timeout:.0f} s, given up"
            ) from None
        except Exception as e:
            await make_safe(run_gcode)
            raise SequenceError(step, str(e)) from e


async def _within(seconds: float, work: Coroutine[Any, Any, None]) -> None:
    """As asyncio.wait_for(), which before Python 3.12 forgets that it was cancelled
    when the work is done in the same moment: the resume would go on."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise asyncio.TimeoutError
        task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _do(
    step: Step, run_gcode: RunGcode, temperatures: ReadTemperatures
) -> None:
    if step.script:
        await run_gcode(step.script)
    await _wait_hot(step, run_gcode, temperatures)


async def _wait_hot(
    step: Step, run_gcode: RunGcode, temperatures: ReadTemperatures
) -> None:
    clock = asyncio.get_running_loop().time
    awake = clock()
    while step.wait:
        now = await temperatures()
        off = [name for name in step.wait if name not in now]
        if off:
            raise HeaterOff(f"[{off[0]}] was turned off meanwhile")
        if all(now[name] >= low for name, low in step.wait.items()):
            return
        if clock() - awake >= KEEP_AWAKE_PERIOD:
            await run_gcode(KEEP_AWAKE)
            awake = clock()
        await asyncio.sleep(TEMPERATURE_PERIOD)


async def _sent(run_gcode: RunGcode, script: str) -> None:
    await run_gcode(script)


async def make_safe(run_gcode: RunGcode) -> None:
    """Best effort: klippy may be gone, or Z unknown."""
    for script in MAKE_SAFE:
        try:
            await asyncio.wait_for(_sent(run_gcode, script), ABORT_TIMEOUT)
        except Exception as e:
            logging.info(f"power_loss_recovery: making safe: {script!r}: {e}")
