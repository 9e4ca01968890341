# A tool of the virtual printer's changer
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations


class Tool:
    def __init__(self, config):
        printer = config.get_printer()
        self.changer = printer.load_object(config, "toolchanger")
        macro = printer.load_object(config, "gcode_macro")
        self.name = config.get_name()
        self.number = config.getint("tool_number")
        self.extruder = config.get("extruder", None)
        self.offset = [config.getfloat(f"gcode_{a}_offset", 0.0) for a in "xyz"]
        self.pickup = macro.load_template(config, "pickup_gcode", "")
        self.dropoff = macro.load_template(config, "dropoff_gcode", "")
        self.changer.add(self, self.number)

    def get_status(self, eventtime):
        state = "unavailable"
        if self.changer.has_detection:
            state = "mounted" if self.changer.mounted() is self else "absent"
        x, y, z = self.offset
        return {
            "name": self.name, "toolchanger": "toolchanger", "detect_state": state,
            "tool_number": self.number, "extruder": self.extruder,
            "active": self.changer.active is self,
            "gcode_x_offset": x, "gcode_y_offset": y, "gcode_z_offset": z,
        }  # fmt: skip


def load_config_prefix(config):
    return Tool(config)
