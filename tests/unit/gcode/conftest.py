# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Count = Callable[[ModuleType], list[int]]


@pytest.fixture
def count_run(monkeypatch: pytest.MonkeyPatch) -> Count:
    """Given a module: how many bytes each call of its run() goes through, from now."""

    def count(module: ModuleType) -> list[int]:
        seen: list[int] = []
        run = module.run

        def counting(piece: bytes, *rest: Any) -> Any:
            seen.append(len(piece))
            return run(piece, *rest)

        monkeypatch.setattr(module, "run", counting)
        return seen

    return count
