# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Prints that are written as no file of ours is, each cut at every line."""
from __future__ import annotations

from pathlib import Path

import pytest

from .corpus_files import CorpusFile
from .odd_prints import OF_ONE_IDEA, drawn
from .trial import cut

DRAWN = 12
RECORD, FILE = True, False


def check(data: bytes, path: Path, tools: int, from_record: bool) -> None:
    path = path / ("toolchange.gcode" if tools > 1 else "odd.gcode")
    path.write_bytes(data)
    outcome = cut(CorpusFile(path), None, from_record)
    assert outcome.compared > 20
    assert not outcome.problems, "\n".join(outcome.problems[:5])


@pytest.mark.parametrize("from_record", [FILE, RECORD])
@pytest.mark.parametrize("name", OF_ONE_IDEA)
def test_of_one_idea(name: str, from_record: bool, tmp_path: Path) -> None:
    tools = 2 if name == "with_tools" else 1
    check(OF_ONE_IDEA[name](), tmp_path, tools, from_record)


@pytest.mark.parametrize("seed", range(DRAWN))
def test_drawn(seed: int, tmp_path: Path) -> None:
    for from_record in (FILE, RECORD):
        check(drawn(seed), tmp_path, 1, from_record)
