# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

from typing import Any

import pytest

from moonraker_components.power_loss_recovery.settings import Settings


def test_what_klippy_has_checked_is_taken_over() -> None:
    section = {
        "save_interval": 5.5, "save_on_layer": False,
        "history_size": 8, "save_delay": 3, "unknown": "x",
        "max_writes_per_hour": 60, "z_strategy": "measure",
    }  # fmt: skip
    assert Settings.from_klippy(section) == Settings(5.5, False, 8, 3, 60, "measure")


def test_a_section_without_options_gives_the_defaults() -> None:
    assert Settings.from_klippy({}) == Settings(1.0, True, 5, 2, 0, "auto")


@pytest.mark.parametrize("bad", [
    None, "", "soon", [], {}, float("nan"), float("inf"), 10**400, -1, 301,
])  # fmt: skip
def test_an_interval_that_makes_no_sense_is_the_default(bad: Any) -> None:
    assert Settings.from_klippy({"save_interval": bad}).save_interval == 1.0


@pytest.mark.parametrize(("given", "taken"), [
    (0, 0), (1, 1), ("120", 120), (14400, 14400), (-1, 0), (14401, 0), (None, 0),
])  # fmt: skip
def test_a_limit_of_writes_that_makes_no_sense_is_none(given: Any, taken: int) -> None:
    made = Settings.from_klippy({"max_writes_per_hour": given})
    assert made.max_writes_per_hour == taken


@pytest.mark.parametrize("bad", [None, 5, "guess", "Measure"])
def test_a_strategy_that_nobody_knows_is_the_default(bad: Any) -> None:
    assert Settings.from_klippy({"z_strategy": bad}).z_strategy == "auto"


@pytest.mark.parametrize(("given", "taken"), [(0, 0.0), (300, 300.0), ("2.5", 2.5)])
def test_the_ends_of_the_range_belong_to_it(given: Any, taken: float) -> None:
    assert Settings.from_klippy({"save_interval": given}).save_interval == taken


@pytest.mark.parametrize(("size", "delay"), [(1, 1), (21, 0), ("x", 5), (None, None)])
def test_bad_sizes_fall_back(size: Any, delay: Any) -> None:
    made = Settings.from_klippy({"history_size": size, "save_delay": delay})
    assert made.history_size == 5
    assert 1 <= made.save_delay <= 4


def test_the_delay_never_goes_beyond_the_history() -> None:
    made = Settings.from_klippy({"history_size": 2, "save_delay": 4})
    assert made.save_delay <= made.history_size == 2


@pytest.mark.parametrize(("given", "on"), [
    (True, True), (False, False), ("true", True), ("False", False), ("0", False),
])  # fmt: skip
def test_save_on_layer_may_come_as_text(given: Any, on: bool) -> None:
    assert Settings.from_klippy({"save_on_layer": given}).save_on_layer is on


def test_nothing_is_done_without_a_yes_unless_asked_for() -> None:
    made = Settings.from_klippy({})
    assert (made.auto_resume, made.hold_bed) == ("never", 0.0)


@pytest.mark.parametrize(("key", "given", "taken"), [
    ("auto_resume", "always", "always"), ("auto_resume", "Always", "never"),
    ("auto_resume", True, "never"), ("auto_resume", None, "never"),
    ("hold_bed", 30, 30.0), ("hold_bed", "soon", 0.0), ("hold_bed", 481, 0.0),
    ("auto_resume_countdown", 10, 10.0), ("auto_resume_countdown", 0, 60.0),
    ("auto_resume_attempts", 3, 3), ("auto_resume_attempts", 0, 2),
    ("auto_resume_bed_drop", 5, 5.0), ("auto_resume_bed_drop", float("inf"), 10.0),
    ("auto_resume_max_off", 60, 60.0), ("auto_resume_max_off", -1, 10.0),
])  # fmt: skip
def test_what_is_done_without_a_yes_is_never_more_than_was_said(
    key: str, given: Any, taken: Any
) -> None:
    assert getattr(Settings.from_klippy({key: given}), key) == taken
