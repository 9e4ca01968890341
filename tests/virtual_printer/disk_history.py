# Which names a disk holds for sure, from the log of the forgetful library
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Names and their durability, as on a journaling file system such as ext4.

Changes to one folder reach the disk in their order; a change that concerns two
folders reaches both at once. fsync of a folder brings all that was done to it.
fsync of a file that has no durable name yet brings its name and those of the
folders above it. The rest may or may not be there after a cut, a prefix of it for
each folder.

Content is only collected here, see disk_content.py. Each file and folder has an
id: an inode number names another file once the first is gone.
"""
from __future__ import annotations

import itertools
import random
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

# Folder id -> name -> id
Names = dict[int, dict[bytes, int]]
ROOT = 0
_FIELDS = 9


@dataclass(frozen=True)
class Entry:
    """A name as the disk shows it.  folder, inode: numbers of the file system."""

    folder: int
    name: bytes
    inode: int
    mode: int


@dataclass(frozen=True)
class Event:
    """A record of forgetful_log.c, where its fields are described."""

    kind: str
    stamp: int
    inode: int
    folder: int = 0
    name: bytes = b""
    folder2: int = 0
    name2: bytes = b""
    number: int = 0
    copy: str = ""


def parse(log: bytes) -> list[Event]:
    """The records of a log; a last one that was cut short is left out."""
    fields = log.split(b"\0")
    events = []
    for at in range(0, len(fields) - _FIELDS, _FIELDS):
        kind, stamp, inode, folder, name, folder2, name2, number, copy = fields[
            at : at + _FIELDS
        ]
        events.append(Event(
            kind.decode(), int(stamp), int(inode), int(folder), name,
            int(folder2), name2, int(number), copy.decode(),
        ))  # fmt: skip
    return events


def parse_listing(folder: int, listing: bytes) -> list[Entry]:
    """The entries of a folder that was synced."""
    fields = listing.split(b"\0")
    return [
        Entry(folder, fields[at + 2], int(fields[at]), int(fields[at + 1]))
        for at in range(0, len(fields) - 3, 3)
    ]


@dataclass(frozen=True)
class _Change:
    """What one call did: each (folder, name) stands for the id, or for nothing."""

    sets: tuple[tuple[int, bytes, int | None], ...]

    @property
    def folders(self) -> set[int]:
        return {folder for folder, _, _ in self.sets}

    def apply(self, names: Names) -> None:
        for folder, name, to in self.sets:
            entries = names.setdefault(folder, {})
            if to is None:
                entries.pop(name, None)
            else:
                entries[name] = to


class History:
    """From a disk on which all is durable to the instant of a cut.

    contents: events F (synced), W (range synced) and T (truncated) of each file.
    syncs: how many calls made something durable.  read_copy: gives the bytes of a
    copy by its name.
    """

    def __init__(self, root: int, read_copy: Callable[[str], bytes]) -> None:
        self.live: Names = {ROOT: {}}
        self.durable: Names = {ROOT: {}}
        self.inodes = {ROOT: root}
        self.contents: defaultdict[int, list[Event]] = defaultdict(list)
        self.syncs = 0
        self._ids = {root: ROOT}
        self._pending: list[_Change] = []
        self._next = itertools.count(1)
        self._read_copy = read_copy

    def start_with(self, entry: Entry, copy: str | None) -> None:
        """A name that is durable; folders come before what is in them."""
        self._ensure(entry)
        if copy is not None:
            inode = entry.inode
            self.contents[self._ids[inode]].append(Event("F", 0, inode, copy=copy))
        for change in self._pending:
            change.apply(self.durable)
        self._pending.clear()

    def is_folder(self, file: int) -> bool:
        return file in self.live

    def replay(self, event: Event) -> None:
        """What one record says.  Folders that are not known are not of this disk."""
        getattr(self, "_replay_" + event.kind)(event)

    def end_with(self, entries: Iterable[Entry]) -> None:
        """What the disk shows in the end; covers changes that nobody recorded."""
        shown = defaultdict(set)
        for entry in entries:
            self._ensure(entry)
            if entry.folder in self._ids:
                shown[self._ids[entry.folder]].add(entry.name)
        for folder, names in list(self.live.items()):
            for name in set(names) - shown[folder]:
                self._change((folder, name, None))

    def after_cut(self, random_of: Callable[[int], random.Random]) -> Names:
        """The names that a cut leaves; `random_of(folder)` decides what is open."""
        waiting: defaultdict[int, int] = defaultdict(int)
        for change in self._pending:
            for folder in change.folders:
                waiting[folder] += 1
        lands = {f: random_of(f).randint(0, waiting[f]) for f in sorted(waiting)}
        names = {folder: dict(entries) for folder, entries in self.durable.items()}
        seen: defaultdict[int, int] = defaultdict(int)
        for change in self._pending:
            for folder in change.folders:
                seen[folder] += 1
            if all(seen[f] <= lands[f] for f in change.folders):
                change.apply(names)
            else:
                lands.update(dict.fromkeys(change.folders, 0))
        return names

    # Names

    def _id(self, inode: int, mode: int, fresh: bool = False) -> int:
        if fresh or inode not in self._ids:
            file = self._ids[inode] = next(self._next)
            self.inodes[file] = inode
            if stat.S_ISDIR(mode):
                self.live[file] = {}
        return self._ids[inode]

    def _change(self, *sets: tuple[int, bytes, int | None]) -> None:
        for folder, name, _ in sets:
            old = self.live[folder].get(name, ROOT)
            if self.is_folder(old) and old not in [ROOT, *(to for *_, to in sets)]:
                # Only files are kept: the number of a folder may come again.
                self._ids.pop(self.inodes[old], None)
        change = _Change(sets)
        change.apply(self.live)
        self._pending.append(change)

    def _ensure(self, entry: Entry) -> None:
        """Have a name of which only its being there is known."""
        folder = self._ids.get(entry.folder)
        if folder is None or folder not in self.live or not entry.inode:
            return
        file = self._id(entry.inode, entry.mode)
        if self.live[folder].get(entry.name) != file:
            self._change((folder, entry.name, file))

    def _replay_C(self, event: Event) -> None:
        folder = self._ids.get(event.folder)
        if folder in self.live:
            file = self._id(event.inode, event.number, fresh=True)
            self._change((folder, event.name, file))

    def _replay_L(self, event: Event) -> None:
        self._ensure(Entry(event.folder, event.name, event.inode, event.number))

    def _replay_U(self, event: Event) -> None:
        self._ensure(Entry(event.folder, event.name, event.inode, event.number))
        folder = self._ids.get(event.folder)
        if folder in self.live:
            self._change((folder, event.name, None))

    def _replay_R(self, event: Event) -> None:
        self._ensure(Entry(event.folder, event.name, event.inode, event.number))
        file = self._id(event.inode, event.number)
        source, target = self._ids.get(event.folder), self._ids.get(event.folder2)
        sets: list[tuple[int, bytes, int | None]] = []
        if source in self.live:
            sets.append((source, event.name, None))
        if target in self.live:
            sets.append((target, event.name2, file))
        if sets:
            self._change(*sets)

    def _replay_X(self, event: Event) -> None:
        # What is not known here comes to light in end_with().
        first, second = self._ids.get(event.folder), self._ids.get(event.folder2)
        one, other = self._ids.get(event.inode), self._ids.get(event.number)
        if first in self.live and second in self.live and one and other:
            self._change((first, event.name, other), (second, event.name2, one))

    def _replay_E(self, event: Event) -> None:
        raise ValueError(
            f"cannot tell what is durable: {event.copy or 'a call'} failed or is not"
            f" known to this disk (error {event.number}, {event.name!r})"
        )

    # Syncs

    def _replay_T(self, event: Event) -> None:
        if event.inode in self._ids:
            self.contents[self._ids[event.inode]].append(event)

    def _replay_F(self, event: Event) -> None:
        self._ensure(Entry(event.folder, event.name, event.inode, stat.S_IFREG))
        file = self._ids.get(event.inode)
        if file is not None:
            self.syncs += 1
            self.contents[file].append(event)
            self._commit_own_name(file)

    _replay_W = _replay_F

    def _replay_D(self, event: Event) -> None:
        folder = self._ids.get(event.inode)
        if folder is None or folder not in self.live:
            return
        self.syncs += 1
        for entry in parse_listing(event.inode, self._read_copy(event.copy)):
            self._ensure(entry)
        self._commit(folder, len(self._pending))

    def _commit(self, folder: int, end: int) -> None:
        """Make durable what the first `end` changes did to `folder`."""
        folders, kept, done = {folder}, self._pending[end:], []
        for change in reversed(self._pending[:end]):
            if change.folders & folders:
                folders |= change.folders
                done.append(change)
            else:
                kept.insert(0, change)
        for change in reversed(done):
            change.apply(self.durable)
        self._pending = kept

    def _commit_own_name(self, file: int) -> None:
        while file != ROOT:
            if not any(file in names.values() for names in self.durable.values()):
                naming = [
                    (folder, end)
                    for end, change in enumerate(self._pending, 1)
                    for folder, _, to in change.sets
                    if to == file
                ]
                if not naming:
                    return
                self._commit(*naming[-1])
            parents = [f for f, names in self.live.items() if file in names.values()]
            if not parents:
                return
            file = parents[0]


def walk(names: Names, folder: int = ROOT, path: bytes = b"") -> Iterator[
    tuple[bytes, int]
]:  # fmt: skip
    """(path, id) of all that can be reached, folders before what is in them."""
    for name, file in sorted(names.get(folder, {}).items()):
        below = path + b"/" + name if path else name
        yield below, file
        yield from walk(names, file, below)
