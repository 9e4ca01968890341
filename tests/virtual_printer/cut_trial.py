# Power cuts of one virtual printer, many of them, and what its journal holds then
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Real klippy and real Moonraker on a disk that forgets; nothing is resumed.

After each cut the journal is read as it is, then the power comes back and Moonraker
says what it found. Wrong is: a record that was never written whole, one that is older
than a save that was complete, a place that the motors had not come to, a print that
is back though it was over, and Moonraker saying anything else than the journal.
"""
from __future__ import annotations

import contextlib
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moonraker_components.power_loss_recovery.journal import Journal, State

from . import parts, quick
from .journal_witness import JOURNAL, Saved, WitnessDisk, complaint, saved_in
from .klippy_tree import KlippyTree
from .printer import PrinterError, VirtualPrinter

LONG = parts.Part(size=20, layers=6, long_line=60)
SHORT = parts.Part(size=8.5, layers=1, speed=120, long_line=0)
# A record may be this old when nothing was slow; a busy test machine is.
OLDEST = 6.0
AHEAD = 0.01
KINDS = ("printing", "discarding", "starting", "ending", "booting")
WEIGHTS = (12, 3, 4, 3, 2)
# File, file_position, and when it was saved: two prints may end at the same line.
Place = tuple[str, int, float]


@dataclass(frozen=True)
class Cut:
    """`lost`: seconds of motion after the record, for a print that has one.
    `caught`: the journal was just being written."""

    number: int
    kind: str
    found: str
    lost: float | None
    caught: bool
    wrong: tuple[str, ...]


class Claims:
    """What Moonraker says while it runs: each claim must outlive a cut."""

    def __init__(self, printer: VirtualPrinter) -> None:
        self.printer = printer
        self.place: Place | None = None
        self.over = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Claims:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            with contextlib.suppress(PrinterError):
                self._note(self.printer.get("/server/plr/status"))

    def _note(self, status: dict[str, Any]) -> None:
        self.over = status["state"] == "idle"
        self.place = place_of(status)


def place_of(status: dict[str, Any]) -> Place | None:
    record = status["record"]
    return record and (record["file"], record["file_position"], record["saved_at"])


class CutTrial:
    def __init__(
        self, folder: Path, seed: int, tree: KlippyTree | None = None
    ) -> None:
        self.rng = random.Random(seed)
        self.files = {
            "long": parts.write(folder / "long.gcode", LONG),
            "short": parts.write(folder / "short.gcode", SHORT),
        }
        self.maps = {
            path.name: quick.map_of(path) for path in self.files.values()
        }
        self.printer = VirtualPrinter(
            seed=seed, tree=tree, config=quick.CONFIG, make_disk=WitnessDisk
        )
        self.count = 0
        # Prints that nobody has resumed or discarded: when a later one is over, the
        # last of them is offered again.
        self.unanswered: set[Place] = set()
        self.printer.power_on()

    def __enter__(self) -> CutTrial:
        return self

    def __exit__(self, *exc: object) -> None:
        self.printer.close()

    def cut(self, kind: str | None = None) -> Cut:
        """From a running printer to a running printer, with a cut in between."""
        kind = kind or self.rng.choices(KINDS, WEIGHTS)[0]
        pending = self._pending()
        if kind == "discarding" and not pending:
            kind = "printing"
        if pending and kind != "discarding" and self.rng.random() < 0.5:
            self.printer.post("/server/plr/discard")
            self.unanswered.discard(pending)
        began, claims = time.time(), Claims(self.printer)
        when = getattr(self, "_" + kind)(claims)
        self.count += 1
        disk = self.printer.disk
        assert isinstance(disk, WitnessDisk)
        state = self._read()
        wrong = [complaint(state, disk.synced, disk.seen)]
        record = saved_in(state)
        if pending and kind == "discarding" and claims.over:
            self.unanswered.discard(pending)
        wrong.append(self._broken(claims, record))
        lost = None
        if record is not None and record.saved_at > began and when is not None:
            lost = self._lost(record, when)
            if not -AHEAD <= lost <= OLDEST:
                wrong.append(f"the place is {lost:.3f} s of motion before the cut")
        caught = disk.caught
        self.printer.power_on()
        wrong.append(self._disagreement(record))
        if pending and kind == "discarding" and self._pending() != pending:
            # Nobody was told, but it is done.
            self.unanswered.discard(pending)
        found = "nothing" if state is None else state.closed or "a print"
        return Cut(
            self.count, kind, found, lost, caught, tuple(filter(None, wrong))
        )

    # Ways to cut.  Each returns the instant if it was in a print, else None.

    def _printing(self, claims: Claims) -> float | None:
        self._start("long")
        self.printer.arm_cut(self.rng.uniform(0.2, 4.0))
        with claims:
            return self.printer.wait_cut(60)

    def _starting(self, claims: Claims) -> float | None:
        with claims:
            self._start("long")
            time.sleep(self.rng.uniform(0.0, 1.0))
            return self.printer.cut_power()

    def _ending(self, claims: Claims) -> float | None:
        with claims:
            self._start("short")
            self.printer.wait(
                "the last line", lambda: self.printer.state() == "complete", 60, 0.02
            )
            # klippy says so two seconds before the motors have come to it.
            time.sleep(self.rng.uniform(0.0, 4.0))
            return self.printer.cut_power()

    def _discarding(self, claims: Claims) -> float | None:
        def discard() -> None:
            with contextlib.suppress(PrinterError):
                self.printer.post("/server/plr/discard")
                claims.over = True

        thread = threading.Thread(target=discard)
        thread.start()
        time.sleep(self.rng.uniform(0.0, 0.4))
        self.printer.cut_power()
        thread.join()
        return None

    def _booting(self, claims: Claims) -> float | None:
        self.printer.cut_power()
        self.printer.power_on(wait=False)
        time.sleep(self.rng.uniform(0.0, 1.5))
        self.printer.cut_power()
        return None

    def _start(self, name: str) -> None:
        self.printer.print_file(self.files[name])

    # What is true afterwards

    def _pending(self) -> Place | None:
        status = self.printer.get("/server/plr/status")
        return place_of(status) if status["state"] == "interrupted" else None

    def _read(self) -> State | None:
        path = self.printer.data / JOURNAL
        return Journal(str(path)).read() if path.parent.exists() else None

    def _broken(self, claims: Claims, record: Saved | None) -> str:
        """A claim that did not outlive the cut."""
        if record is None:
            return ""
        if claims.over and claims.place is None:
            return "Moonraker had said that the print is over"
        if claims.place is not None and record.file_position < claims.place[1]:
            return (
                f"Moonraker had saved byte {claims.place[1]}, found"
                f" {record.file_position}"
            )
        return ""

    def _lost(self, record: Saved, when: float) -> float:
        steps = self.maps[record.name]
        if not steps.text_at(record.file_position).startswith(record.line.strip()):
            raise AssertionError(f"{record.line!r} is not at {record.file_position}")
        times = quick.step_times(quick.last_session(self.printer))
        place = steps.steps_before(record.file_position, record.fraction)
        return quick.lost_seconds(times, place, when)

    def _disagreement(self, record: Saved | None) -> str:
        """Waits for Moonraker, which may say the first thing a little later."""
        wanted = "idle" if record is None else "interrupted"
        status: dict[str, Any] = {}

        def agreed() -> bool:
            status.update(self.printer.get("/server/plr/status"))
            place = place_of(status)
            if record is None:
                return status["state"] == "idle" or place in self.unanswered
            return place == (record.name, record.file_position, record.saved_at)

        try:
            self.printer.wait("the same as the journal", agreed, 5)
        except PrinterError:
            return f"the journal says {wanted}, Moonraker says {status}"
        if record is not None:
            self.unanswered.add((record.name, record.file_position, record.saved_at))
        return ""
