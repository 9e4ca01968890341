# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Glue between Moonraker and the modules that do the work.

Endpoints, the remote method of the PLR_ commands, notifications, subscriptions.
"""
from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moonraker.common import KlippyState, RequestType

from . import files, plan, prompts, recovery, sequence
from .gcode.errors import GcodeError
from .journal import Journal, JournalError
from .settings import Settings
from .tracker import Tracker

if TYPE_CHECKING:
    from moonraker.common import WebRequest
    from moonraker.confighelper import ConfigHelper

NAMESPACE = "power_loss_recovery"
EXIT_TIMEOUT = 10.0
START_TIMEOUT = 5.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SUBSCRIPTION: dict[str, list[str] | None] = {
    "power_loss_recovery": None,
    "print_stats": ["state", "filename"],
}
ANSWERS = {
    "PLR_ENABLE": "Prints are saved, so that they can be resumed.",
    "PLR_DISABLE": "Prints are no longer saved. PLR_ENABLE turns it on again.",
    "PLR_SAVE_PRINT_STATE": "Saving the state of the print.",
    "PLR_RESET_PRINT_DATA": "The interrupted print is forgotten.",
    "PLR_RESUME_PRINT": "Resuming the interrupted print.",
}


class PowerLossRecovery:
    def __init__(self, config: ConfigHelper) -> None:
        self.server = config.get_server()
        self.eventloop = self.server.get_event_loop()
        data = Path(self.server.get_app_args()["data_path"])
        path = config.get("journal_path", str(data / "plr" / "journal"))
        self.scratch = folder = Path(os.path.expanduser(path)).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise config.error(
                f"journal_path: the folder {folder} cannot be made: {e.strerror}"
            ) from e
        manager = self.server.lookup_component("file_manager")
        self.gcodes = Path(manager.get_directory("gcodes"))
        self.klippy_apis = self.server.lookup_component("klippy_apis")
        self.klippy_connection = self.server.lookup_component("klippy_connection")
        self.database = self.server.lookup_component("database")
        self.database.register_local_namespace(NAMESPACE)
        self.tracker = Tracker(
            journal=Journal(os.path.expanduser(path)),
            gcodes=self.gcodes,
            in_thread=self.eventloop.run_in_thread,
            clock=time.monotonic,
            wall_clock=time.time,
            boot_id=BOOT_ID.read_text().strip() if BOOT_ID.exists() else "",
            changed=self._changed,
            tell=self._tell,
        )
        self.klippy = recovery.Klippy(
            self.klippy_apis.run_gcode,
            self.klippy_apis.query_objects,
            self.klippy_apis.get_object_list,
            self.klippy_apis.start_print,
        )
        self.worker: asyncio.Task[None] | None = None
        self.resuming: asyncio.Task[None] | None = None
        self.busy = False
        self.step: Mapping[str, Any] | None = None
        self.last_error = ""
        self._register()

    def _register(self) -> None:
        server = self.server
        for name in ("status_changed", "resume_progress"):
            server.register_notification(f"plr:plr_{name}")
        for event, handler in (
            ("klippy_ready", self._handle_ready),
            ("klippy_shutdown", self._handle_gone),
            ("klippy_disconnect", self._handle_gone),
        ):
            server.register_event_handler(f"server:{event}", handler)
        server.register_endpoint(
            "/server/plr/status", RequestType.GET, self._handle_status_request
        )
        for name in ("resume", "discard", "save", "enable", "disable"):
            server.register_endpoint(
                f"/server/plr/{name}", RequestType.POST, getattr(self, f"_do_{name}")
            )
        server.register_remote_method("plr_command", self._handle_command)

    async def component_init(self) -> None:
        enabled = await self.database.get_item(NAMESPACE, "enabled", True)
        self.tracker.enabled = enabled is not False
        await self.tracker.load()
        self.worker = self.eventloop.create_task(self.tracker.run())

    async def on_exit(self) -> None:
        # Here and not in close(): now klippy can still be told to cool down.
        if self.resuming is not None:
            self.resuming.cancel()
            await asyncio.wait([self.resuming], timeout=EXIT_TIMEOUT)

    async def close(self) -> None:
        for task in (self.worker, self.resuming):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self.eventloop.run_in_thread(self.tracker.journal.close)

    # klippy comes and goes

    async def _handle_ready(self) -> None:
        # Awaited by Moonraker while it starts up klippy: the rest can wait.
        self.eventloop.create_task(self._attend())

    async def _attend(self) -> None:
        try:
            config = await self.klippy_apis.query_objects({"configfile": ["settings"]})
            section = config["configfile"]["settings"].get(NAMESPACE)
            if section is None:
                self._set_error(
                    "printer.cfg has no [power_loss_recovery]: prints are not saved."
                )
                return
            self.tracker.configure(Settings.from_klippy(section))
            status = await self.klippy_apis.subscribe_objects(
                SUBSCRIPTION, self._handle_update
            )
            await self.tracker.klippy_ready(status)
        except self.server.error as e:
            self._set_error(f"klippy did not answer: {e}")
            return
        self.last_error = ""
        state = status.get("print_stats", {}).get("state")
        if self.tracker.pending is not None and state not in ("printing", "paused"):
            self._offer()
        self._changed()

    def _handle_update(self, status: dict[str, dict[str, Any]], _: float) -> None:
        # Updates are those of all components: only ours are kept.
        mine = {name: status[name] for name in SUBSCRIPTION if name in status}
        if mine:
            self.tracker.update(mine)

    async def _handle_gone(self) -> None:
        self.tracker.klippy_gone()
        if self.resuming is not None:
            self.resuming.cancel()
        self._changed()

    # Telling people

    def _tell(self, text: str) -> None:
        self._console(prompts.console([f"Power loss recovery: {text}"]))

    def _console(self, text: str) -> None:
        for line in text.split("\n"):
            self.server.send_event("server:gcode_response", line)

    def _offer(self) -> None:
        pending = self.tracker.pending
        if pending is not None:
            lines = prompts.offer(pending.job, pending.record, time.time())
            self._console("\n".join(lines))

    def _close_offer(self) -> None:
        self._console("\n".join(prompts.close()))

    def _set_error(self, text: str) -> None:
        self.last_error = text
        logging.info(f"power_loss_recovery: {text}")
        self._changed()

    def _changed(self) -> None:
        self.server.send_event("plr:plr_status_changed", self.status())

    def state(self) -> str:
        if self.resuming is not None:
            return "resuming"
        if self.tracker.printing is not None:
            return "printing"
        return "idle" if self.tracker.pending is None else "interrupted"

    def status(self) -> dict[str, Any]:
        pending, printing = self.tracker.pending, self.tracker.printing
        record = None
        # While another print is being prepared, what is kept is not of that print.
        if pending is not None and (
            printing is None or printing.job_id == pending.job_id
        ):
            record = prompts.details(
                pending.job, pending.record, time.time(), self.tracker.boot_id
            )
        return {
            "state": self.state(),
            "enabled": self.tracker.enabled,
            "record": record,
            "step": self.step,
            "last_save_reason": self.tracker.last_reason,
            "trouble": self.tracker.status_of(NAMESPACE).get("trouble")
            or self.tracker.trouble,
            "last_error": self.last_error,
        }

    # Endpoints

    async def _handle_status_request(self, request: WebRequest) -> dict[str, Any]:
        return self.status()

    async def _do_resume(self, request: WebRequest) -> dict[str, Any]:
        return await self.resume(request.get_boolean("dry_run", False))

    async def _do_discard(self, request: WebRequest) -> dict[str, Any]:
        await self.discard()
        return self.status()

    async def _do_save(self, request: WebRequest) -> dict[str, Any]:
        self.tracker.save_now()
        return self.status()

    async def _do_enable(self, request: WebRequest) -> dict[str, Any]:
        await self.set_enabled(True)
        return self.status()

    async def _do_disable(self, request: WebRequest) -> dict[str, Any]:
        await self.set_enabled(False)
        return self.status()

    # What can be asked, by endpoint or command

    async def set_enabled(self, enabled: bool) -> None:
        await self.database.insert_item(NAMESPACE, "enabled", enabled)
        self.tracker.enabled = enabled
        self._changed()

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
        self._close_offer()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One resume or discard at a time."""
        if self.busy or self.resuming is not None:
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
                self._close_offer()
                self.last_error = ""
                self.resuming = self.eventloop.create_task(self._carry_out(prepared))
                self.resuming.add_done_callback(self._resume_ended)
                self._changed()
        return {
            "steps": [step.title for step in prepared.plan.steps],
            "warnings": list(prepared.plan.warnings),
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

        def report(index: int, step: plan.Step) -> None:
            self.step = {"number": index + 1, "of": total, "name": step.name,
                         "title": step.title}  # fmt: skip
            self._tell(f"{index + 1} of {total}: {step.title}.")
            self.server.send_event("plr:plr_resume_progress", self.step)

        async def note_z(z: float) -> None:
            await self.tracker.note_z(prepared.pending.job_id, z)

        for warning in prepared.plan.warnings:
            self._tell(warning)
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
        self.resuming, self.step = None, None
        error = ""
        if task.cancelled():
            error = "The resume was stopped."
        elif (e := task.exception()) is not None:
            error = f"The resume failed: {e}"
            if not isinstance(e, (sequence.SequenceError, recovery.Interrupted)):
                logging.info("power_loss_recovery: resume", exc_info=e)
        if error:
            self._set_error(error)
            self._tell(f"{error} Nothing is lost: it can be tried again.")
        else:
            self._tell("The print goes on.")
        self._changed()

    # Commands

    def _handle_command(self, command: str, params: Mapping[str, str]) -> None:
        self.eventloop.create_task(self._run_command(command, params))

    async def _run_command(self, command: str, params: Mapping[str, str]) -> None:
        answer = ANSWERS.get(command, "")
        try:
            if command in ("PLR_ENABLE", "PLR_DISABLE"):
                await self.set_enabled(command == "PLR_ENABLE")
            elif command.startswith("PLR_SAVE_PRINT_STATE"):
                self.tracker.save_now()
            elif command == "PLR_RESET_PRINT_DATA":
                await self.discard()
            elif command == "PLR_RESUME_PRINT":
                if params:
                    raise self.server.error(
                        f"{' '.join(params)}: only resuming from the saved place is"
                        " possible so far"
                    )
                await self.resume()
            elif command == "PLR_QUERY_SAVED_STATE":
                answer = prompts.saved_state(self.status())
            else:
                raise self.server.error(f"{command}: not known here")
        except self.server.error as e:
            answer = f"{command}: {e}"
        if answer:
            self._tell(answer)
