# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Glue between Moonraker and the modules that do the work.

Start and end, klippy that comes and goes, what people are told.
"""
from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moonraker.common import KlippyState

from . import answers, prompts, reading
from .asking.attendant import RUNNING, Attendant
from .calibration.calibration_keeper import CalibrationKeeper
from .doctor.checker import Checker
from .faces import overview
from .faces.api import Api
from .faces.console import Console
from .faces.endpoints import NOTIFICATIONS
from .journal import Journal
from .planning import spools
from .resuming import stops
from .resuming.preparing import Preparing
from .resuming.rehearsal import Rehearsal
from .resuming.resumer import Resumer
from .saving import interruption, stopped
from .saving.kept import Kept
from .saving.mesh_keeper import MeshKeeper
from .saving.outage_keeper import OutageKeeper
from .saving.tracker import Tracker
from .saving.witness import Witness
from .settings import Settings
from .store import journal_place

if TYPE_CHECKING:
    from moonraker.confighelper import ConfigHelper

NAMESPACE = "power_loss_recovery"
EXIT_TIMEOUT = 10.0
DOUBT_PERIOD = 2.0  # seconds between questions for the state of the print
MAX_ERRORS = 10
MOUNTS = Path("/proc/self/mountinfo")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
APPROXIMATE = (
    "This Klipper's virtual_sdcard looks different: the saved place is approximate, and"
    " some lines may be printed twice after a power loss."
)
SUBSCRIPTION: dict[str, list[str] | None] = {
    "power_loss_recovery": None,
    "print_stats": ["state", "filename", "message"],
    "heater_bed": ["temperature", "target"],
    "toolhead": ["print_time", "estimated_print_time", "stalls"],
}


class PowerLossRecovery:
    def __init__(self, config: ConfigHelper) -> None:
        self.server = config.get_server()
        self.eventloop = self.server.get_event_loop()
        data = Path(self.server.get_app_args()["data_path"])
        path = config.get("journal_path", str(data / "plr" / "journal"))
        folder = Path(os.path.expanduser(path)).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise config.error(
                f"journal_path: the folder {folder} cannot be made: {e.strerror}"
            ) from e
        manager = self.server.lookup_component("file_manager")
        gcodes = Path(manager.get_directory("gcodes"))
        self.warnings = self._warnings(os.path.expanduser(path))
        self.klippy_apis = self.server.lookup_component("klippy_apis")
        self.database = self.server.lookup_component("database")
        self.database.register_local_namespace(NAMESPACE)
        self.tracker = Tracker(
            journal=Journal(os.path.expanduser(path)),
            kept=Kept(data / "plr" / "kept"),
            gcodes=gcodes,
            in_thread=self.eventloop.run_in_thread,
            clock=time.monotonic,
            wall_clock=time.time,
            boot_id=BOOT_ID.read_text().strip() if BOOT_ID.exists() else "",
            changed=self.changed,
            tell=self.tell,
        )
        self.witness = Witness(self.tracker)
        self.resumer = Resumer(self, gcodes, folder)
        self.calibration = CalibrationKeeper(self, folder, self.tracker.boot_id)
        self.attendant = Attendant(self)
        self.outages = OutageKeeper(self)
        self.preparing = Preparing(self)
        self.worker: asyncio.Task[None] | None = None
        self.last_error = ""
        self.errors: deque[answers.Error] = deque(maxlen=MAX_ERRORS)
        self.subscription = SUBSCRIPTION
        self._doubted = float("-inf")
        self._register()
        self.checker = Checker(self, data)
        self.rehearsal = Rehearsal(self)
        self.api = Api(self)
        self.console = Console(self)
        self.mesh = MeshKeeper(self, NAMESPACE)

    def _warnings(self, path: str) -> list[str]:
        mounts = MOUNTS.read_text() if MOUNTS.exists() else ""
        text = journal_place.warning(path, mounts)
        if text:
            logging.info(f"power_loss_recovery: {text}")
        return [text] if text else []

    def standing_warnings(self) -> list[str]:
        """What is so as long as nobody changes the configuration, or Klipper."""
        extra = self.tracker.status_of(NAMESPACE)
        inexact = [APPROXIMATE] if extra.get("approximate") is True else []
        return [*self.warnings, *inexact]

    def _register(self) -> None:
        server = self.server
        for name in NOTIFICATIONS:
            server.register_notification(f"plr:{name}")
        for event, handler in (
            ("klippy_started", self._handle_started),
            ("klippy_ready", self._handle_ready),
            ("klippy_shutdown", self._handle_shutdown),
            ("klippy_disconnect", self._handle_gone),
        ):
            server.register_event_handler(f"server:{event}", handler)
        server.register_remote_method("plr_power_loss", self._handle_power_loss)

    async def component_init(self) -> None:
        enabled = await self.remembered("enabled", True)
        self.tracker.enabled = enabled is not False
        await self.outages.load()
        await self.tracker.load()
        await self.calibration.load()
        await self.attendant.attempts.load()
        self.worker = self.eventloop.create_task(self.tracker.run())

    async def on_exit(self) -> None:
        # Here and not in close(): now klippy can still be told to cool down.
        await self.attendant.leave()
        await self.resumer.stop(EXIT_TIMEOUT)
        await self.witness.leaving()

    async def close(self) -> None:
        for task in (self.worker, self.resumer.task):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self.eventloop.run_in_thread(self.tracker.keeper.journal.close)

    # klippy comes and goes

    async def _handle_started(self, state: KlippyState) -> None:
        if state == KlippyState.SHUTDOWN:
            found = self.witness.found_shut_down(state.message)
            self.eventloop.create_task(found)
        elif state == KlippyState.ERROR:
            self.eventloop.create_task(self.calibration.klippy_failed(state.message))

    async def _handle_ready(self) -> None:
        # Awaited by Moonraker while it starts up klippy: the rest can wait.
        self.eventloop.create_task(self._attend())

    async def _attend(self) -> None:
        try:
            config = await self.klippy_apis.query_objects(
                {"configfile": ["settings"], "bed_mesh": ["profiles"]}
            )
            settings = config["configfile"]["settings"]
            section = settings.get(NAMESPACE)
            if section is None:
                self.set_error(
                    "printer.cfg has no [power_loss_recovery]: prints are not saved."
                )
                return
            self.tracker.configure(Settings.from_klippy(section))
            names = await self.klippy_apis.get_object_list()
            self.attendant.spools = tuple(spools.watching(names, settings))
            boards = [name for name in settings if name.split()[0] == "mcu"]
            self.subscription = {
                **SUBSCRIPTION, **dict.fromkeys(boards, ["last_stats"]),
                **dict.fromkeys(self.attendant.spools, ["filament_detected"]),
            }  # fmt: skip
            status = await self.klippy_apis.subscribe_objects(
                self.subscription, self._handle_update
            )
            await self.tracker.klippy_ready(status)
        except self.server.error as e:
            self.set_error(f"klippy did not answer: {e}")
            return
        self.last_error = ""
        state = status.get("print_stats", {}).get("state")
        idle = state not in ("printing", "paused")
        process = self.server.get_klippy_info().get("process_id")
        await self.witness.came_back(process, idle)
        # Before the offer: what is resumed at once must find the calibration.
        if await self.calibration.klippy_ready(self._z_homing(), settings, idle):
            return
        self.attendant.klippy_ready(settings, config)
        await self.outages.klippy_ready(idle)
        await self.preparing.klippy_ready(idle)
        self.changed()

    def _handle_update(self, status: dict[str, dict[str, Any]], _: float) -> None:
        # Updates are those of all components: only ours are kept.
        mine = {name: status[name] for name in self.subscription if name in status}
        if mine:
            self.tracker.update(mine)
        running = self.tracker.status_of("print_stats").get("state") in RUNNING
        if reading.contradicts(mine.get(NAMESPACE, {}), running):
            self._doubt_state()

    def _doubt_state(self) -> None:
        """Moonraker drops what klippy tells while any component subscribes."""
        now = time.monotonic()
        if now - self._doubted >= DOUBT_PERIOD:
            self._doubted = now
            self.eventloop.create_task(self._ask_state())

    async def _ask_state(self) -> None:
        with contextlib.suppress(self.server.error):
            keys = {"print_stats": SUBSCRIPTION["print_stats"]}
            self.tracker.update(await self.klippy_apis.query_objects(keys))

    def _handle_power_loss(self, status: dict[str, Any]) -> None:
        # power_loss_pin: what the next update would say, before it is too late.
        self.tracker.update({NAMESPACE: status})

    def _z_homing(self) -> Mapping[str, Any]:
        return self.tracker.status_of(NAMESPACE).get("z_homing") or {}

    async def _handle_shutdown(self) -> None:
        state = self.resumer.klippy_connection.state
        self.tracker.klippy_gone(interruption.shutdown(state.message))
        self._klippy_gone(stops.by_shutdown(state.message))
        self.eventloop.create_task(self._note_stopped())

    async def _note_stopped(self) -> None:
        with contextlib.suppress(self.server.error):
            mark = await stopped.ask(self.klippy_apis.query_objects)
            if mark is not None:
                self.tracker.commit(mark, "stop")

    async def _handle_gone(self) -> None:
        self._klippy_gone(stops.LEFT)

    def _klippy_gone(self, why: str) -> None:
        self.tracker.klippy_gone()
        self.resumer.cancel(why)
        self.attendant.klippy_gone()
        self.preparing.klippy_gone()
        self.changed()

    # Telling people

    def tell(self, text: str) -> None:
        line = prompts.console([f"Power loss recovery: {text}"])
        self.server.send_event("server:gcode_response", line)

    def set_error(self, text: str) -> None:
        self.last_error = text
        self.errors.appendleft({"at": time.time(), "text": text})
        logging.info(f"power_loss_recovery: {text}")
        self.changed()

    def changed(self) -> None:
        self.attendant.look()
        self.preparing.look()
        self.server.send_event("plr:plr_status_changed", self.status())

    def state(self) -> str:
        return overview.state(self)

    def status(self) -> answers.Status:
        return overview.build(self, time.time())

    async def remembered(self, key: str, default: Any) -> Any:
        return await self.database.get_item(NAMESPACE, key, default)

    async def remember(self, key: str, value: Any) -> None:
        await self.database.insert_item(NAMESPACE, key, value)

    async def set_enabled(self, enabled: bool) -> None:
        await self.remember("enabled", enabled)
        self.tracker.enabled = enabled
        self.changed()
