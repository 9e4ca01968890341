# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.resuming.read_once import ReadOnce

pytestmark = pytest.mark.asyncio


class Bench:
    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(b"a")
        self.once: ReadOnce[int] = ReadOnce(self.in_thread)
        self.reads = 0
        self.error: Exception | None = None

    async def in_thread(self, call: Any, *args: Any) -> Any:
        await asyncio.sleep(0)
        return call(*args)

    async def read(self) -> int:
        self.reads += 1
        number = self.reads
        await asyncio.sleep(0.01)
        if self.error is not None:
            raise self.error
        return number

    async def get(self, where: object = None) -> int:
        return await self.once.get(self.path, where, self.read)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "part.gcode")


async def test_many_who_ask_at_once_are_answered_by_one_read(bench: Bench) -> None:
    assert await asyncio.gather(*(bench.get() for _ in range(50))) == [1] * 50
    assert await bench.get() == 1 == bench.reads


async def test_one_who_no_longer_wants_it_does_not_stop_it(bench: Bench) -> None:
    asking = asyncio.ensure_future(bench.get())
    await asyncio.sleep(0.005)
    asking.cancel()
    assert await bench.get() == 1 == bench.reads


async def test_another_file_or_question_is_read_anew(bench: Bench) -> None:
    assert await bench.get() == 1 and await bench.get(5) == 2
    os.utime(bench.path, ns=(1, 1))
    assert await bench.get(5) == 3
    bench.path.write_bytes(b"ab")
    assert await bench.get(5) == 4


async def test_what_failed_is_tried_again(bench: Bench) -> None:
    bench.error = OSError("disk")
    for _ in range(2):
        with pytest.raises(OSError, match="disk"):
            await bench.get()
    bench.error = None
    assert await bench.get() == 3
    bench.path.unlink()
    with pytest.raises(FileNotFoundError):
        await bench.get()
