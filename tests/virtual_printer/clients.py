# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Moonraker's clients, as rude as they can be: any bytes, as fast as they go."""
from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass

from tornado.websocket import websocket_connect

from .malformed import Request

# JSON-RPC's own codes for what HTTP says with 4xx
REFUSED = (-32600, -32601, -32602)
AT_ONCE = 20


@dataclass(frozen=True)
class Answer:
    """code: of HTTP or of JSON-RPC; 200 when the request was obeyed."""

    code: int
    reason: str

    @property
    def refused(self) -> bool:
        told = self.reason not in ("", "Unknown")
        return told and (400 <= self.code < 500 or self.code in REFUSED)


def over_http(port: int, requests: Sequence[Request]) -> list[Answer]:
    """One after the other, on a connection that is kept."""
    found = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for request in requests:
        connection.putrequest(request.method, request.target, skip_host=False)
        for name, value in request.headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body)
        response = connection.getresponse()
        found.append(Answer(response.status, _reason(response)))
        if response.will_close:
            connection.close()
    connection.close()
    return found


def _reason(response: http.client.HTTPResponse) -> str:
    body = response.read()
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.reason


async def over_websocket(port: int, requests: Sequence[Request]) -> list[Answer]:
    """Some at once, on one connection."""
    link = await websocket_connect(f"ws://127.0.0.1:{port}/websocket")
    found: dict[int, Answer] = {}
    for start in range(0, len(requests), AT_ONCE):
        some = requests[start : start + AT_ONCE]
        for number, request in enumerate(some, start):
            assert request.rpc is not None
            await link.write_message(json.dumps({**request.rpc, "id": number}))
        while len(found) < start + len(some):
            raw = await asyncio.wait_for(link.read_message(), 30)
            assert raw is not None, "Moonraker has closed the connection"
            answer = json.loads(raw)
            if "method" in answer:
                continue
            error = answer.get("error", {"code": 200, "message": ""})
            found[answer["id"]] = Answer(error["code"], error["message"])
    link.close()
    return [found[number] for number in range(len(requests))]
