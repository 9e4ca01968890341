# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""When a state is saved, and why not sooner.

Events are saved at once.  Between them an interval decides, which gets longer where
saving costs too much: on a slow disk, while klippy or an MCU is short of time, and
inside a limit of writes per hour.
"""
from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from ..answers import Saving
from ..settings import Settings

# klippy sends status every 0.25 s: an interval is over when the next update
# would come later than it.
STATUS_PERIOD = 0.25
HOUR = 3600.0
# Klippy may read its file from the same card: saving takes a tenth of the disk's
# time at most.  One stall among the last saves counts as its share of them.
DISK_SHARE = 10
LATENCIES = 5
LONGEST_FOR_DISK = 30.0
# Longer would cost more plastic than a save of 1 ms is worth: a file that waits (M190,
# G4, a macro) looks like a host that does not keep up.
INTERVAL_UNDER_LOAD = 1.5
# klippy keeps 1 s and more of motion queued while a print runs well, and starts
# with 0.25 s; below that its host does not keep up.
LOW_BUFFER = 0.2
AFTER_STALL = 10.0
# The load that klippy's graphstats.py shows: 1 is a task loop of 2.5 ms.
TASK_MAX = 0.0025
BUSY_MCU = 0.9
# What no limit of writes may hold back: without it a pause, a tool change or what
# somebody asked for would be forgotten, or Z would not be where it is said to be.
NEVER_HELD = frozenset({
    "first state", "asked", "pause", "parked", "z move", "tool change", "cancel",
})  # fmt: skip


class Pacing:
    """Times are seconds of one monotonic clock."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.last_save = -math.inf
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self._writes: deque[tuple[float, bool]] = deque()  # when, at an interval
        self._held: str | None = None
        self._stalls: int | None = None
        self._stalled_at = -math.inf
        self._load = ""

    def new_print(self) -> None:
        self.last_save = -math.inf
        self._held = None

    # What is observed

    def saved(self, started: float, latency: float, writes: int, why: str) -> None:
        """`writes`: how often the disk was asked to make something durable."""
        self.last_save = started
        self._latencies.append(latency)
        self.wrote(started, writes, why)
        self._held = None

    def wrote(self, now: float, writes: int, why: str) -> None:
        self._writes.extend([(now, why == "interval")] * writes)
        self._forget(now)

    def observe(self, now: float, status: Mapping[str, Mapping[str, Any]]) -> None:
        """`status`: of klippy's objects `toolhead` and `mcu ...`, as far as known."""
        toolhead = status.get("toolhead", {})
        stalls = toolhead.get("stalls")
        if isinstance(stalls, int):
            if self._stalls is not None and stalls > self._stalls:
                self._stalled_at = now
            self._stalls = stalls
        buffer = _number(toolhead.get("print_time")) - _number(
            toolhead.get("estimated_print_time")
        )
        self._load = ""
        if now - self._stalled_at < AFTER_STALL:
            self._load = "the move queue of Klipper ran empty"
        elif 0 < buffer < LOW_BUFFER:
            self._load = f"the move queue of Klipper is down to {buffer:.2f} s"
        for name, values in status.items():
            if name.split(" ")[0] == "mcu":
                load = mcu_load(values.get("last_stats"))
                if load >= BUSY_MCU:
                    self._load = f"{name} is busy ({100 * load:.0f} %)"

    # What is decided

    def decide(self, now: float, why: str | None, news: bool) -> str | None:
        """The reason to save now, if there is one.

        why: the event that asks for it.  news: there is something new to save.
        """
        self._forget(now)
        self._held = None
        if why is not None:
            if why in NEVER_HELD or self._left() > 0:
                return why
            self._held = why
        interval, _ = self._interval()
        if interval is None or not news or self._left_for_intervals() <= 0:
            return None
        over = now - self.last_save >= interval - STATUS_PERIOD / 2
        return "interval" if over else None

    def status(self, now: float) -> Saving:
        """interval in seconds, None for saves at events only; why it is that long,
        in words; latency_ms of recent saves (mean); how many writes the last hour
        had; the event that waits for the limit of writes."""
        self._forget(now)
        interval, reason = self._interval()
        return {
            "interval": interval,
            "reason": reason,
            "latency_ms": round(1000 * self._latency(), 1),
            "writes_this_hour": len(self._writes),
            "held": self._held,
        }

    def _interval(self) -> tuple[float | None, str]:
        longest, limit = self.settings.save_interval, self.settings.max_writes_per_hour
        if longest == 0:
            return None, "save_interval is 0: saves at events only"
        reason = "save_interval"
        slow = min(DISK_SHARE * self._latency(), LONGEST_FOR_DISK)
        if slow > longest:
            longest = slow
            reason = f"the disk is slow: a save takes {1000 * self._latency():.0f} ms"
        if self._load and longest < INTERVAL_UNDER_LOAD:
            longest, reason = INTERVAL_UNDER_LOAD, self._load
        if limit and HOUR / (limit - limit // 2) > longest:
            longest = HOUR / (limit - limit // 2)
            reason = f"max_writes_per_hour is {limit}, half of it for events"
        if self._left() <= 0:
            reason = f"all {limit} writes of this hour are used (max_writes_per_hour)"
        elif self._left_for_intervals() <= 0:
            reason = f"what is left of max_writes_per_hour ({limit}) is for events"
        return longest, reason

    def _latency(self) -> float:
        return sum(self._latencies) / len(self._latencies) if self._latencies else 0.0

    def _left(self) -> float:
        limit = self.settings.max_writes_per_hour
        return limit - len(self._writes) if limit else math.inf

    def _left_for_intervals(self) -> float:
        """Half of the limit is kept for events, as far as they have not used it."""
        limit = self.settings.max_writes_per_hour
        if not limit:
            return math.inf
        events = sum(not at_interval for _, at_interval in self._writes)
        return self._left() - max(limit // 2 - events, 0)

    def _forget(self, now: float) -> None:
        while self._writes and self._writes[0][0] <= now - HOUR:
            self._writes.popleft()


def mcu_load(stats: Any) -> float:
    """From `last_stats` of an mcu, as klippy's graphstats.py calculates it."""
    if not isinstance(stats, Mapping):
        return 0.0
    mean, deviation = (
        _number(stats.get(key)) for key in ("mcu_task_avg", "mcu_task_stddev")
    )
    return (mean + 3 * deviation) / TASK_MAX


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    return float(value) if math.isfinite(value) else 0.0
