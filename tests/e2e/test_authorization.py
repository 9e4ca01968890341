# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A client that Moonraker does not trust gets nothing from us, and starts nothing."""
from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from moonraker_components.power_loss_recovery.faces.endpoints import ENDPOINTS
from tests.virtual_printer.clients import over_http, over_websocket
from tests.virtual_printer.malformed import Request
from tests.virtual_printer.printer import PrinterError, VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def printer() -> Iterator[VirtualPrinter]:
    """Moonraker alone, which trusts another computer."""
    with VirtualPrinter(seed=32) as printer:
        path = printer.data / "config" / "moonraker.conf"
        text = path.read_text()
        trusting = "trusted_clients:\n    127.0.0.1"
        assert trusting in text
        path.write_text(text.replace(trusting, "trusted_clients:\n    10.255.255.1"))
        printer.disk.power_on()
        printer.start_moonraker()

        def refuses() -> bool:
            try:
                printer.get("/server/config")
            except PrinterError as e:
                return "401" in str(e)
            return False

        printer.wait("Moonraker", refuses, 30)
        yield printer


def requests(headers: dict[str, str]) -> list[Request]:
    return [
        Request(e.name, "plain", e.method, e.path, headers=headers) for e in ENDPOINTS
    ]


def test_without_a_key_every_endpoint_is_closed(printer: VirtualPrinter) -> None:
    codes = {answer.code for answer in over_http(printer.port, requests({}))}
    assert codes == {401}
    wrong = requests({"X-Api-Key": "0" * 32, "Authorization": "Bearer x.y.z"})
    assert {answer.code for answer in over_http(printer.port, wrong)} == {401}


def test_with_the_key_they_are_open(printer: VirtualPrinter) -> None:
    database = printer.data / "database" / "moonraker-sql.db"
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as link:
        (key,) = link.execute(
            "SELECT password FROM authorized_users WHERE username = '_API_KEY_USER_'"
        ).fetchone()
    codes = [a.code for a in over_http(printer.port, requests({"X-Api-Key": key}))]
    by_name = dict(zip([e.name for e in ENDPOINTS], codes, strict=True))
    assert by_name["status"] == by_name["history"] == 200
    assert by_name["resume"] == 503 and by_name["cancel"] == 409


def test_the_page_is_open_and_nothing_beside_it_is(printer: VirtualPrinter) -> None:
    """A login cannot be asked for by a page that needs one."""
    paths = ["", "page/main.js", "page/..%2fpage_server.py", "page/../api.py", "page/"]
    asked = [Request("page", path, "GET", f"/server/plr/{path}") for path in paths]
    codes = [answer.code for answer in over_http(printer.port, asked)]
    assert codes[:2] == [200, 200] and set(codes[2:]) <= {401, 404}


def test_over_the_websocket_they_are_closed_too(printer: VirtualPrinter) -> None:
    calls = [
        Request(e.name, "plain", rpc={"jsonrpc": "2.0", "method": e.rpc, "params": {}})
        for e in ENDPOINTS
    ]
    try:
        answers = asyncio.run(over_websocket(printer.port, calls))
    except HTTPClientError as e:
        assert e.code == 401  # some versions do not even let it connect
        return
    assert {(a.code, a.reason) for a in answers} == {(-32602, "Unauthorized")}


def test_a_page_of_another_site_cannot_read_the_answer(printer: VirtualPrinter) -> None:
    request = HTTPRequest(
        f"ws://127.0.0.1:{printer.port}/websocket",
        headers={"Origin": "http://evil.example"},
    )

    async def connect() -> None:
        await websocket_connect(request)

    with pytest.raises(HTTPClientError) as e:
        asyncio.run(connect())
    assert e.value.code == 403
