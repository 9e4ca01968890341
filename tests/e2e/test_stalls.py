# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The motion of a print is the same with the extra, on a real klippy without a board.

tests/bench/stalls.py does the same with 50,000 moves, and in real time.
"""
from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import stalls
from tests.virtual_printer.klippy_tree import REPO

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SLICED = REPO / "tests" / "data" / "ps250_cube_absE.gcode"


def test_many_short_moves_are_planned_alike(tmp_path: Path) -> None:
    file = tmp_path / "short.gcode"
    file.write_text("\n".join(stalls.short_moves(8000)) + "\n")
    without, ours = (stalls.in_batch(file, extra) for extra in (False, True))
    assert stalls.report("batch", without, ours)


def test_a_sliced_file_is_planned_alike() -> None:
    """BatchKlippy raises if the extra does not follow the print to its end."""
    without, ours = (stalls.in_batch(SLICED, extra) for extra in (False, True))
    assert stalls.report("batch", without, ours)
