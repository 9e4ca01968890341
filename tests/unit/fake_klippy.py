# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""As much of klippy as a resume talks to: heaters that are hot at once, a Z."""
from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

from moonraker_components.power_loss_recovery.resuming.machine_facts import Klippy

SETTINGS: dict[str, Any] = {
    "printer": {"kinematics": "corexy"},
    "extruder": {
        "min_extrude_temp": 180.0, "nozzle_diameter": 0.4, "filament_diameter": 1.75,
        "max_extrude_cross_section": 0.64,
    },
    "fan": {"max_power": 0.8},
    "power_loss_recovery": {"save_delay": 1},
}  # fmt: skip
# With a second carriage on X, and its nozzle
IDEX: dict[str, Any] = {
    "printer": {"kinematics": "cartesian"},
    "stepper_x": {"position_min": -20.0, "position_max": 250.0,
                  "position_endstop": -20.0},
    "dual_carriage": {"axis": "x", "position_min": 0.0, "position_max": 270.0,
                      "position_endstop": 270.0, "safe_distance": 40.0},
    "extruder1": SETTINGS["extruder"],
}  # fmt: skip


class FakeKlippy:
    """sent: all scripts.  at: a script or a part of one -> what happens then."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.started: list[str] = []
        self.at: dict[str, Callable[[], None]] = {}
        self.hangs = ""
        self.hanging = asyncio.Event()
        self.gone = False
        self.status: dict[str, Any] = {
            "toolhead": {
                "axis_minimum": [0.0, 0.0, -2.0, 0.0],
                "axis_maximum": [250.0, 250.0, 232.0, 0.0],
                "homed_axes": "", "position": [0.0, 0.0, 0.0, 0.0],
            },
            "gcode_move": {"position": [0.0] * 4, "gcode_position": [0.0] * 4,
                           "homing_origin": [0.0] * 4},
            "power_loss_recovery": {
                "z_homing": {"available": True, "calibrated": True},
                "mark": None, "pending_marks": 0, "trouble": "", "z_motors": {},
            },
            "print_stats": {"state": "standby", "filename": ""},
            "configfile": {"settings": copy.deepcopy(SETTINGS)},
            "bed_mesh": {"profiles": {"default": {}}},
            "extruder": {"temperature": 20.0, "target": 0.0},
            "heater_bed": {"temperature": 20.0, "target": 0.0},
            "fan": {"speed": 0.0},
        }  # fmt: skip

    def become_idex(self) -> None:
        self.status["configfile"]["settings"] |= copy.deepcopy(IDEX)
        self.status["dual_carriage"] = {
            "carriage_0": "PRIMARY", "carriage_1": "INACTIVE",
        }  # fmt: skip
        self.status["extruder1"] = {"temperature": 20.0, "target": 0.0}

    @property
    def api(self) -> Klippy:
        return Klippy(self.run_gcode, self.query, self.list_objects, self.start_print)

    @property
    def toolhead(self) -> dict[str, Any]:
        return self.status["toolhead"]

    async def list_objects(self) -> list[str]:
        return list(self.status)

    async def query(self, wanted: Mapping[str, list[str] | None]) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.gone:
            raise ConnectionError("Klippy Disconnected")
        return {
            name: {k: copy.deepcopy(v) for k, v in self.status[name].items()
                   if keys is None or k in keys}
            for name, keys in wanted.items()
            if name in self.status
        }  # fmt: skip

    async def run_gcode(self, script: str) -> str:
        await asyncio.sleep(0)
        if self.gone:
            raise ConnectionError("Klippy Disconnected")
        self.sent.append(script)
        for part in [part for part in self.at if part in script]:
            self.at.pop(part)()
        if self.hangs and self.hangs in script:
            self.hanging.set()
            await asyncio.Event().wait()
        self._obey(script)
        return "ok"

    async def start_print(self, name: str) -> str:
        await self.run_gcode(f'SDCARD_PRINT_FILE FILENAME="{name}"')
        self.started.append(name)
        self.status["print_stats"].update(state="printing", filename=name)
        return "ok"

    def another_print(self) -> None:
        self.status["print_stats"].update(state="printing", filename="b.gcode")

    def _obey(self, script: str) -> None:
        relative = False
        for line in script.split("\n"):
            heat = re.match(r"SET_HEATER_TEMPERATURE HEATER=(\S+) TARGET=(.+)", line)
            bed = re.match(r"M140 S(.+)", line)
            up = re.match(r"(?:G1 Z|_PLR_LIFT DISTANCE=)(-?[\d.]+)", line)
            z = re.match(r"_PLR_ASSUME_Z Z=(.+)", line)
            if heat:
                self._heat(heat[1], float(heat[2]))
            elif bed:
                self._heat("heater_bed", float(bed[1]))
            elif line == "TURN_OFF_HEATERS":
                self._heat("extruder", 0.0)
                self._heat("heater_bed", 0.0)
            elif line in ("G90", "G91"):
                relative = line == "G91"
            elif z:
                self.toolhead["homed_axes"] = "z"
                self.toolhead["position"][2] = float(z[1])
            elif up:
                if "z" not in self.toolhead["homed_axes"]:
                    raise RuntimeError("Must home axis first")
                relative_now = relative or "_PLR_LIFT" in line
                now = self.toolhead["position"][2] if relative_now else 0.0
                self.toolhead["position"][2] = now + float(up[1])
            elif line == "G28 X Y":
                self.toolhead["homed_axes"] = "xyz"
            elif line.startswith("PLR_Z_HOME MODE=RESUME"):
                self.toolhead["position"][2] = 229.0

    def _heat(self, name: str, target: float) -> None:
        self.status[name] = {"temperature": max(target, 20.0), "target": target}
