# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Every option that Moonraker's side uses, read once.

The options of printer.cfg have been checked by klippy, which publishes them
through its `configfile` object; whatever does not fit all the same falls back to
the default.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Z_STRATEGIES = ("auto", "measure", "assume")


@dataclass(frozen=True)
class Settings:
    """save_interval: seconds between saves, 0 for saves at events only.
    save_on_layer: save at once on a layer change.
    history_size: states kept.  save_delay: 1 saves the newest executed state, 2 the
        one before it, and so on.
    z_strategy: where Z comes from at a resume: "measure" by the Z+ switches, "assume"
        from the record, "auto" measured if the switches are calibrated.
    """

    save_interval: float = 1.0
    save_on_layer: bool = True
    history_size: int = 5
    save_delay: int = 2
    z_strategy: str = "auto"

    @staticmethod
    def from_klippy(section: Mapping[str, Any]) -> Settings:
        """From `configfile.settings.power_loss_recovery`."""
        default = Settings()
        on_layer = section.get("save_on_layer", default.save_on_layer)
        size = _number(section, "history_size", 2, 20, default.history_size)
        delay = _number(section, "save_delay", 1, 4, default.save_delay)
        strategy = str(section.get("z_strategy", default.z_strategy))
        return Settings(
            save_interval=_number(
                section, "save_interval", 0, 300, default.save_interval
            ),
            save_on_layer=on_layer is True or str(on_layer).lower() == "true",
            history_size=int(size),
            save_delay=int(min(delay, size)),
            z_strategy=strategy if strategy in Z_STRATEGIES else default.z_strategy,
        )


def _number(
    section: Mapping[str, Any], key: str, low: float, high: float, default: float
) -> float:
    try:
        value = float(section.get(key, default))
    except (TypeError, ValueError, OverflowError):
        return default
    return value if math.isfinite(value) and low <= value <= high else default
