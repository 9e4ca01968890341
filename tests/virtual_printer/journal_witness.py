# What the journal owes after a power cut, from the disk's own books
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moonraker_components.power_loss_recovery.journal import Slot, State, newest
from moonraker_components.power_loss_recovery.store.journal_format import (
    SLOT_SIZE,
    decode,
)

from .disk_history import parse
from .fuse_disk import FuseDisk

JOURNAL = Path("plr") / "journal"


@dataclass(frozen=True)
class Saved:
    """A print that can be resumed, as far as tests look at it; see record.py.

    Read without the component's own code: whether that accepts it shows in what
    Moonraker says after the boot.
    """

    name: str
    file_position: int
    fraction: float
    line: str
    saved_at: float


def saved_in(state: State | None) -> Saved | None:
    if state is None or state.closed is not None:
        return None
    job, mark = _unpacked(state.job_payload), _unpacked(state.mark_payload)
    keys = ("file_position", "fraction", "line", "saved_at")
    return Saved(job["name"], *(mark[key] for key in keys))


def _unpacked(payload: bytes) -> dict[str, Any]:
    packed = payload.startswith(b"Z")
    return json.loads(zlib.decompress(payload[1:]) if packed else payload)


class WitnessDisk(FuseDisk):
    """Keeps the journal of the instant of the last cut: `synced`, as the last sync
    that returned left it, and `seen`, as its writer saw it.  Empty: there was none.

    Its syncs take as long as those of a tired card, so that cuts fall into them."""

    slow = ("/plr/", 0.25)

    def __init__(self, root: Path, data: Path, pythons: Sequence[str] = ()) -> None:
        super().__init__(root, data, pythons)
        self.synced = self.seen = b""

    def power_lost(self, seed: int) -> None:
        path = self.content / JOURNAL
        self.synced = self.seen = b""
        if path.exists():
            inode = path.stat().st_ino
            copies = [(0, f"base.{inode}")] + [
                (event.stamp, event.copy)
                for event in parse((self.store / "log").read_bytes())
                if event.kind == "F" and event.inode == inode
            ]
            copy = self.store / "copies" / max(copies)[1]
            self.seen = path.read_bytes()
            self.synced = copy.read_bytes() if copy.exists() else b""
        super().power_lost(seed)

    @property
    def caught(self) -> bool:
        """Whether the cut fell between a write and its sync."""
        return self.seen != self.synced


def slots_of(image: bytes) -> list[Slot]:
    found = (
        decode(image[at : at + SLOT_SIZE], at // SLOT_SIZE)
        for at in range(0, len(image), SLOT_SIZE)
    )
    return [slot for slot in found if slot is not None]


def complaint(found: State | None, synced: bytes, seen: bytes) -> str:
    """What is wrong with the state that was read after a cut; empty if nothing is."""
    before, written = slots_of(synced), slots_of(seen)
    owed = newest(before)
    if owed is None:
        if found is not None and found not in (newest(written),):
            return f"nothing was synced, found {found}"
        return ""
    if found is None:
        return f"lost: {owed}"
    if found.mark_seq < owed.mark_seq:
        return f"older than what was synced: {found}, owed {owed}"
    if found.job_id == owed.job_id and owed.closed and not found.closed:
        return f"a print that was over is back: {found}"
    known = {(slot.sequence, slot.job.job_id) for slot in [*before, *written]}
    if (found.mark_seq, found.job_id) not in known:
        return f"never written: {found}"
    return ""
