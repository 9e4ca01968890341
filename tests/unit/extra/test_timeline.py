# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Plain lines go by the fast way: their marks are those that the slow way makes."""
from __future__ import annotations

import re
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klippy_extras.power_loss_recovery import dispatch, marks, snapshot, timeline

WORD = re.compile(r"([XYZEFS])\s*(-?[\d.]+)")
STATE = dict({part: {} for part in snapshot.ALL_PARTS}, tool={"active": "extruder"})


class Move:
    def __init__(self, end_pos: tuple[float, ...]) -> None:
        self.end_pos = end_pos
        self.timing_callbacks: list[Any] = []


class Gcode:
    """klippy's dispatcher, whose run_script is written like this."""

    def __init__(self, obey: Callable[[str], None]) -> None:
        self.obey = obey
        self.mutex = threading.Lock()

    def run_script(self, script: str) -> None:
        with self.mutex:
            self._process_commands(script.split("\n"), need_ack=False)

    def _process_commands(self, commands: list[str], need_ack: bool = True) -> None:
        assert self.mutex.locked() and not need_ack
        for line in commands:
            self.obey(line)


class Klippy:
    """Reactor, SD card, dispatcher, gcode_move, toolhead and mcu in one."""

    def __init__(self, fast: bool, transformed: bool = False) -> None:
        self.fast = fast
        self.queue: list[Move] = []
        self.lookahead = self
        self.print_time = 0.0
        self.last_position = [0.0, 0.0, 0.0, 0.0]
        self.commanded_pos = (0.0, 0.0, 0.0, 0.0)
        self.base_position = [0.0, 0.0, 0.0, 0.0]
        self.move_transform: object = object() if transformed else None
        self.extrude_factor, self.speed, self.speed_factor = 1.0, 25.0, 1 / 60
        self.absolute_coord = self.absolute_extrude = True
        self.file_position = self.next_file_position = 0
        self.work_timer = object()
        self.current_file = SimpleNamespace(name="/gcodes/part.gcode")
        self.calls: list[str] = []
        self.gcode: Any = Gcode(self._obey)
        self.others = self.gcode
        self.marks = marks.Marks(self, 0.25, SimpleNamespace(at=lambda _: {}))
        m = self.marks
        m.sd = m.toolhead = m.gcode_move = m.mcu = m.motors = self
        self.accel = 0.0
        m.snapshot = SimpleNamespace(state=STATE, refresh=self._refresh)
        m._hook(self)

    def _refresh(self, parts: tuple[str, ...], eventtime: float) -> None:
        state = self.marks.snapshot.state
        if "limits" in parts:
            state = dict(state, limits={"max_accel": self.accel})
        if "coordinates" in parts:
            state = dict(state, coordinates={"extrude_factor": self.extrude_factor})
        self.marks.snapshot.state = state

    # What a printer object offers

    def get_reactor(self) -> Klippy:
        return self

    def lookup_object(self, name: str, default: object = None) -> object:
        return default

    def register_timer(self, callback: object, waketime: object) -> None:
        pass

    NOW = 0.0

    def monotonic(self) -> float:
        return 0.0

    def estimated_print_time(self, eventtime: float) -> float:
        return eventtime

    def alive_until(self, print_time: float) -> float:
        return print_time

    def position(self, print_time: float) -> list[float]:
        return [print_time * 10, 0.0, 0.2]

    # toolhead

    def check_busy(self, eventtime: float) -> tuple[float, float, bool]:
        return self.print_time, self.print_time, not self.queue

    def register_lookahead_callback(self, callback: Any) -> None:
        assert self.queue, "this would flush"
        self.queue[-1].timing_callbacks.append(callback)

    def get_extruder(self) -> Any:
        return SimpleNamespace(get_name=lambda: "extruder")

    def get_position(self) -> list[float]:
        return list(self.commanded_pos)

    def flush(self, count: int | None = None) -> None:
        moves = self.queue[:count]
        del self.queue[:count]
        for move in moves:
            self.print_time += 0.1
            for callback in move.timing_callbacks:
                callback(self.print_time)

    # G-code

    def _obey(self, line: str) -> None:
        self.calls.append(line)
        word = line.split(" ")[0]
        values = {k: float(v) for k, v in WORD.findall(line.partition(";")[0])}
        if word == "BAD":
            raise ValueError(line)
        if word == "M400":
            self.flush()
        elif word == "G92":
            self.base_position[3] = self.last_position[3] - values["E"]
        elif word == "M204":
            self.accel = values.get("S", 1.0)
        elif word == "M221":
            self.extrude_factor = values["S"] / 100
        elif word in ("G1", "G0"):
            self._move(values)
        elif word == "MACRO":
            for x in (1.0, 2.0, 3.0):
                self._move({"X": x, "E": x})

    def _move(self, values: dict[str, float]) -> None:
        before = list(self.last_position)
        for i, axis in enumerate("XYZE"):
            if axis in values:
                scale = self.extrude_factor if axis == "E" else 1.0
                self.last_position[i] = values[axis] * scale + self.base_position[i]
        self.speed = values.get("F", self.speed / self.speed_factor) * self.speed_factor
        if self.last_position != before:
            x, y, z, e = self.last_position
            if self.move_transform is not None:
                z += 0.01 * x  # as a bed mesh would have it
            self.commanded_pos = (x, y, z, e)
            self.queue.append(Move(self.commanded_pos))

    # The virtual SD card

    def line(self, text: str) -> None:
        if not self.fast:
            self.marks._look_again()
        self.next_file_position = self.file_position + len(text.encode()) + 1
        self.gcode.run_script(text)
        self.file_position = self.next_file_position

    def status(self, at: float) -> tuple[Any, int]:
        assert self.marks.failed == ""
        found = self.marks.get_status(at + marks.MOTION_MARGIN)
        return found, self.marks.pending()


def number(low: float, high: float) -> st.SearchStrategy[str]:
    return st.integers(int(low * 10), int(high * 10)).map(lambda n: f"{n / 10:.1f}")


moves = st.builds(
    "G{} {}".format, st.sampled_from("01"),
    st.lists(st.one_of(
        number(-9, 9).map("X{}".format), number(-9, 9).map("Y{}".format),
        number(0, 5).map("Z{}".format), number(-2, 9).map("E{}".format),
        number(1, 90).map("F{}".format), st.just("; größer F9 X9"),
    ), max_size=4).map(" ".join),
)  # fmt: skip
lines = st.one_of(
    moves, moves, moves, moves,
    st.sampled_from([
        "; größer – 测试", "", ";", "   ", "G92 E0", "M221 S90", "M204 S500", "MACRO",
        "M204 S90", "M221 S110", "M204", "M400", "g1 x5", "G1X7 E1",
    ]),
)  # fmt: skip
steps = st.one_of(
    *[st.tuples(st.just("line"), lines)] * 6,
    st.tuples(st.just("others"), lines),
    st.tuples(st.just("flush"), st.integers(1, 6)),
    st.tuples(st.just("ask"), st.integers(0, 60)),
)


def play(script: list[tuple[str, Any]], fast: bool, transformed: bool) -> list[Any]:
    klippy, seen = Klippy(fast, transformed), []
    for what, how in script:
        if what == "line":
            klippy.line(how)
        elif what == "others":
            klippy.others.run_script(how)
        elif what == "flush":
            # Klippy keeps the last move, unless it runs out of lines
            klippy.flush(how if how < len(klippy.queue) else -1)
        else:
            seen.append(klippy.status(how / 10))
    klippy.flush()
    seen += [klippy.status(n / 20) for n in range(-2, int(klippy.print_time * 20) + 3)]
    return seen


def rounded(status: dict[str, Any] | None) -> dict[str, Any] | None:
    return status and dict(status, speed=round(status["speed"], 6))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(script=st.lists(steps, min_size=3, max_size=60), transformed=st.booleans())
def test_both_ways_say_the_same_at_each_instant(
    script: list[Any], transformed: bool
) -> None:
    ways = (play(script, fast, transformed) for fast in (True, False))
    for fast, slow in zip(*ways, strict=True):
        assert (rounded(fast[0]), fast[1]) == (rounded(slow[0]), slow[1])


def test_plain_lines_do_go_the_fast_way() -> None:
    klippy = Klippy(True)
    for n in range(1, 200):
        klippy.line(f"G1 X{n} E{n}")
        klippy.line("; comment")
    (first, *more) = klippy.marks.timeline.segments
    assert more == [] and len(first) == 397
    klippy.marks._tick(0.0)
    klippy.line("G1 X0")
    assert len(klippy.marks.timeline.segments) == 2


def test_so_do_commands_that_change_one_part() -> None:
    klippy = Klippy(True)
    for n in range(1, 50):
        klippy.line(f"G1 X{n} E1 F{n}")
        klippy.line(f"M204 S{n}")
        klippy.line("G92 E0")
    (first,) = klippy.marks.timeline.segments
    klippy.flush()
    mark = klippy.status(1.01)[0]
    assert mark["state"]["limits"] == {"max_accel": 10}
    assert mark["speed"] == 10 and mark["position"][3] == 0


def test_what_others_do_is_noticed_at_once() -> None:
    klippy = Klippy(True)
    klippy.line("G1 X1 E1")
    klippy.line("G1 X2 E2")
    klippy.others.run_script("G1 Y5")
    klippy.line("G1 X3 E3")
    klippy.flush()
    found = [klippy.status(at / 10 + 0.01)[0] for at in (2, 3, 4)]
    assert [f["position"][:2] for f in found] == [[2, 0], [2, 5], [3, 5]]


def test_who_waits_for_a_slow_line_is_noticed_after_it() -> None:
    klippy = Klippy(True)
    klippy.line("G1 X1 E1")
    obey = klippy.others.obey

    def obey_and_be_asked(line: str) -> None:
        obey(line)
        klippy.marks._others_run()

    klippy.others.obey = obey_and_be_asked
    klippy.line("M204 S1")
    klippy.others.obey = obey
    klippy.last_position[1] = 5.0  # now it is their turn
    klippy.line("G1 X2 E2")
    klippy.flush()
    assert klippy.status(0.11)[0]["position"][:2] == [1, 5]


def test_a_jump_by_m26_has_a_mark_of_its_own() -> None:
    klippy = Klippy(True)
    for n in range(1, 5):
        klippy.line(f"G1 X{n} E{n}")
    klippy.others.run_script("M26 S70")
    klippy.file_position, klippy.work_timer = 70, object()
    klippy.line("G1 X5 E5")
    klippy.flush()
    assert klippy.status(0.35)[0]["file_position"] == 27
    assert klippy.status(0.41)[0]["file_position"] == 70
    assert klippy.status(0.51)[0]["file_position"] == 79


def test_a_serial_console_counts_as_others() -> None:
    looked: list[int] = []
    ran: list[object] = []
    gcode = SimpleNamespace(
        run_script=ran.append, _process_commands=lambda c, need_ack=True: ran.append(c)
    )
    console = SimpleNamespace(gcode=gcode)
    printer = SimpleNamespace(lookup_object=lambda *_: console)
    dispatch.watch_others(printer, gcode, lambda: looked.append(1))
    console.gcode._process_commands(["M115"], need_ack=False)
    gcode.run_script("M117 x")
    assert ran == [["M115"], "M117 x"] and len(looked) == 2
    assert console.gcode.run_script is gcode.run_script


def test_a_dispatcher_of_another_kind_is_called_as_it_is() -> None:
    ran: list[str] = []
    for other in (
        SimpleNamespace(run_script=ran.append),
        SimpleNamespace(run_script=Gcode(ran.append).run_script),
    ):
        mutex, process = dispatch.way_of(other)
        with mutex:
            process(["G1 X1"], False)
    assert ran == ["G1 X1", "G1 X1"]
    klippy = Gcode(ran.append)
    assert dispatch.way_of(klippy) == (klippy.mutex, klippy._process_commands)


def test_an_error_in_a_plain_line_goes_through() -> None:
    klippy = Klippy(True)
    klippy.line("G1 X1")
    assert klippy.gcode.run_script != klippy.gcode.run_slowly
    klippy.others.__dict__["run_script"] = None
    klippy.last_position = None  # type: ignore[assignment]
    with pytest.raises(TypeError):
        klippy.line("G1 X2")
    assert klippy.marks.failed == ""
    assert klippy.gcode.run_script == klippy.gcode.run_slowly


def test_lines_that_end_after_a_shutdown_do_not_count() -> None:
    klippy = Klippy(True)
    klippy.line("G1 X1")
    klippy.line("G1 X2")
    run = klippy.gcode.run_script
    klippy.marks.note_shutdown()
    run("G1 X3")  # klippy was in the middle of it
    klippy.flush()
    stopped = klippy.marks.stopped(9.0, 9.0, [0.0, 0.0, 0.0])
    assert stopped["file_position"] == 12


def test_a_klippy_with_another_queue_is_followed_slowly() -> None:
    assert not dispatch.can_follow(None)
    assert not dispatch.can_follow(SimpleNamespace(queue=[]))
    assert not dispatch.can_follow(SimpleNamespace(queue=[object()]))
    assert dispatch.can_follow(SimpleNamespace(queue=[Move((0.0,) * 4)]))


def test_what_is_long_past_is_forgotten() -> None:
    klippy = Klippy(True)
    for _ in range(30):
        for n in range(20):
            klippy.line(f"G1 X{n}")
        klippy.marks._tick(0.0)
        klippy.flush(-1)
    segments = klippy.marks.timeline.segments
    kept = klippy.print_time - segments[0].times[0]
    assert timeline.PAST_SECONDS <= kept < timeline.PAST_SECONDS + 5
