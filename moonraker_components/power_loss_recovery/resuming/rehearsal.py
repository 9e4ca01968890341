# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""PLR_TEST_RESUME: a resume without heat and without plastic, before the first outage.

The last print is planned as if it had been cut in its middle layer, its resume file is
written and thrown away, and those steps are run that only move, above everything that
the print had laid.
"""
from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Any

from moonraker.common import KlippyState

from .. import answers, files, plan, sequence
from ..gcode.errors import GcodeError
from ..planning.steps import Step
from . import recovery

if TYPE_CHECKING:
    from ..component import PowerLossRecovery

# Steps that neither heat nor extrude.  restart_gcode is left out: it is there to run
# when all is hot.
MOVES = ("meta_info", "lift", "home_xy", "before_resume_gcode", "true_z",
         "after_resume_gcode", "travel")  # fmt: skip
# Nothing gets hot, so it does not matter what the file's macros would have set.
TEMPERATURES = {"extruder": 200.0, "heater_bed": 0.0}
LOOK_BACK = 50
COOL = "TURN_OFF_HEATERS"
REFUSED = (plan.Refusal, files.FileProblem, GcodeError, OSError)


class Rehearsal:
    def __init__(self, component: PowerLossRecovery) -> None:
        self.component = component
        self.server = component.server
        self.resumer = component.resumer

    async def start(self) -> answers.Rehearsal:
        """Begins, and says what will be done.  Raises the server's error."""
        with self.resumer.alone():
            self._check_free()
            name = await self._last_print()
            try:
                prepared = await self._prepared(name)
            except REFUSED as e:
                raise self.server.error(f"{name}: {e}", 409) from e
            self._check_free()
            steps = [s for s in prepared.plan.steps if s.name in MOVES]
            self.resumer.hold(self._carry_out(prepared, steps), self._ended)
        self.component.changed()
        for warning in prepared.plan.warnings:
            self.component.tell(warning)
        return {
            "file": name,
            "steps": [step.title for step in steps],
            "warnings": list(prepared.plan.warnings),
        }

    def _check_free(self) -> None:
        tracker = self.component.tracker
        if self.resumer.klippy_connection.state != KlippyState.READY:
            raise self.server.error("Klipper is not ready", 503)
        state = tracker.status_of("print_stats").get("state")
        if state in ("printing", "paused") or tracker.printing is not None:
            raise self.server.error("A print is running", 409)
        if self.component.attendant.waiting:
            raise self.server.error(
                "A print waits to be resumed: its part may be on the bed. Resume or"
                " discard it first", 409,
            )  # fmt: skip

    async def _last_print(self) -> str:
        transport = self.server.lookup_component("internal_transport")
        answer: dict[str, Any] = await transport.call_method(
            "server.history.list", limit=LOOK_BACK, order="desc"
        )
        for job in answer["jobs"]:
            if job.get("exists") and job.get("status") != "in_progress":
                return str(job["filename"])
        raise self.server.error("There is no earlier print whose file is still there")

    async def _prepared(self, name: str) -> recovery.Prepared:
        in_thread = self.component.eventloop.run_in_thread
        klippy, root = self.resumer.klippy, self.resumer.gcodes
        path = files.inside(root, name)
        layers = await in_thread(files.layers, path)
        if not layers:
            raise plan.Refusal(["The file has no layers."])
        middle = layers[len(layers) // 2].number
        toolhead = (await klippy.query({"toolhead": ["homed_axes"]}))["toolhead"]
        if "z" not in toolhead["homed_axes"]:
            raise plan.Refusal([
                "Klipper does not know where Z is: see that the bed is empty, home the"
                " printer (G28), then try again."
            ])  # fmt: skip
        return await recovery.prepare_place(
            name, files.Place(layer=middle), root, klippy, in_thread, TEMPERATURES
        )

    async def _carry_out(
        self, prepared: recovery.Prepared, steps: list[Step]
    ) -> None:
        in_thread = self.component.eventloop.run_in_thread
        await in_thread(self._write, prepared)
        run_gcode, query = self.resumer.klippy.run_gcode, self.resumer.klippy.query

        async def alone(script: str) -> None:
            state = (await query({"print_stats": ["state"]}))["print_stats"]["state"]
            if state in ("printing", "paused"):
                raise recovery.Interrupted("a print was started meanwhile")
            await run_gcode(script)

        async def cool(step: Step) -> None:
            # A hook of the owner's may have turned one on.
            await alone(COOL)

        async def no_heat() -> dict[str, float]:
            return {}

        def report(index: int, step: Step) -> None:
            self.component.tell(f"{index + 1} of {len(steps)}: {step.title}.")

        await sequence.run(steps, alone, no_heat, report, after=cool)

    def _write(self, prepared: recovery.Prepared) -> None:
        """The resume file, to see that it can be written; nobody is to print it."""
        root = self.resumer.gcodes
        try:
            files.write_resume_file(
                root, prepared.path, prepared.pending.job, prepared.pending.record,
                prepared.head, prepared.plan, secrets.token_hex(8),
                self.resumer.scratch,
            )  # fmt: skip
        finally:
            files.remove_resume_files(root)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self.component.tell("The rehearsal was stopped.")
        elif (e := task.exception()) is not None:
            if not isinstance(e, (*REFUSED, sequence.SequenceError,
                                  recovery.Interrupted)):  # fmt: skip
                logging.info("power_loss_recovery: rehearsal", exc_info=e)
            self.component.tell(f"The rehearsal failed: {e}")
        else:
            self.component.tell(
                "The rehearsal went well. Mesh and offsets are cleared, as in a resume:"
                " G28 before the next print."
            )
