# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""One resume or discard at a time: asked, prepared, carried out, ended."""
from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moonraker.common import KlippyState, WebRequest

from .. import answers, files, plan, sequence
from ..gcode.errors import GcodeError
from ..journal import JournalError
from ..planning.purge import Strip, note
from ..planning.steps import Step
from ..record import Phases, RecordError
from ..saving.lineage import Pending
from . import elsewhere, recovery, stops
from .machine_facts import Klippy
from .read_once import ReadOnce

if TYPE_CHECKING:
    from ..component import PowerLossRecovery

START_TIMEOUT = 5.0
STOP_HOOK = "power_loss_recovery/stop_hook"  # of klippy's extra
STOP_PERIOD = 1.0  # s
EXPECTED = (
    sequence.SequenceError, recovery.Interrupted, plan.Refusal, files.FileProblem,
    GcodeError,
)  # fmt: skip


def _outline(made: plan.Plan) -> plan.Outline:
    titles = tuple(step.title for step in made.steps)
    return plan.Outline(made.steps[0], titles, made.warnings, made.z, made.strip)


def _purge(strip: Strip | None) -> answers.Purge | None:
    if strip is None:
        return None
    return {"x": strip.x, "y": strip.y, "end_x": strip.end_x, "end_y": strip.end_y,
            "on_bed": strip.on_bed}  # fmt: skip


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
        self.places: ReadOnce[recovery.Found] = ReadOnce(self.eventloop.run_in_thread)
        self.layers: ReadOnce[list[answers.Point]] = ReadOnce(
            self.eventloop.run_in_thread
        )
        apis = component.klippy_apis
        self.klippy = Klippy(
            self._run_gcode, apis.query_objects, apis.get_object_list, self._start_print
        )
        self.task: asyncio.Task[None] | None = None
        self.busy = False
        self.ending = False  # it stops, or its print is being started
        self.why = ""  # it was stopped by klippy
        self.step: answers.Step | None = None
        self.pauses = False  # what was resumed stands paused

    # Ending

    def cancel(self, why: str = "") -> None:
        """Klippy is gone, `why` says how, or Moonraker ends."""
        # Twice would keep the machine from being made safe.
        if self.task is not None and not self.ending:
            self.ending, self.why = True, why
            self.task.cancel()

    def cancel_asked(self) -> None:
        """A person wants it."""
        if self.task is None:
            raise self.server.error("No resume is under way", 409)
        if self.ending:
            raise self.server.error(
                "Too late: the resume is stopping, or its print begins", 409
            )
        self.cancel()
        if self.step is not None:
            self.step = {**self.step, "name": "stopping", "title": stops.ASKED}
        self.component.tell(f"The resume ends. {stops.ASKED}")
        self.component.changed()
        self.eventloop.create_task(self._stop_hook())

    async def _stop_hook(self) -> None:
        """One that waits for heat keeps all G-code waiting; it is asked otherwise, and
        again: it may only be about to begin."""
        stopping = self.task
        while stopping is not None and not stopping.done():
            with contextlib.suppress(self.server.error):
                await self.klippy_connection.request(WebRequest(STOP_HOOK, {}))
            await asyncio.sleep(STOP_PERIOD)

    async def stop(self, timeout: float) -> None:
        """Cancel, and give the machine `timeout` seconds to be made safe."""
        if self.task is not None:
            self.cancel()
            await asyncio.wait([self.task], timeout=timeout)

    async def discard(self) -> None:
        with self.alone():
            waiting = self.component.attendant.waiting
            if not waiting:
                raise self.server.error("There is no interrupted print", 404)
            try:
                await self.tracker.close(waiting[0].job_id, "discarded")
            except JournalError as e:
                raise self.server.error(f"Not discarded: {e}", 500) from e
            if self.tracker.printing is None:
                await self.eventloop.run_in_thread(
                    files.remove_resume_files, self.gcodes
                )
        self.component.attendant.discarded()

    @contextmanager
    def alone(self, looking: bool = False) -> Iterator[None]:
        """One resume or discard at a time.  looking: nothing is changed, so that
        nobody has to wait for it."""
        if self.busy or self.task is not None:
            raise self.server.error("A resume or discard is already under way", 409)
        if looking:
            yield
            return
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    def hold(
        self, work: Coroutine[Any, Any, None],
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:  # fmt: skip
        """As long as `work` runs, there is no other resume; cancel() stops it."""
        self.ending, self.why = False, ""
        self.task = self.eventloop.create_task(work)
        self.task.add_done_callback(self._released)
        self.task.add_done_callback(ended)

    def _released(self, task: asyncio.Task[None]) -> None:
        self.task, self.ending = None, False
        self.component.changed()

    # Resuming

    async def resume(
        self,
        dry_run: bool = False,
        place: files.Place | None = None,
        z_strategy: str | None = None,
    ) -> answers.Resume:
        """Start to resume, and say what will be done.

        place: instead of the saved one; z_strategy: instead of the configured one.
        Answers at once, and reads the file while the machine heats, but for a dry run
        or a place, which has to be found in the file first.
        """
        loop = asyncio.get_running_loop()
        with self.alone(looking=dry_run):
            pending = self._pending()
            outage = await self.component.attendant.outage(pending)
            try:
                ready = await recovery.check(
                    pending, self.gcodes, self.klippy, self.eventloop.run_in_thread,
                    z_strategy, outage,
                )  # fmt: skip
                prepared = await self._examined(ready, place, dry_run)
            except (plan.Refusal, files.FileProblem, GcodeError, OSError) as e:
                raise self.server.error(f"Cannot resume: {e}", 409) from e
            self._check_still(pending)
            outline = ready.outline if prepared is None else _outline(prepared.plan)
            if not dry_run:
                self.component.attendant.answered()
                self.component.last_error = ""
                making: asyncio.Future[recovery.Prepared]
                if prepared is None:
                    making = asyncio.ensure_future(self._planned(ready))
                else:
                    making = loop.create_future()
                    making.set_result(prepared)
                self.ending, self.why = False, ""
                self.task = self.eventloop.create_task(
                    self._carry_out(pending, outline, making)
                )
                self.task.add_done_callback(self._resume_ended)
                self.task.add_done_callback(lambda _: making.cancel())
                self.component.changed()
        return {
            "steps": list(outline.titles),
            "warnings": list(outline.warnings),
            "z": dict(outline.z),
            "purge": _purge(outline.strip),
            "dry_run": dry_run,
        }

    async def _examined(
        self, ready: recovery.Ready, place: files.Place | None, dry_run: bool
    ) -> recovery.Prepared | None:
        in_thread = self.eventloop.run_in_thread
        if place is None and await self.component.attendant.is_complete(ready.pending):
            raise files.FileProblem(files.ALL_LAID)
        if place is not None:
            return await elsewhere.prepare(ready, place, in_thread)
        return await self._planned(ready) if dry_run else None

    async def _planned(self, ready: recovery.Ready) -> recovery.Prepared:
        in_thread = self.eventloop.run_in_thread
        position = ready.pending.record.file_position
        found = await self.places.get(
            ready.path, position, lambda: recovery.read(ready, in_thread)
        )
        return recovery.planned(ready, found)

    def _pending(self) -> Pending:
        pending = self.tracker.pending
        if self.klippy_connection.state != KlippyState.READY:
            raise self.server.error("Klipper is not ready: resume when it is", 503)
        if self.tracker.status_of("print_stats").get("state") in ("printing", "paused"):
            raise self.server.error("A print is running: nothing to resume", 409)
        if pending is None:
            raise self.server.error("There is no interrupted print to resume", 404)
        return pending

    def _check_still(self, pending: Pending) -> None:
        now = self.tracker.pending
        same = now is not None and now.job_id == pending.job_id
        if not same or self.tracker.printing is not None:
            raise self.server.error("Cannot resume: a print was started", 409)
        if self.klippy_connection.state != KlippyState.READY:
            raise self.server.error("Klipper stopped meanwhile", 503)

    async def points(self) -> answers.Points:
        """The layers of the interrupted print.  Reads the file, once."""
        pending = self._pending()
        try:
            path = files.inside(self.gcodes, pending.job.name)
            found = await self.layers.get(path, None, lambda: self._layers(path))
        except (files.FileProblem, GcodeError, OSError) as e:
            raise self.server.error(f"No layers: {e}", 409) from e
        return {
            "file": pending.job.name,
            "saved": pending.record.file_position,
            "points": found,
        }

    async def _layers(self, path: Path) -> list[answers.Point]:
        return [
            answers.Point(layer=at.number, z=at.z, file_position=at.file_position,
                          share=at.share)
            for at in await self.eventloop.run_in_thread(files.layers, path)
        ]  # fmt: skip

    async def _carry_out(
        self,
        pending: Pending,
        outline: plan.Outline,
        making: asyncio.Future[recovery.Prepared],
    ) -> None:
        total = len(outline.titles)

        def report(index: int, step: Step) -> None:
            self.step = {"number": index + 1, "of": total, "name": step.name,
                         "title": step.title}  # fmt: skip
            self.component.tell(f"{index + 1} of {total}: {step.title}.")
            self.server.send_event("plr:plr_resume_progress", self.step)

        def tell_rest(done: asyncio.Future[recovery.Prepared]) -> None:
            if not done.cancelled() and done.exception() is None:
                for warning in done.result().plan.warnings:
                    if warning not in outline.warnings:
                        self.component.tell(warning)

        async def note_z(z: float, phases: Phases) -> None:
            # A step that moves Z is about to begin, or done.
            if self.step is not None and self.step["name"] == "purge":
                await self._note_purge(pending.job_id, making.result().plan.strip)
            await self.tracker.note_z(pending.job_id, z, phases)

        for warning in outline.warnings:
            self.component.tell(warning)
        making.add_done_callback(tell_rest)
        await recovery.carry_out(
            outline.first, making, self.gcodes, self.scratch, self.klippy,
            self.eventloop.run_in_thread, report, note_z,
        )  # fmt: skip
        self.pauses = making.result().plan.pauses
        self.component.outages.ended(pending.job_id, "resumed")
        # Until the print is seen, nobody may discard what it comes from.
        until = time.monotonic() + START_TIMEOUT
        while self.tracker.printing is None and time.monotonic() < until:
            await asyncio.sleep(0.1)

    async def _note_purge(self, job_id: bytes, strip: Strip) -> None:
        """The next resume of this print purges beside it."""
        now = self.tracker.pending
        if now is None or now.job_id != job_id:
            return
        try:
            await self.tracker.amend(job_id, purged=note(now.record.purged, strip))
        except (JournalError, RecordError) as e:
            logging.info(f"power_loss_recovery: where it purges is not saved: {e}")

    async def _run_gcode(self, script: str) -> object:
        # It would be refused, or wait for a board that is lost.
        if self.klippy_connection.state != KlippyState.READY:
            raise self.server.error("Klipper is not ready", 503)
        return await self.component.klippy_apis.run_gcode(script)

    async def _start_print(self, name: str) -> object:
        # From here on a cancel would leave a print that runs without its heaters.
        self.ending = True
        pending = self.tracker.pending
        if pending is not None:
            self.component.outages.resuming(pending, name)
        return await self.component.klippy_apis.start_print(name)

    def _outcome(self) -> str:
        if self.pauses:
            return "The print is ready, and paused: RESUME when you are."
        return "The print goes on."

    def _ended_by_klippy(self, task: asyncio.Task[None]) -> str:
        state = self.klippy_connection.state
        failed = not task.cancelled() and task.exception() is not None
        if failed and not self.why and state == KlippyState.SHUTDOWN:
            # What was being run has told us before Moonraker did.
            return stops.by_shutdown(state.message)
        return self.why

    def _resume_ended(self, task: asyncio.Task[None]) -> None:
        """However it ended: also when it was stopped before its first step."""
        self.task, self.step, self.ending = None, None, False
        error, again = "", "Nothing is lost: it can be tried again."
        if why := self._ended_by_klippy(task):
            error, again = f"The resume was stopped: {why}", "Nothing is lost."
        elif task.cancelled():
            error = "The resume was stopped."
        elif (e := task.exception()) is not None:
            error = f"The resume failed: {e}"
            if not isinstance(e, EXPECTED):
                logging.info("power_loss_recovery: resume", exc_info=e)
        if error:
            self.component.set_error(error)
            self.component.tell(f"{error} {again}")
        else:
            self.component.tell(self._outcome())
        self.component.changed()
