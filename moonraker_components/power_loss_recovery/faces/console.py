# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The PLR_ commands of klippy's console and macros, answered there when done."""
from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import files, prompts
from .endpoints import PLACES, BadRequest, Endpoint

if TYPE_CHECKING:
    from ..component import PowerLossRecovery

ANSWERS = {
    "PLR_ENABLE": "Prints are saved, so that they can be resumed.",
    "PLR_DISABLE": "Prints are no longer saved. PLR_ENABLE turns it on again.",
    "PLR_RESET_PRINT_DATA": "The interrupted print is forgotten.",
    "PLR_RESUME_PRINT": "Resuming the interrupted print.",
}
RESUME = Endpoint(
    "PLR_RESUME_PRINT", "", dict, "", PLACES, tuple(p.name for p in PLACES)
)
SAVE_TIMEOUT = 5.0
SAVE_POLL = 0.05


class Console:
    def __init__(self, component: PowerLossRecovery) -> None:
        self.component = component
        self.server = component.server
        self.server.register_remote_method("plr_command", self._handle_command)

    def _handle_command(self, command: str, params: Mapping[str, Any]) -> None:
        self.component.eventloop.create_task(self._run_command(command, params))

    async def _run_command(self, command: str, params: Mapping[str, Any]) -> None:
        """params: of PLR_RESUME_PRINT: LAYER, Z or POSITION."""
        answer = ANSWERS.get(command, "")
        try:
            if command in ("PLR_ENABLE", "PLR_DISABLE"):
                await self.component.set_enabled(command == "PLR_ENABLE")
            elif command == "PLR_SAVE_PRINT_STATE":
                answer = await self._save()
            elif command == "PLR_SAVE_PRINT_STATE_WITH_LAYER":
                # A line of every layer: no answer.
                self.component.tracker.save_now()
            elif command == "PLR_RESET_PRINT_DATA":
                await self.component.resumer.discard()
            elif command == "PLR_RESUME_PRINT":
                place = RESUME.arguments({k.lower(): v for k, v in params.items()})
                await self.component.resumer.resume(
                    place=files.Place(**place) if place else None
                )
            elif command == "PLR_RESUME_FROM":
                await self.component.attendant.resume_from()
            elif command == "PLR_STOP_AUTO_RESUME":
                if not self.component.attendant.auto.stop_asked():
                    answer = "Nothing is about to be resumed by itself."
            elif command == "PLR_CHECK":
                await self.component.checker.tell()
            elif command == "PLR_TEST_RESUME":
                told = await self.component.rehearsal.start()
                answer = (
                    f"Rehearsing a resume of {told['file']} from its middle, without"
                    f" heat and without plastic: {len(told['steps'])} steps."
                )
            elif command == "PLR_QUERY_SAVED_STATE":
                answer = prompts.saved_state(self.component.status())
            else:
                raise self.server.error(f"{command}: not known here")
        except (self.server.error, BadRequest) as e:
            answer = f"{command}: {e}"
        if answer:
            self.component.tell(answer)

    async def _save(self) -> str:
        tracker = self.component.tracker
        if not tracker.enabled:
            raise self.server.error("saving is off. PLR_ENABLE turns it on.")
        if tracker.printing is None:
            raise self.server.error("nothing is being printed: nothing to save.")
        tracker.save_now()
        for _ in range(round(SAVE_TIMEOUT / SAVE_POLL)):
            await asyncio.sleep(SAVE_POLL)
            if not tracker.asked:
                status = self.component.status()
                record = status["record"]
                return f"Saved: {record['summary'] if record else ''}."
        raise self.server.error(
            f"not saved yet. {tracker.trouble or 'No line of it is executed so far.'}"
        )
