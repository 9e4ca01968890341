# The process that is the machine: world, micro-controller and power switch
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Runs one world for as long as a test needs it, through any number of outages.

Speaks JSON lines on stdin and stdout.  Requests, each answered by one line:

    {"do": "on", "ports": [PATH...]} power on; each PATH becomes a link to the pty
                                     of one micro-controller, the first has heaters
    {"do": "arm_cut", "after": S, "kill": [PGID...]}
                                     cut S seconds after the first plastic
    {"do": "cut", "kill": [PGID...]} cut now
    {"do": "brown_out", "usb": BOOL} all but the host loses power for a moment; with
                                     usb the port goes away, else it stays open
    {"do": "drivers_off"}            the motors' supply is off for a moment; the
                                     micro-controllers have their own
    {"do": "shutdown", "reason": TEXT}
                                     the first board shuts itself down
    {"do": "ac", "ok": BOOL}         the AC-detect pin
    {"do": "sag", "drops": [MM...]}  corners sag now, without a power cut
    {"do": "switch", "pin": PIN, "kind": KIND, "sigma": MM}
                                     a Z+ switch fails, see SwitchFaults
    {"do": "noise", "sigma": MM}     repeatability of all healthy switches
    {"do": "disconnect", "motor": M} a motor that no longer turns
    {"do": "connect", "motor": M}    and one that turns again
    {"do": "state"}                  where everything is, and for how long at most this
                                     process did not listen since it last told: no
                                     real board does that, so a figure is spoilt by it
    {"do": "at", "since_on": [S...]} where the nozzle was, seconds after power-on: the
                                     first board's print times
    {"do": "range", "since": S}      lowest and highest place of each Z motor
    {"do": "dump", "path": PATH}     write the trace for the oracle
    {"do": "quit"}

A cut that was armed announces itself by a line {"cut": seconds}.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import sys

import numpy as np

from . import trace
from .controller import Controller
from .mcu import Firmware
from .mcu_core import world_clock
from .protocol import CLOCK_FREQ
from .world import BED, FILAMENT_DIAMETER, HEATER_PINS, Z_CORNERS, World

# The bed's corners and its middle.
BED_POINTS = [
    *((x, y) for x in (BED[0], BED[2]) for y in (BED[1], BED[3])),
    ((BED[0] + BED[2]) / 2, (BED[1] + BED[3]) / 2),
]
TICK = 0.003
IDLE_TICK = 0.05
THERMAL_PERIOD = CLOCK_FREQ // 10
# Filament that must have gone forward before it counts as plastic.
FIRST_PLASTIC_MM = 0.02


class Machine:
    def __init__(self, world: World) -> None:
        self.world = world
        self.controllers: list[Controller] = []
        self.sessions: list[list[int]] = []
        self._thermal_at = world_clock()
        self._input = b""
        self._looked_at = world_clock()
        self._longest = 0  # ticks between two looks since the state was told
        self._armed: dict | None = None
        self._armed_at = 0

    @property
    def firmware(self) -> Firmware | None:
        """Of the first micro-controller, which has the heaters; None without power."""
        return self.controllers[0].firmware if self.controllers else None

    # Power

    def do_on(self, ports: list[str]) -> dict:
        alone = len(ports) == 1
        self.controllers = [Controller(self.world, port, alone) for port in ports]
        self._begin_session()
        return {}

    def _begin_session(self) -> None:
        self.sessions.append([self.controllers[0].firmware.powered_at, 0])

    def _motors_off(self, clock: int) -> None:
        """What was on its way to the firmware counts: its steps until `clock`."""
        for controller in self.controllers:
            controller.firmware.ends = clock
            controller.listen(lambda: clock)
        # A switch on one may still stop a motor of its own before the cut.
        for controller in self.controllers:
            controller.firmware.settle(clock)
        for controller in self.controllers:
            controller.firmware.power_off(clock)
        self.sessions[-1][1] = clock

    def _power_off(self, clock: int) -> None:
        if not self.controllers:
            return
        self._motors_off(clock)
        for controller in self.controllers:
            controller.unplug()
        self.controllers = []

    def do_cut(self, kill: list[int], clock: int | None = None) -> dict:
        clock = world_clock() if clock is None else clock
        for pgid in kill:
            try:
                os.killpg(pgid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._armed = None
        self.world.note(clock, "cut", "")
        self._power_off(clock)
        return {"cut": clock / CLOCK_FREQ}

    def do_arm_cut(self, after: float, kill: list[int]) -> dict:
        self._armed = {"after": after, "kill": kill, "clock": None}
        self._armed_at = world_clock()
        return {}

    def _cut_due(self, now: int) -> int | None:
        """The clock of the armed cut, once it has come."""
        if self._armed is None or self.firmware is None:
            return None
        if self._armed["clock"] is None:
            first = self._first_plastic(now)
            if first is None:
                return None
            self._armed["clock"] = first + int(self._armed["after"] * CLOCK_FREQ)
        return self._armed["clock"] if now >= self._armed["clock"] else None

    def _check_cut(self, now: int) -> None:
        clock = self._cut_due(now)
        if clock is not None and self._armed is not None:
            self.say(self.do_cut(self._armed["kill"], clock))

    def _first_plastic(self, now: int) -> int | None:
        e = self.world.motors["e"]
        times, net = e.expand(self._armed_at, now)
        if not len(times):
            return None
        enough = net - e.net_at(self._armed_at) > FIRST_PLASTIC_MM / e.step_mm
        return int(times[np.argmax(enough)]) if enough.any() else None

    def do_brown_out(self, usb: bool = False) -> dict:
        """Motors, heaters and firmware lose power; the host runs on.

        Over USB the device vanishes and another comes.  On a UART the line stays,
        and the firmware says "starting" as any does at boot.  Its sequence numbers
        start again too, so a host may discard that word, and notice later.
        """
        if not self.controllers:
            return {}
        clock = world_clock()
        self.world.note(clock, "brown_out", "")
        if usb:
            ports = [controller.port for controller in self.controllers]
            self._power_off(clock)
            return self.do_on(ports)
        self._motors_off(clock)
        for controller in self.controllers:
            controller.boot()
        self._begin_session()
        for controller in self.controllers:
            controller.firmware.send("starting")
        return {}

    def do_drivers_off(self) -> dict:
        self.world.motors_off(world_clock())
        return {}

    def do_shutdown(self, reason: str) -> dict:
        if self.firmware is not None:
            self.firmware.shutdown(reason)
        return {}

    def do_ac(self, ok: bool) -> dict:
        self.world.ac_ok = ok
        return {}

    def do_sag(self, drops: list[float]) -> dict:
        down = [-abs(d) for d in drops]
        self.world.drop(world_clock(), down, self.world.z_motors)
        return {}

    def do_switch(self, pin: str, kind: str = "", sigma: float | None = None) -> dict:
        self.world.faults.set(pin, kind, sigma)
        return {}

    def do_noise(self, sigma: float) -> dict:
        self.world.noise_sigma = sigma
        return {}

    def do_disconnect(self, motor: str) -> dict:
        self.world.motors[motor].disconnect(world_clock())
        return {}

    def do_connect(self, motor: str) -> dict:
        self.world.motors[motor].connect(world_clock())
        return {}

    # What is true

    def do_state(self) -> dict:
        now = world_clock()
        return {
            "clock": now / CLOCK_FREQ,
            "on": self.firmware is not None,
            "nozzle": self.world.nozzle(now),
            "corners": self.world.corners(now),
            "bed": [self.world.height(x, y, now) for x, y in BED_POINTS],
            "switches": [self.world.switch_height[f"ZP{i}"] for i in range(4)],
            "e": self.world.motors["e"].at(now),
            "temps": {n: h.temperature for n, h in self.world.heaters.items()},
            "fan": self._fan(now),
            "shutdown": self.firmware.shutdown_reason if self.firmware else None,
            "unheard_s": self._take_longest() / CLOCK_FREQ,
        }

    def _take_longest(self) -> int:
        longest, self._longest = self._longest, 0
        return longest

    def do_at(self, since_on: list[float]) -> dict:
        begin = self.sessions[-1][0]
        clocks = [begin + int(s * CLOCK_FREQ) for s in since_on]
        return {"nozzle": [self.world.nozzle(clock) for clock in clocks]}

    def do_range(self, since: float) -> dict:
        begin, now = int(since * CLOCK_FREQ), world_clock()
        ranges = {}
        for name in self.world.z_motors:
            positions = self.world.motors[name].history(begin, now)[1]
            ranges[name] = [float(positions.min()), float(positions.max())]
        return ranges

    def _fan(self, now: int) -> float:
        fan = self.firmware.outputs.get("FAN0") if self.firmware else None
        return fan.at(now) if fan is not None else 0.0

    def do_dump(self, path: str) -> dict:
        now = world_clock()
        sessions = []
        for begin, end in self.sessions:
            end = end or now
            motors = {}
            for name, motor in self.world.motors.items():
                # Without the sag of the cut itself: no plastic is laid after it.
                times, positions = motor.history(begin, end - 1)
                motors[name] = (times / CLOCK_FREQ, positions)
            temps = {}
            for name, heater in self.world.heaters.items():
                t = np.array(heater.times)
                keep = (t >= begin / CLOCK_FREQ) & (t <= end / CLOCK_FREQ)
                temps[name] = (t[keep], np.array(heater.values)[keep])
            first, last = begin / CLOCK_FREQ, end / CLOCK_FREQ + 1e-3
            events = [e for e in self.world.events if first <= e[0] <= last]
            on, off = begin / CLOCK_FREQ, end / CLOCK_FREQ
            sessions.append(trace.Session(on, off, motors, temps, events))
        trace.save(path, sessions, trace.Geometry(Z_CORNERS, BED, FILAMENT_DIAMETER))
        return {"sessions": len(sessions)}

    # Loop

    def _thermal(self, now: int) -> None:
        while self._thermal_at + THERMAL_PERIOD <= now:
            self._thermal_at += THERMAL_PERIOD
            for pin, name in HEATER_PINS.items():
                output = self.firmware.outputs.get(pin) if self.firmware else None
                power = output.at(self._thermal_at) if output else 0.0
                heater = self.world.heaters[name]
                heater.advance(THERMAL_PERIOD / CLOCK_FREQ, power)
                heater.log(self._thermal_at / CLOCK_FREQ)

    def say(self, answer: dict) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    def _control(self) -> bool:
        data = os.read(0, 65536)
        if not data:
            return False
        self._input += data
        while b"\n" in self._input:
            line, self._input = self._input.split(b"\n", 1)
            request = json.loads(line)
            name = request.pop("do")
            if name == "quit":
                return False
            self.say(getattr(self, "do_" + name)(**request))
        return True

    def _listen(self) -> None:
        for controller in self.controllers:
            # A cut takes back what is heard after it.
            controller.listen(lambda: self._cut_due(world_clock()))

    def _note_look(self, now: int) -> None:
        self._longest = max(self._longest, now - self._looked_at)
        self._looked_at = now

    def run(self) -> None:
        while True:
            watched = [0, *(controller.fd for controller in self.controllers)]
            ready, _, _ = select.select(
                watched, [], [], TICK if self.controllers else IDLE_TICK
            )
            now = world_clock()
            self._note_look(now)
            if any(controller.fd in ready for controller in self.controllers):
                self._listen()
            for controller in self.controllers:
                controller.firmware.run(now)
            self._thermal(now)
            self._check_cut(world_clock())
            if 0 in ready and not self._control():
                return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--z-motors", type=int, default=4)
    parser.add_argument("--floating-bed", action="store_true")
    parser.add_argument("--cartesian", action="store_true")
    parser.add_argument("--lead-screws", action="store_true")
    args = parser.parse_args()
    world = World(
        args.seed, args.z_motors, args.floating_bed, args.cartesian, args.lead_screws
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Steps are evaluated late without harm, but the host wants answers in time.
    with contextlib.suppress(OSError):
        os.nice(-10)
    Machine(world).run()


if __name__ == "__main__":
    main()
