# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.unit.samples import GCODE
from tests.unit.tracker_bench import Bench


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    (tmp_path / "gcodes").mkdir()
    for name in ("part.gcode", "other.gcode"):
        (tmp_path / "gcodes" / name).write_bytes(GCODE)
    made = Bench(tmp_path)
    yield made
    made.worker.cancel()
    await asyncio.gather(made.worker, return_exceptions=True)
    assert not [t for t in made.told if "internal error" in t], made.told
