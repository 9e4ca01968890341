# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The layers of a file, read once however many ask: it may be long."""
from __future__ import annotations

import asyncio
from pathlib import Path

from . import files
from .answers import Point
from .keeper import InThread
from .record import Job


class Layers:
    def __init__(self, in_thread: InThread) -> None:
        self.in_thread = in_thread
        self._reading = asyncio.Lock()
        self._known: tuple[object, list[Point]] | None = None

    async def of(self, path: Path, job: Job) -> list[Point]:
        """Raises files.FileProblem, GcodeError, OSError."""
        async with self._reading:
            found = await self.in_thread(path.stat)
            key = (path, job.fingerprint, found.st_size, found.st_mtime_ns)
            if self._known is None or self._known[0] != key:
                points = [
                    Point(layer=at.number, z=at.z, file_position=at.file_position,
                          share=at.share)
                    for at in await self.in_thread(files.layers, path)
                ]  # fmt: skip
                self._known = key, points
            return self._known[1]
