# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Each option of the samples does what it says, on switches that misbehave."""
from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery.z_measure import ZHomingError, ZMeasure

STEP = 0.01
SWITCHES = {"stepper_z": 20.0, "stepper_z1": 20.4}


class Config:
    """asked: the default and the bounds that klippy was given for each option."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.asked: dict[str, tuple[Any, dict[str, float]]] = {}

    def get(self, name: str, default: Any, **bounds: float) -> Any:
        self.asked[name] = default, bounds
        return self.options.get(name, default)

    getfloat = getint = get

    def getchoice(self, name: str, choices: dict[str, str], default: str) -> str:
        return choices[self.options.get(name, default)]


class Motors:
    """At 0 mm, with switches at SWITCHES.

    off: {stepper: mm by which its switch closes elsewhere, approach by approach};
    None: it does not close.  moves: (steppers, mm, speed).
    """

    def __init__(self, off: dict[str, Sequence[float | None]] | None = None) -> None:
        reactor = SimpleNamespace(monotonic=lambda: 0.0)
        self.printer = SimpleNamespace(get_reactor=lambda: reactor)
        self.overrun = 0.0
        self.at = dict.fromkeys(SWITCHES, 0)
        self.off = {name: list(values) for name, values in (off or {}).items()}
        self.moves: list[tuple[tuple[str, ...], float, float]] = []
        self.probes = {name: -1 for name in SWITCHES}
        self.highest = self.lowest = 0.0  # above a switch, mm, once it was reached

    def names(self) -> list[str]:
        return sorted(self.at)

    def positions(self) -> dict[str, int]:
        return dict(self.at)

    def mm(self, name: str, steps: float) -> float:
        return steps * STEP

    def travel(self, since: dict[str, int]) -> dict[str, float]:
        return {n: self.mm(n, self.at[n] - since[n]) for n in self.at}

    def pressed(self) -> list[str]:
        return []

    def was_stopped(self, name: str, steps: int, distance: float) -> bool:
        return self.mm(name, steps) < distance - 1.5 * STEP

    def move(self, distance: float, speed: float) -> None:
        self._move(tuple(self.at), distance, speed)

    def move_one(self, name: str, distance: float, speed: float) -> None:
        self._move((name,), distance, speed)

    def _move(self, names: tuple[str, ...], distance: float, speed: float) -> None:
        self.moves.append((names, distance, speed))
        for name in names:
            self.at[name] += round(distance / STEP)
            below = self.at[name] * STEP - SWITCHES[name]
            self.lowest = min(self.lowest, below)

    def home(self, distance: float, speed: float) -> Any:
        return self._home(tuple(self.at), distance, speed)

    def home_one(self, name: str, distance: float, speed: float) -> Any:
        return self._home((name,), distance, speed)

    def _home(self, names: tuple[str, ...], distance: float, speed: float) -> Any:
        self.moves.append((names, distance, speed))
        moved = {}
        for name in names:
            self.probes[name] += 1
            off = self.off.get(name) or [0.0]
            wrong = off[min(self.probes[name], len(off) - 1)]
            way = round(distance / STEP)
            if wrong is not None:
                way = min(way, round((SWITCHES[name] + wrong) / STEP) - self.at[name])
            moved[name] = max(way, 0)
            self.at[name] += moved[name]
            above = self.at[name] * STEP - SWITCHES[name]
            self.highest = max(self.highest, above)
        return {name: self.at[name] for name in names}, moved


def measure(
    motors: Motors, sample_size: int = 3, fast_travel: float = 0.0, **options: Any
) -> dict[str, float]:
    made = ZMeasure(Config(max_adjustment=30.0, **options), motors)
    return made.measure(40.0, fast_travel, sample_size)


def ups(motors: Motors, speed: float = 1.0) -> int:
    return sum(way > 0 and s == speed for _, way, s in motors.moves)


def test_the_mean_of_all_samples_of_all_iterations() -> None:
    motors = Motors({"stepper_z": [0.0, 0.01, -0.01, 0.02, -0.02, 0.04, 0.02]})
    found = measure(motors, sample_size=2, probe_iteration_count=3)
    assert ups(motors) == 6
    assert found["stepper_z"] * STEP == pytest.approx(20.0 + 0.06 / 6)
    assert found["stepper_z1"] * STEP == pytest.approx(20.4)


def test_speeds_and_distances_are_those_of_the_options() -> None:
    motors = Motors()
    measure(motors, sample_size=2, fast_travel=15.0, fast_travel_speed=33.0,
            fast_move_speed=6.0, slow_homing_speed=0.5, retract_dist=1.5,
            sample_retract_dist=0.6)  # fmt: skip
    both = tuple(SWITCHES)
    assert motors.moves == [
        (both, 15.0, 33.0), (both, 25.0, 6.0), (both, -1.5, 6.0),
        (both, pytest.approx(2.1), 0.5), (both, -0.6, 6.0),
        (both, pytest.approx(1.2), 0.5),
    ]  # fmt: skip


def test_individual_measures_one_motor_while_the_others_stand() -> None:
    together, apart = Motors(), Motors()
    found = measure(apart, probe_mode="individual")
    assert found == measure(together)
    slow = [names for names, _, speed in apart.moves if speed == 1.0]
    assert slow == [("stepper_z",)] * 3 + [("stepper_z1",)] * 3
    # And none is left further from the others than one retract
    assert apart.at == {"stepper_z": 1900, "stepper_z1": 1940}


def test_a_wild_sample_is_taken_again() -> None:
    motors = Motors({"stepper_z": [0.0, 0.0, 0.9, 0.01, 0.0]})
    found = measure(motors)
    assert ups(motors) == 4
    assert found["stepper_z"] * STEP == pytest.approx(20.0 + 0.01 / 3)


@pytest.mark.parametrize("retries", [0, 2, 5])
def test_wild_samples_are_taken_again_so_many_times_and_no_more(retries: int) -> None:
    motors = Motors({"stepper_z1": [0.0, *[0.07 * (-1) ** i * i for i in range(9)]]})
    with pytest.raises(ZHomingError, match="of stepper_z1 does not repeat") as e:
        measure(motors, samples_tolerance_retries=retries)
    assert ups(motors) == 3 + retries
    assert f"its {3 + retries} samples" in str(e.value)
    assert "within 0.050 mm" in str(e.value)


def test_the_tolerance_is_the_owners() -> None:
    off = {"stepper_z": [0.0, 0.0, 0.1, -0.1]}
    with pytest.raises(ZHomingError, match="samples_tolerance"):
        measure(Motors(off), samples_tolerance_retries=0)
    found = measure(Motors(off), samples_tolerance=0.11, probe_samples_range=0.21)
    assert found["stepper_z"] * STEP == pytest.approx(20.0)


def test_good_samples_too_far_apart_are_refused() -> None:
    off = {"stepper_z": [0.0, 0.0, 0.04, -0.04]}
    with pytest.raises(ZHomingError, match=r"stepper_z .*0\.070.*probe_samples_range"):
        measure(Motors(off))
    measure(Motors(off), probe_samples_range=0.081)


@pytest.mark.parametrize("retries", [0, 3, 20])
def test_a_switch_that_does_not_close_again_is_tried_so_often(retries: int) -> None:
    motors = Motors({"stepper_z1": [0.0, None]})
    with pytest.raises(ZHomingError, match="stepper_z1 closed at the approach"):
        measure(motors, samples_retry_count=retries)
    assert ups(motors) == 1 + retries
    # However often: no further past its switch, or below it, than the first time
    assert motors.highest == pytest.approx(1.0)
    assert motors.lowest == pytest.approx(-1.0)


def test_a_switch_that_does_not_open_is_tried_so_often() -> None:
    motors = Motors({"stepper_z": [0.0, -15.0]})
    with pytest.raises(ZHomingError, match=r"does not release.* after 3 tries"):
        measure(motors, samples_retry_count=2)
    assert ups(motors) == 3


def test_a_switch_that_closes_at_the_second_try_is_measured() -> None:
    motors = Motors({"stepper_z1": [0.0, None, 0.0]})
    found = measure(motors, samples_retry_count=1)
    assert found["stepper_z1"] * STEP == pytest.approx(20.4)


def test_no_motor_goes_further_than_max_adjustment_past_the_first_switch() -> None:
    motors = Motors({"stepper_z1": [None]})
    made = ZMeasure(Config(max_adjustment=2.0), motors)
    with pytest.raises(ZHomingError, match=r"stepper_z1 went on for 2\.0 mm"):
        made.measure(40.0, 0.0, 3)
    assert made.reached == {"stepper_z": 2000}
    assert motors.at == {"stepper_z": 2000, "stepper_z1": 2200}


# The default and the most of each option, as the README says
OPTIONS: dict[str, tuple[float, float]] = {
    "fast_travel_speed": (25, 500), "fast_move_speed": (5, 50),
    "slow_homing_speed": (1, 20), "max_adjustment": (5, 50), "retract_dist": (1, 20),
    "sample_size": (3, 20), "sample_retract_dist": (1, 20),
    "samples_tolerance": (0.05, 1), "samples_tolerance_retries": (3, 20),
    "probe_samples_range": (0.07, 1), "samples_retry_count": (3, 20),
    "probe_iteration_count": (1, 10),
}  # fmt: skip
MAY_BE_ZERO = {"samples_tolerance_retries", "samples_retry_count"}
README = Path(__file__).resolve().parents[3] / "README.md"


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_has_its_default_and_bounds_everywhere(name: str) -> None:
    default, most = OPTIONS[name]
    config = Config()
    ZMeasure(config, Motors())
    given, bounds = config.asked[name]
    assert given == default and bounds["maxval"] == most
    if name in MAY_BE_ZERO:
        assert bounds["minval"] == 0
    else:
        assert bounds.get("above") == 0 or bounds.get("minval") == 1
    said = re.search(rf"^#{name}: (.*)\n((?:#   .*\n)+)", README.read_text(), re.M)
    assert said is not None and float(said[1]) == default
    text = said[2].replace("\n#  ", "")
    assert re.search(rf"\bto {most}\b", text), text
