# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The recovery page at /server/plr/: the files of page/ and nothing else.

They hold no data, so that they need no authorization; what the page asks for does.
Moonraker's own handler for files would make a download of an HTML page.
"""
from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tornado.web import HTTPError, RequestHandler

if TYPE_CHECKING:
    from moonraker.server import Server

FOLDER = Path(__file__).resolve().parent / "page"
PATH = "/server/plr"
INDEX = "index.html"
TYPES = {
    ".css": "text/css; charset=UTF-8",
    ".html": "text/html; charset=UTF-8",
    ".js": "text/javascript; charset=UTF-8",
    ".svg": "image/svg+xml",
}
_HOST = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:]{2,45}\])(?::\d{1,5})?")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'{sockets}; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'self'"
)


def load(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Content type and content by name: what is not in here cannot be asked for."""
    return {
        path.name: (TYPES[path.suffix], path.read_bytes())
        for path in folder.iterdir()
        if path.suffix in TYPES and path.is_file()
    }


def install(server: Server) -> None:
    application = server.lookup_component("application", None)
    try:
        files = load(FOLDER)
        router, prefix = application.mutable_router, application.route_prefix
        base = re.escape(prefix + PATH)
        router.add_handler(base, ToPage, {"target": f"{prefix}{PATH}/"})
        router.add_handler(rf"{base}/(|page/[^/]*)", PageHandler, {"files": files})
    except (AttributeError, OSError) as e:
        logging.info(f"power_loss_recovery: there is no recovery page: {e!r}")


class ToPage(RequestHandler):
    """Its files are found relative to a path that ends with a slash."""

    def initialize(self, target: str) -> None:
        self.target = target

    def get(self) -> None:
        self.redirect(self.target)


class PageHandler(RequestHandler):
    def initialize(self, files: Mapping[str, tuple[str, bytes]]) -> None:
        self.files = files

    def get(self, path: str) -> None:
        name = path.removeprefix("page/") if path else INDEX
        found = self.files.get(name)
        if found is None:
            raise HTTPError(404)
        kind, content = found
        self.set_header("Content-Type", kind)
        # Asked anew each time, and answered with 304: an update is seen at once.
        self.set_header("Cache-Control", "no-cache")
        self.set_header("Content-Security-Policy", policy(self.request.host))
        self.finish(content)

    def head(self, path: str) -> None:
        self.get(path)

    def set_default_headers(self) -> None:
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("X-Frame-Options", "SAMEORIGIN")
        self.set_header("Referrer-Policy", "no-referrer")
        self.clear_header("Server")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(f"{status_code}: {self._reason}\n")


def policy(host: str) -> str:
    """The page may talk to this host alone; older browsers want its websocket named."""
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    return _POLICY.format(sockets=sockets)
