# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What was found in a file, read once however many ask: it may be hundreds of MB.

A thread cannot be stopped.  Whoever cancels and asks again gets what is being read.
"""
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class ReadOnce(Generic[T]):
    """Keeps the last answer, for as long as the file is the same."""

    def __init__(self, in_thread: Callable[..., Awaitable[Any]]) -> None:
        self.in_thread = in_thread
        self._known: tuple[object, asyncio.Task[T]] | None = None

    async def get(
        self, path: Path, where: object, read: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """`where`: what is asked of the file.  Raises OSError, and what `read` does."""
        found = await self.in_thread(path.stat)
        key = (path, where, found.st_ino, found.st_size, found.st_mtime_ns)
        known = self._known
        if known is None or known[0] != key or _failed(known[1]):
            known = self._known = key, asyncio.ensure_future(read())
            known[1].add_done_callback(_failed)
        return await asyncio.shield(known[1])


def _failed(task: asyncio.Task[Any]) -> bool:
    # Asking for the exception also keeps asyncio from reporting it as forgotten.
    return task.done() and (task.cancelled() or task.exception() is not None)
