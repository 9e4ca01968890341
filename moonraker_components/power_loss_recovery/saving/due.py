# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Whether a state of the running print is to be saved now, and why."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import history, reading
from .pacing import Pacing


class Due:
    """last: the mark that was saved last, of this job.  was_paused: the print was,
    when it was last looked at for a save."""

    def __init__(self, pacing: Pacing) -> None:
        self.pacing = pacing
        self.last: Mapping[str, Any] | None = None
        self.was_paused = False

    def new_print(self) -> None:
        self.last, self.was_paused = None, False
        self.pacing.new_print()

    def why(
        self, now: float, mark: Mapping[str, Any], extra: Mapping[str, Any],
        paused: bool, asked: bool,
    ) -> str | None:  # fmt: skip
        """The reason in a word, None if it can wait.

        extra: the status of klippy's extra.  paused: the print is.  asked: somebody
        wants it saved.
        """
        last, settings = self.last, self.pacing.settings
        news = last is None or history.changed(last, mark)
        if news and reading.power_fails(extra):
            # There may be milliseconds left, so nothing spaces these.
            return "power loss"
        why = history.urgent(
            last, mark, settings.save_on_layer,
            not reading.measures_z(extra, settings),
        )  # fmt: skip
        if asked:
            why = "asked"
        elif why is None and last is not None and paused:
            rest = reading.at_rest(extra)
            why = history.paused(last, mark, self.was_paused, rest)
        return self.pacing.decide(now, why, news)
