# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Two carriages on one axis, as each klippy shows them: v0.12 and Kalico keep a tuple,
later ones a table by name."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery import carriages, rare
from klippy_extras.power_loss_recovery.guard import Guard
from klippy_extras.power_loss_recovery.marks import Marks
from klippy_extras.power_loss_recovery.motors import Motors
from tests.unit.extra.fake_printer import Printer

NAMES = ("stepper_x", "dual_carriage")


class Rail:
    axis = 0

    def __init__(self, name: str, mode: str, offset: float = 0.0) -> None:
        self.name = name
        self.set(mode, offset)

    def set(self, mode: str, offset: float) -> None:
        self.mode, self.offset = mode, offset
        self.scale = float(mode != "INACTIVE")

    def get_rail(self) -> Rail:
        return self

    def get_name(self) -> str:
        return self.name


class Dual:
    """kind: "v0.12", "v0.13" (and Kalico) or "master"."""

    axis = 0

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.rails = (Rail(NAMES[0], "PRIMARY"), Rail(NAMES[1], "INACTIVE", 240.0))
        self.saved_states: dict[str, Any] = {}
        if kind == "master":
            self.dc_rails = {rail.name: rail for rail in self.rails}
        else:
            self.dc = self.rails
        if kind != "v0.12":
            self.get_primary_rail = lambda: None

    def use(self, index: int, other_stands_at: float) -> None:
        self.rails[index].set("PRIMARY", 0.0)
        self.rails[1 - index].set("INACTIVE", other_stands_at)

    def get_status(self, eventtime: float) -> dict[str, Any]:
        told: dict[str, Any] = {
            f"carriage_{i}": rail.mode for i, rail in enumerate(self.rails)
        }
        if self.kind == "master":
            told["carriages"] = {rail.name: rail.mode for rail in self.rails}
        return told

    def cmd_SAVE_DUAL_CARRIAGE_STATE(self, gcmd: Any) -> None:
        modes: Any = [rail.mode for rail in self.rails]
        if self.kind == "master":
            modes = {rail.name: rail.mode for rail in self.rails}
        self.saved_states[gcmd.get("NAME")] = {
            "carriage_modes": modes,
            "axes_positions": [rail.offset for rail in self.rails],
        }


@pytest.fixture(params=["v0.12", "v0.13", "master"])
def dual(request: Any) -> Dual:
    return Dual(request.param)


def machine(dual: Dual | None) -> Printer:
    printer = Printer()
    if dual is not None:
        printer.objects["dual_carriage"] = dual
    gcode = printer.objects["gcode"]
    gcode.create_gcode_command = lambda name, line, params: params
    return printer


def saved(dual: Dual) -> Any:
    reader = rare.carriages(machine(dual))
    assert reader is not None
    return reader


def test_where_one_stands_is_read_again_when_it_was_moved_in_a_macro(
    dual: Dual,
) -> None:
    read = saved(dual)
    first = read()
    assert read() is first
    # As a macro does that parks it: in the end the modes are the same.
    dual.use(0, other_stands_at=200.0)
    assert read()["axes_positions"][1] == 200.0


def test_a_mark_of_other_carriages_is_told_apart(dual: Dual) -> None:
    state = {"rare": {"carriages": saved(dual)()}}
    assert carriages.are_as_in(dual, state)
    dual.use(1, other_stands_at=0.0)
    assert not carriages.are_as_in(dual, state)
    assert not carriages.are_as_in(dual, {"rare": {}})


def test_no_share_of_a_line_is_taken_from_where_another_carriage_is(
    dual: Dual,
) -> None:
    printer = machine(dual)
    marks = Marks(printer, 0.25, None)
    state = {"coordinates": {}, "rare": {"carriages": saved(dual)()}}
    at = SimpleNamespace(
        state=state, position=(0.0, 0.0, 0.0, 0.0), motors=(0.0, 0.0, 0.0),
        shape="straight",
    )  # fmt: skip
    to = SimpleNamespace(
        state=state, position=(100.0, 0.0, 0.0, 0.0), motors=(100.0, 0.0, 0.0),
        shape="straight",
    )  # fmt: skip
    marks.timeline = SimpleNamespace(following=lambda: (9.0, to))
    marks.dual_carriage = dual
    assert marks._fraction(1.0, at, [50.0, 0.0, 0.0], 2.0) == pytest.approx(0.498)
    dual.use(1, other_stands_at=0.0)
    assert marks._fraction(1.0, at, [50.0, 0.0, 0.0], 2.0) == 0.0


class Kinematics:
    """Up to v0.12: the first rail is that of the toolhead, whichever moves."""

    def __init__(self, rails: tuple[Rail, ...]) -> None:
        self.rails = [rails[0], Rail("stepper_y", ""), Rail("stepper_z", ""), rails[1]]
        self.places = {"stepper_x": 1.0, "stepper_y": 2.0, "stepper_z": 3.0,
                       "dual_carriage": 150.0}  # fmt: skip

    def get_steppers(self) -> list[Any]:
        return [
            SimpleNamespace(
                get_mcu=lambda: None, get_name=lambda name=name: name,
                get_past_mcu_position=lambda time, mm=mm: mm,
                mcu_to_commanded_position=lambda mm: mm,
            )
            for name, mm in self.places.items()
        ]  # fmt: skip

    def calc_position(self, positions: dict[str, float]) -> list[float]:
        return [positions[rail.get_name()] for rail in self.rails[:3]]


def test_the_motors_are_those_of_the_carriage_that_moves() -> None:
    dual = Dual("v0.12")
    printer = machine(dual)
    motors = Motors(printer)
    motors.kin, motors.dual_carriage = Kinematics(dual.rails), dual
    assert motors.position(1.0) == [1.0, 2.0, 3.0]
    dual.use(1, other_stands_at=1.0)
    assert motors.position(1.0) == [150.0, 2.0, 3.0]
    # From v0.13 on klippy knows it itself.
    dual.get_primary_rail = lambda: None
    assert motors.position(1.0) == [1.0, 2.0, 3.0]


def test_a_copy_moves_with_the_same_carriage(dual: Dual) -> None:
    before = carriages.moving(dual, 0)
    dual.rails[1].set("COPY", 120.0)
    assert carriages.moving(dual, 0) == before
    dual.use(1, 0.0)
    assert carriages.moving(dual, 0) != before
    assert carriages.moving(dual, 1) is None


def test_a_machine_with_one_carriage_is_as_it_was() -> None:
    assert rare.carriages(machine(None)) is None
    places = {"stepper_x": 1.0}
    assert carriages.put_right(None, None, places) is places


class Guarded(Kinematics):
    """What the guard sees: where the motors are is step counts, the rest is told."""

    def __init__(self, dual: Dual) -> None:
        super().__init__(dual.rails)
        self.dual = dual
        self.true = dict(self.places)
        self.told: list[list[float]] = []

    def get_kinematics(self) -> Guarded:
        return self

    def get_steppers(self) -> list[Any]:
        return [
            SimpleNamespace(
                get_name=lambda name=name: name, get_step_dist=lambda: 0.0025,
                get_mcu_position=lambda name=name: round(self.true[name] / 0.0025),
                get_commanded_position=lambda name=name: self.places[name],
            )
            for name in self.places
        ]  # fmt: skip

    def calc_position(self, positions: dict[str, float]) -> list[float]:
        # v0.12 has it wrong, and the others know it.
        name = "stepper_x"
        if self.dual.kind != "v0.12" and self.dual.rails[1].mode == "PRIMARY":
            name = "dual_carriage"
        return [positions[name], positions["stepper_y"], positions["stepper_z"]]

    def flush_step_generation(self) -> None:
        pass

    def get_status(self, eventtime: float) -> dict[str, Any]:
        return {"homed_axes": "xyz"}

    def check_move(self, move: Any) -> None:
        pass

    def get_position(self) -> list[float]:
        return [*self.calc_position(self.places), 0.0]

    def set_position(self, position: list[float], homing_axes: Any = ()) -> None:
        self.told.append([round(value, 3) for value in position[:3]])


@pytest.fixture
def guarded(dual: Dual) -> tuple[Guard, Guarded]:
    printer, kin = machine(dual), Guarded(dual)
    printer.objects["toolhead"] = kin
    guard = Guard(printer, lambda text: None)
    guard.arm(10.0, (0.0, 0.0, 1.0, 1.0))
    return guard, kin


def test_in_a_hook_each_carriage_is_homed_for_itself(
    guarded: tuple[Guard, Guarded],
) -> None:
    guard, kin = guarded
    homed = SimpleNamespace(get_axes=lambda: [0])
    # The switches close a little elsewhere than the last time.
    for index, (name, astray) in enumerate(
        (("stepper_x", 0.3), ("dual_carriage", -0.2))
    ):
        kin.dual.use(index, other_stands_at=0.0)
        kin.places[name] += astray
        guard._handle_home_rails_end(homed, [])
    kin.dual.use(0, other_stands_at=0.0)
    assert guard.correct() == "" and kin.told == []
    kin.dual.use(1, other_stands_at=0.0)
    assert guard.release() == "" and kin.told == []


def test_a_position_that_a_hook_has_told_is_put_right_for_the_second_one(
    guarded: tuple[Guard, Guarded],
) -> None:
    guard, kin = guarded
    kin.dual.use(1, other_stands_at=1.0)
    kin.places["dual_carriage"] = 10.0  # SET_KINEMATIC_POSITION X=10
    assert guard.release() == ""
    assert [told[0] - kin.get_position()[0] for told in kin.told] == [
        pytest.approx(140.0)
    ]
