# A micro-controller that runs Klipper's protocol over a pty
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The firmware: what Klipper's src/*.c does, command by command.

Its clock is a pure function of the host's monotonic clock, and steps are kept as
the host queued them, with their times.  So everything that happened before an
instant T is known exactly, however late this process was scheduled: a power cut
at T, or a switch that closed at T, takes back the steps that came after.

Whatever stops motors is decided a little later, when no step before it can be
missing (`settled`): no switch is seen late because this process was.

Times inside are 64 bit ticks of the world's clock; the wire carries their low
32 bits.
"""
from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from .protocol import (
    ADC_MAX,
    CLOCK_FREQ,
    MOVE_COUNT,
    CommandError,
    Dictionary,
    FrameReader,
    frame,
)
from .world import (
    ADC_PINS,
    ALL_PINS,
    ENABLE_PINS,
    STEP_PINS,
    Output,
    World,
    adc_fraction,
)

DICTIONARY = Dictionary(ALL_PINS)
# A step that arrives this long after its time has been missed (a real one: none
# may be late).  Neither this process nor its host is a hard real-time system.
TOO_LATE = CLOCK_FREQ // 10
STATS_PERIOD = 5 * CLOCK_FREQ
# Time that counts as listening: of a longer gap between two looks only this much,
# because a host sends no more than 12 frames without an answer.  After a gap the
# settled past catches up at CATCH_UP times the pace of the clock.
STALL = CLOCK_FREQ // 100
CATCH_UP = 4
NEVER = 1 << 62
MAX_REPORTS = 8
MISSED = "Missed scheduling of next digital out event"
EXCEEDS = "Scheduled digital out event will exceed max_duration"
Oid = TypeVar("Oid")


def world_clock() -> int:
    """Ticks of the world's clock: Klipper's host clock is CLOCK_MONOTONIC_RAW."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) * CLOCK_FREQ // 10**9


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


class Firmware:
    """One power-on of the micro-controller.

    patience: ticks by which a homing move that nobody extends ends later.
    """

    def __init__(self, world: World, fd: int, patience: int = 0) -> None:
        self.world = world
        self.fd = fd
        self.patience = patience
        self.powered_at = world_clock()
        self.reader = FrameReader(self._payload, self._ack)
        self.oids: dict[int, object] = {}
        self.crc: int | None = None
        self.shutdown_reason: str | None = None
        self.outputs: dict[str, Output] = {}
        self.timers: list[tuple[int, int, Callable[[int], None]]] = []
        self._timer_id = 0
        self._checked = self.settled = self.powered_at
        self.ends = NEVER
        self._handlers = {
            m.name: getattr(self, "cmd_" + m.name)
            for m in DICTIONARY.commands.values()
        }
        self._in_shutdown = {"get_config", "get_clock", "get_uptime", "config_reset",
                             "identify", "emergency_stop"}  # fmt: skip
        self.at(self.powered_at + STATS_PERIOD, self._stats)

    # Clock and timers

    def now(self) -> int:
        """The clock; it stands still where the power was cut."""
        return min(world_clock(), self.ends)

    def clock32(self, clock: int) -> int:
        return (clock - self.powered_at) & 0xFFFFFFFF

    def clock64(self, clock32: int) -> int:
        """The instant near now whose low 32 bits these are."""
        now = self.now() - self.powered_at
        diff = (clock32 - now) & 0xFFFFFFFF
        if diff >= 0x80000000:
            diff -= 0x100000000
        return self.powered_at + now + diff

    def at(self, clock: int, callback: Callable[[int], None]) -> None:
        self._timer_id += 1
        heapq.heappush(self.timers, (clock, self._timer_id, callback))

    def run(self, now: int) -> None:
        """Everything that is due at `now`, an instant before the last hearing."""
        heard = min(now - self._checked, STALL)
        self._checked = now
        while self.timers and self.timers[0][0] <= now:
            clock, _, callback = heapq.heappop(self.timers)
            callback(clock)
        self.settle(min(now - TOO_LATE, self.settled + CATCH_UP * heard))

    def settle(self, until: int) -> None:
        """What switches, timeouts and outputs do until then, in that order.

        Afterwards a step before `until` is too late.
        """
        until = min(until, self.ends)
        while self.shutdown_reason is None and until > self.settled:
            bound, event = until, None
            for clock, callback in self._scheduled():
                if clock <= bound and (event is None or clock < bound):
                    bound, event = clock, callback
            # A switch is a matter of positions, and an event may change them.
            last = bound if event is None else bound - 1
            hits = [(self._hit(e, last), e) for e in self._homing()]
            pressed = [(clock, e) for clock, e in hits if clock is not None]
            if pressed:
                clock, e = min(pressed, key=lambda hit: hit[0])
                self._press(e, clock)
                continue
            for e in self._homing():
                e.next_sample = max(e.next_sample, e.clear_until)
            if event is None:
                break
            event()
        self.settled = max(self.settled, until)

    def _scheduled(self) -> Iterator[tuple[int, Callable[[], None]]]:
        for obj in self.oids.values():
            if isinstance(obj, TrSync):
                if obj.can_trigger and obj.expires is not None:
                    clock = obj.expires + self.patience
                    yield clock, partial(self._trigger, obj, obj.expire_reason, clock)
            elif isinstance(obj, Output):
                head = obj.queue[0][0] if obj.queue else None
                deadline = obj.deadline()
                if head is not None and (deadline is None or head <= deadline):
                    yield head, partial(self._load, obj)
                elif deadline is not None:
                    yield deadline, partial(self._shut, MISSED, deadline)

    def _oid(self, oid: int, kind: type[Oid]) -> Oid:
        obj = self.oids.get(oid)
        if not isinstance(obj, kind):
            raise CommandError("Invalid oid type")
        return obj

    # Wire

    def _send(self, payload: bytes) -> None:
        try:
            os.write(self.fd, frame(self.reader.next_seq, payload))
        except OSError:
            pass  # Nobody reads: the host is gone.

    def send(self, name: str, *args: int | bytes) -> None:
        self._send(DICTIONARY.response(name, args))

    def _ack(self, seq: int) -> None:
        self._send(b"")

    def _payload(self, payload: bytes) -> None:
        try:
            for name, args in DICTIONARY.decode(payload):
                if self.shutdown_reason is not None and name not in self._in_shutdown:
                    self.send("is_shutdown", DICTIONARY.strings[self.shutdown_reason])
                    continue
                self._handlers[name](*args)
        except CommandError as e:
            self.shutdown(str(e))

    # Basic commands

    def cmd_identify(self, offset: int, count: int) -> None:
        self.send("identify_response", offset, DICTIONARY.blob[offset : offset + count])

    def cmd_allocate_oids(self, count: int) -> None:
        self.oids = {}

    def cmd_get_config(self) -> None:
        self.send("config", int(self.crc is not None), self.crc or 0,
                  int(self.shutdown_reason is not None),
                  MOVE_COUNT if self.crc is not None else 0)  # fmt: skip

    def cmd_finalize_config(self, crc: int) -> None:
        self.crc = crc

    def cmd_get_clock(self) -> None:
        self.send("clock", self.clock32(self.now()))

    def cmd_get_uptime(self) -> None:
        ticks = self.now() - self.powered_at
        self.send("uptime", ticks >> 32, ticks & 0xFFFFFFFF)

    def cmd_emergency_stop(self) -> None:
        self.shutdown("Command request")

    def cmd_config_reset(self) -> None:
        if self.shutdown_reason is None:
            return
        self.oids, self.crc, self.shutdown_reason = {}, None, None
        self.outputs, self.timers = {}, []
        self.at(self.now() + STATS_PERIOD, self._stats)

    def _stats(self, clock: int) -> None:
        self.send("stats", 100, 20_000, 20_000)
        self.at(clock + STATS_PERIOD, self._stats)

    def shutdown(self, reason: str, clock: int | None = None) -> None:
        """As src/sched.c: steps end, outputs fall to their defaults."""
        clock = self.now() if clock is None else clock
        self.settle(clock)
        self._shut(reason, clock)

    def _shut(self, reason: str, clock: int) -> None:
        if self.shutdown_reason is not None:
            return
        self.shutdown_reason = reason
        for obj in self.oids.values():
            if isinstance(obj, Stepper):
                self._stop(obj, clock)
            elif isinstance(obj, TrSync):
                obj.can_trigger, obj.expires, obj.steppers = False, None, []
                obj.generation += 1
            elif isinstance(obj, Endstop):
                obj.homing = False
            elif isinstance(obj, Buttons):
                obj.generation += 1
        for output in self.outputs.values():
            output.queue.clear()
            self._apply(output, clock, output.default)
        self.world.note(clock, "shutdown", reason)
        self.send("shutdown", self.clock32(clock), DICTIONARY.strings[reason])

    def power_off(self, clock: int) -> None:
        """Power is gone at `clock`: what was scheduled later never happens."""
        self.settle(clock)
        for output in self.outputs.values():
            output.queue.clear()
            output.set(clock, 0.0)
        self.world.motors_off(clock)

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
        s.last = motor.push(first - interval, interval, count, add, s.direction)
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
        net = self.world.motors[s.motor].net_at(self.now())
        self.send("stepper_position", oid, net - s.zero)

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
