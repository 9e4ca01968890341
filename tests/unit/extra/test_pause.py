# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Of a print that stands paused the mark is what RESUME goes back to."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery.pause import Pause
from tests.unit import samples
from tests.unit.extra.fake_printer import Printer

SAVED = {
    "absolute_coord": True, "absolute_extrude": False,
    "base_position": [1.0, 2.0, 0.5, 90.0], "last_position": [51.0, 62.0, 4.5, 100.0],
    "homing_position": [0.0, 0.0, 0.5, 0.0], "speed": 30.0, "speed_factor": 1 / 60,
    "extrude_factor": 0.5,
}  # fmt: skip


def parked(**changes: Any) -> dict[str, Any]:
    """After the line with M600 in it: at the front, in G91."""
    coordinates = {"absolute_coordinates": False, "homing_origin": [9.0, 9.0, 9.0]}
    place = samples.POSITION
    made = samples.mark(
        position=[0.0, 0.0, 40.0, -30.0], retracted=2.0,
        state=samples.state(coordinates=coordinates),
        queued={"file_position": place, "print_time": 13.0},
    )  # fmt: skip
    return {**made, **changes}


class Bench(Printer):
    def __init__(self, mark: dict[str, Any] | None, high: float = 101.0) -> None:
        super().__init__()
        self.state, self.is_paused = "paused", True
        self.saved: dict[str, Any] = {"PAUSE_STATE": SAVED}
        self.objects["gcode_move"] = SimpleNamespace(saved_states=self.saved)
        self.objects["print_stats"] = SimpleNamespace(
            get_status=lambda t: {"state": self.state}
        )
        self.objects["pause_resume"] = self
        marks: Any = SimpleNamespace(
            get_status=lambda t: mark, high_water={"extruder": high}
        )
        self.pause = Pause(self, marks)

    def told(self) -> Any:
        return self.pause.get_status(0.0)

    def run(self, pauses: bool, e: float = 103.0) -> None:
        """The line before the mark, that began with an E of the file of 26."""
        saved = self.saved.pop("PAUSE_STATE")
        if not pauses:
            self.saved["PAUSE_STATE"] = dict(saved)
        then: Any = SimpleNamespace(
            state=in_the_file(), speed=1500.0, position=(50.0, 60.0, 4.0, 26.0)
        )
        self.pause.note_start(then, e)
        if pauses:
            self.saved["PAUSE_STATE"] = saved
        self.pause.note_line(1, samples.POSITION)


def test_the_place_is_the_one_before_the_park_position() -> None:
    mark = parked()
    told = Bench(mark).told()
    assert told["paused"] is True and told["position"] == [50.0, 60.0, 4.0, 20.0]
    assert told["speed"] == 1800.0 and told["retracted"] == 1.0
    coordinates = told["state"]["coordinates"]
    assert coordinates["absolute_coordinates"] is True
    assert coordinates["homing_origin"] == [0.0, 0.0, 0.5]
    assert coordinates["g92"] == [1.0, 2.0, 0.0]
    assert coordinates["extrude_factor"] == 0.5 and coordinates["speed_factor"] == 1.0
    assert coordinates["homed_axes"] == "xyz"
    # The motors and the rest are as they are, and the mark itself is not touched.
    for key in ("toolhead_z", "file_position", "file_path", "job", "fraction"):
        assert told[key] == mark[key]
    assert mark == parked() and told["state"]["heaters"] == mark["state"]["heaters"]


def test_filament_that_was_loaded_in_the_pause_is_at_the_nozzle() -> None:
    """The macro has pushed 60 mm since: its end is where the filament has been."""
    assert Bench(parked(retracted=0.0), high=160.0).told()["retracted"] == 0.0


def test_while_lines_before_the_pause_are_laid_nothing_is_different() -> None:
    mark = parked(queued={"file_position": samples.POSITION + 10, "print_time": 14.0})
    assert Bench(mark).told() is mark


def test_a_print_that_runs_or_was_stopped_by_m25_is_as_it_is() -> None:
    mark = parked()
    bench = Bench(mark)
    bench.state = "printing"
    assert bench.told() is mark
    bench.state, bench.is_paused = "paused", False
    assert bench.told() is mark


def test_on_the_way_back_from_the_park_position_the_place_is_the_same() -> None:
    """After RESUME the motors need a moment, and the old mark is still the newest."""
    bench = Bench(parked())
    assert bench.told()["paused"] is True
    bench.state, bench.is_paused = "printing", False
    told = bench.told()
    assert told["paused"] is False and told["position"] == [50.0, 60.0, 4.0, 20.0]
    further = parked(file_position=samples.POSITION + 30)
    assert bench.pause.before(further) is further
    another = parked(job=2)
    assert bench.pause.before(another) is another


def test_what_an_earlier_print_left_is_not_believed() -> None:
    mark = parked()
    bench = Bench(mark)
    bench.pause.note_reset()
    assert bench.told() is mark
    bench.saved["PAUSE_STATE"] = dict(SAVED)
    assert bench.told()["paused"] is True


def test_without_a_mark_or_a_pause_there_is_nothing_to_change() -> None:
    assert Bench(None).told() is None
    mark = parked()
    bench = Bench(mark)
    bench.saved.clear()
    assert bench.told() is mark
    del bench.objects["gcode_move"]
    assert bench.told() is mark


def test_where_the_motors_stopped_in_a_pause_counts_the_same() -> None:
    assert Bench(None).pause.before(parked())["position"] == [50.0, 60.0, 4.0, 20.0]


# What a macro does before its PAUSE, and undoes after RESUME


def in_the_file() -> dict[str, Any]:
    """Of a file with absolute E, before a macro pulled 3 mm back in M83."""
    modes = {"absolute_coordinates": True, "absolute_extrude": True}
    state = samples.state(coordinates=modes)
    return {**state, "gcode": {"states": {}, "retracted": False}}


def with_macro() -> dict[str, Any]:
    modes = {"absolute_coordinates": False, "absolute_extrude": False}
    state = samples.state(coordinates=modes)
    state["gcode"] = {"states": {}, "retracted": True}
    return parked(state=state, retracted=4.0, position=[0.0, 0.0, 40.0, 17.0])


def assert_as_the_file_left_it(told: dict[str, Any]) -> None:
    assert told["position"] == [50.0, 60.0, 4.0, 26.0]
    assert told["speed"] == 1500.0 and told["retracted"] == 0.5
    coordinates = told["state"]["coordinates"]
    assert coordinates["absolute_extrude"] is True
    assert coordinates["absolute_coordinates"] is True
    assert told["state"]["gcode"]["retracted"] is False


def test_what_the_line_with_the_pause_did_before_it_is_not_the_files() -> None:
    bench = Bench(with_macro(), high=103.5)
    bench.run(pauses=True)
    told = bench.told()
    assert told["paused"] is True
    assert_as_the_file_left_it(told)
    # A babystep or M221 in the pause stays.
    assert told["state"]["coordinates"]["homing_origin"] == [0.0, 0.0, 0.5]
    assert told["state"]["coordinates"]["extrude_factor"] == 0.5


def test_a_pause_that_was_over_before_anybody_asked_counts_the_same() -> None:
    """A timelapse parks for less than a status takes; its way back is longer."""
    bench = Bench(with_macro(), high=103.5)
    bench.run(pauses=True)
    bench.state, bench.is_paused = "printing", False
    told = bench.told()
    assert told["paused"] is False
    assert_as_the_file_left_it(told)


def test_a_line_that_only_restores_saved_states_is_no_pause() -> None:
    """As the first lines of a resume file do."""
    mark = with_macro()
    bench = Bench(mark, high=103.5)
    bench.state, bench.is_paused = "printing", False
    bench.run(pauses=True)
    assert bench.told() is mark


def test_of_a_pause_between_two_lines_the_mark_knows_how_the_file_left_it() -> None:
    """An owner's PAUSE macro pulls filament back before klippy's own."""
    mark = parked(
        state=in_the_file(), retracted=0.8, position=[50.0, 60.0, 4.0, 26.0],
        speed=1200.0,
    )  # fmt: skip
    bench = Bench(mark, high=103.8)
    bench.run(pauses=False)
    told = bench.told()
    assert told["paused"] is True
    assert told["position"] == [50.0, 60.0, 4.0, 26.0] and told["speed"] == 1200.0
    assert told["retracted"] == 0.8
    assert told["state"]["coordinates"]["absolute_extrude"] is True


def test_a_second_pause_in_the_same_place_is_left_the_same_way() -> None:
    bench = Bench(with_macro(), high=103.5)
    bench.run(pauses=True)
    bench.told()
    bench.saved["PAUSE_STATE"] = {**SAVED, "homing_position": [0.0, 0.0, 0.6, 0.0]}
    told = bench.told()
    assert_as_the_file_left_it(told)
    assert told["state"]["coordinates"]["homing_origin"] == [0.0, 0.0, 0.6]


@pytest.mark.parametrize(("variable", "paused"), [(True, False), (False, True)])
def test_a_frame_of_a_timelapse_waits_for_nobody(variable: bool, paused: bool) -> None:
    bench = Bench(parked())
    bench.objects["gcode_macro TIMELAPSE_TAKE_FRAME"] = SimpleNamespace(
        variables={"is_paused": variable}
    )
    told = bench.told()
    assert told["paused"] is paused and told["position"] == [50.0, 60.0, 4.0, 20.0]
