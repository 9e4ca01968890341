# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Power switched at the machine: what a host sees on its port, and what has moved."""
from __future__ import annotations

import json
import os
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from .board import PIN, SECOND, decoded, encoded
from .machine import Machine
from .mcu_core import world_clock
from .protocol import CLOCK_FREQ, MESSAGE_MIN, frame
from .world import World


class Port:
    """The host's end of the port, opened by its link."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self.fd)
        self.sent = 0

    def post(self, name: str, *args: int) -> None:
        os.write(self.fd, frame(self.sent, encoded(name, *args)))
        self.sent = (self.sent + 1) & 15

    def ask(self, machine: Machine, name: str, *args: int) -> list[str]:
        self.post(name, *args)
        return hear(machine, self)

    def read(self) -> list[str]:
        """Names of the responses that have come."""
        # The kernel passes on what was written to a pty in its own time.
        time.sleep(0.02)
        try:
            data = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return []
        names = []
        while len(data) >= MESSAGE_MIN:
            names += [name for name, _ in decoded(data[2 : data[0] - 3])]
            data = data[data[0] :]
        return names


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine(World(1))
    yield made
    made._power_off(world_clock())


@pytest.fixture
def port(machine: Machine, tmp_path: Path) -> Iterator[Port]:
    machine.do_on([str(tmp_path / "port")])
    opened = Port(tmp_path / "port")
    yield opened
    os.close(opened.fd)


def hear(machine: Machine, port: Port) -> list[str]:
    time.sleep(0.02)
    machine._listen()
    return port.read()


def start_motor(machine: Machine, port: Port, pin: str = "SE") -> int:
    """A configured motor with steps 50 ms from now; returns their first clock."""
    assert machine.firmware is not None
    port.post("allocate_oids", 1)
    port.post("config_stepper", 0, PIN[pin], PIN["DE"], 0, 0)
    port.post("finalize_config", 7)
    port.post("set_next_step_dir", 0, 1)
    first = world_clock() + SECOND // 20
    base = first - machine.firmware.powered_at
    port.post("reset_step_clock", 0, base - 2000)
    port.post("queue_step", 0, 2000, 60_000, 0)
    return first


def test_a_cut_takes_the_port_away_and_the_steps_after_it(
    machine: Machine, port: Port, tmp_path: Path
) -> None:
    first = start_motor(machine, port)
    # Nothing of that was heard yet: this process was busy until the cut was due.
    cut = first + SECOND // 50
    time.sleep(0.02)
    machine.do_cut([], cut)
    motor = machine.world.motors["e"]
    assert motor.net_at(cut + SECOND) == SECOND // 50 // 2000 + 1
    assert not (tmp_path / "port").exists()
    assert machine.sessions[-1][1] == cut
    assert machine.do_state()["on"] is False


def test_an_armed_cut_comes_so_many_seconds_after_the_first_plastic(
    machine: Machine, port: Port, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.do_arm_cut(0.05, [])
    first = start_motor(machine, port)
    plastic = first + (int(0.02 / machine.world.motors["e"].step_mm)) * 2000
    cut = plastic + SECOND // 20
    while machine.firmware is not None:
        machine._listen()
        machine._check_cut(world_clock())
    said = json.loads(capsys.readouterr().out)
    assert said["cut"] == pytest.approx(cut / SECOND, abs=1e-6)
    assert machine.world.motors["e"].net_at(cut + SECOND) == (cut - first) // 2000 + 1


def test_after_a_brown_out_on_a_uart_the_same_port_says_starting(
    machine: Machine, port: Port, tmp_path: Path
) -> None:
    link = os.readlink(tmp_path / "port")
    start_motor(machine, port)
    hear(machine, port)
    machine.do_brown_out()
    assert os.readlink(tmp_path / "port") == link
    assert port.read() == ["starting"]
    assert machine.firmware is not None and machine.firmware.crc is None
    # Its sequence numbers begin again, as at any power-on.
    port.sent = 0
    assert port.ask(machine, "get_config") == ["config"]
    assert len(machine.sessions) == 2
    assert [kind for _, kind, _ in machine.world.events] == ["brown_out"]


def test_after_a_brown_out_on_usb_the_device_is_another(
    machine: Machine, port: Port, tmp_path: Path
) -> None:
    machine.do_brown_out(usb=True)
    # A device that has gone reads as its end, or as an error.
    try:
        assert os.read(port.fd, 100) == b""
    except BlockingIOError:
        raise
    except OSError:
        pass
    new = Port(tmp_path / "port")
    assert new.ask(machine, "get_config") == ["config"]
    os.close(new.fd)


def test_a_brown_out_stops_the_motors_where_they_are(
    machine: Machine, port: Port
) -> None:
    first = start_motor(machine, port)
    while world_clock() < first + SECOND // 50:
        machine._listen()
    machine.do_brown_out()
    motor = machine.world.motors["e"]
    stood = motor.net_at(world_clock())
    assert stood == (machine.sessions[0][1] - first) // 2000 + 1
    assert motor.net_at(world_clock() + 10 * SECOND) == stood


def test_two_micro_controllers_share_one_world_and_one_cut(tmp_path: Path) -> None:
    machine = Machine(World(1))
    paths = [tmp_path / "first", tmp_path / "second"]
    machine.do_on([str(path) for path in paths])
    ports = [Port(path) for path in paths]
    motors = machine.world.motors
    for name in ("z", "e"):
        motors[name].energised = True
    for port, pin in zip(ports, ("SZ0", "SE"), strict=True):
        first = start_motor(machine, port, pin)
    cut = first + SECOND // 50
    time.sleep(0.02)
    machine.do_cut([], cut)
    for name in ("z", "e"):
        # Each counts from its own power-on.
        steps = (cut - motors[name].starts[0]) // 2000 + 1
        assert motors[name].net_at(cut + SECOND) == steps > 100
    assert [kind for _, kind, _ in machine.world.events].count("sag") == 1
    assert not any(path.exists() for path in paths)
    assert len(machine.sessions) == 1 and machine.firmware is None
    for port in ports:
        os.close(port.fd)


def test_after_a_brown_out_every_micro_controller_says_starting(
    tmp_path: Path,
) -> None:
    machine = Machine(World(1))
    paths = [tmp_path / "first", tmp_path / "second"]
    machine.do_on([str(path) for path in paths])
    ports = [Port(path) for path in paths]
    machine.do_brown_out()
    assert [port.read() for port in ports] == [["starting"], ["starting"]]
    assert len(machine.sessions) == 2
    machine._power_off(world_clock())
    for port in ports:
        os.close(port.fd)


def test_a_time_without_the_processor_is_told_once() -> None:
    machine = Machine(World(1))
    machine._note_look(world_clock())
    for late in (0.25, 1.5, 0.5):
        machine._note_look(machine._looked_at + int(late * CLOCK_FREQ))
    assert machine.do_state()["unheard_s"] == 1.5
    assert machine.do_state()["unheard_s"] == 0.0
