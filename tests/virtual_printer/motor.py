# A stepper motor: where it is at any instant, from the steps it was sent
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Motors as physical things: they outlive the micro-controller's power.

A motor keeps its whole history in two lists: *chunks* of steps, as Klipper's
`queue_step` describes them (`c0, interval, count, add`: step k, counted from 1,
happens at `c0 + k*interval + add*k*(k-1)/2`), and *jumps* (a rotor that snaps, a
gantry that sags).  Times are absolute ticks of the world's clock, which never
restarts.  Nothing is evaluated step by step until somebody asks.
"""
from __future__ import annotations

import bisect
import random
from dataclasses import dataclass, field

import numpy as np

# The rotor of a hybrid stepper falls to the nearest electrical cycle, four
# full steps, when its coils are first energised.
FULL_STEPS_PER_CYCLE = 4
NEVER = 1 << 62


@dataclass
class Chunk:
    """A run of steps in one direction; `count` shrinks when it is cut short."""

    c0: int
    interval: int
    count: int
    add: int
    direction: int  # +1 or -1

    def steps_until(self, clock: int) -> int:
        """How many of its steps have happened at `clock` (inclusive)."""
        if self.count == 0 or clock < self.c0 + self.interval:
            return 0
        if clock >= self.time_of(self.count):
            return self.count
        low, high = 1, self.count
        while high - low > 1:
            mid = (low + high) // 2
            if self.time_of(mid) <= clock:
                low = mid
            else:
                high = mid
        return low

    def time_of(self, k: int) -> int:
        return self.c0 + k * self.interval + self.add * k * (k - 1) // 2


def _steps_done(
    elapsed: np.ndarray, interval: np.ndarray, count: np.ndarray, add: np.ndarray
) -> np.ndarray:
    """Chunk.steps_until() for many chunks, each at its own time since its c0."""

    def time_of(k: np.ndarray) -> np.ndarray:
        return k * interval + add * (k * (k - 1) // 2)

    # The root of the quadratic, then made exact: floats only come close.
    slope = interval - add / 2
    root = np.sqrt(np.maximum(slope * slope + 2.0 * add * elapsed, 0.0))
    guess = 2.0 * elapsed / np.maximum(slope + root, 0.5)
    k = np.clip(guess, 0, count).astype(np.int64)
    k = np.where(elapsed >= time_of(count), count, k)
    while (late := (k > 0) & (time_of(k) > elapsed)).any():
        k -= late
    while (early := (k < count) & (time_of(k + 1) <= elapsed)).any():
        k += early
    return k


@dataclass
class Motor:
    """`position` is mm along the motor's own axis; `step_mm` mm per microstep."""

    name: str
    step_mm: float
    microsteps: int
    position: float
    snaps: bool = True
    reversed: bool = False  # wired so that a high DIR pin turns it down
    # Friction holds a rotor this far from where the field points, at most.
    friction: float = 0.0  # mm
    chance: random.Random = field(default_factory=random.Random)
    lag: float = 0.0  # mm by which an energised rotor stands beside its field
    energised: bool = False
    phase: int = 0  # microsteps since the driver got power
    chunks: list[Chunk] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)  # first step of each chunk
    befores: list[int] = field(default_factory=list)  # net steps before it
    jumps: list[tuple[int, float]] = field(default_factory=list)
    net: int = 0  # net steps of all chunks
    slips_at: int = NEVER  # steps after this clock do not turn it,
    grips_at: int = NEVER  # until this one
    origin: float = 0.0  # position where the phase is zero, on the rotor's lattice

    def __post_init__(self) -> None:
        self.origin = self.position
        self.jumps.append((0, self.position))

    @property
    def cycle_mm(self) -> float:
        return self.step_mm * self.microsteps * FULL_STEPS_PER_CYCLE

    def push(self, c0: int, interval: int, count: int, add: int, up: bool) -> int:
        """Append a chunk; returns the clock of its last step."""
        chunk = Chunk(c0, interval, count, add, 1 if up else -1)
        self.chunks.append(chunk)
        # Not c0: after a new configuration that may lie before earlier steps.
        self.starts.append(c0 + interval)
        self.befores.append(self.net)
        self.net += count * chunk.direction
        return chunk.time_of(count)

    def stop_at(self, clock: int) -> int:
        """Forget all steps after `clock`; returns how many there were."""
        dropped = 0
        while self.chunks:
            chunk = self.chunks[-1]
            done = chunk.steps_until(clock)
            if done == chunk.count:
                break
            dropped += chunk.count - done
            self.net -= (chunk.count - done) * chunk.direction
            chunk.count = done
            if done:
                break
            self.chunks.pop()
            self.starts.pop()
            self.befores.pop()
        return dropped

    def net_at(self, clock: int) -> int:
        """Net steps taken at `clock`."""
        i = bisect.bisect_right(self.starts, clock) - 1
        if i < 0:
            return 0
        chunk = self.chunks[i]
        return self.befores[i] + chunk.steps_until(clock) * chunk.direction

    def base_at(self, clock: int) -> float:
        """Position that zero net steps would have, after the jumps so far."""
        i = len(self.jumps) - 1
        while i > 0 and self.jumps[i][0] > clock:
            i -= 1
        return self.jumps[i][1]

    def at(self, clock: int) -> float:
        """Position in mm at `clock`."""
        return self.base_at(clock) + self._turned_at(clock) * self.step_mm

    def _turned_at(self, clock: int) -> int:
        missed = self.net_at(min(clock, self.grips_at)) - self.net_at(
            min(clock, self.slips_at)
        )
        return self.net_at(clock) - missed

    def at_many(self, clocks: np.ndarray) -> np.ndarray:
        """Positions (mm) at a sorted array of clocks."""
        clocks = np.asarray(clocks, np.int64)
        turned = self._nets(clocks) - self._missed(clocks)
        return self._bases(clocks) + turned * self.step_mm

    def _missed(self, clocks: np.ndarray) -> np.ndarray:
        """Net steps that did not turn it, until each of these sorted clocks."""
        if self.slips_at == NEVER:
            return np.zeros(len(clocks), np.int64)
        begin = self._nets(np.minimum(clocks, self.slips_at))
        return self._nets(np.minimum(clocks, self.grips_at)) - begin

    def _bases(self, clocks: np.ndarray) -> np.ndarray:
        times = np.array([t for t, _ in self.jumps], np.int64)
        index = np.searchsorted(times, clocks, side="right") - 1
        return np.array([base for _, base in self.jumps])[np.maximum(index, 0)]

    def _nets(self, clocks: np.ndarray) -> np.ndarray:
        """Net steps at sorted clocks: net_at() without a loop."""
        if not len(clocks):
            return np.zeros(0, np.int64)
        first = max(bisect.bisect_right(self.starts, int(clocks[0])) - 1, 0)
        last = bisect.bisect_right(self.starts, int(clocks[-1]))
        chunks = self.chunks[first:last]
        if not chunks:
            return np.zeros(len(clocks), np.int64)
        starts = np.array(self.starts[first:last], np.int64)
        index = np.searchsorted(starts, clocks, side="right") - 1
        early, index = index < 0, np.maximum(index, 0)
        table = np.array(
            [(c.c0, c.interval, c.count, c.add, c.direction) for c in chunks], np.int64
        )
        c0, interval, count, add, direction = table[index].T
        done = np.where(early, 0, _steps_done(clocks - c0, interval, count, add))
        return np.array(self.befores[first:last], np.int64)[index] + done * direction

    def jump(self, clock: int, delta: float) -> None:
        """Move without steps."""
        self.jumps.append((clock, self.jumps[-1][1] + delta))

    def energise(self, clock: int) -> float:
        """Coils on: the rotor falls to its nearest electrical cycle.

        Returns the distance it snapped, in mm.
        """
        if self.energised:
            return 0.0
        self.energised = True
        if not self.snaps:
            return 0.0
        cycle = self.cycle_mm
        here = self.at(clock)
        wanted = self.origin + (self.phase_at(clock) * self.step_mm) % cycle
        snap = (wanted - here) - round((wanted - here) / cycle) * cycle
        if abs(snap) <= self.friction:
            self.lag, snap = -snap, 0.0
        else:
            self.lag = self._lag()
            snap += self.lag
        self.jump(clock, snap)
        return snap

    def release(self, clock: int) -> None:
        """Coils off: friction keeps the rotor where its last steps left it."""
        if self.energised and self.friction:
            self.jump(clock, self._lag() - self.lag)
        self.energised, self.lag = False, 0.0

    def _lag(self) -> float:
        return self.chance.uniform(-self.friction, self.friction)

    def disconnect(self, clock: int) -> None:
        """Steps no longer turn it: a coupling that slips.  Once in its life."""
        self.slips_at, self.snaps, self.friction = clock, False, 0.0

    def connect(self, clock: int) -> None:
        """The coupling is tight again, wherever the motor now stands."""
        self.grips_at = clock

    def phase_at(self, clock: int) -> int:
        return self.net_at(clock) - self.phase

    def driver_reset(self, clock: int) -> None:
        """Driver without power: its microstep counter starts again at zero."""
        self.release(clock)
        self.phase = self.net_at(clock)

    def expand(self, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Clock of, and net steps after, each step in (begin, end]."""
        first = max(bisect.bisect_right(self.starts, begin) - 1, 0)
        last = bisect.bisect_right(self.starts, end)
        chunks = self.chunks[first:last]
        if not chunks:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        count = np.array([c.count for c in chunks], np.int64)
        if count.sum() == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        index = np.repeat(np.arange(len(chunks)), count)
        k = np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count) + 1

        def column(values: list[int]) -> np.ndarray:
            return np.array(values, np.int64)[index]

        times = (
            column([c.c0 for c in chunks])
            + k * column([c.interval for c in chunks])
            + column([c.add for c in chunks]) * (k * (k - 1) // 2)
        )
        net = column(self.befores[first:last]) + k * column(
            [c.direction for c in chunks]
        )
        keep = (times > begin) & (times <= end)
        return times[keep], net[keep]

    def history(self, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Clocks and positions (mm) of all steps and jumps in [begin, end]."""
        times, net = self.expand(begin, end)
        jump_t = np.array([t for t, _ in self.jumps], np.int64)
        positions = self._bases(times) + (net - self._missed(times)) * self.step_mm
        inside = (jump_t > begin) & (jump_t <= end)
        extra_t = np.concatenate(([begin], jump_t[inside]))
        extra_p = np.array([self.at(int(t)) for t in extra_t])
        all_t = np.concatenate((extra_t, times))
        order = np.argsort(all_t, kind="stable")
        return all_t[order], np.concatenate((extra_p, positions))[order]
