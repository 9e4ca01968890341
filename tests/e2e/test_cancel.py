# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""On a real klippy without a board: what a CANCEL_PRINT macro sees of itself.

tests/soak cuts the power in one.
"""
from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.parked import REACHED, Parked

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PRINT = b"PRINT_START BED=60 EXTRUDER=215\nG1 X100 Y100 Z0.2 F6000\nPAUSE\nG1 X150\n"


class Cancelling(Parked):
    MACROS = """
[gcode_macro CANCEL_PRINT]
rename_existing: BASE_CANCEL_PRINT
gcode:
    M117 {printer.power_loss_recovery.mark.cancelling}
    {% if params.REALLY %}
        BASE_CANCEL_PRINT
    {% endif %}
"""


def test_a_cancel_is_under_way_in_its_macro_and_not_after_it(tmp_path: Path) -> None:
    (tmp_path / "part.gcode").write_bytes(PRINT)
    with Cancelling(tmp_path / "part.gcode", True) as klippy:
        klippy.print_file(until="paused")
        klippy.api.gcode(REACHED)
        assert klippy.mark()["cancelling"] is False
        klippy.api.gcode("CANCEL_PRINT")  # a macro that thinks better of it
        assert klippy.api.objects("display_status")["display_status"]["message"] == (
            "True"
        )
        assert klippy.mark()["cancelling"] is False
        klippy.api.gcode("CANCEL_PRINT REALLY=1")
        state = klippy.api.objects("print_stats")["print_stats"]["state"]
        assert state == "cancelled"
