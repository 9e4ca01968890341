# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

from typing import Any

import pytest

from moonraker_components.power_loss_recovery.saving import interruption
from moonraker_components.power_loss_recovery.saving.interruption import (
    EXIT,
    LEFT,
    NOTHING,
    POWER,
    REPLACED,
    RESTARTED,
    SEEN,
    Cause,
    classify,
)
from moonraker_components.power_loss_recovery.store.payloads import RecordError

HOT = "Heater extruder not heating at expected rate\nSee the documentation\n"


@pytest.mark.parametrize(("cause", "before", "now", "kind"), [
    (NOTHING, "a", "b", "power_loss"), (NOTHING, "a", "a", "unknown"),
    (NOTHING, "", "b", "unknown"), (NOTHING, "a", "", "unknown"),
    (POWER, "a", "a", "power_loss"), (POWER, "a", "b", "power_loss"),
    (EXIT, "a", "b", "reboot"), (EXIT, "a", "a", "restart"),
    (RESTARTED, "a", "a", "restart"), (REPLACED, "a", "a", "klippy_crash"),
    (LEFT, "a", "b", "klippy_crash"),
    (interruption.shutdown("M112"), "a", "b", "klippy_shutdown"),
    (interruption.error("Move out of range"), "a", "a", "print_error"),
    (Cause("from the future", "x"), "a", "b", "unknown"),
])  # fmt: skip
def test_what_was_seen_and_the_boots_say_what_happened(
    cause: Cause, before: str, now: str, kind: str
) -> None:
    found = classify(cause, before, now)
    assert found.kind == kind and found.words
    assert found.told["kind"] == kind


def test_klippys_own_words_are_told() -> None:
    found = classify(interruption.shutdown(HOT), "a", "a")
    assert found.words == (
        "Klipper shut down: Heater extruder not heating at expected rate"
    )
    assert "Move out" in classify(interruption.error("Move out"), "a", "a").words
    assert classify(interruption.shutdown(""), "a", "a").words == "Klipper shut down"


@pytest.mark.parametrize(("message", "thermal"), [
    (HOT, True), ("MCU 'mcu' shutdown: ADC out of range", True),
    ("Shutdown due to webhooks request", False),
    ("Lost communication with MCU 'mcu'", False), ("Timer too close", False),
    ("Heater heater_bed requested temperature (200.0) out of range", True),
])  # fmt: skip
def test_a_thermal_fault_is_known(message: str, thermal: bool) -> None:
    assert classify(interruption.shutdown(message), "a", "a").thermal is thermal


def test_the_message_of_a_failed_line_is_no_thermal_fault() -> None:
    """The heaters obeyed: it was the file that was wrong."""
    assert not classify(interruption.error("heater unknown"), "a", "a").thermal


@pytest.mark.parametrize(("cause", "age", "then"), [
    (NOTHING, 1e9, EXIT), (LEFT, 5.0, EXIT), (LEFT, 600.0, LEFT),
    (interruption.shutdown("M112"), 1.0, interruption.shutdown("M112")),
])  # fmt: skip
def test_at_a_proper_end_the_first_cause_stays(
    cause: Cause, age: float, then: Cause
) -> None:
    assert interruption.after_exit(cause, age) == then


@pytest.mark.parametrize("raw", [1, "left", [], {"kind": 1, "text": ""}, {"kind": "x"}])
def test_a_cause_that_is_none_is_refused(raw: Any) -> None:
    with pytest.raises(RecordError, match="cause"):
        Cause.from_dict(raw)


def test_causes_are_read_back_and_old_records_have_none() -> None:
    for kind in SEEN:
        assert Cause.from_dict({"kind": kind, "text": "t"}) == Cause(kind, "t")
    assert Cause.from_dict(None) == NOTHING
    long = Cause.from_dict({"kind": "shutdown", "text": "x" * 5000})
    assert len(long.text) == interruption.MAX_TEXT
