# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The pin that says that the mains have failed, without klippy."""
from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery import power_pin

DEBOUNCE = 0.02


class CommandError(Exception):
    pass


class Klippy:
    """reactor, printer, config, buttons, webhooks and gcode in one."""

    NEVER = 9e9
    command_error = error = CommandError

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[float], None]]] = []
        self.ready: Callable[[], None] = lambda: None
        self.pin: Callable[[float, int], None] = lambda eventtime, state: None
        self.remote: list[tuple[str, dict[str, Any]]] = []
        self.connected = True
        self.ran: list[str] = []
        self.said: list[str] = []
        marks = SimpleNamespace(
            get_status=lambda eventtime: {"at": eventtime}, complete=lambda mark: mark
        )
        self.power = power_pin.PowerPin(self, marks)
        self.ready()

    def get(self, name: str, default: Any = None) -> Any:
        return self.options.get(name, default)

    def getfloat(self, name: str, default: float, **limits: float) -> float:
        return self.options.get(name, default)

    def get_printer(self) -> Klippy:
        return self

    get_reactor = get_printer

    def lookup_object(self, name: str) -> Klippy:
        return self

    def load_object(self, config: Klippy, name: str) -> Klippy:
        return self

    def load_template(self, config: Klippy, name: str) -> Any:
        return SimpleNamespace(render=lambda: self.options[name])

    def register_buttons(self, pins: list[str], callback: Any) -> None:
        self.pin = callback

    def register_event_handler(self, event: str, callback: Any) -> None:
        self.ready = callback

    def register_callback(self, callback: Any, at: float) -> None:
        self.timers.append((at, callback))

    def monotonic(self) -> float:
        return self.now

    def call_remote_method(self, name: str, **params: Any) -> None:
        if not self.connected:
            raise CommandError("not registered")
        self.remote.append((name, params))

    def run_script(self, script: str) -> None:
        self.ran.append(script)

    def respond_info(self, text: str) -> None:
        self.said.append(text)

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while due := sorted(t for t in self.timers if t[0] <= end):
            self.timers.remove(due[0])
            self.now, call = due[0]
            call(self.now)
        self.now = end

    def set(self, state: int) -> None:
        self.pin(self.now, state)


@pytest.fixture
def klippy() -> Klippy:
    printer = Klippy(power_loss_pin="!PA1", power_loss_gcode="PAUSE")
    printer.wait(10.0)
    return printer


def test_on_the_edge_the_mark_is_sent_and_the_gcode_run(klippy: Klippy) -> None:
    klippy.set(1)
    assert not klippy.remote
    klippy.wait(DEBOUNCE)
    (name, params), = klippy.remote
    assert name == power_pin.REMOTE_METHOD
    assert params["status"]["mark"] == {"at": pytest.approx(klippy.now)}
    assert params["status"]["power_loss"] == {"available": True, "lost": True}
    assert klippy.ran == ["PAUSE"]
    klippy.wait(5.0)
    assert len(klippy.remote) == 1


def test_a_glitch_does_nothing(klippy: Klippy) -> None:
    for _ in range(10):
        klippy.set(1)
        klippy.wait(DEBOUNCE * 0.9)
        klippy.set(0)
        klippy.wait(DEBOUNCE * 0.9)
    klippy.wait(1.0)
    assert not klippy.remote and not klippy.ran and not klippy.said
    assert not klippy.power.get_status()["lost"]


def test_power_that_comes_back_can_fail_again(klippy: Klippy) -> None:
    for state in (1, 0, 1):
        klippy.set(state)
        klippy.wait(1.0)
        assert klippy.power.get_status()["lost"] is bool(state)
    assert len(klippy.remote) == 2


def test_without_moonraker_the_gcode_is_run_all_the_same(klippy: Klippy) -> None:
    klippy.connected = False
    klippy.set(1)
    klippy.wait(1.0)
    assert klippy.ran == ["PAUSE"]
    assert any("Moonraker is not connected" in text for text in klippy.said)


def test_a_pin_that_is_active_from_the_start_is_no_power_loss() -> None:
    printer = Klippy(power_loss_pin="PA1", power_loss_gcode="PAUSE")
    printer.wait(1.5)
    printer.set(1)
    printer.wait(10.0)
    assert not printer.remote and not printer.ran
    assert any("put a !" in text for text in printer.said)


def test_gcode_that_fails_is_told_and_stops_nothing(klippy: Klippy) -> None:
    def fail(script: str) -> None:
        raise CommandError("Unknown command")

    klippy.run_script = fail  # type: ignore[method-assign]
    klippy.set(1)
    klippy.wait(1.0)
    assert any("Unknown command" in text for text in klippy.said)


def test_gcode_without_a_pin_is_refused() -> None:
    with pytest.raises(CommandError, match="power_loss_pin"):
        Klippy(power_loss_gcode="PAUSE")


def test_without_the_option_there_is_no_pin() -> None:
    assert Klippy().power.get_status() == {"available": False, "lost": False}
