# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Many cuts of one file, each of them compared or refused as it should be."""
from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from moonraker_components.power_loss_recovery.gcode.errors import GcodeError

from . import cuts
from .compare import Print, line_starts
from .corpus_files import EVERY_LINE, CorpusFile
from .klipper_model import Klipper

# One in this many is followed to the end of the file.
TO_END = 40
BEFORE, AFTER = "nothing is printed before byte", "nothing is printed after byte"


@dataclass
class Outcome:
    """How many cuts were made, and refused as they should be; what went wrong."""

    compared: int = 0
    refused: int = 0
    split: int = 0
    problems: list[str] = field(default_factory=list)


def count_for(file: CorpusFile, count: int) -> int | None:
    return None if str(file) in EVERY_LINE else count


def cut(file: CorpusFile, count: int | None, from_record: bool) -> Outcome:
    data = file.path.read_bytes()
    machine = Klipper(file.tools, fans_by_number=not from_record)
    whole = Print.of(data, machine)
    source, outcome = random.Random(str(file)), Outcome()
    offsets = cuts.offsets(str(file), line_starts(data), count)
    for number, offset in enumerate(machine.stops(data, offsets)):
        to_end = number % TO_END == TO_END // 2 and count is not None
        if whole.first < offset <= whole.last:
            fraction = 0.0
            if from_record:
                text = cuts.line_at(data, offset)
                fraction = cuts.fraction_for(machine, text, source)
                outcome.split += fraction > 0.0
            found = _compared(whole, machine, offset, fraction, from_record, to_end)
            outcome.compared += 1
        elif from_record:
            continue
        else:
            found = _refused(whole, machine, offset)
            outcome.refused += 1
        outcome.problems += [f"byte {offset}: {problem}" for problem in found]
    return outcome


def _compared(
    whole: Print, machine: Klipper, offset: int, fraction: float,
    from_record: bool, to_end: bool,
) -> list[str]:  # fmt: skip
    try:
        if from_record:
            return cuts.record_cut(whole, machine, offset, fraction, to_end)
        return cuts.file_cut(whole, machine, offset, to_end)
    except Exception as error:
        return [f"refused: {type(error).__name__}: {error}"]


def _refused(whole: Print, machine: Klipper, offset: int) -> Iterator[str]:
    expected = BEFORE if offset <= whole.first else AFTER
    try:
        cuts.file_cut(whole, machine, offset)
    except GcodeError as error:
        if expected not in str(error):
            yield f"refused as {error!r}, expected {expected!r}"
    else:
        yield f"not refused, expected {expected!r}"
