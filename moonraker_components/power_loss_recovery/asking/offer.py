# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The dialog that stands on all front ends, and the announcement beside it.

Mainsail and Fluidd read what they missed from Moonraker's store of the console, which
forgets; KlipperScreen reads nothing back.  So whoever connects is told.  Another
macro's dialog may cover ours: it is shown again when that one is closed.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from . import dialogs

FEED = "power_loss_recovery"
RESPONSE = "server:gcode_response"


class Offer:
    """closed: called when a person has closed the dialog (Later, or the cross)."""

    def __init__(self, server: Any, closed: Callable[[], None]) -> None:
        self.server = server
        self.closed = closed
        self._lines: list[str] = []  # what stands, one dialog above another
        self._above: list[str] = []
        self._covered = False
        self._own_ends = 0  # sent, and not come back to us yet
        self._beside: str | None = None  # the text of the announcement
        server.register_event_handler(RESPONSE, self._handle_response)
        server.register_event_handler(
            "websockets:client_identified", self._handle_client
        )

    @property
    def stands(self) -> bool:
        return bool(self._lines)

    def show(self, lines: Sequence[str]) -> None:
        self._lines, self._above = list(lines), []
        self._send(self._lines)

    def show_above(self, lines: Sequence[str]) -> None:
        """Until it is closed; then what stood before stands again."""
        self._above = list(lines)
        self._send(self._above)

    def close(self) -> None:
        """Everywhere."""
        if self._lines or self._above:
            self._lines, self._above = [], []
            self._send([dialogs.END])

    def _send(self, lines: Sequence[str]) -> None:
        self._covered = False
        for line in lines:
            self._own_ends += line == dialogs.END
            self.server.send_event(RESPONSE, line)

    # What comes back

    def _handle_response(self, line: str) -> None:
        """All that is said on the console, by us as well."""
        if not line.startswith("// action:prompt_"):
            return
        if line.startswith(dialogs.BEGIN):
            self._covered = not dialogs.ours(line)
        elif line == dialogs.END and self._own_ends:
            self._own_ends -= 1
        elif line == dialogs.END and self._covered:
            self._covered = False
            if self._lines or self._above:
                self._send(self._above or self._lines)
        elif line == dialogs.END:
            self._closed_by_hand()

    def _closed_by_hand(self) -> None:
        above, self._above = self._above, []
        if above and self._lines:
            self._send(self._lines)
        elif self._lines:
            self._lines = []
            self.closed()

    def _handle_client(self, connection: Any) -> None:
        if self._covered:
            return
        for line in self._above or self._lines:
            connection.call_method("notify_gcode_response", [line])

    # The announcement

    async def announce(self, text: str) -> None:
        """text: with nothing in it that is HTML or Markdown; "" for none."""
        if text == self._beside:
            return
        self._beside = text
        board = self.server.lookup_component("announcements", None)
        if board is None:
            return
        try:
            there = False
            for entry in await board.get_announcements(True):
                if entry.get("feed") != FEED:
                    continue
                if entry.get("description") == text:
                    # Perhaps dismissed: that is respected.
                    there = True
                else:
                    await board.remove_announcement(entry["entry_id"])
            if text and not there:
                board.add_internal_announcement(
                    "A print was interrupted", text, "", "high", FEED
                )
        except self.server.error as e:
            logging.info(f"power_loss_recovery: announcement: {e}")
