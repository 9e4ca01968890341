# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The page's files as a browser gets them, and all that it must not get."""
from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from moonraker_components.power_loss_recovery.faces import page_server

FILES = sorted(path.name for path in page_server.FOLDER.iterdir())
OUTSIDE = ("http:", "https:", "//", "@import", "url(")


class Server:
    """As much of Moonraker as serves files, with a prefix as `route_prefix` sets."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        rules: list[Any] = []
        router = SimpleNamespace(add_handler=lambda *rule: rules.append(rule))
        parts = SimpleNamespace(mutable_router=router, route_prefix=prefix)
        page_server.install(SimpleNamespace(lookup_component=lambda *_: parts))  # type: ignore[arg-type]
        (socket,) = bind_sockets(0, "127.0.0.1")
        self.port = socket.getsockname()[1]
        self.ended = asyncio.Event()
        ready = threading.Event()

        async def serve() -> None:
            self.loop = asyncio.get_running_loop()
            http = HTTPServer(Application(rules))
            http.add_sockets([socket])
            ready.set()
            await self.ended.wait()
            http.stop()
            await http.close_all_connections()

        self.thread = threading.Thread(target=lambda: asyncio.run(serve()))
        self.thread.start()
        assert ready.wait(5)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.ended.set)
        self.thread.join(5)

    def ask(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[HTTPResponse, bytes]:
        link = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            link.putrequest(method, self.prefix + path, skip_host="Host" in headers)
            for name, value in headers.items():
                link.putheader(name.replace("_", "-"), value)
            link.endheaders()
            answer = link.getresponse()
            return answer, answer.read()
        finally:
            link.close()


@pytest.fixture(scope="module", params=["", "/a-b.c"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server(request.param)
    yield made
    made.close()


def test_the_page_is_shown_and_not_downloaded(server: Server) -> None:
    answer, body = server.ask("/server/plr/")
    assert answer.status == 200 and body.startswith(b"<!doctype html>")
    assert answer.getheader("Content-Type") == "text/html; charset=UTF-8"
    assert answer.getheader("Content-Disposition") is None


def test_without_its_slash_it_is_found_too(server: Server) -> None:
    answer, _ = server.ask("/server/plr")
    assert answer.status == 302
    assert answer.getheader("Location") == server.prefix + "/server/plr/"


@pytest.mark.parametrize(("ending", "kind"), sorted(page_server.TYPES.items()))
def test_each_file_has_its_type(server: Server, ending: str, kind: str) -> None:
    names = [name for name in FILES if name.endswith(ending)]
    assert names
    for name in names:
        answer, body = server.ask(f"/server/plr/page/{name}")
        assert answer.status == 200, name
        assert answer.getheader("Content-Type") == kind
        assert body == (page_server.FOLDER / name).read_bytes()


def test_a_file_of_no_known_type_would_not_be_served() -> None:
    assert {name[name.rindex("."):] for name in FILES} == set(page_server.TYPES)


@pytest.mark.parametrize("path", [
    "page/../page_server.py", "page/%2e%2e/page_server.py", "page/..%2fpage_server.py",
    "page/%2e%2e%2fpage_server.py", "page//etc/passwd", "page/%2fetc%2fpasswd",
    "page/..", "page/.", "page/", "page", "../plr/page/main.js", "page/main.js/",
    "page/main.js%00", "page/main.js%0a", "page/MAIN.JS", "page/..\\page_server.py",
    "page/%252e%252e%252fapi.py", "page/sub/main.js", "index.html", "main.js",
    "page/~root", "page/%ff", "page/" + "a" * 3000, ".git/config", "api.py",
])  # fmt: skip
def test_nothing_else_is_served(server: Server, path: str) -> None:
    answer, body = server.ask(f"/server/plr/{path}")
    assert answer.status in (400, 404), path
    assert b"Copyright" not in body and b"Traceback" not in body
    assert b"<script" not in body and len(body) < 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_can_only_be_read(server: Server, method: str) -> None:
    answer, _ = server.ask("/server/plr/", method, Content_Length="0")
    assert answer.status == 405


def test_it_is_asked_for_anew_and_sent_only_if_it_is_another(server: Server) -> None:
    for path in ("/server/plr/", "/server/plr/page/main.js"):
        answer, body = server.ask(path)
        assert answer.getheader("Cache-Control") == "no-cache"
        again, nothing = server.ask(
            path, If_None_Match=answer.getheader("Etag") or ""
        )
        assert again.status == 304 and nothing == b""
        head, nothing = server.ask(path, "HEAD")
        assert head.status == 200 and nothing == b""
        assert head.getheader("Content-Length") == str(len(body))


def test_nothing_but_its_own_files_may_run_in_it(server: Server) -> None:
    answer, _ = server.ask("/server/plr/", Host="printer.local:7125")
    policy = answer.getheader("Content-Security-Policy") or ""
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["script-src"] == "'self'"
    assert "unsafe" not in policy and "*" not in policy and "data:" not in policy
    assert rules["connect-src"] == (
        "'self' ws://printer.local:7125 wss://printer.local:7125"
    )
    assert rules["frame-ancestors"] == "'self'"
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Access-Control-Allow-Origin") is None


@pytest.mark.parametrize("host", [
    "a b", "a;script-src *", "a,b", "a'", "", "a/b", "x" * 300, "[::1", "a:99999999",
    "a\tb", "*", "a:*",
])  # fmt: skip
def test_a_strange_host_name_is_not_repeated(host: str) -> None:
    assert page_server.policy(host) == page_server.policy("")
    assert "ws:" not in page_server.policy(host)


@pytest.mark.parametrize("host", ["printer", "10.0.0.7:7125", "[fe80::1]:80", "a-b.c"])
def test_a_host_has_its_websocket(host: str) -> None:
    assert f"ws://{host} wss://{host};" in page_server.policy(host)


def test_the_page_asks_nobody_else_and_builds_no_html() -> None:
    for path in page_server.FOLDER.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        for word in OUTSIDE:
            code = re.sub(r"(?m)^\s*//.*$| // .*$", "", text)
            assert word not in code.replace('"https:"', ""), (path.name, word)
        for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write",
                     "eval(", "new Function", "style=", "onclick=", "javascript:",
                     "DOMParser", "localStorage"):  # fmt: skip
            assert word not in text, (path.name, word)


def test_what_a_script_names_is_in_the_page() -> None:
    """Each element that is looked up, and each module that is imported."""
    html = (page_server.FOLDER / "index.html").read_text()
    ids = re.findall(r'id="([\w-]+)"', html)
    assert len(ids) == len(set(ids))
    for path in page_server.FOLDER.glob("*.js"):
        code = path.read_text()
        named = re.findall(
            r"\b(?:el|text|show|note|list|allow|allowed)\(\"([\w-]+)\"", code
        )
        assert set(named) <= set(ids), path.name
        assert set(re.findall(r'from "\./([\w.]+)"', code)) <= set(FILES), path.name
    used = re.findall(r'(?:href|src)="page/([\w.]+)"', html)
    assert set(used) <= set(FILES) and "main.js" in used
    referred = re.findall(r'(?:for|aria-(?:labelledby|describedby))="([\w -]+)"', html)
    assert {name for names in referred for name in names.split()} <= set(ids)


def test_without_an_application_the_rest_works() -> None:
    page_server.install(SimpleNamespace(lookup_component=lambda *_: None))  # type: ignore[arg-type]
