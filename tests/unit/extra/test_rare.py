# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What is read seldom: the same object while nothing changes, and no harm if a klippy
looks different.  That it is what klippy has is for tests/e2e/test_state.py."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from klippy_extras.power_loss_recovery import rare
from tests.unit.extra.fake_printer import Printer


def machine(**objects: Any) -> Printer:
    printer = Printer()
    printer.objects |= objects
    return printer


def test_nothing_new_is_told_by_the_same_object() -> None:
    idle = SimpleNamespace(idle_timeout=600.0)
    found = rare.Rare(machine(idle_timeout=idle), rare.READERS)
    first = found.read()
    assert first == {"idle_timeout": 600.0} and found.read() is first
    idle.idle_timeout = 60.0
    assert found.read() == {"idle_timeout": 60.0} and first["idle_timeout"] == 600.0


def test_a_klippy_that_looks_different_costs_that_row_only() -> None:
    printer = machine(
        idle_timeout=SimpleNamespace(idle_timeout=600.0), skew_correction=object(),
        input_shaper=object(),
    )  # fmt: skip
    found = rare.Rare(printer, rare.READERS)
    assert found.read() == {"idle_timeout": 600.0}
    assert found.read() == {"idle_timeout": 600.0}


def test_a_spool_counts_from_when_this_print_has_seen_it() -> None:
    helper = SimpleNamespace(sensor_enabled=True, filament_present=True)
    sd = SimpleNamespace(current_file=object())
    printer = machine(**{
        "filament_switch_sensor spool": SimpleNamespace(runout_helper=helper),
        "virtual_sdcard": sd,
    })  # fmt: skip
    found = rare.Rare(printer, rare.READERS)
    assert found.read()["spools"] == {"spool": True}
    helper.filament_present = False
    assert found.read()["spools"] == {"spool": True}  # it has run out
    sd.current_file = object()
    assert found.read()["spools"] == {"spool": False}  # unused in the next one


class Mesh:
    def __init__(self, points: list[list[float]]) -> None:
        self.mesh_offsets = [0.0, 0.0]
        self.points = points
        self.asked = 0

    def get_probed_matrix(self) -> list[list[float]]:
        self.asked += 1
        return self.points

    def get_mesh_params(self) -> dict[str, Any]:
        return {"x_count": len(self.points[0])}


def test_the_points_of_a_mesh_are_read_once() -> None:
    mesh = Mesh([[0.1234567, 0.2]])
    bed_mesh = SimpleNamespace(
        get_mesh=lambda: mesh, get_status=lambda now: {"profile_name": "today"},
        tool_offset=0.0,
    )  # fmt: skip
    found = rare.Rare(machine(bed_mesh=bed_mesh), rare.READERS)
    first = found.read()["mesh"]
    assert first["points"] == [[0.123457, 0.2]] and first["name"] == "today"
    mesh.mesh_offsets[0] = 3.0
    second = found.read()["mesh"]
    assert second["offsets"] == [3.0, 0.0] and first["offsets"] == [0.0, 0.0]
    assert mesh.asked == 1
    mesh = Mesh([[0.0] * 100] * 100)
    assert found.read()["mesh"]["points"] == []


def test_only_motors_with_another_current_than_configured_are_told() -> None:
    current = {"run": 0.8}
    driver = SimpleNamespace(
        current_helper=SimpleNamespace(
            get_current=lambda: (current["run"], 0.5, 0.5, 2.0)),
        fields=SimpleNamespace(registers={"IHOLD_IRUN": 1}),
    )  # fmt: skip

    class Tmc:
        def __init__(self) -> None:
            self.get_status = Helper.get_status.__get__(helper)

    class Helper:
        fields, current_helper = driver.fields, driver.current_helper

        def get_status(self) -> None:
            """Bound to the helper, as klippy does it."""

    helper = Helper()
    found = rare.Rare(machine(**{"tmc2209 stepper_z": Tmc()}), rare.READERS)
    assert found.read() == {"tmc": {}}
    current["run"] = 0.65
    assert found.read() == {"tmc": {}}  # no register has changed
    driver.fields.registers["IHOLD_IRUN"] = 2
    assert found.read() == {"tmc": {"stepper_z": [0.65, 0.5]}}


def test_pins_that_nothing_can_set_are_left_out() -> None:
    printer = machine(**{
        "output_pin light": SimpleNamespace(last_value=0.5, scale=10.0),
        "output_pin static": SimpleNamespace(last_value=1.0),
    })  # fmt: skip
    printer.objects["gcode"].mux_commands = {"SET_PIN": ("PIN", {"light": print})}
    assert rare.Rare(printer, rare.LATE).read() == {"pins": {"light": 5.0}}


def test_lights_that_change_all_the_time_are_not_told_all_the_time() -> None:
    led = SimpleNamespace(color=(0.0, 0.0, 0.0, 0.0))
    led.get_status = lambda now: {"color_data": [led.color]}
    printer = machine(**{"neopixel strip": led})
    printer.objects["gcode"].mux_commands = {}
    found = rare.Rare(printer, rare.LATE)
    first = found.read()
    for step in range(1, 9):
        led.color = (step / 10, 0.0, 0.0, 0.0)
        assert found.read() is first
    assert found.read() == {"leds": {"strip": [[0.8, 0.0, 0.0, 0.0]]}}
