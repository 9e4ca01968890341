# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A long file whose print was cut, for the benches of what comes after the boot.

A journal says that it was cut at that share of it: nothing is printed.  Half of the
runs find the file out of the page cache, and none finds anything of it known to
Moonraker.
"""
from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from moonraker_components.power_loss_recovery import files
from moonraker_components.power_loss_recovery.planning import reconstruct
from tests.unit.journal_samples import interrupted
from tests.virtual_printer import outage
from tests.virtual_printer.disk import OrdinaryDisk
from tests.virtual_printer.printer import VirtualPrinter

from .big_gcode import write

# The layers of the file are small: it is tall.
CONFIG = """
[stepper_z]
position_max: 2000

[gcode_macro M140]
rename_existing: M140.1
gcode:
    RESPOND MSG="first command"
    M140.1 {rawparams}

[gcode_macro PRINT_START]
gcode:
    G90
"""
HOT = {"extruder": 205.0, "heater_bed": 40.0}


def arguments(doc: str | None, size: int, share: float) -> argparse.Namespace:
    """size: in MB."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--size", type=int, default=size, help="MB")
    parser.add_argument("--share", type=float, default=share)
    parser.add_argument("--runs", type=int, default=4)
    return parser.parse_args()


@contextmanager
def offered(args: argparse.Namespace) -> Iterator[tuple[VirtualPrinter, Path]]:
    """The printer with the offer open, and the file."""
    with VirtualPrinter(
        seed=1, config=CONFIG, make_disk=lambda *_: OrdinaryDisk("not needed")
    ) as printer:
        path = _interrupt(printer, args.size * 10**6, args.share)
        printer.power_on()
        outage.wait_offer(printer)
        yield printer, path
    print(f"file: {args.size} MB, cut at {args.share:.0%}\n")


def _interrupt(printer: VirtualPrinter, size: int, share: float) -> Path:
    """The file, and a journal as a cut leaves it."""
    path = printer.gcodes / "long.gcode"
    write(path, size)
    source = files.identify(printer.gcodes, str(path), time.time())
    with open(path, "rb") as f:
        f.seek(int(size * share))
        f.readline()
        position = f.tell()
    found = files.examine_place(path, files.Place(position=position))
    made = reconstruct.record(found.head, found.line, told=HOT)
    record = replace(made, from_file=False, saved_at=time.time())
    interrupted(printer.data / "plr" / "journal", source.job, record).close()
    return path


def begin_run(path: Path, number: int) -> None:
    """Read anew by us; each other run has it in the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.utime(descriptor)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    if number % 2:
        path.read_bytes()


def show(names: Sequence[str], runs: Sequence[Sequence[str]]) -> None:
    """A table of the runs' figures."""
    print(" | ".join(["| run | file", *names]) + " |")
    print("|---|---|" + "---|" * len(names))
    for number, figures in enumerate(runs):
        cached = "in the cache" if number % 2 else "on the disk"
        print(f"| {number + 1} | {cached} | {' | '.join(figures)} |")
