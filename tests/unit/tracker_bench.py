# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A tracker on a real journal and real files, with a clock and a disk that obey."""
from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moonraker_components.power_loss_recovery import files, plan
from moonraker_components.power_loss_recovery.journal import Journal
from moonraker_components.power_loss_recovery.record import Job, Record, from_payloads
from moonraker_components.power_loss_recovery.saving.kept import Kept
from moonraker_components.power_loss_recovery.saving.tracker import Tracker
from moonraker_components.power_loss_recovery.settings import Settings
from tests.unit.samples import FACTS, GCODE, mark

LINES = [i for i in range(len(GCODE)) if i == 0 or GCODE[i - 1 : i] == b"\n"]
AFTER = GCODE.index(b"G1 X100 Y100 E5")
NOW = Settings(save_interval=1.0, save_on_layer=True, history_size=5, save_delay=1)


class Watched(Journal):
    """Does what a test wants while it writes a mark."""

    def __init__(self, path: str, during: dict[str, Callable[[], None]]) -> None:
        super().__init__(path)
        self.during = during

    def write_mark(self, job_id: bytes, payload: bytes) -> int:
        if "write_mark" in self.during:
            self.during.pop("write_mark")()
        return super().write_mark(job_id, payload)


class Bench:
    """A tracker whose worker runs, with a clock and a disk that obey the test."""

    def __init__(self, root: Path) -> None:
        self.root = root / "gcodes"
        self.path = str(root / "journal")
        self.now = 1000.0
        self.told: list[str] = []
        self.broken: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.calls: list[str] = []
        self.at_call: dict[str, Callable[[], None]] = {}
        self.during: dict[str, Callable[[], None]] = {}  # calls of the journal
        self.tracker = self.moonraker()

    def moonraker(self) -> Tracker:
        tracker = Tracker(
            Watched(self.path, self.during), Kept(self.root.parent / "kept"), self.root,
            self.in_thread,
            lambda: self.now, lambda: 1.7e9, "boot", lambda: None, self.told.append,
        )  # fmt: skip
        tracker.configure(NOW)
        self.worker = asyncio.ensure_future(tracker.run())
        return tracker

    async def in_thread(self, call: Any, *args: Any) -> Any:
        name = call.__qualname__.split(".")[-1]
        self.calls.append(name)
        if name in self.at_call:
            self.at_call.pop(name)()
        if self.gate is not None and name == "write":
            await self.gate.wait()
        if self.broken is not None and name in ("write", "close_job"):
            raise self.broken
        return call(*args)

    async def restart_moonraker(self) -> None:
        self.worker.cancel()
        await asyncio.gather(self.worker, return_exceptions=True)
        self.tracker.keeper.journal.close()
        self.tracker = self.moonraker()
        await self.tracker.load()

    async def settle(self) -> None:
        for _ in range(40):
            await asyncio.sleep(0)

    def status(
        self, state: str, published: dict[str, Any] | None, pending_marks: int = 3
    ) -> dict[str, dict[str, Any]]:
        if published is not None and "file_path" not in published:
            published["file_path"] = str(self.root / "part.gcode")
        return {
            "print_stats": {"state": state, "filename": "part.gcode"},
            "power_loss_recovery": {
                "mark": published, "pending_marks": pending_marks, "trouble": "",
            },
        }  # fmt: skip

    async def see(
        self, at: str = "printing", /, *, pending_marks: int = 3, **changes: Any
    ) -> None:
        """The next status, a second later."""
        self.now += 1.0
        path = str(self.root / "part.gcode")
        published = mark(file_path=path, print_time=self.now) | changes
        self.tracker.update(self.status(at, published, pending_marks))
        await self.settle()

    def saved(self) -> Record | None:
        """What a reader of the journal may resume."""
        found = Journal(self.path).read()
        if found is None or found.closed is not None:
            return None
        return from_payloads(found.job_payload, found.mark_payload)[1]

    def job(self) -> Job:
        found = Journal(self.path).read()
        assert found is not None
        return from_payloads(found.job_payload, found.mark_payload)[0]

    def closed(self) -> str | None:
        found = Journal(self.path).read()
        return None if found is None else found.closed

    def resume_file(self, record: Record) -> str:
        path = self.root / "part.gcode"
        job = files.identify(self.root, str(path), 1.0).job
        head, line, _ = files.examine(path, record.file_position)
        made = plan.make(record, job, head, line, FACTS)
        scratch = self.root.parent
        return str(self.root / files.write_resume_file(
            self.root, path, job, record, head, made, "0a", scratch,
        ))  # fmt: skip
