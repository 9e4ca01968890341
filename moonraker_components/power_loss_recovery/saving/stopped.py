# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Asks a klippy that is shut down where its motors stopped."""
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Query = Callable[[Mapping[str, list[str] | None]], Awaitable[Mapping[str, Any]]]

# The extra waits a second at most for what the boards have to say.
PERIOD = 0.1
TRIES = 30


async def ask(query: Query) -> Mapping[str, Any] | None:
    """The extra's last mark, None if it has none.  Raises what `query` raises."""
    for _ in range(TRIES):
        status = await query({"power_loss_recovery": ["stopped"]})
        mark = status.get("power_loss_recovery", {}).get("stopped")
        if isinstance(mark, Mapping):
            return mark
        await asyncio.sleep(PERIOD)
    return None
