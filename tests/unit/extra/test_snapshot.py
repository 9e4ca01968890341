# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a command has changed is in the snapshot, by a short way as by the long one."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery import snapshot


class Klippy:
    """The objects of a klippy that a snapshot cannot do without, and print_stats."""

    def __init__(self) -> None:
        self.gcode_move = SimpleNamespace(
            base_position=[0.0] * 4, homing_position=[0.0] * 4, absolute_coord=True,
            absolute_extrude=True, speed_factor=1 / 60, extrude_factor=1.0,
            saved_states={},
        )  # fmt: skip
        kinematics = SimpleNamespace(get_status=lambda eventtime: {"homed_axes": "xyz"})
        extruder = SimpleNamespace(get_name=lambda: "extruder")
        self.toolhead = SimpleNamespace(
            get_kinematics=lambda: kinematics, get_status=self._limits,
            get_extruder=lambda: extruder, max_accel=500.0, min_cruise_ratio=0.5,
        )  # fmt: skip
        self.limits_asked = 0
        self.print_stats = SimpleNamespace(
            info_current_layer=None, info_total_layer=None, get_status=self._stats
        )
        self.asked = 0

    def _limits(self, eventtime: float) -> dict[str, Any]:
        self.limits_asked += 1
        toolhead = self.toolhead
        ratio = toolhead.min_cruise_ratio
        return {"max_accel": toolhead.max_accel, "minimum_cruise_ratio": ratio}

    def _stats(self, eventtime: float) -> dict[str, Any]:
        self.asked += 1
        stats = self.print_stats
        layer, layers = stats.info_current_layer, stats.info_total_layer
        return {
            "info": {"current_layer": layer, "total_layer": layers},
            "print_duration": 7.0, "filament_used": 8.0,
        }  # fmt: skip

    def lookup_object(self, name: str, default: object = None) -> Any:
        return getattr(self, name, default)

    def lookup_objects(self, module: str | None = None) -> list[Any]:
        return []

    def get_reactor(self) -> Any:
        return SimpleNamespace(monotonic=lambda: 0.0)


@pytest.fixture
def klippy() -> Klippy:
    return Klippy()


def refreshed(shot: snapshot.Snapshot, word: str) -> dict[str, Any]:
    """The state after a command; what was kept before is as it was."""
    before = shot.state
    kept = {part: dict(values) for part, values in before.items()}
    shot.refresh(snapshot.parts_of(word), 0.0)
    assert before == kept
    return shot.state


def test_a_reset_of_the_extruder_changes_nothing_of_the_state(klippy: Klippy) -> None:
    shot = snapshot.Snapshot(klippy)
    before = shot.state
    klippy.gcode_move.base_position[3] = -5.0
    assert refreshed(shot, "G92") is before


@pytest.mark.parametrize(
    ("word", "change", "key", "value"),
    [
        ("G92", {"base_position": [1.0, 2.0, 3.0, 0.0]}, "g92", [1.0, 2.0, 3.0]),
        ("G91", {"absolute_coord": False}, "absolute_coordinates", False),
        ("M83", {"absolute_extrude": False}, "absolute_extrude", False),
        ("M220", {"speed_factor": 1.5 / 60}, "speed_factor", 1.5),
        ("M221", {"extrude_factor": 0.9}, "extrude_factor", 0.9),
        (
            "SET_GCODE_OFFSET",
            {"homing_position": [0, 0, 0.1, 0], "base_position": [0, 0, 0.1, 0]},
            "homing_origin", [0, 0, 0.1],
        ),
    ],
)  # fmt: skip
def test_all_else_of_the_coordinates_does(
    klippy: Klippy, word: str, change: dict[str, Any], key: str, value: Any
) -> None:
    shot = snapshot.Snapshot(klippy)
    vars(klippy.gcode_move).update(change)
    assert refreshed(shot, word)["coordinates"][key] == pytest.approx(value)


@pytest.mark.parametrize("short", [True, False])
def test_the_layer_is_known(klippy: Klippy, short: bool) -> None:
    stats = klippy.print_stats
    if not short:
        # A klippy that calls them otherwise
        del stats.info_current_layer, stats.info_total_layer
        stats.get_status = lambda eventtime: {
            "info": {"current_layer": 3, "total_layer": 9},
            "print_duration": 7.0, "filament_used": 8.0,
        }  # fmt: skip
    shot = snapshot.Snapshot(klippy)
    if short:
        stats.info_current_layer, stats.info_total_layer = 3, 9
    found = refreshed(shot, "SET_PRINT_STATS_INFO")["progress"]
    assert found == {"layer": 3, "layers": 9, "duration": 7.0, "filament": 8.0}


def test_the_layer_is_asked_for_without_counting_filament(klippy: Klippy) -> None:
    shot = snapshot.Snapshot(klippy)
    asked = klippy.asked
    refreshed(shot, "SET_PRINT_STATS_INFO")
    assert klippy.asked == asked


def test_what_a_slicer_has_told_itself_stays_until_klippy_knows_better(
    klippy: Klippy,
) -> None:
    shot = snapshot.Snapshot(klippy)
    shot.note_layer(5, 0.3)
    told = refreshed(shot, "SET_PRINT_STATS_INFO")["progress"]
    assert (told["layer"], told["layer_height"]) == (5, 0.3)
    klippy.print_stats.info_current_layer = 6
    told = refreshed(shot, "SET_PRINT_STATS_INFO")["progress"]
    assert (told["layer"], told["layer_height"]) == (6, 0.3)


@pytest.mark.parametrize("short", [True, False])
def test_limits_are_those_of_the_status(klippy: Klippy, short: bool) -> None:
    if not short:
        # A klippy that calls one of them otherwise
        klippy.toolhead.get_status = lambda eventtime: {
            "max_accel": klippy.toolhead.max_accel, "minimum_cruise_ratio": 0.7
        }  # fmt: skip
    shot = snapshot.Snapshot(klippy)
    asked = klippy.limits_asked
    klippy.toolhead.max_accel = 900.0
    ratio = 0.5 if short else 0.7
    limits = {"max_accel": 900.0, "minimum_cruise_ratio": ratio}
    assert refreshed(shot, "M204")["limits"] == limits
    assert klippy.limits_asked == asked


def test_what_is_excluded_in_a_pause_is_in_the_mark(klippy: Klippy) -> None:
    """Before that a line tells it, and lines that are not laid yet count for more."""
    excluded: list[str] = []
    klippy.exclude_object = SimpleNamespace(  # type: ignore[attr-defined]
        get_status=lambda t: {"current_object": "A", "excluded_objects": excluded}
    )
    shot = snapshot.Snapshot(klippy)
    before = shot.state
    excluded.append("B")
    assert shot.with_late(before, 1.0)["objects"]["excluded"] == []
    late = shot.with_late(before, 1.0, at_rest=True)["objects"]
    assert late == {"current": "A", "excluded": ["B"]}
    assert before["objects"]["excluded"] == []


def test_states_that_are_saved_by_the_way_are_not_the_files(klippy: Klippy) -> None:
    by_the_way = dict.fromkeys(("_retract_state", "_PLR_HOOK"), {})
    klippy.gcode_move.saved_states = {**by_the_way, "mine": {"a": 1}}
    shot = refreshed(snapshot.Snapshot(klippy), "SAVE_GCODE_STATE")
    assert shot["gcode"]["states"] == {"mine": {"a": 1}}
