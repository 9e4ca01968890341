# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What is said before a yes, and what is done without one."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.asking import doubts, unattended
from moonraker_components.power_loss_recovery.asking.doubts import Scene
from moonraker_components.power_loss_recovery.saving.interruption import Interruption
from moonraker_components.power_loss_recovery.settings import Settings
from tests.unit.samples import record, state

LOSS = Interruption("power_loss", "Power loss")
SCENE = Scene(
    LOSS, off=120.0, bed=58.0, measures_z=True,
    mesh_profiles=frozenset({"default"}), aside=False, attempts=0,
)  # fmt: skip
WARM = Settings(auto_resume="if_bed_warm")
HOLD = Settings(hold_bed=30)
NO_BED = state(heaters={"heater_bed": 0.0})


def test_a_machine_as_it_was_left_has_no_warning() -> None:
    assert doubts.warnings(record(), SCENE) == []


@pytest.mark.parametrize(("changes", "said"), [
    ({"bed": 24.0, "off": 2400.0}, "from 60 to 24 °C, it was without heat for 40 min"),
    ({"bed": 24.0, "off": None}, "it was without heat: the part may have let go"),
    ({"measures_z": False}, "Z is taken from the record, not measured"),
    ({"mmus": ("mmu",)}, "[mmu] found: which filament is loaded is not checked"),
    ({"aside": True}, "Another print has run since"),
    ({"interruption": Interruption("klippy_shutdown", "x", True)}, "heater or its"),
])  # fmt: skip
def test_what_should_be_known_is_said(changes: dict[str, Any], said: str) -> None:
    (found,) = doubts.warnings(record(), replace(SCENE, **changes))
    assert said in found


@pytest.mark.parametrize(("profile", "said"), [
    ("default", 0), (None, 0), ("adaptive", 1),
])  # fmt: skip
def test_a_mesh_that_is_lost_is_said(profile: str | None, said: int) -> None:
    rec = record(state=state(mesh={"profile": profile}))
    assert len(doubts.warnings(rec, SCENE)) == said


def test_a_mesh_that_was_never_stored_is_not_lost_if_its_points_are_saved() -> None:
    kept = {**state(mesh={"profile": "adaptive"}), "rare": {"mesh": {"points": [[0]]}}}
    assert doubts.warnings(record(state=kept), SCENE) == []


def test_the_gravest_is_said_first() -> None:
    hot = Interruption("klippy_shutdown", "x", True)
    scene = replace(SCENE, bed=20.0, aside=True, measures_z=False, interruption=hot)
    found = doubts.warnings(record(), scene)
    assert len(found) == 4 and "heater" in found[0] and "Z is" in found[-1]


@pytest.mark.parametrize("bed", [None, 50.1])
def test_a_bed_that_is_warm_or_is_not_there_is_no_matter(bed: float | None) -> None:
    assert doubts.warnings(record(), replace(SCENE, bed=bed)) == []
    assert doubts.warnings(record(state=NO_BED), replace(SCENE, bed=20.0)) == []


# auto_resume


def test_never_is_never() -> None:
    assert unattended.resume(Settings(), record(), SCENE)


def test_a_short_loss_of_power_is_resumed() -> None:
    assert unattended.resume(WARM, record(), SCENE) == ""
    at_the_edge = replace(SCENE, bed=50.0, off=600.0)
    assert unattended.resume(WARM, record(), at_the_edge) == ""


@pytest.mark.parametrize(("changes", "why"), [
    ({"bed": 49.9}, "cooled to 50"), ({"bed": None}, "no warm bed"),
    ({"off": 601.0}, "10 min ago"), ({"off": None}, unattended.NO_CLOCK),
])  # fmt: skip
def test_it_is_not_resumed_when_the_bed_says_no(
    changes: dict[str, Any], why: str
) -> None:
    scene = replace(SCENE, **changes)
    assert why in unattended.resume(WARM, record(), scene)
    assert unattended.resume(Settings(auto_resume="always"), record(), scene) == ""


def test_a_print_without_a_bed_tells_nothing() -> None:
    assert "no warm bed" in unattended.resume(WARM, record(state=NO_BED), SCENE)


@pytest.mark.parametrize("auto", ["if_bed_warm", "always"])
@pytest.mark.parametrize(("changes", "why"), [
    ({"aside": True}, "another print"), ({"attempts": 2}, "after 2 attempts"),
    *(({"interruption": Interruption(kind, "words")}, "no power loss (words)")
      for kind in ("reboot", "restart", "klippy_crash", "klippy_shutdown",
                   "print_error", "unknown")),
])  # fmt: skip
def test_some_things_are_never_done_without_a_person(
    auto: str, changes: dict[str, Any], why: str
) -> None:
    settings = Settings(auto_resume=auto)
    found = unattended.resume(settings, record(), replace(SCENE, **changes))
    assert why in found


# hold_bed


def test_the_bed_is_held_if_it_is_wanted() -> None:
    assert unattended.hold_bed(HOLD, record(), SCENE) == ""
    assert unattended.hold_bed(Settings(), record(), SCENE)


@pytest.mark.parametrize(("changes", "why"), [
    ({"bed": 29.9}, "cooled to 30"), ({"bed": None}, "nothing to hold"),
    ({"aside": True}, "another print"), ({"attempts": 2}, "after 2 attempts"),
    ({"interruption": Interruption("klippy_shutdown", "M112")}, "M112. Somebody"),
])  # fmt: skip
def test_the_bed_is_not_held(changes: dict[str, Any], why: str) -> None:
    assert why in unattended.hold_bed(HOLD, record(), replace(SCENE, **changes))


def test_a_print_without_a_bed_has_nothing_to_hold() -> None:
    assert "nothing" in unattended.hold_bed(HOLD, record(state=NO_BED), SCENE)


@pytest.mark.parametrize(("maximum", "target"), [(130.0, 60.0), (60.0, 59.0)])
def test_the_bed_is_never_held_above_its_maximum(maximum: float, target: float) -> None:
    assert unattended.hold_target(record(), maximum) == target


def test_a_print_that_was_paused_waits_for_a_person() -> None:
    rec = record(paused=True)
    assert any("was paused" in w for w in doubts.warnings(rec, SCENE))
    for settings in (WARM, Settings(auto_resume="always")):
        assert "was paused" in unattended.resume(settings, rec, SCENE)


def test_a_print_that_somebody_was_cancelling_waits_for_a_person() -> None:
    rec = record(cancelling=True)
    assert any("had cancelled it" in w for w in doubts.warnings(rec, SCENE))
    for settings in (WARM, Settings(auto_resume="always")):
        assert "being cancelled" in unattended.resume(settings, rec, SCENE)
    assert "being cancelled" in unattended.hold_bed(HOLD, rec, SCENE)


def test_an_empty_spool_waits_for_a_person() -> None:
    sees_none = {"filament_switch_sensor spool": {"filament_detected": False}}
    scene = replace(SCENE, spools=sees_none)
    saw = record(state={**state(), "rare": {"spools": {"spool": True}}})
    (said,) = doubts.warnings(saw, scene)
    assert "[filament_switch_sensor spool] sees no filament" in said
    for settings in (WARM, Settings(auto_resume="always")):
        assert "no filament" in unattended.resume(settings, saw, scene)
