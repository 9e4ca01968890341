# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a G-code file has done up to a byte offset, in bounded memory."""
from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .errors import GcodeError, ScanError
from .extent import Extent, extent
from .markers import Markers, header_end, setup_lines
from .modal import Motion, Point4, Saved, known
from .replay import Setting
from .skim import State, read, skim
from .text import Data, check, check_rest

__all__ = [
    "Footprint", "Head", "Markers", "Point4", "ScanError", "footprint",
    "footprint_exactly", "scan", "scan_exactly", "setup_lines",
]  # fmt: skip


_G10 = re.compile(rb"(?im)^[ \t]*(?:N[ \t]*\d+[ \t]*)?G10(?!\d)")


@dataclass(frozen=True)
class Footprint:
    """Where plastic is.

    printed_box: (x_min, y_min, x_max, y_max) of extruding moves, free of G92;
        None when nothing was printed or a frame is unknown.
    top_z: highest Z at which something was extruded.
    """

    printed_box: tuple[float, float, float, float] | None
    top_z: float | None


@dataclass(frozen=True)
class Head:
    """Everything before byte `end`.

    position: in the file's own coordinates, after its G92.
    absolute_coordinates, absolute_extrude: Klipper's default (True) until the
        file states one; the two `_stated` say whether it did.
    feedrate: F in mm/min.
    retracted: mm that the current tool's filament is behind its furthest point;
        firmware_retracted: after G10, before G11, and nothing laid since.
    heaters: targets in degrees C by Klipper's heater name ("chamber" for M141).
    fans: 0..1; "fan" for M106, "fan2" for M106 P2, else the name given to
        SET_FAN_SPEED.
    layer: counted from 1.  layer_z: its Z, as stated or else as printed.
    g92: what G92 has added to x, y, z; None when it was set at an unknown place.
    settings: the commands that set anything else and still count, to be run again.
    saved: by SAVE_GCODE_STATE; saved_factors: M220 and M221 as they were then.
    flow_before_tool: no M221 came since another tool was chosen by T.
    footprint: None if scan() was not to measure it: that takes longer than all the
        rest.  printed_box and top_z are its parts.
    first_extrusion, last_extrusion: offsets of lines.
    """

    end: int
    header_end: int
    absolute_coordinates: bool
    absolute_extrude: bool
    coordinates_stated: bool
    extrude_stated: bool
    position: Point4
    feedrate: float | None
    retracted: float
    firmware_retracted: bool
    tool: int | None
    heaters: Mapping[str, float]
    fans: Mapping[str, float]
    layer: int | None
    layer_z: float | None
    total_layers: int | None
    object_definitions: tuple[bytes, ...]
    current_object: str | None
    first_extrusion: int | None
    last_extrusion: int | None
    markers: Markers
    settings: tuple[Setting, ...] = ()
    g92: tuple[float | None, ...] = (0.0, 0.0, 0.0)
    footprint: Footprint | None = None
    saved: Mapping[str, Saved] = field(default_factory=dict)
    saved_factors: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    flow_before_tool: bool = False

    @property
    def printed_box(self) -> tuple[float, float, float, float] | None:
        return self._measured().printed_box

    @property
    def top_z(self) -> float | None:
        return self._measured().top_z

    def _measured(self) -> Footprint:
        # Without it the nozzle would travel through the part.
        if self.footprint is None:
            raise GcodeError("what was printed is not measured: give scan() an Extent")
        return self.footprint


def scan(data: Data, end: int, extent: Extent | None = None) -> Head:
    """Read `data` up to byte `end`, which must be the start of a line.

    extent: a new one, to measure the footprint on the way.  Raises ScanError, with
    the reason in plain words, for an offset inside a line, a file that is no text,
    inches, and lines on which Klipper stops.
    """
    check(data, end)
    check_rest(data, end)
    if extent is None:
        return _head(data, end, skim(data, end))
    head = _head(data, end, extent.read(end))
    return replace(head, footprint=_footprint(*extent.finish()))


def scan_exactly(data: Data, end: int) -> Head:
    """As scan(), from every line: what scan() is compared with."""
    check(data, end)
    check_rest(data, end)
    return _head(data, end, read(data, end))


def footprint(data: Data, end: int) -> Footprint:
    """What stands on the bed when `end` is reached; takes some times as long as
    scan().  May be larger than what was printed, never smaller.

    Raises ScanError as scan() does.
    """
    check(data, end)
    return _footprint(*extent(data, end))


def footprint_exactly(data: Data, end: int) -> Footprint:
    """As footprint(), from every move: what footprint() is compared with."""
    check(data, end)
    motion = read(data, end).motion
    low = [value + frame for value, frame in zip(motion.low, motion.frame, strict=True)]
    high = [v + frame for v, frame in zip(motion.high, motion.frame, strict=True)]
    return _footprint(low, high)


def _footprint(low: list[float], high: list[float]) -> Footprint:
    box = (low[0], low[1], high[0], high[1])
    return Footprint(box if all(map(math.isfinite, box)) else None, known(high[2]))


def _head(data: Data, end: int, state: State) -> Head:
    motion, ambient = state.motion, state.ambient
    layers = ambient.layers
    return Head(
        end=end,
        header_end=header_end(data, end),
        absolute_coordinates=motion.absolute_coordinates,
        absolute_extrude=motion.absolute_extrude,
        coordinates_stated=motion.coordinates_stated,
        extrude_stated=motion.extrude_stated,
        position=Point4(*map(known, motion.position)),
        feedrate=known(motion.feedrate),
        retracted=motion.retracted,
        firmware_retracted=ambient.firmware_retracted
        and not _laid_since_g10(data, end, state.last),
        tool=ambient.tool,
        heaters=dict(ambient.heaters),
        fans=dict(ambient.fans),
        layer=layers.number,
        layer_z=known(layers.height()),
        total_layers=layers.total,
        object_definitions=tuple(ambient.object_definitions),
        current_object=ambient.current_object,
        first_extrusion=state.first,
        last_extrusion=state.last,
        markers=state.markers,
        settings=(*_offset(motion), *ambient.settings()),
        g92=tuple(map(known, motion.frame)),
        saved={name: _to_restore(saved) for name, saved in motion.saved.items()},
        saved_factors=ambient.saved_factors(),
        flow_before_tool=ambient.flow_before_tool,
    )


def _to_restore(saved: Saved) -> Saved:
    """Nothing reads E where it is relative, and skim() does not add it up."""
    if saved.absolute_extrude:
        return saved
    return replace(saved, position=(*saved.position[:3], None))


def _laid_since_g10(data: Data, end: int, last: int | None) -> bool:
    """For another firmware, G10 sets a tool up: no G11 ever follows.  What is printed
    then has pushed the filament forward all the same."""
    return last is not None and _G10.search(data, last, end) is None


def _offset(motion: Motion) -> list[Setting]:
    """SET_GCODE_OFFSET in one line: adjustments add to what the machine had."""
    words = [
        f" {letter}={value:.6f}" if stated else f" {letter}_ADJUST={value:.6f}"
        for letter, value, stated in zip(
            "XYZE", motion.offset, motion.offset_stated, strict=True
        )
        if stated or value
    ]
    name = "SET_GCODE_OFFSET"
    return [Setting(name, (name + "".join(words)).encode("ascii"))] if words else []
