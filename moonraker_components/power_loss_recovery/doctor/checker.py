# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The doctor inside Moonraker: PLR_CHECK and server.plr.check."""
from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import moonraker

from .. import answers, prompts
from . import checkup, diagnosis

if TYPE_CHECKING:
    from ..component import PowerLossRecovery


class Checker:
    def __init__(self, component: PowerLossRecovery, data: Path) -> None:
        """data: the printer_data folder."""
        self.component = component
        self.server = component.server
        # One at a time: each writes to the disk to see how fast it is.
        self.lock = asyncio.Lock()
        package = Path(str(moonraker.__file__)).parent
        self.place = checkup.Place(data, moonraker=str(package))

    async def check(self) -> answers.Check:
        async with self.lock:
            return checkup.answer(await checkup.examine(self._ask, self.place))

    async def tell(self) -> None:
        """All of it on the console."""
        async with self.lock:
            found = await checkup.examine(self._ask, self.place)
        lines = ["Power loss recovery, check of this machine:", *diagnosis.lines(found)]
        self.server.send_event("server:gcode_response", prompts.console(lines))

    async def _ask(self, method: str, parameters: Mapping[str, Any]) -> Any:
        if method == "server.plr.status":
            return self.component.status()
        transport = self.server.lookup_component("internal_transport")
        try:
            return await transport.call_method(method, **parameters)
        except self.server.error as e:
            raise checkup.NoAnswer(str(e)) from e
