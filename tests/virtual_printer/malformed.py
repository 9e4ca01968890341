# Requests that must be refused, made from the table of endpoints
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Each request differs in one thing from one that would be obeyed.

First every rule of the table is broken in every way listed here, then the same is
mixed at random until there are enough.
"""
from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from moonraker_components.power_loss_recovery.faces.endpoints import (
    ENDPOINTS,
    MAX_BODY,
    Endpoint,
    Parameter,
)

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
HOSTILE = (
    "", " ", "\n", "\0", "null", "undefined", "NaN", "inf", "-Infinity", "0x10", "1e3",
    "1_0", "٣", "\uff15", "5\nM112", "5;M112", '5"', "5'", "5\r\nX-Evil: 1", "${5}",
    "{{5}}",     "../../../etc/passwd", "..%2f..%2fetc", "/etc/shadow", "C:\\x", "file:///etc",
    "part.gcode", "a" * 3000, "🖨", "\ufeff5", "<script>alert(1)</script>", "--help",
    "' OR 1=1 --", "M112", "_PLR_ASSUME_Z Z=0", "%s%n", "\u202e5", "5,6", "5 6",
)  # fmt: skip
CONTAINERS: tuple[Any, ...] = ([], [5], {}, {"a": 5}, None, [None], [[]])
NUMBERS: tuple[Any, ...] = (
    float("nan"), float("inf"), -float("inf"), 10**30, -(10**30), -1, -0.5, 1e308,
)  # fmt: skip
NAMES = (
    "", " ", "layers", "LAYER", "Layer", "layer ", "layer\n", "layer[]", "layer.x",
    "__class__", "self", "file", "filename", "path", "script", "gcode", "force", "args",
    "../layer", "layer\0", "é", "a" * 500, "component", "request", "0", "$where",
)  # fmt: skip
BODIES: tuple[tuple[str, bytes], ...] = (
    (JSON, b"["), (JSON, b"[]"), (JSON, b"5"), (JSON, b"null"), (JSON, b'"x"'),
    (JSON, b"true"), (JSON, b"{}{}"), (JSON, b"\xff\xfe{}"), (JSON, b"{'a': 1}"),
    (JSON, b"[" * 3000), (JSON, b'{"a":' * 500), (JSON, b" " * (MAX_BODY + 1)),
    (JSON, b"layer=5"), (JSON, b"{\"\\ud800\": 1}"), ("", b"{}"), ("text/plain", b"{}"),
    ("application/xml", b"<layer>5</layer>"), (FORM, b"\0\0"), ("x" * 300, b"{}"),
    ("multipart/form-data", b"--x--"), ("multipart/form-data; boundary=x", b"--y\r\n"),
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """Over HTTP `method`, `target` and `body`; over the websocket `rpc`, a whole
    JSON-RPC object without its id."""

    endpoint: str
    what: str
    method: str = ""
    target: str = ""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    rpc: dict[str, Any] | None = None


def requests(count: int, seed: int = 1) -> list[Request]:
    """At least `count`; every rule of the table is among them."""
    rng = random.Random(seed)
    found = [request for e in ENDPOINTS for request in _systematic(e)]
    while len(found) < count:
        found += _mixed(rng, rng.choice(ENDPOINTS))
    rng.shuffle(found)
    return found


def _systematic(e: Endpoint) -> Iterator[Request]:
    for name in NAMES:
        yield from _both(e, {name: "5"}, "unknown name")
    for p in e.parameters:
        for value in _bad_values(p):
            yield from _both(e, {p.name: value}, "bad value")
    for i, one in enumerate(e.one_of):
        for other in e.one_of[:i]:
            yield from _both(e, {one: 5, other: 5}, "two places")
    for p in e.parameters:
        value = quote(str(_good_value(p)))
        for query in (
            f"{p.name}={value}&{p.name}={value}",
            f"{p.name}={value}&{p.name}:int={value}", f"{p.name}:evil={value}",
            f"{p.name}=%ff", f"{p.name}:json=[",
        ):  # fmt: skip
            yield Request(e.name, "query", e.method, f"{e.path}?{query}")
    for kind, body in BODIES:
        yield _http(e, "body", body, kind)
    yield from _other_envelopes(e)


def _other_envelopes(e: Endpoint) -> Iterator[Request]:
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"} - {e.method}:
        yield Request(e.name, "method", method, e.path)
    for path in (
        e.path + "/", e.path + "/x", e.path.upper(), e.path + "%00", e.path + ";x",
        f"/server/plr/x/../{e.name}", f"//server/plr/{e.name}", e.path + "%0aM112",
        f"/printer/plr/{e.name}",
    ):  # fmt: skip
        yield Request(e.name, "path", e.method, path)
    for params in (None, [], [5], "x", 5, True, 0.5, ["dry_run"]):
        yield Request(e.name, "params", rpc=_rpc(e.rpc, params))
    for name in (
        e.rpc + ".", e.rpc.upper(), e.rpc + "\n", f"server.plr.post_{e.name}",
        f"printer.plr.{e.name}", e.rpc.replace(".", "/"), "", 5, None, [e.rpc],
    ):  # fmt: skip
        yield Request(e.name, "name", rpc=_rpc(name, {}))
    for version in ("1.0", "", 2.0, None):
        yield Request(e.name, "version", rpc={**_rpc(e.rpc, {}), "jsonrpc": version})


def _mixed(rng: random.Random, e: Endpoint) -> Iterator[Request]:
    """Something bad among what is good."""
    arguments: dict[str, Any] = {
        p.name: _good_value(p) for p in e.parameters
        if p.name not in e.one_of and rng.random() < 0.5
    }  # fmt: skip
    if e.one_of and rng.random() < 0.5:
        arguments[rng.choice(e.one_of)] = 5
    whole = json.dumps(arguments).encode()
    if len(whole) > 2:
        cut = rng.randrange(1, len(whole))
        yield _http(e, "cut body", whole[:cut], JSON)
    if e.parameters and rng.random() < 0.7:
        p = rng.choice(e.parameters)
        bad = {p.name: rng.choice(list(_bad_values(p)))}
    else:
        bad = {_noise(rng): rng.choice((*HOSTILE, *CONTAINERS))}
    items = list({**arguments, **bad}.items())
    rng.shuffle(items)
    yield from _both(e, dict(items), "mixed")


def _noise(rng: random.Random) -> str:
    letters = "abcxyzLAYER019_-.[]{}\"'\\;:<>&=#%/ \n\t\0äß日"
    return "x" + "".join(rng.choice(letters) for _ in range(rng.randrange(1, 12)))


def _bad_values(p: Parameter) -> Iterator[Any]:
    yield from HOSTILE
    yield from CONTAINERS
    if p.kind in ("int", "float"):
        yield from (n for n in NUMBERS if not p.low <= n <= p.high)
        yield from (p.low - 1, p.high + 1, int(p.high) * 10 + 1, True, False)
        yield from (str(int(p.low) - 1), str(int(p.high) + 1))
    else:
        yield from (*NUMBERS, 0, 1, 2, "yes", "no", "on", "1", "truE ", "Measure")
    if p.kind == "int":
        yield from (5.5, 5.0, "5.0")


def _good_value(p: Parameter) -> Any:
    return {"bool": True, "choice": p.choices[0] if p.choices else ""}.get(p.kind, 5)


def _both(e: Endpoint, arguments: dict[str, Any], what: str) -> Iterator[Request]:
    """As JSON, over the websocket, and in the query if it can be said there."""
    yield Request(e.name, what, rpc=_rpc(e.rpc, arguments))
    body = json.dumps(arguments).encode()
    yield _http(e, what, body, JSON)
    if all(isinstance(value, str) for value in arguments.values()):
        query = urlencode(arguments)
        yield Request(e.name, what, e.method, f"{e.path}?{query}")
        if e.method == "POST":
            yield _http(e, what, query.encode(), FORM)


def _rpc(name: Any, params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": name, "params": params}


def _http(e: Endpoint, what: str, body: bytes, kind: str) -> Request:
    return Request(e.name, what, e.method, e.path, body, {"Content-Type": kind})
