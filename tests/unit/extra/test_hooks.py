# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The owner's hooks: named when they fail, and kept out of the part.

The machine below is as exact as klippy about step counts: what a hook tells klippy
about its position does not change where the motors are.
"""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery.hooks import Hooks
from tests.unit.extra.fake_printer import CommandError, Config, Printer

STEP = 0.0025
PART = "PART_Z=10 PART=100,100,150,150"


class Stepper:
    def __init__(self, name: str) -> None:
        self.name = name
        self.commanded = self.true = 0.0

    def get_name(self) -> str:
        return self.name

    def get_step_dist(self) -> float:
        return STEP

    def get_mcu_position(self) -> int:
        return round(self.true / STEP)

    def get_commanded_position(self) -> float:
        return self.commanded


class Machine(Printer):
    """Cartesian: toolhead, kinematics, and moves as lines "X Y Z" of a hook."""

    def __init__(self, **hooks: str) -> None:
        super().__init__()
        self.steppers = [Stepper(axis) for axis in "xyz"]
        self.homed = "xyz"
        self.checked = 0
        self.objects["toolhead"] = self
        self.said: list[str] = []
        self.hooks = Hooks(Config(self, hooks), self.said.append)
        self.place(125.0, 20.0, 30.0)
        self.scripts.clear()

    # toolhead and kinematics
    def get_kinematics(self) -> Any:
        return self

    def get_steppers(self) -> list[Stepper]:
        return self.steppers

    def calc_position(self, positions: dict[str, float]) -> list[float]:
        return [positions[axis] for axis in "xyz"]

    def check_move(self, move: Any) -> None:
        self.checked += 1

    def flush_step_generation(self) -> None:
        pass

    def clear_homing_state(self, axes: str) -> None:
        self.homed = "".join(a for a in self.homed if a not in axes)

    def get_position(self) -> list[float]:
        return [*(s.commanded for s in self.steppers), 0.0]

    def get_status(self, eventtime: float) -> dict[str, Any]:
        return {"homed_axes": self.homed}

    def set_position(self, position: list[float], homing_axes: str = "") -> None:
        for stepper, value in zip(self.steppers, position, strict=False):
            stepper.commanded = value
        self.homed = "".join(sorted(set(self.homed) | set(homing_axes)))

    # what a test does with it
    def place(self, *position: float) -> None:
        for stepper, value in zip(self.steppers, position, strict=True):
            stepper.commanded = stepper.true = value

    def move(self, x: float, y: float, z: float) -> None:
        here, end = self.get_position(), [x, y, z, 0.0]
        self.check_move(SimpleNamespace(start_pos=here, end_pos=end))
        for stepper, value in zip(self.steppers, end, strict=False):
            stepper.true += value - stepper.commanded
            stepper.commanded = value

    def true(self) -> list[float]:
        return [round(s.true, 3) for s in self.steppers]

    def believed(self) -> list[float]:
        return [round(v, 3) for v in self.get_position()[:3]]


def machine(**does: Any) -> Machine:
    """restart_gcode is the command HOOK, which does `does["hook"]`."""
    made = Machine(restart_gcode="HOOK")
    made.at["HOOK"] = lambda: does["hook"](made)
    return made


def run(made: Machine) -> None:
    made.run(f"_PLR_RUN_HOOK NAME=restart_gcode {PART}")


def test_a_hook_runs_between_saved_states() -> None:
    made = machine(hook=lambda m: m.move(10, 10, 5))
    run(made)
    assert made.scripts == [
        "SAVE_GCODE_STATE NAME=_PLR_HOOK", "HOOK", "RESTORE_GCODE_STATE NAME=_PLR_HOOK",
    ]  # fmt: skip
    assert made.checked == 1


def test_a_hook_that_fails_is_named() -> None:
    def fail(m: Machine) -> None:
        raise CommandError("Move out of range")

    made = machine(hook=fail)
    with pytest.raises(CommandError, match="^restart_gcode: Move out of range"):
        run(made)
    assert made.scripts[-1] == "RESTORE_GCODE_STATE NAME=_PLR_HOOK"


def test_a_command_that_does_not_exist_is_named() -> None:
    made = Machine(restart_gcode="; set\nG28\n_PLR_RESUME_PRINT_STRAT ; a_b\nM104 S1")
    with pytest.raises(CommandError, match="restart_gcode: .*_PLR_RESUME_PRINT_STRAT"):
        run(made)
    assert "G28" not in made.scripts
    made = Machine(restart_gcode="; set_it\nG28 ; set_it\nRUN A=b_c\n")
    run(made)
    assert "RUN A=b_c" in made.scripts


def test_an_option_that_is_none_is_refused() -> None:
    with pytest.raises(CommandError, match="no option rm"):
        Machine().run("_PLR_RUN_HOOK NAME=rm")


@pytest.mark.parametrize("given", ["PART_Z=1", "PART_Z=1 PART=1,2", "PART_Z=1 PART=a"])
def test_a_part_without_its_box_is_refused(given: str) -> None:
    with pytest.raises((CommandError, AttributeError)):
        Machine().run(f"_PLR_RUN_HOOK NAME=restart_gcode {given}")


# Where it may go

SAFE = [
    ("over the part", [(125, 125, 30)]),
    ("down onto the part", [(125, 125, 30), (125, 125, 10.0)]),
    ("aslant onto the part", [(125, 125, 200), (101, 101, 10.0)]),
    ("down beside the part", [(20, 20, 0.2), (80, 20, 0.2)]),
    ("off again", [(125, 125, 10.0), (125, 125, 40)]),
]
UNSAFE = [
    ("down into the part", [(125, 125, 30), (125, 125, 9.0)]),
    ("through the part", [(20, 120, 30), (20, 120, 5), (200, 120, 5)]),
    ("aslant through it", [(20, 120, 5), (125, 125, 11)]),
    ("onto it from beside, too low", [(125, 20, 9.0), (125, 125, 9.0)]),
    ("homing through the bed", [(125, 125, 30), (125, 125, -400)]),
]


@pytest.mark.parametrize("way", [w for _, w in SAFE], ids=[n for n, _ in SAFE])
def test_what_is_off_the_part_is_allowed(way: list[tuple[float, ...]]) -> None:
    made = machine(hook=lambda m: [m.move(*place) for place in way])
    run(made)
    assert made.true() == [float(v) for v in way[-1]]


@pytest.mark.parametrize("way", [w for _, w in UNSAFE], ids=[n for n, _ in UNSAFE])
def test_what_would_hit_the_part_is_refused(way: list[tuple[float, ...]]) -> None:
    made = machine(hook=lambda m: [m.move(*place) for place in way])
    with pytest.raises(CommandError, match="restart_gcode: .*into the part, which is"):
        run(made)
    assert made.true() != [float(v) for v in way[-1]]


def test_a_position_that_was_made_up_does_not_deceive_it() -> None:
    def lie(m: Machine) -> None:
        m.set_position([125.0, 20.0, 0.0], "xyz")
        m.move(125, 20, 5)
        m.move(125, 125, 5)

    made = machine(hook=lie)
    run(made)
    assert made.true() == [125.0, 125.0, 35.0] == made.believed()
    assert made.said[0] == "restart_gcode: HOOK"
    assert "shifted klippy's position by 0.000, 0.000, 30.000" in made.said[1]


def test_a_made_up_position_and_a_way_into_the_part() -> None:
    def lie(m: Machine) -> None:
        m.set_position([125.0, 20.0, 200.0], "xyz")
        m.move(125, 125, 200)
        m.move(125, 125, 170)

    made = machine(hook=lie)
    with pytest.raises(CommandError, match="Z0.00, into the part"):
        run(made)
    assert made.true() == [125.0, 125.0, 30.0] == made.believed()


def test_made_up_x_and_y_do_not_deceive_it_either() -> None:
    def lie(m: Machine) -> None:
        m.move(20, 20, 30)
        m.move(20, 20, 5)
        m.set_position([0.0, 0.0, 5.0], "xy")
        m.move(110, 110, 5)

    with pytest.raises(CommandError, match="X130.0 Y130.0"):
        run(machine(hook=lie))


def test_homing_is_the_truth_from_then_on() -> None:
    def home(m: Machine) -> None:
        m.set_position([200.0, 20.0, 30.0], "x")
        # It was astray, and the switch has said where it is.
        m.hooks.guard._handle_home_rails_end(SimpleNamespace(get_axes=lambda: [0]), [])
        m.move(240, 20, 30)

    made = machine(hook=home)
    run(made)
    assert made.believed() == [240.0, 20.0, 30.0]


def test_z_that_was_measured_is_the_truth_from_then_on() -> None:
    def measure(m: Machine) -> None:
        m.set_position([125.0, 20.0, 0.0], "z")
        m.hooks.guard.stand_by()
        m.move(125, 20, 202)
        m.set_position([125.0, 20.0, 229.0])
        m.hooks.guard.go_on(True)
        m.move(125, 125, 12)

    made = machine(hook=measure)
    run(made)
    assert made.believed() == [125.0, 125.0, 12.0]


def test_z_that_was_not_measured_is_what_it_was() -> None:
    def fail(m: Machine) -> None:
        m.set_position([125.0, 20.0, 0.0], "z")
        m.hooks.guard.stand_by()
        m.move(125, 20, 20)
        m.clear_homing_state("z")
        m.hooks.guard.go_on(False)
        raise CommandError("PLR_Z_HOME: stepper_z: no trigger")

    made = machine(hook=fail)
    with pytest.raises(CommandError, match="restart_gcode: PLR_Z_HOME"):
        run(made)
    assert made.believed() == made.true() == [125.0, 20.0, 50.0]
    assert made.homed == "xyz"


def test_after_motors_that_were_off_nothing_is_believed() -> None:
    made = machine(hook=lambda m: m.hooks.guard._handle_motor_off())
    with pytest.raises(CommandError, match="motors were switched off"):
        run(made)
    assert made.homed == ""


class Filament:
    """klippy's ExtruderStepper: it moves with the extruder that it is told.

    queue: as the status names that; None for an extruder that moves with itself.
    """

    def __init__(self, moves_with: str, queue: str | None) -> None:
        self.moves_with, self.motion_queue = moves_with, queue
        self.stepper = SimpleNamespace(get_trapq=lambda: self.moves_with or None)

    def sync_to_extruder(self, name: str) -> None:
        self.moves_with, self.motion_queue = name, name or None


@pytest.mark.parametrize("fails", [False, True])
def test_no_filament_is_dropped_onto_the_part(fails: bool) -> None:
    before = {"extruder": ("extruder", None), "extruder1": ("", None),
              "extruder_stepper belt": ("extruder", "extruder")}  # fmt: skip
    steppers = {name: Filament(*moves) for name, moves in before.items()}
    seen: list[str] = []

    def hook(m: Machine) -> None:
        seen.extend(s.moves_with for s in steppers.values())
        if fails:
            raise CommandError("no")

    made = machine(hook=hook)
    for name, stepper in steppers.items():
        made.objects[name] = SimpleNamespace(extruder_stepper=stepper)
    if fails:
        with pytest.raises(CommandError):
            run(made)
    else:
        run(made)
    assert seen == [""] * 3
    after = {n: (s.moves_with, s.motion_queue) for n, s in steppers.items()}
    assert after == before


def test_afterwards_klippy_is_as_before() -> None:
    made = machine(hook=lambda m: None)
    run(made)
    made.move(125, 125, 1)
    assert made.true() == [125.0, 125.0, 1.0]


def test_one_in_another_is_protected_by_the_outer_one() -> None:
    def nested(m: Machine) -> None:
        with m.hooks.protected((0.0, [0.0, 0.0, 0.0, 0.0])):
            m.move(125, 125, 30)
            m.move(125, 125, 5)

    with pytest.raises(CommandError, match="into the part, which is 10.00"):
        run(machine(hook=nested))


def test_the_position_is_put_right_after_each_hook() -> None:
    """So that the way up to the switches is known, and can be fast."""

    def nested(m: Machine) -> None:
        m.set_position([125.0, 20.0, 0.0], "xyz")
        m.hooks.run("before_resume_gcode")
        assert m.believed() == [125.0, 20.0, 30.0]

    made = Machine(restart_gcode="HOOK", before_resume_gcode="HOME")
    made.at["HOOK"] = lambda: nested(made)
    run(made)
    assert "HOME" in made.scripts


def test_a_fault_of_ours_is_an_error_of_the_hook() -> None:
    def broken(m: Machine) -> None:
        m.steppers[0].get_mcu_position = None  # type: ignore[assignment,method-assign]
        m.move(125, 125, 30)

    made = machine(hook=broken)
    made.hooks.guard.correct = lambda: ""  # type: ignore[method-assign]
    with pytest.raises(CommandError, match="internal error"):
        run(made)
