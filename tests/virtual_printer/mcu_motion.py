# Steppers, and the switches that stop them
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What src/stepper.c, src/trsync.c and src/endstop.c of Klipper do."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .mcu_core import DICTIONARY, NEVER, Core
from .protocol import CommandError
from .world import STEP_PINS


@dataclass
class Stepper:
    motor: str
    last: int  # the clock its next interval counts from
    busy: int = 0  # clock of its last queued step
    direction: bool = False
    need_reset: bool = False
    zero: int = 0  # the motor's net steps when this firmware started


@dataclass
class TrSync:
    oid: int
    can_trigger: bool = False
    reason: int = 0
    expire_reason: int = 0
    report_ticks: int = 0
    expires: int | None = None
    steppers: list[Stepper] = field(default_factory=list)
    generation: int = 0


@dataclass
class Endstop:
    pin: str
    homing: bool = False
    nextwake: int = 0
    next_sample: int = 0
    clear_until: int = 0
    sample_ticks: int = 0
    sample_count: int = 0
    rest_ticks: int = 0
    pin_value: bool = False
    trsync: TrSync | None = None
    reason: int = 0


class Motion(Core):
    """Steps are kept as the host queued them; mcu.py decides what stops them."""

    # Steppers

    def cmd_config_stepper(
        self, oid: int, step_pin: int, dir_pin: int, invert: int, pulse: int
    ) -> None:
        motor = STEP_PINS[DICTIONARY.pin_names[step_pin]]
        zero = self.world.motors[motor].net_at(self.now())
        self.oids[oid] = Stepper(motor, self.powered_at, zero=zero)

    def cmd_queue_step(self, oid: int, interval: int, count: int, add: int) -> None:
        s = self._oid(oid, Stepper)
        if not count:
            raise CommandError("Invalid count parameter")
        if s.need_reset:
            return
        # After a long idle time the host means base + interval modulo 2^32.
        first = self.clock64((s.last + interval - self.powered_at) & 0xFFFFFFFF)
        if first <= self.settled:
            raise CommandError("Timer too close")
        motor = self.world.motors[s.motor]
        # With the coils the other way round, the DIR pin means the other way.
        up = s.direction != motor.reversed
        s.last = motor.push(first - interval, interval, count, add, up)
        s.busy = s.last

    def cmd_set_next_step_dir(self, oid: int, direction: int) -> None:
        self._oid(oid, Stepper).direction = bool(direction)

    def cmd_reset_step_clock(self, oid: int, clock: int) -> None:
        s = self._oid(oid, Stepper)
        if s.busy > self.now():
            raise CommandError("Can't reset time when stepper active")
        s.last = self.clock64(clock) if clock else self.powered_at
        s.need_reset = False

    def cmd_stepper_get_position(self, oid: int) -> None:
        s = self._oid(oid, Stepper)
        motor = self.world.motors[s.motor]
        net = motor.net_at(self.now()) - s.zero
        self.send("stepper_position", oid, -net if motor.reversed else net)

    def _stop(self, s: Stepper, clock: int) -> None:
        self.world.motors[s.motor].stop_at(clock)
        s.need_reset = True
        s.direction = False
        s.busy = 0

    # Trigger synchronisation

    def cmd_stepper_stop_on_trigger(self, oid: int, trsync_oid: int) -> None:
        self._oid(trsync_oid, TrSync).steppers.append(self._oid(oid, Stepper))

    def cmd_config_trsync(self, oid: int) -> None:
        self.oids[oid] = TrSync(oid)

    def cmd_trsync_start(
        self, oid: int, report_clock: int, report_ticks: int, expire_reason: int
    ) -> None:
        t = self._oid(oid, TrSync)
        t.generation += 1
        t.can_trigger, t.reason, t.expires, t.steppers = True, 0, None, []
        t.report_ticks, t.expire_reason = report_ticks, expire_reason
        if report_ticks:
            self.at(self.clock64(report_clock), self._reporter(t, t.generation))

    def _reporter(self, t: TrSync, generation: int) -> Callable[[int], None]:
        def report(clock: int) -> None:
            if t.generation != generation or not t.report_ticks:
                return
            self.send("trsync_state", t.oid, int(t.can_trigger), t.reason,
                      self.clock32(self.now()))  # fmt: skip
            self.at(clock + t.report_ticks, report)

        return report

    def cmd_trsync_set_timeout(self, oid: int, clock: int) -> None:
        t = self._oid(oid, TrSync)
        if t.can_trigger:
            t.expires = self.clock64(clock)

    def cmd_trsync_trigger(self, oid: int, reason: int) -> None:
        t = self._oid(oid, TrSync)
        now = self.now()
        if t.can_trigger:
            # A switch that closed before the host gave up comes first.
            self.settle(now)
        self._trigger(t, reason, now, quiet=True)
        t.generation += 1
        t.can_trigger, t.expires, t.report_ticks = False, None, 0
        self.send("trsync_state", oid, 0, t.reason, 0)

    def _trigger(
        self, t: TrSync, reason: int, clock: int, quiet: bool = False
    ) -> None:
        if not t.can_trigger:
            return
        t.can_trigger, t.reason = False, reason
        for s in t.steppers:
            self._stop(s, clock)
        t.steppers = []
        if not quiet:
            self.send("trsync_state", t.oid, 0, reason, self.clock32(self.now()))

    # Switches

    def cmd_config_endstop(self, oid: int, pin: int, pull_up: int) -> None:
        self.oids[oid] = Endstop(DICTIONARY.pin_names[pin])

    def cmd_endstop_home(
        self, oid: int, clock: int, sample_ticks: int, sample_count: int,
        rest_ticks: int, pin_value: int, trsync_oid: int, reason: int,
    ) -> None:  # fmt: skip
        e = self._oid(oid, Endstop)
        e.homing = bool(sample_count)
        if not e.homing:
            return
        e.next_sample = e.clear_until = self.clock64(clock)
        e.sample_ticks, e.sample_count = sample_ticks, sample_count
        e.rest_ticks, e.pin_value = max(rest_ticks, 1), bool(pin_value)
        e.trsync, e.reason = self._oid(trsync_oid, TrSync), reason
        self.world.arm(e.pin)

    def cmd_endstop_query_state(self, oid: int) -> None:
        e = self._oid(oid, Endstop)
        state = self.world.switch(e.pin, np.array([self.now()]))[0]
        self.send("endstop_state", oid, int(e.homing), self.clock32(e.nextwake),
                  int(state))  # fmt: skip

    def _homing(self) -> list[Endstop]:
        return [
            e for e in self.oids.values()
            if isinstance(e, Endstop) and e.homing and e.next_sample < NEVER
        ]  # fmt: skip

    def _hit(self, e: Endstop, until: int) -> int | None:
        """The first sample of the row that triggers, as src/endstop.c takes them.

        Without one by `until`, `clear_until` is the next sample to take.
        """
        e.clear_until = e.next_sample
        while e.clear_until <= until:
            samples = np.arange(e.clear_until, until + 1, e.rest_ticks)
            hits = self.world.switch(e.pin, samples) == e.pin_value
            if not hits.any():
                e.clear_until = int(samples[-1]) + e.rest_ticks
                return None
            first = int(samples[int(np.argmax(hits))])
            row = first + np.arange(e.sample_count) * e.sample_ticks
            if row[-1] > until:
                e.clear_until = first
                return None
            if (self.world.switch(e.pin, row) == e.pin_value).all():
                return first
            e.clear_until = first + e.rest_ticks
        return None

    def _press(self, e: Endstop, first: int) -> None:
        e.nextwake = first + e.rest_ticks
        # homing stays set: the host reads it together with next_clock.
        e.next_sample = NEVER
        trigger = first + (e.sample_count - 1) * e.sample_ticks
        self.world.faults.stopped(e.pin, trigger)
        assert e.trsync is not None
        self._trigger(e.trsync, e.reason, trigger)

    def _halt(self, clock: int) -> None:
        for obj in self.oids.values():
            if isinstance(obj, Stepper):
                self._stop(obj, clock)
            elif isinstance(obj, TrSync):
                obj.can_trigger, obj.expires, obj.steppers = False, None, []
                obj.generation += 1
            elif isinstance(obj, Endstop):
                obj.homing = False
        super()._halt(clock)
