# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The dialog against front ends that come late, close it, or show something else."""
from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.asking import dialogs
from moonraker_components.power_loss_recovery.asking.offer import Offer
from tests.unit.fake_klippy import FakeKlippy
from tests.unit.test_component import FakeServer

MINE = [dialogs.END, f"{dialogs.BEGIN}{dialogs.TITLE}", "// action:prompt_show"]
ABOVE = [dialogs.END, f"{dialogs.BEGIN}{dialogs.TITLE}: from where", "// x"]
FOREIGN = f"{dialogs.BEGIN}Maintenance"


class Console(FakeServer):
    """Events come back later, in order, as Moonraker's do."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, FakeKlippy())
        self.queue: deque[str] = deque()
        self.shown: list[str] = []

    def send_event(self, name: str, *args: Any) -> None:
        self.queue.append(args[0])

    def flush(self) -> list[str]:
        """What front ends have got since."""
        while self.queue:
            line = self.queue.popleft()
            self.shown.append(line)
            self.handlers["server:gcode_response"](line)
        shown, self.shown = self.shown, []
        return shown


class Client:
    def __init__(self) -> None:
        self.got: list[str] = []

    def call_method(self, name: str, lines: list[str]) -> None:
        assert name == "notify_gcode_response"
        self.got += lines


@pytest.fixture
def server(tmp_path: Path) -> Console:
    return Console(tmp_path)


@pytest.fixture
def closed() -> list[int]:
    return []


@pytest.fixture
def offer(server: Console, closed: list[int]) -> Offer:
    return Offer(server, lambda: closed.append(1))


def late(server: Console) -> list[str]:
    client = Client()
    server.handlers["websockets:client_identified"](client)
    return client.got


def test_who_comes_late_gets_what_stands(server: Console, offer: Offer) -> None:
    assert late(server) == []
    offer.show(MINE)
    assert server.flush() == MINE and late(server) == MINE and offer.stands
    offer.show_above(ABOVE)
    server.flush()
    assert late(server) == ABOVE
    offer.close()
    assert server.flush() == [dialogs.END] and late(server) == []


def test_nothing_is_closed_that_does_not_stand(server: Console, offer: Offer) -> None:
    offer.close()
    assert server.flush() == []


def test_later_closes_it_for_those_who_come_too(
    server: Console, offer: Offer, closed: list[int]
) -> None:
    offer.show(MINE)
    server.flush()
    server.send_event("server:gcode_response", dialogs.END)
    server.flush()
    assert closed == [1] and late(server) == [] and not offer.stands


def test_our_own_ends_are_not_taken_for_a_person(
    server: Console, offer: Offer, closed: list[int]
) -> None:
    for _ in range(3):
        offer.show(MINE)
    server.flush()
    assert closed == [] and offer.stands
    offer.close()
    server.flush()
    assert closed == []


def test_back_shows_what_was_below(
    server: Console, offer: Offer, closed: list[int]
) -> None:
    offer.show(MINE)
    offer.show_above(ABOVE)
    server.flush()
    server.send_event("server:gcode_response", dialogs.END)
    assert server.flush() == [dialogs.END, *MINE]
    assert closed == [] and late(server) == MINE


def test_asked_for_without_an_offer_it_just_closes(
    server: Console, offer: Offer, closed: list[int]
) -> None:
    offer.show_above(ABOVE)
    server.send_event("server:gcode_response", dialogs.END)
    server.flush()
    assert late(server) == [] and closed == []


def test_a_dialog_of_another_macro_covers_it_for_a_while(
    server: Console, offer: Offer, closed: list[int]
) -> None:
    offer.show(MINE)
    server.flush()
    server.send_event("server:gcode_response", FOREIGN)
    server.flush()
    assert late(server) == [], "it would take the other dialog away"
    server.send_event("server:gcode_response", dialogs.END)
    assert server.flush() == [dialogs.END, *MINE]
    assert closed == [] and late(server) == MINE


def test_a_foreign_dialog_that_ends_with_nothing_below_is_left_alone(
    server: Console, offer: Offer
) -> None:
    for line in (FOREIGN, dialogs.END, dialogs.END, "// hello", "ok"):
        server.send_event("server:gcode_response", line)
    assert server.flush() == [FOREIGN, dialogs.END, dialogs.END, "// hello", "ok"]


def test_a_person_who_closes_while_it_is_being_shown_again(
    server: Console, offer: Offer, closed: list[int]
) -> None:
    offer.show(MINE)
    server.flush()
    server.send_event("server:gcode_response", dialogs.END)
    offer.show(MINE)
    server.flush()
    assert closed in ([], [1])
    server.send_event("server:gcode_response", dialogs.END)
    server.flush()
    assert not offer.stands


# The announcement


def announce(offer: Offer, text: str) -> None:
    asyncio.run(offer.announce(text))


def described(server: FakeServer) -> list[str]:
    return [entry["description"] for entry in server.entries]


def test_there_is_one_announcement_at_most(server: Console, offer: Offer) -> None:
    server.announce("other", "of somebody else", "", "normal", "moonraker")
    announce(offer, "A")
    announce(offer, "B")
    assert described(server) == ["of somebody else", "B"]
    announce(offer, "")
    assert described(server) == ["of somebody else"]


def test_one_that_was_left_by_another_moonraker_is_found(
    server: Console, offer: Offer
) -> None:
    announce(offer, "A")
    again = Offer(server, lambda: None)
    announce(again, "A")
    assert described(server) == ["A"], "perhaps dismissed: not announced twice"
    third = Offer(server, lambda: None)
    announce(third, "")
    assert described(server) == []


def test_without_announcements_nothing_breaks(server: Console, offer: Offer) -> None:
    del server.components["announcements"]
    announce(offer, "A")
