# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""One print on the virtual printer, cut and resumed as often as a soak wants.

A computer that is too busy for klippy makes prints and resumes fail that would not on a
printer. Then the reason is printed, the power is cut where all stands, and the print is
resumed once more, `repeats` times in all. The oracle judges those cuts as the others:
nothing is forgiven but the time.
"""
from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.virtual_printer import busy, outage
from tests.virtual_printer.outage import Say
from tests.virtual_printer.printer import PrinterError, VirtualPrinter

Until = Callable[[VirtualPrinter], None]
Condition = Callable[[VirtualPrinter], object]
REPEATS = 4
# What klippy says when the board did not run; it does not mean that of a real one.
# The last is a boot of klippy in which the board's answer came too late.
STARVED = (*busy.STARVED, "Lost communication with MCU", "('identify_response', None)")
TIMEOUT = 900.0  # s, of one wait
POLL = 0.05
GOES_ON_MM = 1.0  # of filament, more than undoing a retraction
PAUSED = "will be paused"
NO_OFFER_S = 3.0  # until it would be there
RUNNING = ("printing", "paused", "standby")


@dataclass(frozen=True)
class Cut:
    """at: instant, in the trace's seconds.  offer_s: klippy ready until the offer was
    there, nan if it never was.  busy: why nobody had planned this cut, else empty."""

    name: str
    at: float
    offer_s: float
    busy: str = ""


class OnePrint:
    """Raises PrinterError when a print or a resume fails, or the machine stays busy."""

    def __init__(
        self, printer: VirtualPrinter, part: Path, say: Say, repeats: int = REPEATS
    ) -> None:
        self.printer, self.part, self.say = printer, part, say
        self.repeats = repeats
        self.cuts: list[Cut] = []
        self.warnings: list[str] = []
        # What a person does before the yes: G-code; and a look after each resume
        self.by_hand = ""
        self.look: Until | None = None
        self._interrupted = False
        self._log_read = 0
        self._digest = ""

    def start(self) -> None:
        """Until the first plastic; what fails before has to begin anew."""
        try:
            self.printer.power_on()
            outage.calibrate(self.printer)
            name = self.printer.print_file(self.part)
            self._digest = digest(self.printer.gcodes / name)
            after_plastic(0.0)(self.printer)
        except PrinterError as e:
            raise PrinterError(f"{e} {self._starved(e)}".strip()) from e

    def cut(
        self, name: str, until: Until, resume: bool = True, offered: bool = True
    ) -> None:
        """Go on with what is interrupted, wait `until`, cut the power, boot.

        resume: False where `until` does that itself.  offered: False where nothing
        may be left to resume.
        """

        def leg() -> None:
            if resume:
                self.go_on()
            until(self.printer)

        self._again(name, leg)
        self.say(f"power cut {len(self.cuts) + 1}: {name}")
        self._power_cut(name, offered=offered)

    def finish(self) -> None:
        def leg() -> None:
            self.go_on()
            # A timelapse pauses, and goes on by itself.
            self.printer.wait(
                "the end", lambda: self.printer.state() not in RUNNING, TIMEOUT
            )
            outage.finish(self.printer, self.say)

        self._again("the last part of the print", leg)

    def go_on(self) -> None:
        """As a person: press Resume, and RESUME where the print was paused."""
        if not self._interrupted:
            return
        if self.by_hand:
            self.printer.gcode(self.by_hand)
        outage.resume(self.printer, self.say)
        if self.look is not None:
            self.look(self.printer)
        if any(PAUSED in text for text in self.warnings):
            wait_for(self.printer, "the pause again", is_paused)
            self.printer.gcode("RESUME")
        self._interrupted = False

    def outcome(self) -> outage.Outcome:
        sessions, _ = self.printer.sessions()
        original = self.printer.gcodes / self.part.name
        return outage.Outcome(
            resumed=True, trouble="",
            original_changed=digest(original) != self._digest,
            sessions=sessions, cuts=tuple(cut.at for cut in self.cuts),
            offer_s=tuple(cut.offer_s for cut in self.cuts), records=(),
            disk=self.printer.disk.unavailable,
        )  # fmt: skip

    def _again(self, name: str, leg: Callable[[], None]) -> None:
        while True:
            try:
                return leg()
            except PrinterError as e:
                reason = self._excuse(e)
                self._power_cut(name, reason)

    def _power_cut(self, name: str, reason: str = "", offered: bool = True) -> None:
        """Returns with the offer open, if there is to be one."""
        while True:
            at = self.printer.cut_power()
            # The disk may have forgotten some of the log.
            self._log_read = self._log_size()
            self._interrupted = True
            try:
                self.printer.power_on()
                if not offered:
                    time.sleep(NO_OFFER_S)
                    self.cuts.append(Cut(name, at, math.nan, reason))
                    return
                offer_s = outage.wait_offer(self.printer)
                status = self.printer.get("/server/plr/status")
            except PrinterError as e:
                self.cuts.append(Cut(name, at, math.nan, reason))
                reason = self._excuse(e)
                continue
            self.cuts.append(Cut(name, at, offer_s, reason))
            self.warnings = status["warnings"]
            self.say(f"booted, offered: {status['record']['summary']}")
            return

    def _excuse(self, error: PrinterError) -> str:
        """Why that was only for want of time; raises it again if it was not."""
        reason = self._starved(error)
        if not reason:
            raise error
        if self.repeats <= 0:
            raise PrinterError(f"the computer stays too busy: {reason}") from error
        self.repeats -= 1
        self.say(f"the computer was too busy ({reason}), once more: {error}")
        return reason

    def _starved(self, error: PrinterError) -> str:
        log = self._log()
        if log.exists():
            with open(log, errors="replace") as f:
                f.seek(self._log_read)
                text = f.read()
        else:
            text = ""
        for words in STARVED:
            if words in str(error) or words in text:
                return words
        return ""

    def _log(self) -> Path:
        return self.printer.data / "logs" / "klippy.log"

    def _log_size(self) -> int:
        return self._log().stat().st_size if self._log().exists() else 0


@contextmanager
def printing(
    make: Callable[[], VirtualPrinter], part: Path, say: Say
) -> Iterator[OnePrint]:
    """A print that has begun; begun anew, a few times, on a busy computer."""

    def begun() -> OnePrint:
        printer = make()
        try:
            story = OnePrint(printer, part, say)
            story.start()
        except BaseException:
            printer.close()
            raise
        return story

    story = busy.again(begun)
    with story.printer:
        yield story


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_paused(printer: VirtualPrinter) -> bool:
    return printer.state() == "paused"


def wait_for(
    printer: VirtualPrinter, what: str, condition: Condition,
    timeout: float = TIMEOUT,
) -> None:  # fmt: skip
    """As printer.wait, but not for a print that is over.  Raises PrinterError."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        status = printer.objects("print_stats", "webhooks")
        stats, klippy = status["print_stats"], status["webhooks"]
        if klippy["state"] != "ready":
            raise PrinterError(f"not {what}: {klippy['state_message']}")
        if stats["state"] in ("error", "cancelled", "complete"):
            message = stats.get("message", "")
            raise PrinterError(f"not {what}: the print was {stats['state']} {message}")
        if condition(printer):
            return
        time.sleep(POLL)
    raise PrinterError(f"timed out after {timeout:.0f} s: {what}")


def after_plastic(seconds: float) -> Until:
    """Until that long after the print has laid some."""

    def until(printer: VirtualPrinter) -> None:
        fed = printer.machine("state")["e"]
        wait_for(
            printer, "some plastic",
            lambda p: p.machine("state")["e"] > fed + GOES_ON_MM,
        )  # fmt: skip
        moment = time.monotonic() + seconds
        wait_for(printer, "the moment", lambda _: time.monotonic() >= moment)

    return until


def in_turn(*parts: Until) -> Until:
    """One after the other."""

    def until(printer: VirtualPrinter) -> None:
        for part in parts:
            part(printer)

    return until


def when(
    what: str, condition: Condition, seconds: float = 0.0
) -> Until:
    """Until that long after something has become true."""

    def until(printer: VirtualPrinter) -> None:
        wait_for(printer, what, condition)
        time.sleep(seconds)

    return until
