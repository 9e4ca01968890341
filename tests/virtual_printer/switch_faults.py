# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What is wrong with each Z+ switch; most have nothing."""
from __future__ import annotations

import numpy as np

# A bouncing contact opens and closes this far above the place where it closes.
BOUNCE = 0.02
# How long it stays as it is, in ticks of the world's clock.
CHATTER = 2000


class SwitchFaults:
    """Faults by pin, each decided by the instant and the place alone.

    A switch is looked at more than once for one instant, and out of order: what
    it says must not depend on who asked before.

    pressed: always.  never: not even at the top.  sticky: once it has stopped a
    motor, for good.  once: does not close again after that.  bounce: opens and
    closes within BOUNCE mm after it closed.
    """

    KINDS = ("", "pressed", "never", "sticky", "once", "bounce")

    def __init__(self, seed: int) -> None:
        self.kinds: dict[str, str] = {}
        self.sigma: dict[str, float] = {}
        self._stuck: dict[str, int] = {}
        random = np.random.default_rng(seed)
        self._chatter = random.integers(0, 2, 4096).astype(bool)

    def set(self, pin: str, kind: str, sigma: float | None = None) -> None:
        """kind: one of KINDS; sigma: its repeatability in mm, None: as all others."""
        if kind not in self.KINDS:
            raise ValueError(f"switch fault {kind!r}: expected one of {self.KINDS}")
        self.kinds[pin] = kind
        self._stuck.pop(pin, None)
        self.sigma.pop(pin, None)
        if sigma is not None:
            self.sigma[pin] = sigma

    def stopped(self, pin: str, clock: int) -> None:
        """The switch was found closed at this clock, and has ended a move."""
        if self.kinds.get(pin) in ("sticky", "once"):
            self._stuck.setdefault(pin, clock)

    def apply(self, pin: str, clocks: np.ndarray, above: np.ndarray) -> np.ndarray:
        """State (True: pressed) at clocks; `above`: mm above where it closes."""
        closed = above >= 0
        kind = self.kinds.get(pin, "")
        if kind == "pressed":
            return np.ones_like(closed)
        if kind == "never":
            return np.zeros_like(closed)
        if kind == "bounce":
            is_open = self._chatter[clocks // CHATTER % len(self._chatter)]
            return closed & ~((above < BOUNCE) & is_open)
        if pin in self._stuck:
            later = clocks >= self._stuck[pin]
            return closed & ~later if kind == "once" else closed | later
        return closed
