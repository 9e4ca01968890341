# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What can be asked of us over Moonraker: the endpoints."""
from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from moonraker.common import RequestType

from .. import answers, files
from . import page_server, strict_http
from .endpoints import ENDPOINTS, BadRequest, Endpoint
from .layer_view import LayerView

if TYPE_CHECKING:
    from moonraker.common import WebRequest

    from ..component import PowerLossRecovery

Handler = Callable[["WebRequest"], Awaitable[Any]]


class Api:
    def __init__(self, component: PowerLossRecovery) -> None:
        self.component = component
        self.server = server = component.server
        self.layers = LayerView(component)
        for endpoint in ENDPOINTS:
            server.register_endpoint(
                endpoint.path, RequestType[endpoint.method], self._handler(endpoint)
            )
            strict_http.install(server, endpoint.path)
        page_server.install(server)
        server.register_remote_method(
            "plr_calibrated", component.calibration.klippy_calibrated
        )

    # Endpoints: each method below has the parameters of its row in the table

    def _handler(self, endpoint: Endpoint) -> Handler:
        act = getattr(self, f"_{endpoint.name}")

        async def handle(request: WebRequest) -> Any:
            try:
                arguments = endpoint.arguments(request.get_args())
            except BadRequest as e:
                raise self.server.error(str(e), 400) from None
            return await act(**arguments)

        return handle

    async def _status(self) -> answers.Status:
        return self.component.status()

    async def _points(self) -> answers.Points:
        return await self.component.resumer.points()

    async def _layer(
        self, layer: int | None = None, position: int | None = None
    ) -> answers.Layer:
        return await self.layers.get(layer, position)

    async def _history(self, limit: int = 50) -> answers.History:
        return {"outages": self.component.outages.list.newest(limit)}

    async def _check(self) -> answers.Check:
        return await self.component.checker.check()

    async def _resume(
        self,
        dry_run: bool = False,
        z_strategy: str | None = None,
        **place: Any,
    ) -> answers.Resume:
        return await self.component.resumer.resume(
            dry_run, files.Place(**place) if place else None, z_strategy
        )

    async def _rehearse(self) -> answers.Rehearsal:
        return await self.component.rehearsal.start()

    async def _cancel(self) -> answers.Status:
        if not self.component.attendant.auto.stop_asked():
            self.component.resumer.cancel_asked()
        return self.component.status()

    async def _discard(self) -> answers.Status:
        await self.component.resumer.discard()
        return self.component.status()

    async def _save(self) -> answers.Status:
        self.component.tracker.save_now()
        return self.component.status()

    async def _enable(self) -> answers.Status:
        await self.component.set_enabled(True)
        return self.component.status()

    async def _disable(self) -> answers.Status:
        await self.component.set_enabled(False)
        return self.component.status()
