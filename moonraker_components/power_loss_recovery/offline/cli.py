# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The command line of scripts/plr: arguments in, plain lines out."""
from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .. import files, plan
from ..doctor import command
from ..gcode.errors import GcodeError
from ..journal import JournalError, Kind, Slot, newest, read_slots
from ..record import Job, from_payloads
from ..store.journal_format import whole_jobs
from ..store.payloads import RecordError, unpack
from . import offline

FAILED = 2
EXPECTED = (
    GcodeError, JournalError, RecordError, files.FileProblem, plan.Refusal, OSError,
    command.Problem,
)  # fmt: skip
ABOUT = """\
Make the file that continues a print, without a printer and without Moonraker.

  plr points part.gcode                    where a print can go on
  plr resume-file part.gcode --layer 42    the rest of it, from layer 42 on
  plr journal ~/printer_data/plr/journal   what is saved of an interrupted print

And about this printer, whether it runs or not:

  plr doctor                               look for what would spoil a resume
  plr bundle                               collect what a bug report needs
"""
RESUME_FILE = """\
Write the file that continues FILE from a byte, a layer or a height on.

Without --standalone the file expects a printer that the Moonraker component has
prepared: hot, homed, purged. Printed on another one it stops with an error at its
first move. With --standalone it prepares the printer itself, in plain G-code for a
printer that has only Klipper; read its first lines before you print it.
"""


class Parser(argparse.ArgumentParser):
    """One plain line for what was asked wrongly."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"plr: {message}. See: {self.prog} --help\n")
        raise SystemExit(FAILED)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with one line on stderr that says why; 1 if the doctor
    has found something to mend."""
    asked, status = _parser().parse_args(arguments), 0
    try:
        status = asked.run(asked) or 0
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough; the interpreter must not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except EXPECTED as e:
        sys.stderr.write(f"plr: {_said(e)}\n")
        return FAILED
    return status


def _said(error: Exception) -> str:
    if isinstance(error, FileExistsError):
        return f"{error.filename} is there already: name another with -o"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _parser() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="plr", description=ABOUT, formatter_class=plain)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    make = commands.add_parser(
        "resume-file", help="write the file that continues a print",
        description=RESUME_FILE, formatter_class=plain,
    )  # fmt: skip
    make.add_argument("file", type=Path, metavar="FILE")
    place = make.add_mutually_exclusive_group(required=True)
    place.add_argument("--position", type=int, metavar="BYTES",
                       help="start of the first line still to be printed")  # fmt: skip
    place.add_argument("--layer", type=int, metavar="N", help="counted from 1")
    place.add_argument("--z", type=float, metavar="MM", help="height of a layer")
    make.add_argument("-o", "--output", type=Path, metavar="OUT",
                      help="default: FILE-resume-BYTES.gcode beside FILE")  # fmt: skip
    make.add_argument("--hotend", type=float, metavar="C",
                      help="of the nozzle, when only a macro knows it")  # fmt: skip
    make.add_argument("--bed-temp", type=float, metavar="C",
                      help="likewise of the bed; 0 for a bed without a heater")
    make.add_argument("--exclude", action="append", default=[], metavar="OBJECT",
                      help="had been excluded; may be given several times")
    make.add_argument("--standalone", action="store_true",
                      help="prepare the printer as well: heat, lift, home, purge")
    make.add_argument("--bed", type=_bed, metavar="X,Y",
                      help="size of the bed in mm, or its edges X0,Y0,X1,Y1; default:"
                      " from the slicer's settings in the file")  # fmt: skip
    make.add_argument("--height", type=float, metavar="MM", help="how high Z goes")
    make.add_argument("--nozzle-z", type=float, metavar="MM",
                      help="where the nozzle stands now; default: where it goes on")
    make.set_defaults(run=_resume_file)

    listing = commands.add_parser("points", help="list the layers of a file")
    listing.add_argument("file", type=Path, metavar="FILE")
    listing.set_defaults(run=_points)

    journal = commands.add_parser("journal", help="list what a journal holds")
    journal.add_argument("file", type=Path, metavar="PATH")
    journal.set_defaults(run=_journal)
    command.add(commands)
    return parser


def _bed(text: str) -> tuple[float, float, float, float]:
    values = [float(part) for part in text.split(",")]
    if len(values) == 2:
        values = [0.0, 0.0, *values]
    if len(values) != 4 or not (values[0] < values[2] and values[1] < values[3]):
        raise argparse.ArgumentTypeError("expected X,Y or X0,Y0,X1,Y1")
    return values[0], values[1], values[2], values[3]


def _resume_file(asked: argparse.Namespace) -> None:
    told = {"extruder": asked.hotend, "heater_bed": asked.bed_temp}
    path, record, warnings = offline.resume_file(offline.Asked(
        file=asked.file,
        place=files.Place(asked.position, asked.layer, asked.z),
        out=asked.output,
        standalone=asked.standalone,
        told={name: value for name, value in told.items() if value is not None},
        excluded=tuple(name.upper() for name in asked.exclude),
        bed=asked.bed,
        height=asked.height,
        nozzle_z=asked.nozzle_z,
    ))  # fmt: skip
    x, y, z, _ = record.position
    print(f"{path}: goes on at byte {record.file_position}, X{x:g} Y{y:g} Z{z:g}")
    for warning in warnings:
        print(f"Note: {warning}")


def _points(asked: argparse.Namespace) -> None:
    found = files.layers(asked.file)
    print("layer         z    height  share          byte")
    for point in found:
        z = "?" if point.z is None else f"{point.z:.3f}"
        height = "?" if point.height is None else f"{point.height:.3f}"
        share = f"{point.share * 100:.1f} %"
        print(f"{point.number:5}{z:>10}{height:>10}{share:>9}{point.file_position:>12}")
    what = "time" if any(point.timed for point in found) else "bytes"
    print(f"{len(found)} layers; share is of the print's {what}")


def _journal(asked: argparse.Namespace) -> None:
    slots = read_slots(str(asked.file))
    state = newest(slots)
    if state is None:
        raise JournalError(f"{asked.file} holds no print")
    job = Job.from_dict(unpack(state.job_payload))
    standing = "interrupted" if state.closed is None else f"ended: {state.closed}"
    print(f"{job.name}, {job.size} bytes, begun {_when(job.started)}: {standing}")
    marks = [s for s in slots if s.kind is Kind.MARK and s.job.job_id == state.job_id]
    jobs = whole_jobs(slots)
    for slot in sorted(marks, key=lambda slot: slot.sequence):
        print(_mark(slot, jobs.get(slot.job)))


def _mark(slot: Slot, job_payload: bytes | None) -> str:
    if job_payload is None:
        return f"#{slot.sequence}: the version of the print that it names is lost"
    try:
        _, record = from_payloads(job_payload, slot.payload)
    except RecordError as e:
        return f"#{slot.sequence}: {e}"
    layer = record.state["progress"].get("layer")
    return (
        f"#{slot.sequence} {_when(record.saved_at)} byte {record.file_position}"
        f" +{record.fraction:.3f} Z {record.motor_position(2):.3f} layer {layer}"
        f" {record.line!r}"
    )


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
