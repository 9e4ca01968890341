# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""One resume or discard at a time: asked, prepared, carried out, ended."""
from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moonraker.common import KlippyState

from . import files, plan, recovery, sequence
from .gcode.errors import GcodeError
from .journal import JournalError
from .record import Phases
from .steps import Step

if TYPE_CHECKING:
    from .component import PowerLossRecovery

START_TIMEOUT = 5.0


class Resumer:
    """gcodes: root of the printable files; scratch: for the file being made."""

    def __init__(
        self, component: PowerLossRecovery, gcodes: Path, scratch: Path
    ) -> None:
        self.component = component
        self.server = component.server
        self.eventloop = component.eventloop
        self.tracker = component.tracker
        self.gcodes = gcodes
        self.scratch = scratch
        self.klippy_connection = self.server.lookup_component("klippy_connection")
        apis = component.klippy_apis
        self.klippy = recovery.Klippy(
            apis.run_gcode, apis.query_objects, apis.get_object_list, apis.start_print
        )
        self.task: asyncio.Task[None] | None = None
        self.busy = False
        self.step: Mapping[str, Any] | None = None

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def stop(self, timeout: float) -> None:
        """Cancel, and give the machine `timeout` seconds to be made safe."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task], timeout=timeout)

    async def discard(self) -> None:
        with self._alone():
            pending = self.tracker.pending
            if pending is None or self.tracker.printing is not None:
                raise self.server.error("There is no interrupted print", 404)
            try:
                await self.tracker.close(pending.job_id, "discarded")
            except JournalError as e:
                raise self.server.error(f"Not discarded: {e}", 500) from e
            await self.eventloop.run_in_thread(files.remove_resume_files, self.gcodes)
        self.component.close_offer()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One resume or discard at a time."""
        if self.busy or self.task is not None:
            raise self.server.error("A resume or discard is already under way", 409)
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    async def resume(self, dry_run: bool = False) -> dict[str, Any]:
        """Start to resume, and say what will be done.  Answers at once."""
        with self._alone():
            prepared = await self._prepare()
            if not dry_run:
                self.component.close_offer()
                self.component.last_error = ""
                self.task = self.eventloop.create_task(self._carry_out(prepared))
                self.task.add_done_callback(self._resume_ended)
                self.component.changed()
        return {
            "steps": [step.title for step in prepared.plan.steps],
            "warnings": list(prepared.plan.warnings),
            "z": prepared.plan.z,
            "dry_run": dry_run,
        }

    async def _prepare(self) -> recovery.Prepared:
        pending = self.tracker.pending
        if self.klippy_connection.state != KlippyState.READY:
            raise self.server.error("Klipper is not ready: resume when it is", 503)
        if self.tracker.status_of("print_stats").get("state") in ("printing", "paused"):
            raise self.server.error("A print is running: nothing to resume", 409)
        if pending is None:
            raise self.server.error("There is no interrupted print to resume", 404)
        try:
            prepared = await recovery.prepare(
                pending, self.gcodes, self.klippy, self.eventloop.run_in_thread
            )
        except (plan.Refusal, files.FileProblem, GcodeError, OSError) as e:
            raise self.server.error(f"Cannot resume: {e}", 409) from e
        if self.tracker.pending is not pending or self.tracker.printing is not None:
            raise self.server.error("Cannot resume: a print was started", 409)
        if self.klippy_connection.state != KlippyState.READY:
            raise self.server.error("Klipper stopped meanwhile", 503)
        return prepared

    async def _carry_out(self, prepared: recovery.Prepared) -> None:
        total = len(prepared.plan.steps)

        def report(index: int, step: Step) -> None:
            self.step = {"number": index + 1, "of": total, "name": step.name,
                         "title": step.title}  # fmt: skip
            self.component.tell(f"{index + 1} of {total}: {step.title}.")
            self.server.send_event("plr:plr_resume_progress", self.step)

        async def note_z(z: float, phases: Phases) -> None:
            await self.tracker.note_z(prepared.pending.job_id, z, phases)

        for warning in prepared.plan.warnings:
            self.component.tell(warning)
        await recovery.carry_out(
            prepared, self.gcodes, self.scratch, self.klippy,
            self.eventloop.run_in_thread, report, note_z,
        )  # fmt: skip
        # Until the print is seen, nobody may discard what it comes from.
        until = time.monotonic() + START_TIMEOUT
        while self.tracker.printing is None and time.monotonic() < until:
            await asyncio.sleep(0.1)

    def _resume_ended(self, task: asyncio.Task[None]) -> None:
        """However it ended: also when it was stopped before its first step."""
        self.task, self.step = None, None
        error = ""
        if task.cancelled():
            error = "The resume was stopped."
        elif (e := task.exception()) is not None:
            error = f"The resume failed: {e}"
            if not isinstance(e, (sequence.SequenceError, recovery.Interrupted)):
                logging.info("power_loss_recovery: resume", exc_info=e)
        if error:
            self.component.set_error(error)
            self.component.tell(f"{error} Nothing is lost: it can be tried again.")
        else:
            self.component.tell("The print goes on.")
        self.component.changed()
