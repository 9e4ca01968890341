# Outputs, thermistors and buttons
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What src/gpiocmds.c, src/adccmds.c and src/buttons.c of Klipper do."""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .mcu_core import DICTIONARY, Core
from .protocol import ADC_MAX, CommandError
from .world import ADC_PINS, ENABLE_PINS, Output, World, adc_fraction

MAX_REPORTS = 8
EXCEEDS = "Scheduled digital out event will exceed max_duration"


@dataclass
class Analog:
    pin: str
    generation: int = 0


@dataclass
class Buttons:
    pins: list[str]
    pressed: int = 0
    last: int = 0
    acked: int = 0
    wait: int = 0  # polls until the reports are sent again
    reports: list[int] = field(default_factory=list)
    generation: int = 0

    def poll(self, status: int) -> bool:
        """One look at the pins; true when a pin stayed changed for two looks."""
        steady = ~(status ^ self.last)
        changed = (status ^ self.pressed) & steady
        self.last = status
        if changed:
            self.pressed = (self.pressed & ~steady) | (status & steady)
            if len(self.reports) < MAX_REPORTS:
                self.reports.append(self.pressed)
        return bool(changed)


class Pins(Core):
    """Pins that are no motor's and no switch's."""

    def __init__(self, world: World, fd: int) -> None:
        super().__init__(world, fd)
        self.outputs: dict[str, Output] = {}

    # Outputs

    def _output(self, pin: int, value: int, default: int, limit: int) -> Output:
        name = DICTIONARY.pin_names[pin]
        output = Output(name, default, limit)
        self.outputs[name] = output
        self._apply(output, self.now(), value)
        return output

    def cmd_config_digital_out(
        self, oid: int, pin: int, value: int, default: int, max_duration: int
    ) -> None:
        self.oids[oid] = self._output(pin, value, default, max_duration)

    def cmd_set_digital_out(self, pin: int, value: int) -> None:
        self._output(pin, value, value, 0)

    def cmd_set_digital_out_pwm_cycle(self, oid: int, cycle_ticks: int) -> None:
        self._oid(oid, Output).cycle = cycle_ticks

    def cmd_queue_digital_out(self, oid: int, clock: int, on_ticks: int) -> None:
        output = self._oid(oid, Output)
        at = self.clock64(clock)
        if at <= self.settled:
            raise CommandError("Timer too close")
        deadline = output.deadline()
        if not output.queue and deadline is not None and at > deadline:
            raise CommandError(EXCEEDS)
        level = min(on_ticks / output.cycle, 1.0) if output.cycle else on_ticks
        output.queue.append((at, float(level)))

    def cmd_update_digital_out(self, oid: int, value: int) -> None:
        output = self._oid(oid, Output)
        now = self.now()
        if output.queue and output.queue[-1][0] > now:
            raise CommandError("update_digital_out not valid with active queue")
        output.queue.append((now, float(value)))

    def _load(self, output: Output) -> None:
        clock, level = output.queue.pop(0)
        self._apply(output, clock, level)
        deadline = output.deadline()
        if output.queue and deadline is not None and output.queue[0][0] > deadline:
            self._shut(EXCEEDS, clock)

    def _apply(self, output: Output, clock: int, level: float) -> None:
        output.set(clock, float(level))
        motor = ENABLE_PINS.get(output.pin)
        if motor is not None:
            self.world.set_enable(motor, bool(level), clock)

    # Thermistors

    def cmd_config_analog_in(self, oid: int, pin: int) -> None:
        self.oids[oid] = Analog(DICTIONARY.pin_names[pin])

    def cmd_query_analog_in(
        self, oid: int, clock: int, sample_ticks: int, sample_count: int,
        rest_ticks: int, min_value: int, max_value: int, range_check: int,
    ) -> None:  # fmt: skip
        a = self._oid(oid, Analog)
        a.generation += 1
        generation = a.generation
        bad = 0

        def sample(at: int) -> None:
            nonlocal bad
            if a.generation != generation:
                return
            celsius = self.world.heaters[ADC_PINS[a.pin]].temperature
            value = int(adc_fraction(celsius) * ADC_MAX * sample_count)
            bad = 0 if min_value <= value <= max_value else bad + 1
            if bad >= max(range_check, 1) and self.shutdown_reason is None:
                self.shutdown("ADC out of range")
            self.send("analog_in_state", oid, self.clock32(at + rest_ticks), value)
            self.at(at + rest_ticks, sample)

        if sample_count:
            self.at(self.clock64(clock), sample)

    # Buttons

    def cmd_config_buttons(self, oid: int, count: int) -> None:
        self.oids[oid] = Buttons([""] * count)

    def cmd_buttons_add(self, oid: int, pos: int, pin: int, pull_up: int) -> None:
        self._oid(oid, Buttons).pins[pos] = DICTIONARY.pin_names[pin]

    def cmd_buttons_query(
        self, oid: int, clock: int, rest_ticks: int, retransmit: int, invert: int
    ) -> None:
        b = self._oid(oid, Buttons)
        b.generation += 1
        generation = b.generation
        b.pressed = b.last = invert
        b.acked, b.reports, b.wait = 0, [], 0

        def poll(at: int) -> None:
            if b.generation != generation:
                return
            status = 0
            for bit, pin in enumerate(b.pins):
                status |= int(self.world.switch(pin, np.array([at]))[0]) << bit
            b.wait -= 1
            if b.poll(status) or (b.reports and b.wait < 0):
                b.wait = retransmit
                self.send("buttons_state", oid, b.acked & 0xFF, bytes(b.reports))
            self.at(at + rest_ticks, poll)

        if rest_ticks:
            self.at(self.clock64(clock), poll)

    def cmd_buttons_ack(self, oid: int, count: int) -> None:
        b = self._oid(oid, Buttons)
        b.acked += count
        b.reports = b.reports[count:]

    def _halt(self, clock: int) -> None:
        for obj in self.oids.values():
            if isinstance(obj, Buttons):
                obj.generation += 1
        for output in self.outputs.values():
            output.queue.clear()
            self._apply(output, clock, output.default)
        super()._halt(clock)

    def _clear(self) -> None:
        super()._clear()
        self.outputs = {}
