# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""klippy's own G-code dispatcher lets G28 be replaced and put back while it runs."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from klippy_extras.power_loss_recovery.guard import Guard
from tests.macros.bench import MacroError, klippys_own


class Printer:
    config_error = command_error = MacroError

    def __init__(self) -> None:
        module = klippys_own("gcode.py")
        self.gcode = module.GCodeDispatch(self)
        self.gcode._handle_ready()

    def get_start_args(self) -> dict[str, Any]:
        return {}

    def get_reactor(self) -> Any:
        return SimpleNamespace(mutex=lambda: None, monotonic=lambda: 0.0)

    def register_event_handler(self, event: str, handler: Any) -> None:
        pass

    def send_event(self, event: str, *args: Any) -> None:
        pass

    def lookup_object(self, name: str, default: Any = None) -> Any:
        return self.gcode if name == "gcode" else default

    def get_state_message(self) -> tuple[str, str]:
        return "", "ready"


def test_g28_is_the_guards_and_then_klippys_again() -> None:
    printer, done = Printer(), []
    dispatch = printer.gcode
    dispatch.register_command("G28", lambda gcmd: done.append(gcmd.get_commandline()))
    guard = Guard(printer, lambda text: None)
    guard.kin = SimpleNamespace()
    guard.homing = guard._replace_homing(guard._home)
    for line in ("G28 X Y", "G28", "G28 Z"):
        try:
            dispatch._process_commands([line], need_ack=False)
        except dispatch.error as e:
            done.append(str(e)[:18])
    assert done == ["G28 X Y", "G28 would home Z, ", "G28 would home Z, "]
    guard._replace_homing(guard.homing)
    dispatch._process_commands(["G28 Z"], need_ack=False)
    assert done[-1] == "G28 Z"
