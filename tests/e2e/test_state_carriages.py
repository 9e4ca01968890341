# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Two carriages on one axis are again where they were, and move as they did.

Real klippy in its batch mode, once before the outage and once after it.
"""
from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.planning import carriages, prologue
from moonraker_components.power_loss_recovery.record import Record
from moonraker_components.power_loss_recovery.saving import machine_state
from tests.bench.batch_klippy import BatchKlippy
from tests.virtual_printer import state_rows, variants
from tests.virtual_printer.klippy_tree import prepare
from tests.virtual_printer.state_trial import alike

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROW = "dual carriages: modes and places"
CONFIG = """
[printer]
kinematics: cartesian

[dual_carriage]
axis: x
step_pin: SZ1
dir_pin: DZ1
enable_pin: EZ1
rotation_distance: 40
microsteps: 16
endstop_pin: ACOK
position_min: 0
position_endstop: 0
position_max: 240
safe_distance: 20
"""
# They home away from each other.
WITHOUT = ("stepper_z1", "stepper_z2", "stepper_z3")
HOMED = "SET_KINEMATIC_POSITION X=150 Y=100 Z=5\nG90\nG1 X200 F9000"
COPY = (
    "SET_DUAL_CARRIAGE CARRIAGE=1\nG1 X31 F9000\nSET_DUAL_CARRIAGE CARRIAGE=0\n"
    "G1 X143\nSET_DUAL_CARRIAGE CARRIAGE=1 MODE={mode}"
)
CASES = {
    "copy": COPY.format(mode="COPY"),
    "mirror": COPY.format(mode="MIRROR"),
    "the other one": "SET_DUAL_CARRIAGE CARRIAGE=1",
}
MOVES = b"G1 Y120 F600\nG1 Y100\n" * 50


class TwoCarriages(BatchKlippy):
    def _config(self, extra: bool) -> str:
        text = super()._config(extra)
        for name in WITHOUT:
            text = variants.without_section(text, name)
            text = text.replace(f"pin_{name}:", "#")
        return text + CONFIG

    def print(self, data: bytes) -> dict[str, Any]:
        """The extra's status in the moves at the end."""
        (self.root / "gcodes" / self.name).write_bytes(data)
        self.api.gcode(f"SDCARD_PRINT_FILE FILENAME={self.name}")
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            status = self.api.objects("print_stats", "power_loss_recovery")
            extra, stats = status["power_loss_recovery"], status["print_stats"]
            if stats["state"] == "error":
                raise AssertionError(stats["message"])
            mark = extra["mark"]
            if stats["state"] == "complete" and mark and (
                mark["file_position"] > len(data) - len(MOVES)
            ):
                assert not extra["trouble"]
                return extra
            time.sleep(0.1)
        raise AssertionError(f"the file was not printed: {stats} {mark}")

    def place(self) -> dict[str, Any]:
        """Modes, and where each carriage would be with the toolhead at 0."""
        status = self.api.objects("dual_carriage", "toolhead")
        x = status["toolhead"]["position"][0]
        return {**status["dual_carriage"], "x": x}


@pytest.mark.parametrize("case", CASES)
def test_the_carriages_are_as_they_were(case: str, tmp_path: Path) -> None:
    if prepare().is_package:
        pytest.skip("PyPI's klippy cannot load Cartesian kinematics")
    assert ROW in state_rows.ELSEWHERE
    file = tmp_path / "some.gcode"
    file.write_bytes(MOVES)
    with TwoCarriages(file, extra=True) as klippy:
        klippy.api.gcode(HOMED)
        klippy.api.gcode(CASES[case])
        extra = klippy.print(MOVES)
        before = klippy.place()
    machine_state.attach(extra)
    record = Record.from_dict({
        **extra["mark"], "line": "", "saved_at": 1.0, "boot_id": "",
    })  # fmt: skip
    objects = frozenset({"dual_carriage", "toolhead"})
    # With both in use there is no resume, nor with the nozzle of the other one.
    (reason,) = carriages.refusals(record, objects)
    assert ("mode)" in reason) == (case != "the other one")
    lines = prologue.build(record, 6.0, [], objects, False)
    with TwoCarriages(file, extra=True) as klippy:
        klippy.api.gcode(HOMED)
        again = klippy.print(b"\n".join([*lines, MOVES]))
        assert klippy.place()["carriage_1"] == before["carriage_1"]
        assert alike(before, klippy.place())
    offsets = [_apart(one["rare"]["carriages"]) for one in (extra, again)]
    assert offsets[0] == pytest.approx(offsets[1], abs=1e-5)


def _apart(saved: dict[str, Any]) -> tuple[float, float]:
    """Of klippy's own saved state: distance and middle of the carriages."""
    found = saved.get("axes_positions") or list(saved["carriage_positions"].values())
    return found[1] - found[0], found[1] + found[0]
