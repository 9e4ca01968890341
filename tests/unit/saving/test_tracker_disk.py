# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A print goes on while a real disk gives trouble, and saving comes back by itself.

Tracker and journal as they are, with real threads, on file systems of their own.
"""
from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from moonraker_components.power_loss_recovery.journal import Disk, Journal
from moonraker_components.power_loss_recovery.record import Record, from_payloads
from moonraker_components.power_loss_recovery.saving import tracker as tracker_module
from moonraker_components.power_loss_recovery.saving.kept import Kept
from moonraker_components.power_loss_recovery.saving.tracker import Tracker
from tests.unit.mounted import ext4, release, run, tmpfs
from tests.unit.samples import GCODE, mark
from tests.unit.tracker_bench import LINES, NOW

pytestmark = pytest.mark.asyncio
PATIENCE = 8.0


class Printer:
    """klippy printing in real time: a status every 20 ms, come what may."""

    def __init__(self, root: Path, path: Path, disk: Disk | None = None) -> None:
        self.root, self.path = root, str(path)
        self.told: list[str] = []
        self.lines = 0
        self.longest_wait = 0.0
        self.tracker = Tracker(
            Journal(self.path, disk=disk), Kept(root.parent / "kept"), root,
            asyncio.to_thread, time.monotonic, time.time, "boot", lambda: None,
            self.told.append,
        )  # fmt: skip
        self.tracker.configure(NOW)

    def print_line(self) -> None:
        self.lines += 1
        place = LINES[3 + self.lines % 4]
        self.tracker.update({
            "print_stats": {"state": "printing", "filename": "part.gcode"},
            "power_loss_recovery": {"pending_marks": 1, "trouble": "", "mark": mark(
                file_path=str(self.root / "part.gcode"), file_position=place,
                speed=float(self.lines),
            )},
        })  # fmt: skip

    async def print_on(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.02)
            self.longest_wait = max(self.longest_wait, time.monotonic() - before)
            self.print_line()
            self.tracker.save_now()

    async def until(self, reached: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not reached():
            assert time.monotonic() < end, f"waited for {what}; told: {self.told}"
            await asyncio.sleep(0.02)

    def saved(self) -> Record | None:
        found = Journal(self.path).read()
        if found is None or found.closed is not None:
            return None
        return from_payloads(found.job_payload, found.mark_payload)[1]

    async def saves_newer(self) -> None:
        """Wait for a state that is newer than now, as a reader would see it."""
        since = self.lines

        def newer() -> bool:
            with contextlib.suppress(Exception):
                saved = self.saved()
                return saved is not None and saved.speed > since
            return False

        await self.until(newer, "a newer state in the journal")

    async def troubled(self, words: str) -> None:
        await self.until(lambda: words in self.tracker.trouble, words)
        lines = self.lines
        await asyncio.sleep(0.5)
        assert self.lines > lines, "the print goes on"
        assert sum(words in text for text in self.told) == 1, self.told

    async def healed(self) -> None:
        await self.saves_newer()
        await self.until(lambda: self.tracker.trouble == "", "no trouble")
        assert self.told[-1] == "Saving works again."


@contextlib.asynccontextmanager
async def printing(
    folder: Path, path: Path, disk: Disk | None = None
) -> AsyncIterator[Printer]:
    root = folder / "gcodes"
    root.mkdir()
    (root / "part.gcode").write_bytes(GCODE)
    printer = Printer(root, path, disk)
    tasks = [
        asyncio.ensure_future(printer.tracker.run()),
        asyncio.ensure_future(printer.print_on()),
    ]
    try:
        yield printer
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        printer.tracker.keeper.journal.close()
    assert not [text for text in printer.told if "internal error" in text]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_module, "RETRY_PERIOD", 0.1)


async def test_a_disk_that_is_full_before_the_journal_is_made(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "1m") as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(900 << 10))
        async with printing(tmp_path, disk / "journal") as printer:
            await printer.troubled("disk is full")
            assert os.listdir(disk) == ["filler"]
            filler.unlink()
            await printer.healed()


async def test_a_disk_that_fills_up_later_does_not_matter(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "1m") as disk:
        async with printing(tmp_path, disk / "journal") as printer:
            await printer.saves_newer()
            with contextlib.suppress(OSError):
                (disk / "filler").write_bytes(bytes(2 << 20))
            assert os.statvfs(disk).f_bavail == 0
            await printer.saves_newer()
            assert printer.told == []


async def test_a_file_system_that_turns_read_only(tmp_path: Path) -> None:
    """As ext4 does when it meets an error."""
    with ext4(tmp_path) as (device, disk):
        async with printing(tmp_path, disk / "journal") as printer:
            await printer.saves_newer()
            before = printer.saved()
            run("mount", "-o", "remount,abort", str(disk))
            await printer.until(lambda: printer.tracker.trouble != "", "trouble")
            await printer.troubled("read-only")
            assert before is not None and printer.saved() is not None
            release("umount", str(disk))
            release("e2fsck", "-y", device)
            run("mount", device, str(disk))
            await printer.healed()


async def test_a_disk_that_is_taken_out_and_put_back(tmp_path: Path) -> None:
    with ext4(tmp_path) as (device, disk):
        (disk / "plr").mkdir()
        async with printing(tmp_path, disk / "plr" / "journal") as printer:
            await printer.saves_newer()
            run("umount", "-l", str(disk))
            await printer.troubled("is its disk mounted?")
            run("mount", device, str(disk))
            await printer.healed()


async def test_a_block_device_under_a_running_print(tmp_path: Path) -> None:
    with ext4(tmp_path) as (device, disk):
        release("umount", str(disk))
        async with printing(tmp_path, Path(device)) as printer:
            await printer.troubled("not blank")
            run("dd", "if=/dev/zero", f"of={device}", "bs=4096", "count=256")
            await printer.healed()


@pytest.mark.parametrize("lost", ["file", "folder", "truncated", "another"])
async def test_a_journal_that_is_lost_while_it_prints(
    tmp_path: Path, lost: str
) -> None:
    folder = tmp_path / "plr"
    folder.mkdir()
    path = folder / "journal"
    async with printing(tmp_path, path) as printer:
        await printer.saves_newer()
        if lost == "folder":
            folder.rename(tmp_path / "away")
            await printer.troubled("is its disk mounted?")
            (tmp_path / "away").rename(folder)
            await printer.healed()
            return
        if lost == "file":
            path.unlink()
        elif lost == "truncated":
            os.truncate(path, 5000)
        else:
            (folder / "new").write_bytes(b"somebody's")
            (folder / "new").rename(path)
        await printer.saves_newer()
        assert printer.told == []


class Failing(Disk):
    """A card that takes writes and then cannot keep them."""

    broken, failures = False, 0

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        if self.broken:
            self.failures += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(fd)


async def test_a_card_with_io_errors(tmp_path: Path) -> None:
    disk = Failing()
    async with printing(tmp_path, tmp_path / "journal", disk) as printer:
        await printer.saves_newer()
        disk.broken = True
        # The save before the first that fails may be on its way back from the disk.
        await printer.until(lambda: disk.failures > 0, "a save that fails")
        before = printer.tracker.pending
        await printer.troubled("I/O error")
        assert disk.failures > 1
        assert printer.tracker.pending == before, "nothing is said to be saved"
        disk.broken = False
        await printer.healed()


class Stalling(Disk):
    """A card that does nothing at all for two seconds, once."""

    def __init__(self) -> None:
        self.stall = 0.0

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        seconds, self.stall = self.stall, 0.0
        time.sleep(seconds)
        os.fdatasync(fd)


async def test_a_card_that_stalls_for_two_seconds(tmp_path: Path) -> None:
    disk = Stalling()
    async with printing(tmp_path, tmp_path / "journal", disk) as printer:
        await printer.saves_newer()
        printer.longest_wait, lines, disk.stall = 0.0, printer.lines, 2.0
        await printer.until(lambda: disk.stall == 0.0, "the stall to begin")
        await asyncio.sleep(1.0)
        during = printer.tracker.pending
        await asyncio.sleep(1.2)
        assert printer.tracker.pending != during
        assert printer.lines > lines + 50, "the print goes on"
        assert printer.longest_wait < 0.5, "nobody waits for the disk"
        await printer.saves_newer()
        assert printer.told == []
        saving = printer.tracker.saving()
        assert saving["latency_ms"] < 2000


async def test_an_end_that_could_not_be_written_is_written_later(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "plr"
    folder.mkdir()
    async with printing(tmp_path, folder / "journal") as printer:
        await printer.saves_newer()
        tracker = printer.tracker
        folder.rename(tmp_path / "away")
        status = {"print_stats": {"state": "complete"}}
        printer.print_line = lambda: tracker.update(status)  # type: ignore[method-assign]
        tracker.update({"power_loss_recovery": {"pending_marks": 0}})
        await printer.until(lambda: tracker.ending, "the end")
        assert tracker.pending is None
        (tmp_path / "away").rename(folder)
        await printer.until(lambda: not tracker.ending, "a closed journal")
        assert printer.saved() is None
        found = Journal(printer.path).read()
        assert found is not None and found.closed == "complete"
