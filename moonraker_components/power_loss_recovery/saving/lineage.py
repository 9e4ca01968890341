# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Which interrupted print a print belongs to, and what of it is worth saving.

A resumed print is the same job as the one that it was resumed from: it keeps its
id in the journal, however many times the power fails.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from .. import files, history
from ..gcode.rewriter import RewriteError, original_fraction, to_original
from ..gcode.stamp import Stamp
from ..record import Job, Record, RecordError
from .interruption import Cause

Z_NOISE = 0.001  # mm


@dataclass(frozen=True)
class Pending:
    """An interrupted print.  aside: another one has been printed since."""

    job_id: bytes
    job: Job
    record: Record
    aside: bool = False


@dataclass(frozen=True)
class Printing:
    """The print under way.  `number` is klippy's count of prints."""

    job_id: bytes
    source: files.Source
    number: int
    printed: str


@dataclass(frozen=True)
class Now:
    """saved_at: seconds since the epoch.  cause: of the end that is coming.  proven:
    this print has lasted, so that it is no vain attempt."""

    saved_at: float
    boot_id: str
    cause: Cause
    proven: bool


def continues(
    old: Pending | None, source: files.Source, mark: Mapping[str, Any]
) -> bool:
    """Whether this is the print that `old` was saved of: resumed, or still going on
    after Moonraker was away.  Until it has saved a state of its own, the old one
    stands; when it ends, so does the old one."""
    if old is None or old.job.name != source.job.name:
        return False
    if old.job.fingerprint != source.job.fingerprint:
        return False
    further = mark["file_position"] >= old.record.file_position
    return source.stamp is not None or (further and not old.aside)


def ended_unseen(old: Pending | None, stats: Mapping[str, Any]) -> str | None:
    """How `old` ended while Moonraker was away, if it did.  stats: print_stats."""
    name, state = str(stats.get("filename") or ""), stats.get("state")
    if old is None or state not in ("complete", "cancelled"):
        return None
    ours = name.startswith(files.RESUME_FOLDER + "/") or name == old.job.name
    return str(state) if ours and not old.aside else None


def in_prologue(mark: Mapping[str, Any], current: Printing) -> bool:
    """Whether a resume file has not come to the original's lines yet."""
    stamp = current.source.stamp
    return stamp is not None and mark["file_position"] < stamp.first_line_offset


def worth_saving(
    mark: Mapping[str, Any],
    current: Printing,
    old: Pending | None,
    now: Now,
) -> Record | None:
    """What to save of `mark`, if anything.  Reads the file.

    Raises RecordError, files.FileProblem, RewriteError.
    """
    ours = old if old is not None and old.job_id == current.job_id else None
    if in_prologue(mark, current):
        moved = None if ours is None else _moved(ours.record, mark)
        return None if moved is None else replace(moved, cause=now.cause)
    position, fraction = mark["file_position"], mark["fraction"]
    stamp, queued = current.source.stamp, mark.get("queued")
    if stamp is not None:
        fraction = original_fraction(stamp, position, fraction)
        position = _original(stamp, position)
        if isinstance(queued, Mapping):
            place = _original(stamp, queued.get("file_position"))
            queued = {**queued, "file_position": place}
    record = Record.from_dict({
        **mark,
        "file_position": position,
        "fraction": fraction,
        "queued": queued,
        "line": files.text_at(current.source.path, position),
        "saved_at": now.saved_at,
        "boot_id": now.boot_id,
        "cause": asdict(now.cause),
        "attempts": 0 if ours is None or now.proven else ours.record.attempts,
        "purged": () if ours is None else ours.record.purged,
    })  # fmt: skip
    # What is only being prepared must not take the place of an interrupted print.
    return record if ours is not None or record.prints else None


def _original(stamp: Stamp, position: Any) -> int:
    if not isinstance(position, int):
        raise RecordError(f"file_position is {position!r:.80}")
    try:
        original = to_original(stamp, position)
    except RewriteError as e:
        raise RecordError(f"resume file: {e}") from e
    if original is None:
        raise RecordError(f"byte {position} is not of the original file")
    return original


def _moved(old: Record, mark: Mapping[str, Any]) -> Record | None:
    """In the prologue of a resume file only Z is new, a cancel, or that it stands
    paused there.  Raises RecordError."""
    motors = {key: mark.get(key) for key in history.NOT_DELAYED}
    paused = old.paused or mark.get("paused") is True
    new = Record.from_dict({**asdict(old), **motors, "paused": paused})
    if new.toolhead_z < old.toolhead_z - Z_NOISE:
        # On the way down it may be lower already: the part is the lowest place.
        lowest = min(new.toolhead_z, old.motor_position(2))
        new = replace(new, toolhead_z=lowest, z_range=None, z_phases={})
    same = (new.cancelling, new.paused) == (old.cancelling, old.paused)
    return None if same and abs(new.toolhead_z - old.toolhead_z) < Z_NOISE else new
