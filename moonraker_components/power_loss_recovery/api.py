# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What can be asked of us over Moonraker: the endpoints."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moonraker.common import RequestType

if TYPE_CHECKING:
    from moonraker.common import WebRequest

    from .component import PowerLossRecovery


class Api:
    def __init__(self, component: PowerLossRecovery) -> None:
        self.component = component
        self.server = server = component.server
        server.register_endpoint(
            "/server/plr/status", RequestType.GET, self._get_status
        )
        for name in ("resume", "discard", "save", "enable", "disable"):
            server.register_endpoint(
                f"/server/plr/{name}", RequestType.POST, getattr(self, f"_do_{name}")
            )
        server.register_remote_method(
            "plr_calibrated", component.calibration.klippy_calibrated
        )

    async def _get_status(self, request: WebRequest) -> dict[str, Any]:
        return self.component.status()

    async def _do_resume(self, request: WebRequest) -> dict[str, Any]:
        return await self.component.resumer.resume(
            request.get_boolean("dry_run", False)
        )

    async def _do_discard(self, request: WebRequest) -> dict[str, Any]:
        await self.component.resumer.discard()
        return self.component.status()

    async def _do_save(self, request: WebRequest) -> dict[str, Any]:
        self.component.tracker.save_now()
        return self.component.status()

    async def _do_enable(self, request: WebRequest) -> dict[str, Any]:
        await self.component.set_enabled(True)
        return self.component.status()

    async def _do_disable(self, request: WebRequest) -> dict[str, Any]:
        await self.component.set_enabled(False)
        return self.component.status()
