# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The words for a resume that klippy has ended."""
from __future__ import annotations

import pytest

from moonraker_components.power_loss_recovery.resuming import stops


@pytest.mark.parametrize(("message", "todo"), [
    ("Lost communication with MCU 'mcu'\nOnce", "power and the cable of that board"),
    ("MCU 'mcu' spontaneous restart\nOnce", "power and the cable of that board"),
    ("MCU 'mcu' shutdown: ADC out of range\nThis", "or its sensor has failed"),
    ("Heater extruder not heating at expected rate", "or its sensor has failed"),
    ("Shutdown due to webhooks request\nOnce", "When all is well, FIRMWARE_RESTART"),
    ("Shutdown due to M112 command", "When all is well, FIRMWARE_RESTART"),
    ("MCU 'mcu' shutdown: Timer too close", "Find out why, then FIRMWARE_RESTART"),
    ("", "Find out why, then FIRMWARE_RESTART"),
])  # fmt: skip
def test_what_happened_and_what_to_do(message: str, todo: str) -> None:
    said = stops.by_shutdown(message)
    first = message.split("\n")[0]
    assert said.startswith("Klipper shut down") and first in said and todo in said
    assert "the print is offered again" in said and "\n" not in said
