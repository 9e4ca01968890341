# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What goes wrong with saving, told to the owner once."""
from __future__ import annotations

import logging
import math
from collections.abc import Callable

TELL_PERIOD = 600.0  # seconds until the same kind of trouble is spoken of again


class Trouble:
    """text: what is wrong now, or nothing."""

    def __init__(
        self,
        clock: Callable[[], float],
        changed: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        self.clock = clock
        self.changed = changed
        self.tell = tell
        self.text = ""
        self._told: dict[str, float] = {}  # when, by kind
        self._tell_end = False

    def begin(self, text: str, error: Exception | None = None) -> None:
        """Tell the owner once, however often it fails and in whatever words."""
        if text == self.text:
            return
        self.text = text
        logging.info(f"power_loss_recovery: {text}")
        kind, now = type(error).__name__, self.clock()
        if now - self._told.get(kind, -math.inf) > TELL_PERIOD:
            self._told[kind] = now
            self._tell_end = True
            self.tell(text)
        self.changed()

    def end(self) -> None:
        if self.text:
            self.text = ""
            if self._tell_end:
                self._tell_end = False
                self.tell("Saving works again.")
            self.changed()
