# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The extra's marks, without klippy: what is executed, and at which byte."""
from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery import (
    counter,
    dispatch,
    fraction,
    marks,
    snapshot,
)
from moonraker_components.power_loss_recovery.record import Record
from tests.unit import samples

STATE = {part: {} for part in snapshot.ALL_PARTS}


class Sd:
    """The part of klippy's VirtualSD that the counter looks at."""

    def __init__(self, characters: bool) -> None:
        self.characters = characters
        self.file_position = self.next_file_position = 0
        self.work_timer: object = object()
        self.current_file = SimpleNamespace(name="/gcodes/part.gcode")

    def begin(self, line: str, jump: int | None = None) -> None:
        count = len(line) if self.characters else len(line.encode())
        self.next_file_position = self.file_position + count + 1
        if jump is not None:
            self.next_file_position = jump

    def run(
        self, count: counter.FileCounter, line: str, jump: int | None = None
    ) -> int:
        count.begin(self)
        self.begin(line, jump)
        position = count.advance(line, self.next_file_position)
        self.end()
        return position

    def end(self) -> None:
        self.file_position = self.next_file_position


@pytest.mark.parametrize("characters", [True, False], ids=["v0.12", "later"])
def test_offsets_are_bytes_whatever_klippy_counts(characters: bool) -> None:
    lines = ["; Würfel – 测试", "G1 X1\r", "", "M117 größer", "G1 X2"]
    sd, count, byte = Sd(characters), counter.FileCounter(), 0
    for line in lines:
        byte += len(line.encode()) + 1
        assert sd.run(count, line) == byte


@pytest.mark.parametrize("characters", [True, False], ids=["v0.12", "later"])
def test_many_lines_are_counted_like_one_after_the_other(characters: bool) -> None:
    lines = ["; Würfel – 测试", "G1 X1\r", "", "G1 X2 ; größer"]
    sd, count = Sd(characters), counter.FileCounter()
    for line in lines:
        sd.begin(line)
        sd.end()
    size = sum(len(line.encode()) + 1 for line in lines)
    assert count.advance_plain("\n".join(lines), sd.file_position) == size
    sd.work_timer = count._run
    assert count.begin(sd) == size


def test_after_many_lines_a_seek_is_followed() -> None:
    sd, count = Sd(False), counter.FileCounter()
    sd.file_position = 300  # M26 to elsewhere, after 12 bytes of plain lines
    assert count.advance_plain("G1 X1\nG1 X2", sd.file_position) == 12
    assert count.begin(sd) == 300


def test_a_seek_is_followed() -> None:
    sd, count = Sd(False), counter.FileCounter()
    sd.run(count, "G1 X1")
    sd.file_position = 500  # M26
    assert count.begin(sd) == 500
    assert sd.run(count, "G1 X2") == 506


def test_a_line_that_jumps_is_followed() -> None:
    sd, count = Sd(False), counter.FileCounter()
    assert sd.run(count, "SDCARD_LOOP_END", jump=40) == 40
    assert sd.run(count, "G1 X1") == 46


def test_after_a_pause_old_klippy_goes_on_at_its_count_of_characters() -> None:
    sd, count = Sd(True), counter.FileCounter()
    assert sd.run(count, "; ööö") == 9
    sd.work_timer = object()  # M25, M24: it seeks to byte 6
    assert count.begin(sd) == 6
    assert sd.run(count, "G1 X1") == 12


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("G1 X1", "G1"), ("g1 x1", "G1"), ("  G1X1Y2", "G1"), ("G28", "G28"),
        ("; G1 X1", ""), ("", ""), ("(comment)", ""), ("M106S255", "M106"),
        ("SET_FAN_SPEED FAN=a", "SET_FAN_SPEED"), ("G1;x", "G1"), ("PLR_X", "PLR_X"),
    ],
)  # fmt: skip
def test_the_command_of_a_line(line: str, word: str) -> None:
    assert marks.first_word(line) == word


class Motion:
    """toolhead, gcode_move, mcu and reactor in one; time is set by the test."""

    def __init__(self) -> None:
        self.now = 0.0
        self.print_time = 0.0
        self.empty = False
        self.callbacks: list[Callable[[float], None]] = []
        self.last_position = [0.0, 0.0, 0.0, 0.0]
        self.base_position = [0.0, 0.0, 0.0, 0.0]
        self.extrude_factor, self.speed, self.speed_factor = 1.0, 25.0, 1 / 60
        self.absolute_coord = self.absolute_extrude = True
        self.motors = [0.0, 0.0, 0.0]
        self.alive = 1e9
        self.extruder = "extruder"

    def get_extruder(self) -> Any:
        return SimpleNamespace(get_name=lambda: self.extruder)

    def monotonic(self) -> float:
        return self.now

    def check_busy(self, eventtime: float) -> tuple[float, float, bool]:
        return self.print_time, self.now, self.empty

    def register_lookahead_callback(self, callback: Callable[[float], None]) -> None:
        assert not self.empty, "with an empty queue this would flush"
        self.callbacks.append(callback)

    def flush(self, *times: float) -> None:
        for callback, at in zip(self.callbacks, times, strict=True):
            callback(at)
        self.callbacks = []

    def estimated_print_time(self, eventtime: float) -> float:
        return eventtime

    def get_position(self) -> list[float]:
        return self.last_position

    def position(self, print_time: float) -> list[float]:
        return self.motors

    def alive_until(self, print_time: float) -> float:
        return min(print_time, self.alive)


@pytest.fixture
def tracked() -> tuple[marks.Marks, Motion, Sd]:
    motion, sd = Motion(), Sd(False)
    printer = SimpleNamespace(get_reactor=lambda: motion)
    m = marks.Marks(printer, 0.25, SimpleNamespace(at=lambda print_time: {}))
    m.toolhead = m.gcode_move = m.mcu = m.motors = motion
    m.sd = sd
    m.snapshot = SimpleNamespace(
        state=dict(STATE, tool={"active": "extruder"}), refresh=lambda *a: None,
        forget_layer=lambda: None, note_layer=lambda *a: None,
    )  # fmt: skip
    return m, motion, sd


def run(m: marks.Marks, sd: Sd, motion: Motion, line: str, x: float, e: float) -> None:
    m.note_start()
    sd.begin(line)
    motion.last_position = [x, 0.0, 0.2, e]
    m.note_line(line)
    assert m.failed == ""
    sd.end()


def test_a_line_is_executed_when_the_motors_have_passed_its_end(tracked: Any) -> None:
    m, motion, sd = tracked
    run(m, sd, motion, "G1 X10 E1", 10, 1)
    run(m, sd, motion, "G1 X20 E2", 20, 2)
    assert m.get_status(0.0) is None
    motion.flush(5.0, 6.0)
    assert m.get_status(4.9) is None
    assert m.get_status(5.0 + marks.MOTION_MARGIN)["file_position"] == 10
    assert m.get_status(6.0 + marks.MOTION_MARGIN)["file_position"] == 20
    assert m.get_status(7.0)["position"] == [20, 0, 0.2, 2]


def test_with_an_empty_queue_nothing_is_flushed(tracked: Any) -> None:
    m, motion, sd = tracked
    motion.empty, motion.print_time = True, 3.0
    run(m, sd, motion, "; comment", 0, 0)
    assert motion.callbacks == []
    assert m.get_status(2.9) is None
    assert m.get_status(3.1)["file_position"] == 10


def test_a_long_line_is_split_short_of_where_the_motors_are(tracked: Any) -> None:
    m, motion, sd = tracked
    run(m, sd, motion, "G1 X0 E0", 0, 0)
    run(m, sd, motion, "G1 X100 E5", 100, 5)
    motion.flush(1.0, 3.0)
    motion.motors = [60.0, 0.0, 0.2]
    status = m.get_status(2.0)
    assert status["fraction"] == pytest.approx((60 - fraction.MARGIN) / 100)


def test_the_range_of_z_is_that_of_all_that_is_queued(tracked: Any) -> None:
    m, motion, sd = tracked
    for z in (0.2, 0.4, 1.0):
        m.note_start()
        sd.begin("G1 Z")
        motion.last_position = [0.0, 0.0, z, 0.0]
        m.note_line("G1 Z")
        sd.end()
    motion.flush(1.0, 2.0, 3.0)
    motion.last_position = [0.0, 0.0, 1.2, 0.0]  # handed over, its time not known
    motion.motors = [0.0, 0.0, 0.3]
    assert m.get_status(1.5)["z_range"] == [0.3, 1.2]
    motion.motors = [0.0, 0.0, 1.2]
    assert m.get_status(9.0)["z_range"] == [1.2, 1.2]


def test_what_a_silent_board_was_sent_is_not_promised(tracked: Any) -> None:
    m, motion, sd = tracked
    run(m, sd, motion, "G1 X10 E1", 10, 1)
    run(m, sd, motion, "G1 X20 E2", 20, 2)
    motion.flush(5.0, 6.0)
    assert m.get_status(6.1)["file_position"] == 20
    motion.alive = 5.5
    assert m.get_status(8.0)["file_position"] == 10
    motion.alive = 9.0
    assert m.get_status(8.0)["file_position"] == 20


def test_the_last_mark_is_that_of_the_earliest_stop(tracked: Any) -> None:
    m, motion, sd = tracked
    for n in range(1, 5):
        run(m, sd, motion, f"G1 X{n} E{n}", n, n)
    motion.flush(1.0, 2.0, 3.0, 4.0)
    assert m.get_status(3.2)["file_position"] == 27
    m.note_shutdown()
    stopped = m.stopped(2.5, 3.5, [7.0, 8.0, 9.0])
    assert stopped["file_position"] == 18
    assert stopped["toolhead_z"] == 9.0
    assert stopped["latest"] == {"file_position": 27, "print_time": 3.5}
    assert stopped["z_range"] == [0.0, 9.0]


def test_where_the_board_has_said_when_it_stopped_z_is_known(tracked: Any) -> None:
    m, motion, sd = tracked
    run(m, sd, motion, "G1 X1 E1", 1, 1)
    run(m, sd, motion, "G1 X2 E2", 2, 2)
    motion.flush(1.0, 3.0)
    m.z_phase.at = lambda print_time: {"at": print_time}
    m.note_shutdown()
    stopped = m.stopped(2.0, 2.0, [7.0, 8.0, 9.0])
    assert stopped["z_range"] == [9.0, 9.0]
    assert stopped["z_phases"] == {"at": 2.0}


def test_what_is_queued_is_named_with_its_time(tracked: Any) -> None:
    m, motion, sd = tracked
    run(m, sd, motion, "G1 X10 E1", 10, 1)
    run(m, sd, motion, "G1 X20 E2", 20, 2)
    motion.flush(5.0, 6.0)
    run(m, sd, motion, "G1 X30 E3", 30, 3)
    queued = m.get_status(5.5)["queued"]
    assert queued == {"file_position": 20, "print_time": 6.0}


def test_what_moves_between_two_lines_moves_where_the_next_one_starts(
    tracked: Any,
) -> None:
    m, motion, sd = tracked
    run(m, sd, motion, "G1 X10 E1", 10, 1)
    motion.last_position = [10.0, 5.0, 0.2, 1.0]  # a macro from the console
    run(m, sd, motion, "G1 X20 E2", 20, 2)
    motion.flush(5.0, 6.0, 7.0)
    assert m.get_status(5.5)["position"] == [10, 0, 0.2, 1]
    moved = m.get_status(6.5)
    assert (moved["file_position"], moved["position"]) == (10, [10, 5, 0.2, 1])


def test_what_is_sent_can_be_saved(tracked: Any) -> None:
    m, motion, sd = tracked
    m.snapshot.state = samples.STATE
    run(m, sd, motion, "G1 X1 E1", 1, 1)
    run(m, sd, motion, "G1 X2 E2", 2, 2)
    motion.flush(1.0, 3.0)
    ours = {"line": "G1 X2 E2", "saved_at": 1.7e9, "boot_id": "boot"}
    record = Record.from_dict({**m.get_status(2.0), **ours})
    assert record.live_position == (0.0, 0.0, 0.0)
    assert record.queued is not None and record.queued.print_time == 3.0
    m.note_shutdown()
    Record.from_dict({**m.stopped(2.0, 2.5, [7.0, 8.0, 9.0]), **ours})


def test_retraction_is_known(tracked: Any) -> None:
    m, motion, sd = tracked
    run(m, sd, motion, "G1 X1 E5", 1, 5)
    run(m, sd, motion, "G1 E-0.8", 1, 4.2)
    motion.flush(1.0, 2.0)
    assert m.get_status(1.5)["retracted"] == 0
    assert m.get_status(3.0)["retracted"] == pytest.approx(0.8)


def test_each_extruder_has_its_own_filament(tracked: Any) -> None:
    m, motion, sd = tracked
    # Something else has purged with the second before the file's first line
    motion.extruder, motion.last_position = "extruder1", [0.0, 0.0, 0.0, 30.0]
    m.watch = SimpleNamespace(note_start=lambda *a: None, note_line=lambda *a: None)
    sd.begin("T0")
    m.note_start()
    motion.extruder, motion.last_position = "extruder", [0.0, 0.0, 0.0, 0.0]
    m.note_line("T0")
    sd.end()
    motion.flush(1.0)
    assert m.get_status(2.0)["retracted"] == 0


def test_a_cancel_that_a_shutdown_ends_is_still_one(tracked: Any) -> None:
    m, motion, sd = tracked
    run(m, sd, motion, "G1 X1 E5", 1, 5)
    motion.flush(1.0)
    m.is_cancelling = lambda: not m.is_shutdown
    m.note_shutdown()
    assert m.stopped(2.0, 2.0, [1.0, 0.0, 0.2])["cancelling"]


def test_after_a_shutdown_nothing_is_promised(tracked: Any) -> None:
    m, motion, sd = tracked
    run(m, sd, motion, "G1 X1 E5", 1, 5)
    motion.flush(1.0)
    m.note_shutdown()
    assert m.get_status(9.0) is None


def test_a_fault_of_ours_disables_us_and_lets_the_line_pass(tracked: Any) -> None:
    m, motion, sd = tracked
    ran: list[str] = []
    proxy = dispatch.SdDispatch(SimpleNamespace(run_script=ran.append), m)
    m.snapshot = None
    proxy.run_script("M204 S1")
    proxy.run_script("G1 X1")
    assert ran == ["M204 S1", "G1 X1"]
    assert "internal error" in m.failed


def test_an_error_of_a_line_goes_through(tracked: Any) -> None:
    m, _motion, _sd = tracked

    def fail(script: str) -> None:
        raise ValueError(script)

    proxy = dispatch.SdDispatch(SimpleNamespace(run_script=fail, error=ValueError), m)
    with pytest.raises(ValueError, match="G1"):
        proxy.run_script("G1")
    assert proxy.error is ValueError


def test_what_klippy_runs_after_an_error_is_no_line(tracked: Any) -> None:
    m, motion, sd = tracked
    run(m, sd, motion, "G1 X1 E5", 1, 5)
    m.note_start()
    sd.begin("BAD")
    m.note_error()
    m.note_start()
    m.note_line("")  # on_error_gcode
    motion.flush(1.0)
    assert m.get_status(9.0)["file_position"] == 9
    assert m.get_status(9.0)["queued"]["file_position"] == 9


def test_another_file_starts_afresh(tracked: Any) -> None:
    m, motion, sd = tracked
    run(m, sd, motion, "G1 X1 E5", 1, 5)
    motion.flush(1.0)
    assert m.get_status(2.0)["job"] == 0
    m.note_reset()
    assert m.get_status(2.0) is None
    assert m.job == 1


def test_late_callbacks_of_the_last_file_are_not_taken_for_the_next(
    tracked: Any,
) -> None:
    m, motion, sd = tracked
    run(m, sd, motion, "G1 X1 E5", 1, 5)
    m.note_reset()
    motion.flush(1.0)
    assert m.get_status(2.0) is None
