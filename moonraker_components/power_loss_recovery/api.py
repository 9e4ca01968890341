# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What can be asked of us: the endpoints, and the PLR_ commands of klippy."""
from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from moonraker.common import RequestType

from . import answers, files, prompts, strict_http
from .endpoints import ENDPOINTS, BadRequest, Endpoint

if TYPE_CHECKING:
    from moonraker.common import WebRequest

    from .component import PowerLossRecovery

Handler = Callable[["WebRequest"], Awaitable[Any]]
ANSWERS = {
    "PLR_ENABLE": "Prints are saved, so that they can be resumed.",
    "PLR_DISABLE": "Prints are no longer saved. PLR_ENABLE turns it on again.",
    "PLR_SAVE_PRINT_STATE": "Saving the state of the print.",
    "PLR_RESET_PRINT_DATA": "The interrupted print is forgotten.",
    "PLR_RESUME_PRINT": "Resuming the interrupted print.",
}


class Api:
    def __init__(self, component: PowerLossRecovery) -> None:
        self.component = component
        self.server = server = component.server
        for endpoint in ENDPOINTS:
            server.register_endpoint(
                endpoint.path, RequestType[endpoint.method], self._handler(endpoint)
            )
            strict_http.install(server, endpoint.path)
        server.register_remote_method("plr_command", self._handle_command)
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

    async def _history(self, limit: int = 50) -> answers.History:
        return {"outages": self.component.outages.list.newest(limit)}

    async def _resume(
        self,
        dry_run: bool = False,
        z_strategy: str | None = None,
        **place: Any,
    ) -> answers.Resume:
        return await self.component.resumer.resume(
            dry_run, files.Place(**place) if place else None, z_strategy
        )

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

    # Commands

    def _handle_command(self, command: str, params: Mapping[str, str]) -> None:
        self.component.eventloop.create_task(self._run_command(command, params))

    async def _run_command(self, command: str, params: Mapping[str, str]) -> None:
        answer = ANSWERS.get(command, "")
        try:
            if command in ("PLR_ENABLE", "PLR_DISABLE"):
                await self.component.set_enabled(command == "PLR_ENABLE")
            elif command.startswith("PLR_SAVE_PRINT_STATE"):
                self.component.tracker.save_now()
            elif command == "PLR_RESET_PRINT_DATA":
                await self.component.resumer.discard()
            elif command == "PLR_RESUME_PRINT":
                if params:
                    raise self.server.error(
                        f"{' '.join(params)}: only resuming from the saved place is"
                        " possible so far"
                    )
                await self.component.resumer.resume()
            elif command == "PLR_RESUME_FROM":
                await self.component.attendant.resume_from()
            elif command == "PLR_STOP_AUTO_RESUME":
                if not self.component.attendant.auto.stop_asked():
                    answer = "Nothing is about to be resumed by itself."
            elif command == "PLR_QUERY_SAVED_STATE":
                answer = prompts.saved_state(self.component.status())
            else:
                raise self.server.error(f"{command}: not known here")
        except self.server.error as e:
            answer = f"{command}: {e}"
        if answer:
            self.component.tell(answer)
