# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A print that was cut before its first plastic, or after its last: both are said."""
from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from moonraker.utils import ServerError

from moonraker_components.power_loss_recovery import files
from tests.unit.journal_samples import interrupted
from tests.unit.samples import GCODE, mark, record, state
from tests.unit.test_component import Bench

pytestmark = pytest.mark.asyncio
END = b"G1 E-2 F1800\nM104 S0\nM84\n"
COLD = state(coordinates={"homed_axes": ""}, heaters={"extruder": 0.0})
SAID = "was interrupted while the printer was still being prepared"


async def booted(folder: Path, saved: int | None = None) -> Bench:
    """saved: byte of the record in the journal, if there is one."""
    gcodes = folder / "gcodes"
    (folder / "plr").mkdir(exist_ok=True)
    gcodes.mkdir(exist_ok=True)
    (gcodes / "part.gcode").write_bytes(GCODE + END)
    if saved is not None:
        job = files.identify(gcodes, str(gcodes / "part.gcode"), 1.0).job
        line = files.text_at(gcodes / "part.gcode", saved)
        made = record(file_position=saved, line=line)
        interrupted(folder / "plr" / "journal", job, made).close()
    bench = Bench(folder)
    await bench.plr.component_init()
    await bench.event("klippy_ready")
    return bench


@pytest_asyncio.fixture
async def fresh(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = await booted(tmp_path)
    yield bench
    await bench.plr.close()


async def start(bench: Bench, prepared: bool = False) -> None:
    """A print whose motors have (not) come to its first plastic."""
    path = str(bench.server.folder / "gcodes" / "part.gcode")
    bench.klippy.status["print_stats"] = {"state": "printing", "filename": "part.gcode"}
    told = mark(file_path=path, job=1, file_position=0, fraction=0.0, state=COLD)
    if prepared:
        told = mark(file_path=path, job=1)
    bench.server.update({
        "print_stats": bench.klippy.status["print_stats"],
        "power_loss_recovery": {"mark": told, "pending_marks": 0},
    }, 0.0)  # fmt: skip
    await bench.settle()


async def boot_again(bench: Bench) -> list[str]:
    """Another Moonraker and klippy, with the same database."""
    again = Bench(bench.server.folder)
    again.server.stored = bench.server.stored
    await again.plr.component_init()
    await again.event("klippy_ready")
    await again.plr.close()
    return [line for line in again.server.console() if SAID in line]


async def test_a_cut_in_the_start_macro_is_said_once(fresh: Bench) -> None:
    await start(fresh)
    (line,) = await boot_again(fresh)
    assert "part.gcode" in line and "Start it again" in line
    assert await boot_again(fresh) == []


async def test_klippy_alone_can_be_what_stops(fresh: Bench) -> None:
    await start(fresh)
    fresh.klippy.status["print_stats"] = {"state": "standby", "filename": ""}
    await fresh.event("klippy_shutdown")
    assert not any(SAID in line for line in fresh.server.console())
    await fresh.event("klippy_ready")
    assert sum(SAID in line for line in fresh.server.console()) == 1


async def test_once_something_is_saved_the_offer_speaks_for_it(fresh: Bench) -> None:
    await start(fresh)
    await start(fresh, prepared=True)
    assert fresh.pending() and await boot_again(fresh) == []


@pytest.mark.parametrize("end", ["complete", "cancelled", "standby"])
async def test_a_print_that_ends_in_its_start_macro_is_over(
    fresh: Bench, end: str
) -> None:
    await start(fresh)
    fresh.server.update({"print_stats": {"state": end, "filename": ""}}, 0.0)
    await fresh.settle()
    assert await boot_again(fresh) == []


async def test_a_database_that_fails_stops_nothing(
    fresh: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: object) -> None:
        raise ServerError("locked")

    monkeypatch.setattr(fresh.plr, "remember", fail)
    await start(fresh)
    await start(fresh, prepared=True)
    assert fresh.pending()


# After the last plastic


@pytest.fixture
def at_end() -> int:
    return len(GCODE)


async def test_a_cut_in_the_end_macro_offers_to_finish(
    tmp_path: Path, at_end: int
) -> None:
    bench = await booted(tmp_path, at_end)
    shown = [line for line in bench.server.console() if "action:prompt_" in line]
    assert any("Nothing of the part is missing" in line for line in shown)
    last = shown[-4:]
    assert "Finish|PLR_RESET_PRINT_DATA" in last[0]
    assert any("Nothing of the part" in w for w in bench.plr.status()["warnings"])
    said = await bench.command("PLR_RESUME_PRINT")
    assert any("All plastic of the file had been laid" in line for line in said)
    assert bench.klippy.sent == [] and bench.pending()
    await bench.command("PLR_RESET_PRINT_DATA")
    assert not bench.pending()
    await bench.plr.close()


async def test_a_part_that_lacks_a_line_is_offered_to_be_resumed(
    tmp_path: Path,
) -> None:
    bench = await booted(tmp_path, GCODE.index(b"G1 X100 Y100 E5"))
    shown = "".join(bench.server.console())
    assert "Nothing of the part" not in shown and "Resume|PLR_RESUME_PRINT" in shown
    await bench.plr.close()
