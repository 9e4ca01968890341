# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The power fails while the second carriage prints: the oracle looks at its plastic,
and at how near the two carriages ever came."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.virtual_printer import busy, idex, oracle, outage, parts
from tests.virtual_printer.klippy_tree import prepare
from tests.virtual_printer.printer import VirtualPrinter
from tests.virtual_printer.trace import Geometry, Session

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 83
PART = parts.Part(size=16, layers=2, long_line=60)
CUT = 10.0  # s after the first plastic


def undisturbed(part: Path, folder: Path) -> tuple[list[Session], Geometry]:
    def whole() -> tuple[list[Session], Geometry]:
        with VirtualPrinter(seed=SEED, variant=idex.variant(folder)) as printer:
            printer.power_on()
            printer.print_file(part)
            outage.finish(printer)
            return printer.sessions()

    return busy.again(whole)


def test_the_part_comes_out_whole_and_the_carriages_never_meet(tmp_path: Path) -> None:
    if prepare().is_package:
        pytest.skip("PyPI's klippy cannot load kinematics with two carriages")
    part = parts.write(tmp_path / "part.gcode", PART)
    with (
        ThreadPoolExecutor(1) as pool,
        VirtualPrinter(seed=SEED, variant=idex.variant(tmp_path)) as printer,
    ):
        whole = pool.submit(undisturbed, part, tmp_path)
        outage.interrupt(printer, part, CUT)
        said = printer.post("/server/plr/resume", dry_run=True)
        assert said["z"]["measured"]
        outage.resume(printer)
        outage.finish(printer)
        carriages = printer.objects("dual_carriage")["dual_carriage"]
        sessions, _ = printer.sessions()
        reference, geometry = whole.result()
    assert (carriages["carriage_0"], carriages["carriage_1"]) == ("INACTIVE", "PRIMARY")
    verdict = oracle.compare(
        idex.as_corexy(reference), idex.as_corexy(sessions), geometry
    )
    print(f"\nXY {verdict.xy_error_mm:.4f} Z {verdict.z_error_mm:.4f} mm,"
          f" missing {verdict.missing_mm:.3f}, twice {verdict.doubled_mm:.3f} mm")
    assert verdict.reasons() == [], verdict.collided
    assert idex.nearest(sessions) >= idex.APART - 0.1
    assert sessions[-1].motors["u"][1][-1] == pytest.approx(idex.LEFT_AT, abs=0.05)
