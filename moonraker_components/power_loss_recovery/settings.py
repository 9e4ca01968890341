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
AUTO_RESUME = ("never", "if_bed_warm", "always")


@dataclass(frozen=True)
class Settings:
    """save_interval: seconds between saves, 0 for saves at events only.
    save_on_layer: save at once on a layer change.
    history_size: states kept.  save_delay: 1 saves the newest executed state, 2 the
        one before it, and so on.  max_writes_per_hour: for worn cards, 0 for no limit.
    z_strategy: where Z comes from at a resume: "measure" by the Z+ switches, "assume"
        from the record, "auto" measured if the switches are calibrated.
    auto_resume: after a power loss, without a person's yes: "never", "if_bed_warm" (at
        most auto_resume_bed_drop degrees C below its target, at most
        auto_resume_max_off minutes after the last save), "always".
    auto_resume_countdown: seconds in which a person can stop it.
    auto_resume_attempts: outages of one print after which heaters may be turned on
        without a yes.  hold_bed: minutes that the bed is kept warm for the answer.
    debug_mode: each save is told on the console.
    """

    save_interval: float = 1.0
    save_on_layer: bool = True
    history_size: int = 5
    save_delay: int = 2
    max_writes_per_hour: int = 0
    z_strategy: str = "auto"
    auto_resume: str = "never"
    auto_resume_bed_drop: float = 10.0
    auto_resume_max_off: float = 10.0
    auto_resume_countdown: float = 60.0
    auto_resume_attempts: int = 2
    hold_bed: float = 0.0
    debug_mode: bool = False

    @staticmethod
    def from_klippy(section: Mapping[str, Any]) -> Settings:
        """From `configfile.settings.power_loss_recovery`."""
        default = Settings()

        def number(key: str, low: float, high: float) -> float:
            return _number(section, key, low, high, getattr(default, key))

        def choice(key: str, among: tuple[str, ...]) -> str:
            value = str(section.get(key, getattr(default, key)))
            return value if value in among else getattr(default, key)

        on_layer = section.get("save_on_layer", default.save_on_layer)
        size = number("history_size", 2, 20)
        return Settings(
            save_interval=number("save_interval", 0, 300),
            save_on_layer=_yes(on_layer),
            history_size=int(size),
            save_delay=int(min(number("save_delay", 1, 4), size)),
            max_writes_per_hour=int(number("max_writes_per_hour", 0, 14400)),
            z_strategy=choice("z_strategy", Z_STRATEGIES),
            auto_resume=choice("auto_resume", AUTO_RESUME),
            auto_resume_bed_drop=number("auto_resume_bed_drop", 1, 50),
            auto_resume_max_off=number("auto_resume_max_off", 0, 1440),
            auto_resume_countdown=number("auto_resume_countdown", 10, 3600),
            auto_resume_attempts=int(number("auto_resume_attempts", 1, 10)),
            hold_bed=number("hold_bed", 0, 480),
            debug_mode=_yes(section.get("debug_mode", default.debug_mode)),
        )


def _yes(value: Any) -> bool:
    return value is True or str(value).lower() == "true"


def _number(
    section: Mapping[str, Any], key: str, low: float, high: float, default: float
) -> float:
    try:
        value = float(section.get(key, default))
    except (TypeError, ValueError, OverflowError):
        return default
    return value if math.isfinite(value) and low <= value <= high else default
