# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The main job: a print, power cuts, resumes; and the same print undisturbed."""
from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import busy, oracle
from .klippy_tree import KlippyTree
from .printer import PrinterError, VirtualPrinter
from .trace import Geometry, Session

Say = Callable[[str], None]
# A print may take as long as its file is; this is for one that stands still.
STALL_TIMEOUT = 300.0
OFFER_TIMEOUT = 30.0
RESUME_TIMEOUT = 900.0
POLL = 0.3


@dataclass(frozen=True)
class Undisturbed:
    sessions: list[Session]
    geometry: Geometry


@dataclass(frozen=True)
class Outcome:
    """resumed: every cut was followed by a resume that printed to the end.
    trouble: why not, in words.  cuts: instants, in the trace's seconds.
    offer_s: klippy ready until the offer was there, per cut.  disk: why un-synced
    writes were not lost, empty when they were."""

    resumed: bool
    trouble: str
    original_changed: bool
    sessions: list[Session]
    cuts: tuple[float, ...]
    offer_s: tuple[float, ...]
    records: tuple[dict, ...]
    disk: str


def quiet(text: str) -> None:
    pass


def run_undisturbed(
    part: Path, seed: int, tree: KlippyTree | None = None, say: Say = quiet,
    config: str = "",
) -> Undisturbed:  # fmt: skip
    """Print the whole file on a machine of its own."""

    def whole() -> Undisturbed:
        with VirtualPrinter(seed=seed, tree=tree, config=config) as printer:
            printer.power_on()
            printer.print_file(part)
            finish(printer, say)
            sessions, geometry = printer.sessions()
            return Undisturbed(sessions, geometry)

    return busy.again(whole)


def run_interrupted(
    part: Path,
    cuts: Sequence[float],
    seed: int,
    tree: KlippyTree | None = None,
    say: Say = quiet,
    keep: bool = False,
    during: Callable[[VirtualPrinter], None] | None = None,
    between: Callable[[VirtualPrinter], None] | None = None,
    after: Callable[[VirtualPrinter], None] | None = None,
    config: str = "",
) -> Outcome:
    """Print, cut the power at each of `cuts`, resume each time, print to the end.

    cuts: seconds after the first plastic of the print, or of the resumed print.
    during: called when the print has been started, before the cut is armed; then
    `cuts` count from the first plastic after that.
    between: called with the printer booted and the offer open, before the answer.
    after: called when the part is finished.  config: appended to printer.cfg.
    """
    with VirtualPrinter(seed=seed, tree=tree, config=config, keep=keep) as printer:
        if keep:
            say(f"working folder: {printer.root}")
        printer.power_on()
        say("calibrating the Z+ switches (an owner does this once)")
        calibrate(printer)
        original = printer.gcodes / printer.print_file(part)
        before = _digest(original)
        trouble, at, offers, records = "", [], [], []
        try:
            say("heating, homing, printing")
            if during is not None:
                during(printer)
            for number, cut in enumerate(cuts):
                printer.arm_cut(cut)
                at.append(wait_cut(printer, cut))
                say(f"power cut {number + 1}: {cut:.1f} s after the first plastic")
                printer.power_on()
                offers.append(wait_offer(printer))
                records.append(printer.get("/server/plr/status")["record"])
                say(f"booted, offered: {records[-1]['summary']}")
                if between is not None:
                    between(printer)
                resume(printer, say)
            finish(printer, say)
            if after is not None:
                after(printer)
        except PrinterError as e:
            trouble = str(e)
            say(f"failed: {trouble}")
        sessions, _ = printer.sessions()
        return Outcome(
            resumed=not trouble,
            trouble=trouble,
            original_changed=not original.exists() or _digest(original) != before,
            sessions=sessions,
            cuts=tuple(at),
            offer_s=tuple(offers),
            records=tuple(records),
            disk=printer.disk.unavailable,
        )


def run_shut_down(
    part: Path, after_s: float, seed: int, stop: Callable[[VirtualPrinter], object],
    restart: bool, say: Say = quiet,
) -> Outcome:  # fmt: skip
    """Print, shut klippy down while the host lives, resume, print to the end.

    after_s: seconds after the first plastic.  restart: bring the board back and go
    on; else power is cut as soon as the stop is saved.
    """
    with VirtualPrinter(seed=seed) as printer:
        printer.power_on()
        calibrate(printer)
        original = printer.gcodes / printer.print_file(part)
        before = _digest(original)
        trouble, at, offers = "", 0.0, 0.0
        try:
            fed = printer.machine("state")["e"]
            printer.wait(
                "the first plastic",
                lambda: printer.machine("state")["e"] > fed + 0.1, RESUME_TIMEOUT, 0.1,
            )  # fmt: skip
            time.sleep(after_s)
            stop(printer)
            at = printer.machine("state")["clock"]
            printer.wait(
                "the stop to be saved",
                lambda: printer.get("/server/plr/status")["last_save_reason"] == "stop",
                30, 0.05,
            )  # fmt: skip
            if restart:
                printer.post("/printer/firmware_restart")
                time.sleep(1.0)
                printer.wait_ready()
            else:
                printer.cut_power()
                printer.power_on()
            offers = wait_offer(printer)
            resume(printer, say)
            finish(printer, say)
        except PrinterError as e:
            trouble = str(e)
        sessions, _ = printer.sessions()
        return Outcome(
            not trouble, trouble, _digest(original) != before, sessions, (at,),
            (offers,), (), printer.disk.unavailable,
        )  # fmt: skip


def calibrate(printer: VirtualPrinter) -> None:
    """As an owner does once, until it is said to survive a power loss."""
    busy.again(lambda: printer.gcode("PLR_Z_HOME MODE=CALIBRATE"))
    printer.wait(
        "the second copy of the calibration",
        lambda: printer.get("/server/plr/status")["calibration"]["second_copy"],
        10,
    )


def judge(undisturbed: Undisturbed, outcome: Outcome) -> oracle.Verdict:
    return oracle.compare(
        undisturbed.sessions, outcome.sessions, undisturbed.geometry
    )


def judge_printed(undisturbed: Undisturbed, printer: VirtualPrinter) -> oracle.Verdict:
    """The same for all that this printer has laid, whoever interrupted it."""
    sessions, _ = printer.sessions()
    return oracle.compare(undisturbed.sessions, sessions, undisturbed.geometry)


def interrupt(printer: VirtualPrinter, part: Path, after: float) -> None:
    """A new printer's first print, cut that long after its first plastic: returns
    with the printer booted and the offer open.  As run_interrupted, without a yes."""
    printer.power_on()
    calibrate(printer)
    printer.print_file(part)
    cut_and_boot(printer, after)


def cut_and_boot(printer: VirtualPrinter, after: float) -> float:
    """Cut the power that long after the next plastic; returns the instant of the cut,
    in the trace's seconds, with the printer booted and the offer open."""
    printer.arm_cut(after)
    at = wait_cut(printer, after)
    printer.power_on()
    wait_offer(printer)
    return at


def wait_offer(printer: VirtualPrinter) -> float:
    """Seconds until the prompt is on the console of a ready printer."""
    started = time.monotonic()

    def offered() -> bool:
        return any("action:prompt_show" in line for line in printer.console())

    printer.wait("the offer to resume", offered, OFFER_TIMEOUT, period=0.05)
    return time.monotonic() - started


def resume(printer: VirtualPrinter, say: Say = quiet) -> None:
    """Press Resume, and wait until the print goes on."""
    printer.gcode("PLR_RESUME_PRINT")
    last = None
    began = time.monotonic()
    while time.monotonic() - began < RESUME_TIMEOUT:
        status = printer.get("/server/plr/status")
        step = status["step"]
        if step is not None and step["title"] != last:
            last = step["title"]
            say(f"resuming, {step['number']} of {step['of']}: {last}")
        if status["state"] == "printing":
            say("the print goes on")
            return
        if status["last_error"] and status["state"] != "resuming":
            raise PrinterError(status["last_error"])
        if step is None and status["state"] == "interrupted":
            _refused(printer)
        time.sleep(POLL)
    raise PrinterError(f"not resumed within {RESUME_TIMEOUT:.0f} s, at: {last}")


def _refused(printer: VirtualPrinter) -> None:
    for line in printer.console():
        found = re.search(r"PLR_RESUME_PRINT: (Cannot resume.*)", line)
        if found:
            raise PrinterError(found[1])


def finish(printer: VirtualPrinter, say: Say = quiet) -> None:
    """Wait until the running print is complete and the motors are done."""
    moved, position = time.monotonic(), -1
    said = -1
    while True:
        status = printer.objects("print_stats", "virtual_sdcard")
        state = status["print_stats"]["state"]
        if state == "complete":
            break
        if state not in ("printing", "standby"):
            message = status["print_stats"].get("message", "")
            why = printer.why_not_ready()
            raise PrinterError(f"the print ended: {state} {message} {why}".strip())
        sd = status["virtual_sdcard"]
        if sd["file_position"] != position:
            moved, position = time.monotonic(), sd["file_position"]
        percent = int(100 * sd["progress"])
        if percent // 10 > said:
            said = percent // 10
            say(f"printing: {percent} %")
        if time.monotonic() - moved > STALL_TIMEOUT:
            raise PrinterError(f"the print stands still at {percent} %")
        time.sleep(POLL)
    printer.gcode("M400")
    printer.wait(
        "the finished print to be closed",
        lambda: printer.get("/server/plr/status")["state"] == "idle",
        10,
    )


def wait_cut(printer: VirtualPrinter, cut: float) -> float:
    """Wait for the armed cut, as long as the print goes on without it."""

    def check() -> None:
        try:
            state = printer.state()
        except PrinterError:
            return  # The cut has come while we asked.
        if state not in ("printing", "standby"):
            raise PrinterError(
                f"no cut at {cut:.1f} s after the first plastic: the print was {state}"
            )

    return printer.wait_cut(cut + RESUME_TIMEOUT, check)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def copy_part(source: Path, folder: Path) -> Path:
    """A name that klippy accepts: lower case ending .gcode."""
    target = folder / (source.stem + ".gcode")
    shutil.copyfile(source, target)
    return target
