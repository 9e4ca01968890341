# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The G-code files of a recovery: checked, examined, written.  Blocking calls.

Names come from klippy, from the journal and from resume files: none is trusted.
The owner's files are opened for reading only.
"""
from __future__ import annotations

import logging
import mmap
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from . import tools
from .gcode import material
from .gcode.ahead import Reach, rest
from .gcode.ends import check_point, first_plastic, next_extrusion
from .gcode.extent import Extent
from .gcode.lexer import command_name
from .gcode.markers import MAX_SETUP
from .gcode.modal import Motion
from .gcode.points import LayerPoint, by_number, by_z, points
from .gcode.rewriter import RewriteError, fingerprint, line_at, read_stamp, write
from .gcode.scan import Head, ScanError, scan, setup_lines
from .gcode.stamp import Stamp, to_original
from .gcode.temperatures import of_start_macro
from .gcode.text import Data, check
from .plan import Plan
from .readers import beside
from .record import MAX_LINE_TEXT, Job, Record

RESUME_FOLDER = ".plr"
MAX_TO_COME = 1 << 18
MAX_END = 1 << 20  # of end G-code, thumbnails and the slicer's settings
ALL_LAID = (
    "All plastic of the file had been laid: only its last commands are missing."
    " Discard it."
)
_BAD = re.compile(r"[\x00-\x1f\x7f\"]")


class FileProblem(Exception):
    """A file is not what the record says; the text is for a person."""


@dataclass(frozen=True)
class Source:
    """The file that klippy prints: a job, and where its bytes are.

    stamp: of a resume file; then `job` is that of the true original.
    """

    job: Job
    path: Path
    stamp: Stamp | None


def inside(root: Path, name: str) -> Path:
    """The path of `name` below `root`, links resolved.  Raises FileProblem."""
    if not name or _BAD.search(name) or os.path.isabs(name):
        raise FileProblem(f"{name!r} is not a name of a G-code file")
    base = root.resolve()
    path = (base / name).resolve()
    if not path.is_relative_to(base) or path == base:
        raise FileProblem(f"{name!r} is outside the G-code folder")
    return path


def name_of(root: Path, printed: str) -> str:
    """Below `root`, of the path that klippy opened.  Raises FileProblem."""
    try:
        return Path(printed).resolve().relative_to(root.resolve()).as_posix()
    except (ValueError, RuntimeError):
        raise FileProblem(f"{printed!r} is outside the G-code folder") from None


def identify(root: Path, printed: str, started: float) -> Source:
    """What klippy prints.  `printed`: the path it opened; started: epoch seconds."""
    name = name_of(root, printed)
    path = Path(printed).resolve()
    stamp = None
    if name.split("/")[0] == RESUME_FOLDER:
        with _open(path) as f:
            stamp = read_stamp(f)
        if stamp is not None:
            name = stamp.original
            path = inside(root, name)
    with _open(path) as f:
        info = os.fstat(f.fileno())
        mark = fingerprint(f, info.st_size)
    if stamp is not None and stamp.fingerprint != mark:
        raise FileProblem(f"{name} is no longer the file that was interrupted")
    return Source(Job(name, info.st_size, info.st_mtime, mark, started), path, stamp)


def in_original(source: Source, place: Place) -> Place:
    """A byte position of a resume file is one of its original.  Raises FileProblem."""
    if source.stamp is None or place.position is None:
        return place
    try:
        position = to_original(source.stamp, place.position)
    except RewriteError as e:
        raise FileProblem(str(e)) from e
    return Place(source.stamp.file_position if position is None else position)


def text_at(path: Path, file_position: int) -> str:
    """The line that a record will be recognised by; empty at the end of the file."""
    with _open(path) as f:
        if file_position >= os.fstat(f.fileno()).st_size:
            return ""
        return line_at(f, file_position).decode("utf-8", "replace")[:MAX_LINE_TEXT]


def lines_to_come(path: Path, record: Record) -> bytes:
    """What klippy had read beyond the saved place, and the line that it was at."""
    start = record.file_position
    end = start if record.queued is None else record.queued.file_position
    with _open(path) as f:
        f.seek(start)
        return f.read(min(max(end - start, 0), MAX_TO_COME)) + f.readline(MAX_LINE_TEXT)


def has_begun(path: Path, file_position: int) -> bool:
    """Whether plastic is laid before `file_position`.  Reads up to the first."""
    with mapped(path) as (_, data):
        first = first_plastic(data, 0, Motion())
        return first is not None and first < file_position


def verify(root: Path, job: Job, record: Record) -> Path:
    """The original's path, if it is still the file that was being printed."""
    path = inside(root, job.name)
    if not path.is_file():
        raise FileProblem(
            f"{job.name} is gone. Put the same file back to resume, or discard."
        )
    with _open(path) as f:
        size = os.fstat(f.fileno()).st_size
        if size != job.size or fingerprint(f, size) != job.fingerprint:
            raise FileProblem(
                f"{job.name} was changed since the print was interrupted. Put the"
                " same file back to resume, or discard."
            )
    try:
        found = text_at(path, record.file_position)
    except RewriteError as e:
        raise FileProblem(f"{job.name}: {e}") from e
    if found != record.line:
        raise FileProblem(
            f"{job.name} has another line at byte {record.file_position} than the one"
            " that was saved."
        )
    return path


@dataclass(frozen=True)
class Place:
    """Where to go on; exactly one of the three.  position: byte of the first line
    still to be printed.  layer: counted from 1.  z: mm."""

    position: int | None = None
    layer: int | None = None
    z: float | None = None


def locate(data: Data, place: Place) -> int:
    """The byte of that place.  Raises ScanError, also for what is no G-code."""
    check(data, 0)
    if place.position is not None:
        return place.position
    found = points(data)
    if place.layer is not None:
        return by_number(found, place.layer).file_position
    if place.z is None:
        raise ScanError("name a byte position, a layer or a height to go on at")
    return by_z(found, place.z).file_position


@dataclass(frozen=True)
class Examined:
    """A place in a file of which nothing was saved.  rest: what is still to come."""

    head: Head
    line: bytes
    temperatures: Mapping[str, float]
    rest: Reach | None


def examine(path: Path, file_position: int) -> tuple[Head, bytes, Reach | None]:
    """What the file did before `file_position`, the line there, and where the rest is
    printed, if that can be told."""
    with mapped(path) as (f, data), beside(f) as readers:
        if file_position >= len(data):
            raise FileProblem("The file had been printed to its end.")
        extent = Extent(data, helpers=readers)
        head = scan(data, file_position, extent)
        if next_extrusion(data, head) is None:
            raise FileProblem(ALL_LAID)
        line = line_at(f, file_position)
        try:
            return head, line, rest(extent)
        except ScanError as e:
            # It printed until here: its own end need not be better than it was.
            logging.info(f"power_loss_recovery: {path.name}, ahead: {e}")
            return head, line, None


def is_complete(root: Path, job: Job, record: Record) -> bool:
    """Whether all plastic of the file is laid.  Reads only the end of a file."""
    if job.size - record.file_position > MAX_END:
        return False
    if record.file_position >= job.size:
        return True
    coordinates = record.state["coordinates"]
    motion = Motion(
        absolute_coordinates=coordinates["absolute_coordinates"],
        absolute_extrude=coordinates["absolute_extrude"],
        position=list(record.position),
        retracted=record.retracted,
        printing=True,
    )
    with mapped(inside(root, job.name)) as (_, data):
        return first_plastic(data, record.file_position, motion) is None


def material_of(root: Path, job: Job, record: Record) -> str | None:
    """What the print is made of, see material.family.  Raises FileProblem."""
    tool = tools.number(record.state, record.extruder)
    with mapped(inside(root, job.name)) as (_, data):
        return material.family(data, tool)


def examine_place(path: Path, place: Place) -> Examined:
    """Likewise, with all that a record would say."""
    with mapped(path) as (f, data), beside(f) as readers:
        extent = Extent(data, helpers=readers)
        head = scan(data, locate(data, place), extent)
        check_point(data, head)
        start = data[: min(head.first_extrusion or 0, MAX_SETUP)]
        return Examined(
            head, line_at(f, head.end), of_start_macro(start), rest(extent)
        )  # fmt: skip


def layers(path: Path) -> list[LayerPoint]:
    """The places that a person may choose from."""
    with mapped(path) as (_, data):
        return points(data)


@contextmanager
def mapped(path: Path) -> Iterator[tuple[BinaryIO, mmap.mmap]]:
    """Raises FileProblem, also for what is found out about the content inside."""
    with _open(path) as f:
        if not os.fstat(f.fileno()).st_size:
            raise FileProblem(f"{path.name} is empty.")
        with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                yield f, data
            except ScanError as e:
                raise FileProblem(f"{path.name}: {e}") from e


def setup(path: Path, head: Head) -> list[bytes]:
    """The lines that the guide's INITIAL PRINTER SETUP placeholder asks to run again,
    for the prologue; those left out are named in comments.

    Only what sets something is run: of a start macro nobody knows whether it homes,
    and the plan has heated, homed and purged already.  Objects are defined anyway.
    """
    with _open(path) as f:
        start = f.read(head.markers.setup or 0)
    try:
        kept, dropped = setup_lines(start, head.markers)
    except ScanError as e:
        raise FileProblem(f"{path.name}: {e}") from e
    if head.markers.setup is None:
        return []
    lines = [b"; What stands before INITIAL PRINTER SETUP:"]
    lines += [line for line in kept if command_name(line) != "EXCLUDE_OBJECT_DEFINE"]
    lines += [b"; not run, as it may move or heat: " + line for line in dropped]
    return lines


def write_resume_file(
    root: Path, path: Path, job: Job, record: Record, head: Head, plan: Plan, tag: str,
    scratch: Path,
) -> str:  # fmt: skip
    """Writes the resume file, returns its name below `root`.

    scratch: a folder that Moonraker does not watch, used when it is on the same
    file system: a file that grows inside a watched folder is taken for an upload.
    """
    folder = root / RESUME_FOLDER
    folder.mkdir(exist_ok=True)
    if scratch.stat().st_dev != folder.stat().st_dev:
        scratch = folder
    _remove(scratch, "tmp")  # what a power cut left
    name = f"{RESUME_FOLDER}/resume-{tag}.gcode"
    with _open(path) as f:
        write(
            f,
            root / name,
            original=job.name,
            original_size=job.size,
            original_fingerprint=job.fingerprint,
            header_end=head.header_end,
            file_position=record.file_position,
            prologue=plan.prologue,
            first_line=plan.first_line,
            fraction=plan.fraction,
            temporary=scratch / f"resume-{tag}.tmp",
        )
    return name


def remove_resume_files(root: Path) -> None:
    """Ours only, recognised by their names."""
    folder = root / RESUME_FOLDER
    if folder.is_dir():
        _remove(folder, "gcode|tmp")


def _remove(folder: Path, endings: str) -> None:
    for path in folder.iterdir():
        if re.fullmatch(rf"resume-[0-9a-f]+\.({endings})", path.name):
            try:
                path.unlink()
            except OSError as e:
                logging.info(f"power_loss_recovery: cannot remove {path}: {e}")


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    try:
        f = open(path, "rb")
    except OSError as e:
        raise FileProblem(f"{path.name}: {e.strerror}") from e
    with f:
        yield f
