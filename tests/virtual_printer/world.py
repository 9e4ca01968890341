# What is physically true, and stays true without power
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A CoreXY with a gantry on four belts, 250 mm class: a small Voron 2.4.

        z1 (rear left)        z2 (rear right)      x = (a + b) / 2
              +--------------------+               y = (a - b) / 2
              |       gantry       |
              +--------------------+               nozzle height: bilinear in
        z (front left)        z3 (front right)     the four corner heights

Nothing here knows Klipper: pins are names, time is a tick count that never
restarts, and power cuts only end the steps.
"""
from __future__ import annotations

import json
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .motor import Motor
from .protocol import CLOCK_FREQ
from .switch_faults import SwitchFaults
from .tmc import Tmc2209

XY_STEP = 40.0 / (200 * 32)
Z_STEP = 8.0 / (200 * 16)
E_STEP = 22.6789511 / (200 * 16 * 50 / 10)
Z_MOTORS = ("z", "z1", "z2", "z3")
BED = (0.0, 0.0, 250.0, 250.0)
Z_CORNERS = ((-25.0, -10.0), (-25.0, 270.0), (275.0, 270.0), (275.0, -10.0))
FILAMENT_DIAMETER = 1.75
# X and Y switches stand at the end of travel, as on a Voron.
XY_SWITCH = 250.0
# That of a second carriage, which homes away from the nozzle's and starts here.
U_SWITCH, U_START = -100.0, 20.0
Z_TOP = 230.0
NOZZLE_START = (120.0, 110.0, 40.0)
# The bottom of what a bead leaves under a nozzle that has sagged onto it.
CONTACT_CELL = 0.5
# A nozzle may stand this much below the top of the plastic it has laid.
SQUEEZE = 0.1
# Full steps by which friction may hold the rotor of a lead screw beside its field.
FRICTION = 0.05
# The lead screw whose motor is wired the other way round: its dir_pin has a "!".
REVERSED = "z1"
# Faster than any axis moves, mm per tick; steps of the extruder looked at in one.
MAX_STEP = 1000.0 / CLOCK_FREQ
STRIDE = 16
AMBIENT = 23.0

STEP_PINS = {"SA": "a", "SB": "b", "SZ0": "z", "SZ1": "z1", "SZ2": "z2",
             "SZ3": "z3", "SE": "e", "SU": "u"}  # fmt: skip
ENABLE_PINS = {"EA": "a", "EB": "b", "EZ0": "z", "EZ1": "z1", "EZ2": "z2",
               "EZ3": "z3", "EE": "e", "EU": "u"}  # fmt: skip
HEATER_PINS = {"HE": "extruder", "HB": "heater_bed"}
ADC_PINS = {"TE": "extruder", "TB": "heater_bed"}
SWITCH_PINS = ("LX", "LY", "LZ", "ZP0", "ZP1", "ZP2", "ZP3", "ACOK", "LU")
UART_PINS = {"UZ0": "z", "UZ1": "z1", "UZ2": "z2", "UZ3": "z3"}
OTHER_PINS = ("DA", "DB", "DZ0", "DZ1", "DZ2", "DZ3", "DE", "DU", "FAN0", "FAN1", "AUX",
              *(f"AUX{n}" for n in range(2, 12)))  # fmt: skip
ALL_PINS = (*STEP_PINS, *ENABLE_PINS, *HEATER_PINS, *ADC_PINS, *SWITCH_PINS,
            *OTHER_PINS, *UART_PINS)  # fmt: skip


@dataclass
class Heater:
    """First-order thermal body; `gain` and `loss` per second."""

    gain: float  # degrees per second at full power
    loss: float  # fraction of the excess temperature lost per second
    temperature: float = AMBIENT
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def advance(self, seconds: float, power: float) -> None:
        excess = self.temperature - AMBIENT
        self.temperature += seconds * (power * self.gain - excess * self.loss)

    def log(self, when: float) -> None:
        self.times.append(when)
        self.values.append(self.temperature)


def adc_fraction(celsius: float) -> float:
    """Voltage divider of a 100k thermistor, beta 3950, pulled up by 4.7k.

    The same Beta formula as Klipper's extras/thermistor.py.
    """
    kelvin = celsius + 273.15
    r = 100_000.0 * float(np.exp(3950.0 * (1.0 / kelvin - 1.0 / 298.15)))
    return r / (r + 4700.0)


class World:
    """Motors, switches, heaters, and what a loss of power does to them.

    With fewer than four Z motors the others exist, but nothing hangs on them:
    three stand front left, front right and in the middle of the rear, two left
    and right.  A floating bed that loses power falls away from the nozzle,
    towards its switches: "higher" is always further from the bed.

    lead_screws: Z stays where it is without power.  Friction in the nuts holds
    each rotor a little beside its field, no motor stands on a cycle before it is
    first switched on, and one is wired the other way round.
    """

    def __init__(
        self, seed: int, z_motors: int = 4, floating_bed: bool = False,
        cartesian: bool = False, lead_screws: bool = False,
    ) -> None:  # fmt: skip
        self.random = random.Random(seed)
        self.z_motors = Z_MOTORS[:z_motors]
        self.floating_bed = floating_bed
        self.cartesian = cartesian
        self.lead_screws = lead_screws
        x, y, z = NOZZLE_START
        self.motors = {
            "a": Motor("a", XY_STEP, 32, x if cartesian else x + y),
            "b": Motor("b", XY_STEP, 32, y if cartesian else x - y),
            "e": Motor("e", E_STEP, 16, 0.0, snaps=False),
            # A carriage without a nozzle; nothing moves it on most machines.
            "u": Motor("u", XY_STEP, 32, U_START),
        }
        for name in Z_MOTORS:
            self.motors[name] = Motor(name, Z_STEP, 16, z)
        if lead_screws:
            self._fit_lead_screws(seed)
        self.drivers = {name: Tmc2209(self.motors[name]) for name in Z_MOTORS}
        self.heaters = {
            "extruder": Heater(gain=14.0, loss=0.02),
            "heater_bed": Heater(gain=6.0, loss=0.004),
        }
        # Z+ switches at uneven heights, each closing within a few microns.
        self.switch_height = {
            f"ZP{i}": Z_TOP + self.random.uniform(-0.5, 0.5) for i in range(4)
        }
        self.noise_sigma = 0.003
        self.switch_noise = dict.fromkeys(SWITCH_PINS, 0.0)
        self.faults = SwitchFaults(seed)
        self.ac_ok = True
        self.events: list[tuple[float, str, str]] = []
        self._plastic_at: tuple[tuple[float, float, int], np.ndarray] = (
            (0.0, 0.0, -1), np.zeros(0))  # fmt: skip

    def _fit_lead_screws(self, seed: int) -> None:
        for name in Z_MOTORS:
            motor = self.motors[name]
            motor.chance = random.Random(f"{seed} {name}")
            motor.friction = FRICTION * motor.microsteps * motor.step_mm
            motor.origin -= motor.chance.uniform(0.0, motor.cycle_mm)
            motor.reversed = name == REVERSED

    # Positions

    def corners(self, clock: int) -> list[float]:
        return [self.motors[m].at(clock) for m in self.z_motors]

    def xy(self, clock: int) -> tuple[float, float]:
        a, b = self.motors["a"].at(clock), self.motors["b"].at(clock)
        return self._xy(a, b)

    def _xy(self, a: Any, b: Any) -> tuple[Any, Any]:
        return (a, b) if self.cartesian else ((a + b) / 2, (a - b) / 2)

    def weights(self, x: float, y: float) -> list[float]:
        """Share of each corner's height in the nozzle's at (x, y)."""
        (x0, y0), (_, _), (x1, y1), (_, _) = Z_CORNERS
        u, v = (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)
        if len(self.z_motors) == 1:
            return [1.0]
        if len(self.z_motors) == 2:
            return [1 - u, u]
        if len(self.z_motors) == 3:
            return [1 - u - v / 2, u - v / 2, v]
        return [(1 - u) * (1 - v), (1 - u) * v, u * v, u * (1 - v)]

    def height(self, x: float, y: float, clock: int) -> float:
        """How far a nozzle at (x, y) is above the bed."""
        w = self.weights(x, y)
        return sum(p * q for p, q in zip(w, self.corners(clock), strict=True))

    def nozzle(self, clock: int) -> tuple[float, float, float]:
        x, y = self.xy(clock)
        return x, y, self.height(x, y, clock)

    # Switches

    def arm(self, pin: str) -> None:
        """A new approach: the switch closes a few microns elsewhere."""
        sigma = self.faults.sigma.get(pin, self.noise_sigma)
        self.switch_noise[pin] = self.random.gauss(0.0, sigma)

    def switch(self, pin: str, clocks: np.ndarray) -> np.ndarray:
        """State of a switch (True: pressed) at a sorted array of clocks."""
        if pin == "ACOK":
            return np.full(len(clocks), self.ac_ok)
        noise = self.switch_noise[pin]
        if pin in self.switch_height:
            motor = self.motors[Z_MOTORS[int(pin[2])]]
            above = motor.at_many(clocks) - (self.switch_height[pin] + noise)
            return self.faults.apply(pin, clocks, above)
        if pin == "LU":
            return self.motors["u"].at_many(clocks) <= U_SWITCH
        a, b = (self.motors[m].at_many(clocks) for m in "ab")
        x, y = self._xy(a, b)
        if pin == "LX":
            return x >= XY_SWITCH
        if pin == "LY":
            return y >= XY_SWITCH
        # LZ: a nozzle that touches a pin at bed height, wherever it stands.
        heights = [self.motors[m].at_many(clocks) for m in self.z_motors]
        w = self.weights(float(x[-1]), float(y[-1]))
        return sum(p * q for p, q in zip(w, heights, strict=True)) <= noise

    # Power

    def set_enable(self, motor: str, on: bool, clock: int) -> None:
        m = self.motors[motor]
        if on and not m.energised:
            snap = m.energise(clock)
            if abs(snap) > 1e-9:
                self.note(clock, "snap", f"{motor} {snap:+.4f}")
        elif not on and m.energised:
            m.release(clock)
            if motor in self.z_motors and not self.lead_screws:
                self.sag(clock, (motor,))

    def motors_off(self, clock: int) -> None:
        """The drivers lose power: no holding torque, phases forgotten."""
        held = [m for m in self.z_motors if self.motors[m].energised]
        for m in self.motors.values():
            m.stop_at(clock)
            m.driver_reset(clock)
        for driver in self.drivers.values():
            driver.reset()
        if held and not self.lead_screws:
            self.sag(clock, held)

    def sag(self, clock: int, loose: Sequence[str]) -> None:
        """Belts give way: each loose corner falls by its own amount.

        A bed falls away from the nozzle.  A gantry that sags onto the part is
        carried by it: the nozzle stays where it touches, and the gantry tilts.
        """
        drops = [
            -self.random.uniform(0.2, 3.0) if m in loose else 0.0
            for m in self.z_motors
        ]
        self.drop(clock, drops, loose)

    def drop(self, clock: int, drops: Sequence[float], loose: Sequence[str]) -> None:
        """Move loose corners by this much (negative: down), without their motors.

        drops: mm, one for each Z motor, zero for those that hold.
        """
        if self.floating_bed:
            drops = [abs(d) for d in drops]
        x, y, z = self.nozzle(clock)
        w = self.weights(x, y)
        fallen = z + sum(p * q for p, q in zip(w, drops, strict=True))
        held = max(self.surface(x, y, clock) - fallen, 0.0)
        # The carried gantry cannot rise above where its nozzle stood.  Motors that
        # hold do not move: the loose corners take up all of it.
        lift = max(min(held, z - fallen), 0.0)
        share = sum(q for m, q in zip(self.z_motors, w, strict=True) if m in loose)
        lift = lift / share if share > 0.0 else 0.0
        moved = {
            m: drop + lift
            for m, drop in zip(self.z_motors, drops, strict=True)
            if m in loose
        }
        for name, delta in moved.items():
            self.motors[name].jump(clock, delta)
        text = json.dumps({m: round(d, 4) for m, d in moved.items()})
        self.note(clock, "sag", text)

    def surface(self, x: float, y: float, clock: int) -> float:
        """Height of whatever is under the nozzle: plastic laid there, or the bed.

        Plastic is taken from the steps: where the nozzle was, close to (x, y),
        while filament went forward.  What was laid above the nozzle that stands
        there now (a purge in the air) has not stayed.
        """
        heights = self._plastic(x, y, clock)
        now = self.height(x, y, clock)
        return float(heights[heights < now + SQUEEZE].max(initial=0.0))

    def _plastic(self, x: float, y: float, clock: int) -> np.ndarray:
        """Heights of the nozzle whenever it laid plastic close to (x, y)."""
        key = (x, y, clock)
        if self._plastic_at[0] == key:
            # Four motors that go loose at one instant ask four times.
            return self._plastic_at[1]
        times, net = self.motors["e"].expand(clock - 3600 * CLOCK_FREQ, clock)
        times = times[net >= np.maximum.accumulate(net)]
        if len(times):
            # A coarse look first: how far the nozzle can get until the next one.
            looks = times[::STRIDE]
            ticks = np.append(looks[1:], times[-1]) - looks
            near = self._near(looks, x, y, CONTACT_CELL + ticks * MAX_STEP)
            times = times[np.repeat(near, STRIDE)[: len(times)]]
            times = times[self._near(times, x, y, CONTACT_CELL)]
        heights = np.zeros(len(times))
        for share, m in zip(self.weights(x, y), self.z_motors, strict=True):
            heights += share * self.motors[m].at_many(times)
        self._plastic_at = key, heights
        return heights

    def _near(
        self, clocks: np.ndarray, x: float, y: float, reach: float | np.ndarray
    ) -> np.ndarray:
        a, b = (self.motors[m].at_many(clocks) for m in "ab")
        px, py = self._xy(a, b)
        return (abs(px - x) < reach) & (abs(py - y) < reach)

    def note(self, clock: int, kind: str, text: str) -> None:
        self.events.append((clock / CLOCK_FREQ, kind, text))


@dataclass
class Output:
    """A pin driven by the micro-controller: its level over time.

    `level` is 0..1 (software PWM averaged), `queue` holds the (clock, level) that
    are scheduled.
    """

    pin: str
    default: int = 0
    max_duration: int = 0
    cycle: int = 0
    level: float = 0.0
    since: int = 0
    queue: list[tuple[int, float]] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)

    def set(self, clock: int, level: float) -> None:
        self.level, self.since = level, clock
        self.times.append(clock)
        self.levels.append(level)

    def deadline(self) -> int | None:
        """When the firmware shuts down unless it hears of this pin before."""
        if not self.max_duration or self.level == self.default:
            return None
        return self.since + self.max_duration

    def at(self, clock: int) -> float:
        due = [level for when, level in self.queue if when <= clock]
        if due:
            return due[-1]
        i = bisect_right(self.times, clock) - 1
        return self.levels[i] if i >= 0 else float(self.default)
