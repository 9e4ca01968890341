# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Hooks of an owner that fail, on a real klippy and Moonraker: nothing is hurt.

One print is cut once; the tests then resume it again and again, in the order that
they are written, until a hook lets it through. Then the oracle looks at the part.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.virtual_printer import outage, parts
from tests.virtual_printer.klippy_tree import REPO, prepare
from tests.virtual_printer.printer import VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 8
PART = parts.Part(size=20, layers=3, relative_e=False)
CUT = 14.0
HEATERS = ("extruder", "heater_bed")
MACROS = REPO / "macros" / "power_loss_recovery_variables.cfg"
CONFIG = f"""
[include {MACROS}]

[force_move]
enable_force_move: True

[power_loss_recovery]
before_resume_gcode: _PLR_BEFORE_RESUME_GCODE
restart_gcode: _PLR_RESUME_PRINT_START

[gcode_macro _PLR_VARIABLES]
variable_before_macro: "BEFORE"
variable_restart_macro: "AT_RESTART"

[gcode_macro BEFORE]
variable_kind: ""
gcode:
    {{% if kind == "throws" %}}
        G1 X9999
    {{% elif kind == "waits" %}}
        TEMPERATURE_WAIT SENSOR=heater_bed MINIMUM=129
    {{% elif kind == "heats" %}}
        M190 S128
        M109 S290
    {{% endif %}}

[gcode_macro AT_RESTART]
variable_kind: ""
gcode:
    {{% if kind == "throws" %}}
        {{action_raise_error("the brush is missing")}}
    {{% elif kind == "goes into the part" %}}
        G1 X125 Y125 F6000
        G1 Z0.1 F600
    {{% elif kind == "deceives klippy" %}}
        SET_KINEMATIC_POSITION X={{printer.toolhead.position.x + 5}} Z=220
        G1 X125 Y125 F6000
        G1 Z100 F600
    {{% elif kind == "homes into the part" %}}
        G1 X125 Y125 F6000
        G28 Z
    {{% elif kind == "switches the motors off" %}}
        M84
    {{% elif kind == "leaves a mess" %}}
        G1 X125 Y125 Z100 F6000
        G1 E20 F300
        SET_KINEMATIC_POSITION X=10 Y=10 Z=0
        G92 X5 Y5 Z5
        SET_GCODE_OFFSET X=3 Z=2
        M220 S300
        M221 S10
        M106 S255
        TURN_OFF_HEATERS
        M83
        G91
    {{% endif %}}
"""


@dataclass
class Bench:
    printer: VirtualPrinter
    cut_z: float

    def try_to_resume(self, **kinds: str) -> str:
        """Returns why it failed."""
        self.begin(**kinds)
        status = self.printer.wait("the resume to end", self.ended, 400)
        assert status["state"] == "interrupted"
        return status["last_error"]

    def begin(self, **kinds: str) -> None:
        for macro in ("BEFORE", "AT_RESTART"):
            kind = kinds.get(macro, "")
            self.printer.gcode(
                f"SET_GCODE_VARIABLE MACRO={macro} VARIABLE=kind VALUE=\"'{kind}'\""
            )
        self.printer.post("/server/plr/resume")

    def ended(self) -> Any:
        status = self.printer.get("/server/plr/status")
        return None if status["state"] == "resuming" else status

    def check_safe(self, doubt: float = 0.05) -> None:
        """doubt: of klippy's Z, mm; the gantry has sagged until it is measured."""
        printer = self.printer
        printer.gcode("M400")  # it is still going up
        heaters = printer.objects("extruder", "heater_bed", "toolhead")
        assert heaters["extruder"]["target"] == heaters["heater_bed"]["target"] == 0
        state = printer.machine("state")
        assert state["nozzle"][2] > self.cut_z + 5.0
        assert printer.get("/server/plr/status")["state"] == "interrupted"
        if "z" in heaters["toolhead"]["homed_axes"]:
            believed = heaters["toolhead"]["position"][:3]
            assert believed == pytest.approx(state["nozzle"], abs=doubt)


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return parts.write(tmp_path_factory.mktemp("part") / "part.gcode", PART)


@pytest.fixture(scope="module")
def bench(part: Path) -> Iterator[Bench]:
    with VirtualPrinter(seed=SEED, config=CONFIG) as printer:
        outage.interrupt(printer, part, CUT)
        yield Bench(printer, printer.machine("state")["nozzle"][2])


def test_a_hook_before_the_homing_of_z_is_named(bench: Bench) -> None:
    why = bench.try_to_resume(BEFORE="throws")
    assert "before_resume_gcode: Move out of range" in why
    bench.check_safe(doubt=2.0)


@pytest.mark.parametrize("kind", ["waits", "heats"])
def test_a_hook_that_waits_for_heat_is_cancelled_at_once(
    bench: Bench, kind: str
) -> None:
    """klippy takes no G-code meanwhile."""
    printer = bench.printer
    bench.begin(BEFORE=kind)

    def in_hook() -> bool:
        return (printer.get("/server/plr/status")["step"] or {}).get("name") == "true_z"

    printer.wait("the hook", in_hook, 120)
    time.sleep(2.0)
    began = time.monotonic()
    printer.post("/server/plr/cancel")
    assert any("use the emergency stop" in line for line in printer.console())
    assert time.monotonic() - began < 1.0
    printer.wait("the heaters to be off", lambda: not any(
        heater["target"] for heater in printer.objects(*HEATERS).values()
    ), 3, 0.05)  # fmt: skip
    printer.wait("the end", bench.ended, 8, 0.05)
    bench.check_safe(doubt=3.5)


@pytest.mark.parametrize(("kind", "said"), [
    ("throws", "the brush is missing"),
    ("goes into the part", "restart_gcode: the nozzle would go to X125.0 Y125.0 Z0.1"),
    ("deceives klippy", "into the part"),
    ("homes into the part", "G28 would home Z"),
])  # fmt: skip
def test_a_hook_that_fails_is_named_and_all_is_safe(
    bench: Bench, kind: str, said: str
) -> None:
    why = bench.try_to_resume(AT_RESTART=kind)
    assert said in why and "restart_gcode" in why
    bench.check_safe()


def test_motors_that_a_hook_has_switched_off_are_known_to_be_lost(
    bench: Bench,
) -> None:
    why = bench.try_to_resume(AT_RESTART="switches the motors off")
    assert "motors were switched off" in why
    bench.check_safe()


def test_after_all_that_the_part_comes_out_whole(bench: Bench, part: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        whole = pool.submit(outage.run_undisturbed, part, SEED, prepare())
        bench.printer.gcode(
            "SET_GCODE_VARIABLE MACRO=AT_RESTART VARIABLE=kind"
            " VALUE=\"'leaves a mess'\""
        )
        bench.printer.post("/server/plr/resume")
        assert bench.printer.wait("the resume", bench.ended, 400)["last_error"] == ""
        outage.finish(bench.printer)
        undisturbed = whole.result()
    assert outage.judge_printed(undisturbed, bench.printer).reasons() == []
