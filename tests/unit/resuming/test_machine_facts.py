# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The machine before a resume, as klippy tells it."""
from __future__ import annotations

import pytest

from moonraker_components.power_loss_recovery.planning import rotor
from moonraker_components.power_loss_recovery.resuming.machine_facts import facts
from tests.unit.fake_klippy import FakeKlippy

pytestmark = pytest.mark.asyncio


@pytest.fixture
def klippy() -> FakeKlippy:
    return FakeKlippy()


async def test_the_facts_are_those_of_klippy(klippy: FakeKlippy) -> None:
    found = await facts(klippy.api, "extruder")
    assert found.axis_minimum == (0.0, 0.0, -2.0)
    assert found.axis_maximum == (250.0, 250.0, 232.0)
    assert (found.z_switches, found.z_calibrated) == (True, True)
    assert (found.min_extrude_temp, found.toolhead_z) == (180.0, None)
    assert found.mesh_profiles == {"default"} and found.fan_power == {"fan": 0.8}
    assert "extruder" in found.objects and found.purge_flow == pytest.approx(0.2)


async def test_the_z_motors_are_facts(klippy: FakeKlippy) -> None:
    motor = {"step_dist": 0.0025, "cycle": 64, "phase": 3, "moved": 3, "counted": True}
    klippy.status["power_loss_recovery"]["z_motors"] = {"stepper_z": motor}
    settings = klippy.status["configfile"]["settings"]
    settings["power_loss_recovery"]["z_strategy"] = "assume"
    found = await facts(klippy.api, "extruder")
    assert found.z_motors == {"stepper_z": rotor.Motor(**motor)}
    assert found.z_strategy == "assume"


async def test_a_z_that_klippy_knows_is_a_fact(klippy: FakeKlippy) -> None:
    klippy.toolhead.update(homed_axes="xyz", position=[1.0, 2.0, 33.0, 0.0])
    assert (await facts(klippy.api, "extruder")).toolhead_z == 33.0


@pytest.mark.parametrize(("extruder", "flow"), [
    ({"max_extrude_cross_section": 0.16}, 0.8 * 0.16 / 2.405),
    ({"filament_diameter": 2.85, "max_extrude_cross_section": 5.0}, 0.0754),
    ({"max_extrude_cross_section": 50.0}, 0.2),
])  # fmt: skip
async def test_the_purge_is_never_more_than_klippy_lets_through(
    klippy: FakeKlippy, extruder: dict[str, float], flow: float
) -> None:
    klippy.status["configfile"]["settings"]["extruder"].update(extruder)
    found = await facts(klippy.api, "extruder")
    assert found.purge_flow == pytest.approx(flow, rel=1e-3)


async def test_what_the_filament_sensors_see_is_a_fact(klippy: FakeKlippy) -> None:
    for name, sees in (("Spool", False), ("told", False), ("loaded", True)):
        klippy.status[f"filament_switch_sensor {name}"] = {
            "filament_detected": sees, "enabled": True,
        }  # fmt: skip
    settings = klippy.status["configfile"]["settings"]
    settings["filament_switch_sensor told"] = {"pause_on_runout": False}
    assert (await facts(klippy.api, "extruder")).spools == {
        "filament_switch_sensor Spool": {"filament_detected": False},
        "filament_switch_sensor loaded": {"filament_detected": True},
    }


async def test_two_carriages_are_facts(klippy: FakeKlippy) -> None:
    assert (await facts(klippy.api, "extruder")).carriages is None
    klippy.become_idex()
    found = (await facts(klippy.api, "extruder")).carriages
    assert found is not None and found.bed(1) == (20.0, 250.0)
