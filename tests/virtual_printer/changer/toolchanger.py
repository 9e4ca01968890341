# A tool changer for the virtual printer: the faces of klipper-toolchanger
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Loaded into klippy as [toolchanger]: the same status, commands and offsets.

What is mounted is the machine's and not klippy's: it is in the file that `memory`
names, and outlives a power cut. MOUNT_BY_HAND TOOL= changes it as a person would.
"""
from __future__ import annotations

import os


class Transform:
    """The nozzle is beside where the toolhead is, by the offset of its tool."""

    def __init__(self):
        self.next = None
        self.tool = None

    def _offset(self):
        return (0.0, 0.0, 0.0) if self.tool is None else self.tool.offset

    def move(self, position, speed):
        offset = self._offset()
        moved = [position[i] + offset[i] for i in range(3)]
        self.next.move(moved + list(position[3:]), speed)

    def get_position(self):
        position, offset = list(self.next.get_position()), self._offset()
        return [position[i] - offset[i] for i in range(3)] + position[3:]


class Toolchanger:
    def __init__(self, config):
        self.printer = config.get_printer()
        self.gcode = self.printer.lookup_object("gcode")
        self.gcode_move = self.printer.load_object(config, "gcode_move")
        self.memory = config.get("memory")
        self.has_detection = config.getboolean("detection", True)
        macro = self.printer.load_object(config, "gcode_macro")
        self.after_change = macro.load_template(config, "after_change_gcode", "")
        self.status, self.active, self.tools = "uninitialized", None, {}
        self.transform = Transform()
        self.printer.register_event_handler("klippy:connect", self._connect)
        for name in ("INITIALIZE_TOOLCHANGER", "SELECT_TOOL", "MOUNT_BY_HAND"):
            self.gcode.register_command(name, getattr(self, "cmd_" + name))

    def _connect(self):
        self.transform.next = self.gcode_move.set_move_transform(
            self.transform, force=True
        )

    def add(self, tool, number):
        self.tools[number] = tool
        self.gcode.register_command(
            f"T{number}", lambda gcmd: self._select(gcmd, tool, "xyz")
        )

    # What is mounted

    def mounted(self):
        name = ""
        if os.path.exists(self.memory):
            with open(self.memory) as f:
                name = f.read().strip()
        return next((t for t in self.tools.values() if t.name == name), None)

    def mount(self, tool):
        with open(self.memory, "w") as f:
            f.write("" if tool is None else tool.name)

    def cmd_MOUNT_BY_HAND(self, gcmd):
        self.mount(self.tools.get(gcmd.get_int("T", -1)))

    # Commands of the real one

    def cmd_INITIALIZE_TOOLCHANGER(self, gcmd):
        detected = self.mounted() if self.has_detection else None
        tool = self._asked(gcmd, detected)
        self._activate(tool)
        if tool is not None:
            self._template(self.after_change)
        # The real one lets the next move make up for the offset, too.
        self.transform.tool = tool
        self.status = "ready"

    def cmd_SELECT_TOOL(self, gcmd):
        tool = self._asked(gcmd, None)
        if tool is None:
            raise gcmd.error("Select tool: Either TOOL or T needs to be specified")
        self._select(gcmd, tool, gcmd.get("RESTORE_AXIS", "xyz"))

    def _asked(self, gcmd, default):
        name, number = gcmd.get("TOOL", None), gcmd.get_int("T", None)
        if name:
            return self.printer.lookup_object(name)
        if number is None:
            return default
        if number not in self.tools:
            raise gcmd.error(f"Tool #{number} is not assigned")
        return self.tools[number]

    def _activate(self, tool):
        self.active = tool
        if tool is not None and tool.extruder:
            self._run(f"ACTIVATE_EXTRUDER EXTRUDER={tool.extruder}")

    def _select(self, gcmd, tool, restore_axis):
        if self.status == "uninitialized":
            self.cmd_INITIALIZE_TOOLCHANGER(self.gcode.create_gcode_command("", "", {}))
        if self.status != "ready":
            raise gcmd.error(f"Cannot select tool, toolchanger status is {self.status}")
        if tool is self.active:
            return
        toolhead = self.printer.lookup_object("toolhead")
        self.status = "changing"
        before = self.gcode_move.get_status()["gcode_position"]
        self._run("SAVE_GCODE_STATE NAME=_toolchange_state")
        self.transform.tool = None
        self.gcode_move.reset_last_position()
        self._run("SET_GCODE_OFFSET X=0 Y=0 Z=0")
        if self.active is not None:
            self._template(self.active.dropoff)
            toolhead.wait_moves()
            self.mount(None)
        self._activate(tool)
        self._template(tool.pickup)
        toolhead.wait_moves()
        self.mount(tool)
        self._template(self.after_change)
        toolhead.wait_moves()
        self.transform.tool = tool
        self.gcode_move.reset_last_position()
        self._run("RESTORE_GCODE_STATE NAME=_toolchange_state MOVE=0")
        if restore_axis:
            words = (f"{a.upper()}{before['xyz'.index(a.lower())]:.6f}"
                     for a in restore_axis)  # fmt: skip
            self._run("G90\nG0 F12000 " + " ".join(words))
            self._run("RESTORE_GCODE_STATE NAME=_toolchange_state MOVE=0")
        self.status = "ready"

    def _template(self, template):
        self._run(template.render())

    def _run(self, script):
        self.gcode.run_script_from_command(script)

    def get_status(self, eventtime):
        detected = self.mounted() if self.has_detection else None
        return {
            "name": "toolchanger", "status": self.status,
            "tool": self.active.name if self.active else None,
            "tool_number": self.active.number if self.active else -1,
            "detected_tool": detected.name if detected else None,
            "detected_tool_number": detected.number if detected else -1,
            "tool_numbers": sorted(self.tools),
            "tool_names": [self.tools[n].name for n in sorted(self.tools)],
            "has_detection": self.has_detection,
        }  # fmt: skip


def load_config(config):
    return Toolchanger(config)
