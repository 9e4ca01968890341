# A disk that forgets what was never synced
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The file system below `printer_data`, as a power cut leaves it.

The harshest honest one: the kernel never writes anything by itself in time, and
what a program did not sync is lost or torn as the seed says. disk_history.py and
disk_content.py know what a sync makes durable. All that is there when the power
comes on is durable.

What the programs synced is told in one of two ways. `Disk`: by a library preloaded
into them (forgetful.c); needs no rights, and costs nothing to speak of. Not covered:
programs without libc's calls (static ones, io_uring), file systems mounted below
the data folder. `FuseDisk` in fuse_disk.py: by the file system that they are on.
"""
from __future__ import annotations

import contextlib
import functools
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import disk_content
from .disk_history import Entry, Event, History, parse, walk
from .forgetful import DiskUnavailable, library

# Large, never needed after a cut, or no files at all
EXEMPT = (b"logs", b"comms")


@dataclass(frozen=True)
class Statistics:
    """syncs: since the power came on.  reverted: files, relative to the data folder,
    that the last cut left other than the programs had seen them."""

    syncs: int
    reverted: tuple[str, ...]


class ForgetfulDisk:
    """What programs see below `data`; the files themselves are below `content`.

    Its books are in `root`, which is on the same file system as `content`.
    """

    unavailable = ""

    def __init__(self, root: Path, data: Path, content: Path) -> None:
        self.root = root
        self.data = data.resolve()
        self.content = content.resolve()
        self.store = root.resolve() / "disk"
        self._history: History | None = None
        self._reverted: tuple[str, ...] = ()
        self._syncs = 0

    def environment(self) -> dict[str, str]:
        """What a program needs to be on this disk, while the power is on."""
        return {}

    def close(self) -> None:
        """No program uses it any more."""

    def power_on(self) -> None:
        """All that is there now is durable."""
        self._clear()
        for folder in ("copies", "keep"):
            (self.store / folder).mkdir(parents=True)
        (self.store / "log").touch()
        history = History(self.content.stat().st_ino, self._read_copy)
        for path, entry in self._entries():
            copy = f"base.{entry.inode}" if stat.S_ISREG(entry.mode) else None
            if copy is not None and not (self.store / "copies" / copy).exists():
                shutil.copy2(path, os.fsencode(self.store / "copies" / copy))
            history.start_with(entry, copy)
        self._history = history
        self._syncs = 0

    def settle(self, path: Path) -> None:
        """Make a file and its name durable, for one that no program here wrote."""
        if self._history is None:
            return
        path = self.content / path.resolve().relative_to(self.data)
        info = path.stat()
        stamp = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        copy = f"{stamp}.settle.{threading.get_ident()}"
        shutil.copy2(path, self.store / "copies" / copy)
        records = b""
        for folder in reversed(path.relative_to(self.content).parents[:-1]):
            there = (self.content / folder).stat()
            records += self._record("L", stamp, self.content / folder, there)
        records += self._record("F", stamp, path, info, copy)
        fd = os.open(self.store / "log", os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, records)
        finally:
            os.close(fd)

    def power_lost(self, seed: int) -> None:
        """Leave below `data` what a cut leaves.  All programs are dead already.

        Raises ValueError when a program did what cannot be judged, such as sync().
        """
        history, self._history = self._history, None
        if history is None:
            return
        for event in parse((self.store / "log").read_bytes()):
            history.replay(event)
        shown = list(self._entries())
        history.end_with(entry for _, entry in shown)
        seen = {
            os.path.relpath(path, os.fsencode(self.content)): entry.inode
            for path, entry in shown
            if not stat.S_ISDIR(entry.mode)
        }
        self._syncs = history.syncs
        self._reverted = tuple(
            sorted(os.fsdecode(p) for p in self._rebuild(history, seen, seed))
        )
        self._clear()

    def statistics(self) -> Statistics:
        history, syncs = self._history, self._syncs
        if history is not None:
            events = parse((self.store / "log").read_bytes())
            syncs = sum(event.kind in "FWD" for event in events)
        return Statistics(syncs, self._reverted)

    # Books

    def _clear(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.store)

    def _read_copy(self, name: str) -> bytes:
        return (self.store / "copies" / name).read_bytes()

    def _keep(self, inode: int) -> bytes:
        return os.fsencode(self.store / "keep" / str(inode))

    @staticmethod
    def _record(
        kind: str, stamp: int, path: Path, info: os.stat_result, copy: str = ""
    ) -> bytes:
        fields: tuple[object, ...] = (
            kind, stamp, info.st_ino, path.parent.stat().st_ino,
            path.name, 0, "", info.st_mode, copy,
        )  # fmt: skip
        return b"".join(os.fsencode(str(field)) + b"\0" for field in fields)

    def _entries(self) -> Iterator[tuple[bytes, Entry]]:
        """All files, links and folders, folders before what is in them."""
        todo = [os.fsencode(self.content)]
        top = todo[0]
        while todo:
            folder = todo.pop()
            inode = os.stat(folder).st_ino
            for item in os.scandir(folder):
                mode = item.stat(follow_symlinks=False).st_mode
                if folder == top and item.name in EXEMPT:
                    continue
                if stat.S_ISDIR(mode):
                    todo.append(item.path)
                elif not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                    continue
                yield item.path, Entry(inode, item.name, item.inode(), mode)

    # After the cut

    def _rebuild(
        self, history: History, seen: dict[bytes, int], seed: int
    ) -> set[bytes]:
        """Make it so; returns the paths of the files that are not as they were."""
        top = os.fsencode(self.content)
        for path, inode in seen.items():
            if not os.path.lexists(self._keep(inode)):
                os.link(os.path.join(top, path), self._keep(inode),
                        follow_symlinks=False)  # fmt: skip
        names = history.after_cut(lambda folder: random.Random(f"{seed}/{folder}"))
        paths = dict(walk(names))
        folders = {p for p, file in paths.items() if history.is_folder(file)}
        files = {p: f for p, f in paths.items() if p not in folders}
        self._remove_others(folders, files, seen, history)
        for path in folders:
            os.makedirs(os.path.join(top, path), exist_ok=True)
        changed = {
            file: self._set_content(history, file, random.Random(f"{seed}/{first}"))
            for file, first in {f: os.fsdecode(p) for p, f in files.items()}.items()
        }
        reverted = set(seen) - set(files)
        for path, file in files.items():
            if not os.path.lexists(os.path.join(top, path)):
                os.link(self._keep(history.inodes[file]), os.path.join(top, path),
                        follow_symlinks=False)  # fmt: skip
            if changed[file] or seen.get(path) != history.inodes[file]:
                reverted.add(path)
        return reverted

    def _remove_others(
        self, folders: set[bytes], files: dict[bytes, int], seen: dict[bytes, int],
        history: History,
    ) -> None:  # fmt: skip
        top = os.fsencode(self.content)
        for path, entry in list(self._entries()):
            below = os.path.relpath(path, top)
            if stat.S_ISDIR(entry.mode):
                if below not in folders and os.path.lexists(path):
                    shutil.rmtree(path)
            elif below not in files or seen[below] != history.inodes[files[below]]:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)

    def _set_content(self, history: History, file: int, rng: random.Random) -> bool:
        """Whether the file's content is not what the programs saw last."""
        keep = self._keep(history.inodes[file])
        if os.path.islink(keep):
            return False
        live = b""
        if os.path.exists(keep):
            live = Path(os.fsdecode(keep)).read_bytes()
        events: list[Event] = history.contents[file]
        old, kept, copy = disk_content.durable(events, self._read_copy)
        new = disk_content.after_cut(old, kept, live, rng)
        if new == live and os.path.exists(keep):
            return False
        with open(keep, "r+b" if os.path.exists(keep) else "xb") as out:
            out.truncate(0)
            out.write(new)
        if new == old and copy:
            info = (self.store / "copies" / copy).stat()
            os.utime(keep, ns=(info.st_atime_ns, info.st_mtime_ns))
        return True


class Disk(ForgetfulDisk):
    """Programs tell through a preloaded library.

    Raises DiskUnavailable when it cannot forget: no gcc, or one of the `pythons`
    that are to run on it does not load the library.
    """

    def __init__(self, root: Path, data: Path, pythons: Sequence[str] = ()) -> None:
        super().__init__(root, data, data)
        self._library = library()
        for python in dict.fromkeys(pythons):
            probe(python)

    def environment(self) -> dict[str, str]:
        others = os.environ.get("LD_PRELOAD")
        return {
            "LD_PRELOAD": f"{self._library}:{others}" if others else str(self._library),
            "PLR_DISK_DATA": str(self.data),
            "PLR_DISK_STORE": str(self.store),
        }


class OrdinaryDisk:
    """In place of a Disk where there can be none: un-synced writes are kept."""

    def __init__(self, unavailable: str) -> None:
        self.unavailable = unavailable

    def environment(self) -> dict[str, str]:
        return {}

    def power_on(self) -> None:
        pass

    def settle(self, path: Path) -> None:
        pass

    def power_lost(self, seed: int) -> None:
        pass

    def statistics(self) -> Statistics:
        return Statistics(0, ())

    def close(self) -> None:
        pass


_PROBE = """
import os, sys
os.chdir(sys.argv[1])
for name in sorted(os.listdir()):
    fd = os.open(name, os.O_WRONLY)
    os.pwrite(fd, b"new", 0)
    if name == "synced":
        os.fdatasync(fd)
os.unlink("gone")
"""


@functools.cache
def probe(python: str) -> None:
    """Raise DiskUnavailable unless a program of this Python forgets."""
    with tempfile.TemporaryDirectory(prefix="plr-probe-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        for name in ("synced", "gone", *"0123456789"):
            (data / name).write_bytes(b"old")
        disk = Disk(Path(folder), data)
        disk.power_on()
        done = subprocess.run(
            [python, "-c", _PROBE, str(data)], capture_output=True, text=True,
            env=dict(os.environ, **disk.environment()),
        )  # fmt: skip
        if done.returncode:
            raise DiskUnavailable(f"{python} fails with it: {done.stderr.strip()}")
        events = [event.kind for event in parse((disk.store / "log").read_bytes())]
        if events != ["F", "U"]:
            raise DiskUnavailable(
                f"{python} does not load {disk.environment()['LD_PRELOAD']}"
                f" as it should: it told {events}"
            )
        try:
            disk.power_lost(1)
        except OSError as e:
            raise DiskUnavailable(f"this file system does not serve: {e}") from e
        if (data / "synced").read_bytes() != b"new":
            raise DiskUnavailable("a write that was synced was lost")
        if not any((data / name).read_bytes() == b"old" for name in "0123456789"):
            raise DiskUnavailable("of ten writes that were not synced none was lost")


_reported: set[str] = set()


def disk_for(root: Path, data: Path, pythons: Sequence[str]) -> Disk | OrdinaryDisk:
    """A Disk if there can be one; says so once if not."""
    try:
        return Disk(root, data, pythons)
    except DiskUnavailable as e:
        reason = str(e)
    if reason not in _reported:
        _reported.add(reason)
        sys.stderr.write(f"Un-synced writes are kept: no forgetful disk, {reason}\n")
    return OrdinaryDisk(reason)
