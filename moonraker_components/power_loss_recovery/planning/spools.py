# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Filament that has run out: klippy notices when a switch opens, not that it is open.

After a boot it is not told again, and the print would go on in the air.  A motion
sensor says nothing before filament moves.
"""
from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ..record import Record

KIND = "filament_switch_sensor "


def watching(names: Collection[str], settings: Mapping[str, Any]) -> Iterator[str]:
    """Sensors that do something in a print.  names: klippy's objects.  settings: its
    configuration."""
    for name in names:
        if name.startswith(KIND):
            own = settings.get(name.lower(), {})
            if own.get("pause_on_runout", True) or own.get("runout_gcode"):
                yield name


def empty(record: Record, status: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Those that were on in the print, saw filament in it, and see none now.

    status: of those that watch, as far as it is known.  What never saw any watches a
    tool that the print does not use, or nothing.
    """
    enabled, seen = record.rare.get("sensors", {}), record.rare.get("spools", {})
    return [
        name for name, now in status.items()
        if now.get("filament_detected") is False
        and enabled.get(name.removeprefix(KIND), True)
        and seen.get(name.removeprefix(KIND), False)
    ]  # fmt: skip


def warning(names: Collection[str]) -> str:
    which = " and ".join(f"[{name}]" for name in names)
    sees = "sees" if len(names) == 1 else "see"
    return (
        f"{which} {sees} no filament: it will be paused beside the part. Load filament,"
        " then press Resume."
    )
