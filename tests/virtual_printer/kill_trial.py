# SIGKILLs of Moonraker while klippy prints on
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""One long print; Moonraker is killed again and again, also while it starts.

Each time the journal must hold what Moonraker had said, the next Moonraker must take
up the same print, and klippy must not have noticed anything.
"""
from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moonraker_components.power_loss_recovery.journal import Journal, State

from . import faults, parts, quick
from .cut_trial import Claims
from .disk import OrdinaryDisk
from .journal_witness import JOURNAL, saved_in
from .klippy_api import Klippy
from .klippy_tree import KlippyTree
from .printer import PrinterError, VirtualPrinter

PART = parts.Part(size=80, layers=60, long_line=80)
AGAIN = 0.2  # share of the kills that hit a Moonraker which is just starting
TIMEOUT = 30.0


@dataclass(frozen=True)
class Kill:
    """`back_s`: from the start of the next Moonraker to the first save of it."""

    number: int
    kills: int
    back_s: float
    wrong: tuple[str, ...]


def ordinary(root: Path, data: Path, pythons: Sequence[str]) -> OrdinaryDisk:
    """A process that dies takes nothing along that it has written."""
    return OrdinaryDisk("only a process dies")


class KillTrial:
    def __init__(
        self, folder: Path, seed: int, tree: KlippyTree | None = None
    ) -> None:
        self.rng = random.Random(seed)
        self.printer = VirtualPrinter(
            seed=seed, tree=tree, config=quick.CONFIG, make_disk=ordinary
        )
        self.count = 0
        self.stuck = False  # nothing comes back: no use in going on
        self.printer.power_on()
        self.klippy = Klippy(self.printer)
        self.printer.print_file(parts.write(folder / "long.gcode", PART))
        self.printer.wait("the first save", lambda: self._marked(0), TIMEOUT)
        state = self._read()
        assert state is not None
        self.job_id = state.job_id

    def __enter__(self) -> KillTrial:
        return self

    def __exit__(self, *exc: object) -> None:
        self.klippy.close()
        self.printer.close()

    def kill(self) -> Kill:
        """From a running Moonraker to a running Moonraker."""
        kills = 1
        with Claims(self.printer) as claims:
            time.sleep(self.rng.uniform(0.1, 1.6))
            faults.moonraker_crash(self.printer)
        before = self._read()
        wrong = [self._broken(claims, before)]
        while self.rng.random() < AGAIN:
            self.printer.start_moonraker()
            time.sleep(self.rng.uniform(0.0, 1.5))
            faults.moonraker_crash(self.printer)
            kills += 1
        began = time.monotonic()
        wrong.append(self._come_back(before))
        back = time.monotonic() - began
        self.count += kills
        return Kill(self.count, kills, back, tuple(filter(None, wrong)))

    def _come_back(self, before: State | None) -> str:
        sequence = 0 if before is None else before.mark_seq
        self.printer.start_moonraker()
        try:
            self.printer.wait_ready()
            self.printer.wait(
                "the next save of the print", lambda: self._marked(sequence), TIMEOUT
            )
        except PrinterError as e:
            self.stuck = True
            return f"{e}; {self._situation()}"
        return self._lost_lineage(before)

    def _situation(self) -> str:
        """For a person who has to find out why nothing was saved."""
        said = []
        for ask in (
            lambda: self.printer.get("/server/plr/status"),
            lambda: self.klippy.request("info")["state_message"],
            lambda: self.klippy.objects("print_stats", "power_loss_recovery"),
        ):
            try:
                said.append(str(ask()))
            except PrinterError as e:
                said.append(str(e))
        return f"Moonraker: {said[0]}; klippy: {said[1]}, {said[2]}; {self._read()}"

    def _read(self) -> State | None:
        return Journal(str(self.printer.data / JOURNAL)).read()

    def _marked(self, sequence: int) -> bool:
        status = self.printer.get("/server/plr/status")
        state = self._read()
        return (
            status["state"] == "printing"
            and state is not None
            and state.mark_seq > sequence
        )

    def _broken(self, claims: Claims, state: State | None) -> str:
        saved = saved_in(state)
        if saved is None:
            return f"the print is not in the journal: {state}"
        at = saved.file_position
        if claims.place is not None and at < claims.place[1]:
            return f"Moonraker had saved byte {claims.place[1]}, found {at}"
        return ""

    def _lost_lineage(self, before: State | None) -> str:
        after = self._read()
        was, now = saved_in(before), saved_in(after)
        if not (was and now and after and after.job_id == self.job_id):
            return f"another print is in the journal: {after}"
        if now.file_position < was.file_position:
            return f"went back from byte {was.file_position} to {now.file_position}"
        stats = self.klippy.objects("print_stats")["print_stats"]
        return "" if stats["state"] == "printing" else f"klippy: {stats}"
