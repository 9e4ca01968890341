# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A short run of tests/soak/fuzz_gcode.py."""
from __future__ import annotations

from tests.soak import fuzz_gcode

INPUTS = 5000


def test_damaged_gcode_is_read_as_klipper_reads_it_or_refused() -> None:
    failures = fuzz_gcode.batch(seed=5, first=0, count=INPUTS)
    assert not failures, "\n\n".join(failures[:5])


def test_the_run_would_notice_a_parser_that_breaks_or_takes_long() -> None:
    lines = fuzz_gcode.pool()
    inputs = [fuzz_gcode.one(5, number, lines)[0] for number in range(0, INPUTS, 10)]
    assert any(b"\0" in data for data in inputs)
    assert sum(len(data) > 8000 for data in inputs) >= 5
    broken = {line for data in inputs for line in data.split(b"\n")} - set(lines)
    assert len(broken) > 300
