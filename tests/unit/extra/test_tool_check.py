# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""VERIFY_TOOLCHANGE_DURING_PRINT, with a clock of the test's own."""
from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery import tools
from klippy_extras.power_loss_recovery.tool_check import ToolCheck
from tests.unit.extra.fake_printer import CommandError, Config, Printer

VERIFY = "VERIFY_TOOLCHANGE_DURING_PRINT"
LEAD = 2.0  # s that klippy reads ahead of the motors
STATUS = {
    "status": "ready", "tool": "tool T1", "tool_number": 1, "has_detection": True,
    "detected_tool": "tool T1", "detected_tool_number": 1,
}  # fmt: skip
NEVER = 1e30


class Bench(Printer):
    """Reactor, print_stats, toolhead and toolchanger in one."""

    NEVER = NEVER

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.now = 100.0
        self.state, self.queue_empty = "printing", True
        self.changer: dict[str, Any] = {**STATUS, **changes}
        self.timer: Callable[[float], float] | None = None
        self.wake = NEVER
        self.lookahead: list[Callable[[float], None]] = []
        self.errors: list[str] = []
        self.blocked = ""
        gcode = self.objects["gcode"]
        gcode.respond_raw, gcode.run_script = self.errors.append, self._run
        status = {"toolchanger": lambda: self.changer,
                  "print_stats": lambda: {"state": self.state}}  # fmt: skip
        for name, ask in status.items():
            self.objects[name] = SimpleNamespace(get_status=lambda t, ask=ask: ask())
        self.objects["toolhead"] = SimpleNamespace(
            check_busy=lambda t: (t + LEAD, t, self.queue_empty),
            register_lookahead_callback=self.lookahead.append,
        )
        self.objects["pause_resume"] = object()
        self.check = ToolCheck(Config(self))

    def get_reactor(self) -> Any:
        return self

    def monotonic(self) -> float:
        return self.now

    def register_timer(self, look: Callable[[float], float], wake: float) -> object:
        assert self.timer is None
        self.timer, self.wake = look, wake
        return look

    def update_timer(self, timer: object, wake: float) -> None:
        self.wake = wake

    def register_callback(self, call: Callable[[float], None]) -> None:
        call(self.now)

    def _run(self, script: str) -> None:
        self.scripts.append(script)
        self.state = {"PAUSE": "paused", "CANCEL_PRINT": "cancelled"}[script]
        if self.blocked:
            raise CommandError(self.blocked)

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.timer is not None and self.wake <= end:
            self.now = max(self.now, self.wake)
            self.wake = self.timer(self.now)
        self.now = end

    def flush(self) -> None:
        waiting, self.lookahead = self.lookahead, []
        for call in waiting:
            call(self.now + LEAD)

    def lose(self, detected: str | None = None) -> None:
        self.changer["detected_tool"] = detected


def test_a_tool_that_stays_on_is_no_matter_and_the_window_ends() -> None:
    bench = Bench()
    assert bench.run(f"{VERIFY} DURATION=10") == []
    bench.pass_time(LEAD + 10.5)
    assert bench.scripts == [] and bench.wake == NEVER
    bench.lose()
    bench.pass_time(60)
    assert bench.scripts == []


@pytest.mark.parametrize(("force", "script", "said"), [
    ("", "PAUSE", "paused: mount it, then RESUME"),
    ("FORCE=0", "PAUSE", "paused"), ("FORCE=1", "CANCEL_PRINT", "cancelled"),
])  # fmt: skip
def test_a_lost_tool_ends_the_print_as_asked(
    force: str, script: str, said: str
) -> None:
    bench = Bench()
    bench.run(f"{VERIFY} DURATION=10 {force}")
    bench.pass_time(LEAD + 5)
    bench.lose()
    bench.pass_time(1.0)
    assert bench.scripts == [script]
    (error,) = bench.errors
    assert error.startswith("!! ") and "[tool T1] is selected" in error
    assert "no single tool" in error and said in error
    bench.pass_time(30)
    assert bench.scripts == [script]


def test_another_tool_than_the_selected_one_is_named() -> None:
    bench = Bench(detected_tool="tool T0")
    bench.run(VERIFY)
    bench.pass_time(LEAD + 1.0)
    assert bench.scripts == ["PAUSE"] and "see [tool T0]" in bench.errors[0]


def test_a_sensor_that_flickers_stops_nothing() -> None:
    bench = Bench()
    bench.run(f"{VERIFY} DURATION=20")
    bench.pass_time(LEAD + 1)
    for _ in range(8):
        bench.lose()
        bench.pass_time(0.3)
        bench.lose("tool T1")
        bench.pass_time(0.7)
    assert bench.scripts == []


def test_it_begins_when_the_motors_have_come_to_it() -> None:
    bench = Bench(detected_tool=None)
    bench.queue_empty = False
    bench.run(VERIFY)
    bench.pass_time(20)
    assert bench.scripts == [] and bench.timer is None
    bench.flush()
    bench.pass_time(LEAD - 0.1)
    assert bench.scripts == []
    bench.pass_time(1.5)
    assert bench.scripts == ["PAUSE"]


def test_a_second_call_begins_the_window_anew() -> None:
    bench = Bench()
    bench.run(f"{VERIFY} DURATION=5")
    bench.pass_time(4)
    bench.run(f"{VERIFY} DURATION=5 FORCE=1")
    bench.pass_time(LEAD + 4)
    bench.lose()
    bench.pass_time(1.0)
    assert bench.scripts == ["CANCEL_PRINT"]


def test_of_two_calls_in_the_queue_the_later_counts() -> None:
    bench = Bench()
    bench.queue_empty = False
    bench.run(f"{VERIFY} DURATION=5")
    bench.run(f"{VERIFY} DURATION=20")
    bench.lookahead.reverse()
    bench.flush()
    bench.pass_time(LEAD + 10)
    bench.lose()
    bench.pass_time(1.0)
    assert bench.scripts == ["PAUSE"]


@pytest.mark.parametrize("state", ["standby", "paused", "complete", "cancelled"])
def test_without_a_print_it_does_nothing(state: str) -> None:
    bench = Bench(detected_tool=None)
    bench.state = state
    assert bench.run(VERIFY) == []
    bench.pass_time(60)
    assert bench.timer is None and bench.scripts == []


def test_a_print_that_was_paused_is_not_watched_any_more() -> None:
    bench = Bench()
    bench.run(VERIFY)
    bench.pass_time(LEAD + 1)
    bench.state = "paused"
    bench.lose()
    bench.pass_time(5)
    bench.state = "printing"
    bench.pass_time(5)
    assert bench.scripts == [] and bench.wake == NEVER


@pytest.mark.parametrize(("away", "why"), [
    ("toolchanger", "no .toolchanger"), ("pause_resume", "needs .pause_resume"),
])  # fmt: skip
def test_what_is_missing_is_said_once(away: str, why: str) -> None:
    bench = Bench()
    del bench.objects[away]
    (said,) = bench.run(VERIFY)
    assert why.replace(".", "[") in said
    assert bench.run(VERIFY) == [] and bench.timer is None


def test_without_a_sensor_it_says_so_once() -> None:
    bench = Bench(has_detection=False, detected_tool=None)
    (said,) = bench.run(VERIFY)
    assert "no detection_pin" in said
    assert bench.run(VERIFY) == []
    bench.pass_time(60)
    assert bench.scripts == []


def test_a_tool_change_in_the_window_is_waited_for_with_its_motors() -> None:
    bench = Bench()
    bench.run(f"{VERIFY} DURATION=60")
    bench.pass_time(LEAD + 1)
    bench.changer.update(status="changing", detected_tool=None)
    bench.pass_time(10)
    bench.changer.update(status="ready", tool="tool T2")
    bench.queue_empty = False
    bench.pass_time(5)
    bench.flush()
    assert bench.scripts == []
    bench.lose("tool T2")
    bench.pass_time(20)
    assert bench.scripts == []
    bench.lose("tool T1")
    bench.pass_time(1.5)
    assert bench.scripts == ["PAUSE"] and "[tool T2] is selected" in bench.errors[0]


def test_a_changer_that_lost_its_head_is_compared_with_what_it_had_selected() -> None:
    """A command that fails on the console makes it uninitialized."""
    bench = Bench()
    bench.run(VERIFY)
    bench.pass_time(LEAD + 1)
    bench.changer.update(status="uninitialized", tool=None, tool_number=-1)
    bench.pass_time(5)
    assert bench.scripts == []
    bench.lose()
    bench.pass_time(1)
    assert bench.scripts == ["PAUSE"]


def test_a_pause_that_fails_is_said() -> None:
    bench = Bench(detected_tool=None)
    bench.blocked = "Must home axis first"
    bench.run(VERIFY)
    bench.pass_time(LEAD + 1.5)
    assert "PAUSE failed: Must home axis first" in bench.errors[-1]


@pytest.mark.parametrize("given", ["DURATION=0", "DURATION=x", "FORCE=2", "FORCE=yes"])
def test_another_number_is_refused(given: str) -> None:
    with pytest.raises(CommandError):
        Bench().run(f"{VERIFY} {given}")


def test_a_changer_that_raises_ends_the_watch_and_nothing_else() -> None:
    bench = Bench()
    bench.run(VERIFY)
    bench.changer.clear()
    bench.pass_time(LEAD + 5)
    assert bench.wake == NEVER and bench.scripts == []


def test_before_a_resume_moves_the_mounted_tool_is_compared() -> None:
    bench = Bench(status="uninitialized", tool=None)
    check = bench.commands["_PLR_CHECK_TOOL"]
    gcmd = SimpleNamespace(get=lambda name: "tool T1", error=CommandError)
    check(gcmd)  # type: ignore[arg-type]
    bench.lose("tool T0")
    with pytest.raises(CommandError, match="tool T1. must be mounted.*see .tool T0"):
        check(gcmd)  # type: ignore[arg-type]
    bench.changer["has_detection"] = False
    check(gcmd)  # type: ignore[arg-type]


class OtherKind:
    """Another changer, in its own words."""

    def __init__(self, changer: Any) -> None:
        self.changer = changer

    def get_status(self, eventtime: float) -> dict[str, Any]:
        st = self.changer.get_status(eventtime)
        return {
            "number": st["tool"], "name": f"T{st['tool']}", "is_ready": True,
            "is_changing": st["action"] != "Idle", "can_detect": True,
            "mounted": f"T{st['gate']}",
        }  # fmt: skip


def test_another_kind_of_changer_needs_nothing_but_its_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(tools.KINDS, "mmu", OtherKind)
    bench = Bench()
    del bench.objects["toolchanger"]
    told: dict[str, Any] = {"tool": 1, "gate": 1, "action": "Idle"}
    bench.objects["mmu"] = SimpleNamespace(get_status=lambda t: told)
    bench.run(f"{VERIFY} DURATION=20")
    bench.pass_time(5.0)
    assert bench.scripts == []
    told["gate"] = 3
    bench.pass_time(5.0)
    assert bench.scripts == ["PAUSE"]
    assert "[T1] is selected" in bench.errors[-1]
