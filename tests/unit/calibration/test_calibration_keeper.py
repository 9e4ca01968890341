# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""When a second copy of the calibration is made, and when it is given back."""
from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from moonraker.common import KlippyState

from moonraker_components.power_loss_recovery.calibration import calibration_file
from moonraker_components.power_loss_recovery.calibration.mending import Calibration
from moonraker_components.power_loss_recovery.calibration.variables_copy import (
    VariablesCopy,
)
from tests.unit.calibration.test_mending import (
    INFO,
    OTHERS,
    OURS,
    as_klippy_reads,
    as_klippy_writes,
)
from tests.unit.test_component import Bench

pytestmark = pytest.mark.asyncio
RESTORE = "_PLR_RESTORE_CALIBRATION"
TROUBLE = "Unable to parse existing variable file\nOnce the underlying issue is"


class KeeperBench(Bench):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.restarts: list[str] = []
        self.server.components["klippy_apis"].do_restart = self.restart
        self.variables = folder / "variables.cfg"
        self.copy_path = str(folder / "plr" / "z_calibration")
        self.older_path = str(folder / "plr" / "klipper_variables")
        status = self.klippy.status
        status["configfile"]["settings"]["save_variables"] = {
            "filename": str(self.variables)
        }
        self.z_homing = status["power_loss_recovery"]["z_homing"]
        self.klippy_has(None)

    async def restart(self, command: str) -> str:
        if self.klippy.gone:
            raise self.server.error("Klippy Host not connected", 503)
        self.restarts.append(command)
        return "ok"

    def klippy_has(self, when: int | None, problem: str = "") -> None:
        """A calibration of this time, on disk and in klippy's status."""
        variables = dict(OTHERS)
        if when is not None:
            variables.update(OURS, z_calibration_info={**INFO, "time": when})
        self.klippy.status["save_variables"] = {"variables": variables}
        self.variables.write_bytes(as_klippy_writes(variables))
        self.z_homing.update(
            available=True, calibrated=when is not None and not problem,
            calibration_time=when, calibration_problem=problem, heights=None,
        )  # fmt: skip

    async def calibrate(self, when: int) -> None:
        """klippy measures, calls us, and tells its status."""
        self.klippy_has(when)
        variables = self.klippy.status["save_variables"]["variables"]
        await self.server.handlers["plr_calibrated"](variables=variables)
        self.plr._handle_update(
            {"power_loss_recovery": {"z_homing": dict(self.z_homing)}}, 0.0
        )
        await self.settle()

    def kept(self) -> Calibration | None:
        return calibration_file.read(self.copy_path)

    def keep(self, when: int) -> None:
        variables = {**OURS, "z_calibration_info": {**INFO, "time": when}}
        copy = Calibration.from_klippy(variables, str(self.variables))
        calibration_file.write(self.copy_path, copy)

    async def boot(self) -> None:
        await self.plr.component_init()
        await self.event("klippy_ready")

    def restored(self) -> bool:
        return any(script.startswith(RESTORE) for script in self.klippy.sent)

    def said(self, text: str) -> bool:
        return any(text in line for line in self.server.console())


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[KeeperBench]:
    for name in ("gcodes", "plr"):
        (tmp_path / name).mkdir()
    made = KeeperBench(tmp_path)
    yield made
    await made.plr.close()


async def test_a_calibration_is_copied_at_once_and_the_owner_is_told(
    bench: KeeperBench,
) -> None:
    await bench.boot()
    assert bench.kept() is None and not bench.plr.status()["calibration"]["second_copy"]
    await bench.calibrate(1000)
    kept = bench.kept()
    assert kept is not None and kept.time == 1000
    assert kept.path == str(bench.variables)
    assert bench.said("a second copy of it")
    assert bench.plr.status()["calibration"]["second_copy"]
    await bench.calibrate(2000)
    kept = bench.kept()
    assert kept is not None and kept.time == 2000


async def test_what_klippy_has_when_it_is_met_is_copied_silently(
    bench: KeeperBench,
) -> None:
    bench.keep(500)
    bench.klippy_has(1000)
    await bench.boot()
    kept = bench.kept()
    assert kept is not None and kept.time == 1000
    assert not bench.restored() and bench.server.console() == []


async def test_nothing_is_written_while_nothing_changes(bench: KeeperBench) -> None:
    bench.klippy_has(1000)
    await bench.boot()
    Path(bench.copy_path).unlink()
    await bench.event("klippy_disconnect")
    await bench.event("klippy_ready")
    assert not Path(bench.copy_path).exists()


async def test_a_file_that_moved_is_noted(bench: KeeperBench) -> None:
    bench.klippy_has(1000)
    await bench.boot()
    moved = bench.variables.rename(bench.variables.with_name("moved.cfg"))
    settings = bench.klippy.status["configfile"]["settings"]
    settings["save_variables"]["filename"] = str(moved)
    await bench.event("klippy_disconnect")
    await bench.event("klippy_ready")
    kept = bench.kept()
    assert kept is not None and kept.path == str(moved)


@pytest.mark.parametrize(("has", "problem"), [
    (None, "no calibration"), (1000, "damaged"), (900, ""),
])  # fmt: skip
async def test_what_klippy_lost_is_given_back(
    bench: KeeperBench, has: int | None, problem: str
) -> None:
    bench.keep(1000)
    bench.klippy_has(has, problem)
    await bench.boot()
    assert bench.restored()
    kept = bench.kept()
    assert kept is not None and kept.time == 1000
    assert not bench.said("is stored")


async def test_what_is_given_back_is_noted_with_the_file_it_is_in_now(
    bench: KeeperBench,
) -> None:
    bench.keep(1000)
    moved = bench.variables.with_name("moved.cfg")
    moved.touch()
    settings = bench.klippy.status["configfile"]["settings"]
    settings["save_variables"]["filename"] = str(moved)
    await bench.boot()
    kept = bench.kept()
    assert bench.restored() and kept is not None and kept.path == str(moved)


@pytest.mark.parametrize("state", ["printing", "paused"])
async def test_nothing_is_given_back_during_a_print(
    bench: KeeperBench, state: str
) -> None:
    bench.keep(1000)
    bench.klippy.status["print_stats"]["state"] = state
    await bench.boot()
    assert not bench.restored()


async def test_without_switches_nothing_is_given_back(bench: KeeperBench) -> None:
    bench.keep(1000)
    bench.z_homing["available"] = False
    await bench.boot()
    assert not bench.restored() and bench.plr.status()["calibration"] is None


async def test_klippy_that_refuses_does_not_stop_the_rest(bench: KeeperBench) -> None:
    def refuse() -> None:
        raise bench.server.error("Unable to save variable")

    bench.keep(1000)
    bench.klippy.at[RESTORE] = refuse
    await bench.boot()
    assert bench.said("Unable to save variable")
    assert bench.plr.last_error == ""


async def test_a_disk_that_is_full_is_told(
    bench: KeeperBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(calibration_file, "write", full)
    await bench.boot()
    await bench.calibrate(1000)
    assert bench.said("No space left") and bench.said("may be lost")
    assert not bench.said("is stored")
    assert not bench.plr.status()["calibration"]["second_copy"]


async def test_a_calibration_that_makes_no_sense_is_not_kept(
    bench: KeeperBench,
) -> None:
    await bench.boot()
    await bench.calibrate(1000)
    await bench.server.handlers["plr_calibrated"](variables={"z_offset_stepper_z": 1})
    kept = bench.kept()
    assert kept is not None and kept.time == 1000
    assert bench.said("z_calibration_info is missing")


async def failed(bench: KeeperBench, message: str = TROUBLE) -> None:
    state = KlippyState.ERROR
    state.set_message(message)
    await bench.server.handlers["server:klippy_started"](state)
    await bench.settle()


async def test_a_file_that_stops_klippy_is_mended_and_klippy_restarted(
    bench: KeeperBench,
) -> None:
    bench.keep(1000)
    await bench.plr.component_init()
    bench.variables.write_bytes(b"[Variables]\nhours = 12\nname = 'ab")
    await failed(bench)
    assert b"hours = 12\n" in bench.variables.read_bytes()
    assert b"z_offset_stepper_z1 = -0.512346\n" in bench.variables.read_bytes()
    assert bench.restarts == ["RESTART"]
    assert bench.said("Lost: name.") and bench.said("variables.cfg.broken-")
    await failed(bench)
    assert bench.restarts == ["RESTART"]


def older(bench: KeeperBench, boot_id: str, **variables: Any) -> None:
    """A copy of the variables from a boot."""
    data = as_klippy_writes({**OTHERS, **variables})
    copy = VariablesCopy(str(bench.variables), boot_id, data)
    Path(bench.older_path).write_bytes(copy.to_bytes())


async def test_without_a_calibration_a_file_that_stops_klippy_is_mended_too(
    bench: KeeperBench,
) -> None:
    older(bench, "earlier", hours=11, tool=3)
    await bench.plr.component_init()
    bench.variables.write_bytes(b"[Variables]\nhours = 12\nname = 'ab")
    await failed(bench)
    found = as_klippy_reads(bench.variables)
    assert found == {**OTHERS, "hours": 12, "tool": 3}
    assert bench.restarts == ["RESTART"] and bench.said("not start. It is written")
    assert not bench.said("from its second copy")


@pytest.mark.parametrize("content", [b"", b"[Variables]\na_list = [1]\nhours = 1"])
async def test_variables_lost_in_a_power_cut_come_back(
    bench: KeeperBench, content: bytes
) -> None:
    """klippy starts with such a file, and with fewer variables."""
    older(bench, "earlier")
    bench.variables.write_bytes(content)
    await bench.boot()
    found = as_klippy_reads(bench.variables)
    assert found == {**OTHERS, **({"a_list": [1]} if content else {})}
    assert bench.restarts == ["RESTART"] and bench.said("had lost variables")
    await bench.event("klippy_disconnect")
    await bench.event("klippy_ready")
    assert bench.restarts == ["RESTART"]


@pytest.mark.parametrize("state", ["standby", "printing"])
async def test_variables_that_the_owner_takes_away_stay_away(
    bench: KeeperBench, state: str
) -> None:
    """In this boot, or while a print runs: that was no power cut."""
    bench.klippy.status["print_stats"]["state"] = state
    boot = bench.plr.tracker.boot_id if state == "standby" else "earlier"
    older(bench, boot, tool=3)
    await bench.boot()
    assert bench.restarts == [] and "tool" not in as_klippy_reads(bench.variables)


async def test_of_variables_that_are_well_a_copy_is_made_once_a_boot(
    bench: KeeperBench,
) -> None:
    older(bench, "earlier", hours=11)
    await bench.boot()
    kept = calibration_file.read_variables(bench.older_path)
    assert kept is not None and kept.variables == OTHERS
    assert kept.boot_id == bench.plr.tracker.boot_id and bench.restarts == []
    Path(bench.older_path).unlink()
    await bench.event("klippy_disconnect")
    await bench.event("klippy_ready")
    assert not Path(bench.older_path).exists()


async def test_a_copy_of_the_variables_that_is_damaged_is_made_again(
    bench: KeeperBench,
) -> None:
    older(bench, "earlier")
    path = Path(bench.older_path)
    path.write_bytes(path.read_bytes()[:-3])
    await bench.boot()
    kept = calibration_file.read_variables(bench.older_path)
    assert kept is not None and kept.boot_id == bench.plr.tracker.boot_id
    assert bench.restarts == []


async def test_the_owner_is_asked_to_restart_what_could_not_be(
    bench: KeeperBench,
) -> None:
    bench.keep(1000)
    await bench.plr.component_init()
    bench.variables.write_bytes(b"[Vari")
    bench.klippy.gone = True
    await failed(bench)
    assert bench.said("press RESTART") and b"z_offset" in bench.variables.read_bytes()


async def test_other_troubles_of_klippy_are_left_to_it(bench: KeeperBench) -> None:
    await bench.plr.component_init()
    bench.variables.write_bytes(b"[Vari")
    await failed(bench)  # There is no copy
    bench.keep(1000)
    await bench.plr.calibration.load()
    await failed(bench, "Option 'x' is not valid in section 'y'")
    assert bench.variables.read_bytes() == b"[Vari" and bench.restarts == []


async def test_a_file_that_cannot_be_mended_is_told_with_what_to_do(
    bench: KeeperBench,
) -> None:
    bench.keep(1000)
    await bench.plr.component_init()
    bench.variables.write_bytes(b"[" * (1 << 21))
    await failed(bench)
    assert bench.said("Move the file away") and bench.restarts == []


async def test_a_damaged_copy_is_told_and_made_again(bench: KeeperBench) -> None:
    bench.keep(1000)
    Path(bench.copy_path).write_bytes(b"{}")
    bench.klippy_has(1000)
    await bench.boot()
    assert bench.said("cannot be used") and bench.kept() is not None
