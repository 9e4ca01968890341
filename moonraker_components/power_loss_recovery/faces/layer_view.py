# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""One layer of the interrupted print, to be drawn."""
from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import answers, files
from ..gcode import drawing
from ..gcode.errors import GcodeError
from ..record import Record

if TYPE_CHECKING:
    from ..component import PowerLossRecovery


class LayerView:
    def __init__(self, component: PowerLossRecovery) -> None:
        self.component = component
        # Who moves a slider asks often; journal and database want threads as well.
        self._one = asyncio.Lock()

    async def get(
        self, layer: int | None = None, position: int | None = None
    ) -> answers.Layer:
        """The layer of that number, or that byte; else that of the saved place."""
        resumer, server = self.component.resumer, self.component.server
        async with self._one:
            layers = await resumer.points()
            pending = self.component.tracker.pending
            if pending is None or pending.job.name != layers["file"]:
                raise server.error("There is no interrupted print any more", 404)
            byte = layers["saved"] if position is None else position
            try:
                path = files.inside(resumer.gcodes, layers["file"])
                return await self.component.eventloop.run_in_thread(
                    view, path, layers["points"], layer, byte, pending.record
                )
            except (files.FileProblem, GcodeError, OSError) as e:
                raise server.error(f"No drawing: {e}", 409) from e


def view(
    path: Path, points: Sequence[answers.Point], layer: int | None, byte: int,
    record: Record,
) -> answers.Layer:  # fmt: skip
    """Reads no more of the file than that layer.  Raises files.FileProblem and
    GcodeError."""
    starts = [point["file_position"] for point in points]
    index = max(bisect_right(starts, byte) - 1, 0)
    if layer is not None:
        index = _numbered(points, layer)
    at, coordinates = points[index], record.state["coordinates"]
    with files.mapped(path) as (_, data):
        stop = starts[index + 1] if index + 1 < len(starts) else len(data)
        found = drawing.draw(
            data, at["file_position"], stop, record.file_position, record.fraction,
            coordinates["absolute_extrude"],
        )  # fmt: skip
    x, y = coordinates["homing_origin"][:2]
    return {
        "layer": at["layer"],
        "z": at["z"],
        "file_position": at["file_position"],
        "printed": [_moved(line, x, y) for line in found.printed],
        "rest": [_moved(line, x, y) for line in found.rest],
        "begin": None if found.begin is None else _moved(found.begin, x, y),
        "seam": None if found.seam is None else _moved(found.seam, x, y),
        "whole": found.whole,
    }


def _numbered(points: Sequence[answers.Point], number: int) -> int:
    """Raises FileProblem when there is none of that number, or several."""
    chosen = [i for i, point in enumerate(points) if point["layer"] == number]
    if len(chosen) == 1:
        return chosen[0]
    many = f"{len(chosen)} layers" if chosen else "no layer"
    raise files.FileProblem(f"the file has {many} with the number {number}")


def _moved(path: Sequence[float], x: float, y: float) -> list[float]:
    """By SET_GCODE_OFFSET: to where the motors are."""
    if not x and not y:
        return list(path)
    return [round(value + (y if i % 2 else x), 2) for i, value in enumerate(path)]
