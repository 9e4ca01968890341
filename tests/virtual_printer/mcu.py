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
from collections.abc import Callable, Iterator
from functools import partial

from .mcu_motion import Motion, TrSync
from .mcu_pins import Pins
from .mcu_uart import Uarts
from .protocol import CLOCK_FREQ
from .world import Output, World

# A step that arrives this long after its time has been missed (a real one: none
# may be late).  Neither this process nor its host is a hard real-time system.
TOO_LATE = CLOCK_FREQ // 10
# Time that counts as listening: of a longer gap between two looks only this much,
# because a host sends no more than 12 frames without an answer.  After a gap the
# settled past catches up at CATCH_UP times the pace of the clock.
STALL = CLOCK_FREQ // 100
CATCH_UP = 4
MISSED = "Missed scheduling of next digital out event"


class Firmware(Motion, Pins, Uarts):
    """One power-on of the micro-controller.

    patience: ticks by which a homing move that nobody extends ends later.
    """

    def __init__(self, world: World, fd: int, patience: int = 0) -> None:
        super().__init__(world, fd)
        self.patience = patience
        self._checked = self.powered_at

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

    def power_off(self, clock: int) -> None:
        """Power is gone at `clock`: what was scheduled later never happens."""
        self.settle(clock)
        for output in self.outputs.values():
            output.queue.clear()
            output.set(clock, 0.0)
        self.world.motors_off(clock)
