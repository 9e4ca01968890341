# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Our endpoints over HTTP, with nothing guessed.

Moonraker leaves out a body that it cannot parse, and would resume a print without the
layer that was asked for; it answers others with an internal error.  Authorization is
Moonraker's own.
"""
from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

from moonraker.components.application import DynamicRequestHandler
from tornado.web import HTTPError

from .endpoints import BadRequest, parse

if TYPE_CHECKING:
    from moonraker.server import Server

MAX_REASON = 400


def install(server: Server, path: str) -> None:
    """Take over the HTTP side of an endpoint that is registered already."""
    application = server.lookup_component("application", None)
    try:
        router = application.mutable_router
        pattern = f"{application.route_prefix}{path}"
        rule = router.pattern_to_rule[pattern]
        router.add_handler(pattern, StrictHandler, rule.target_kwargs)
    except (AttributeError, KeyError) as e:
        logging.info(f"power_loss_recovery: {path} has Moonraker's own checks: {e!r}")


class StrictHandler(DynamicRequestHandler):
    message: str | None = None

    def parse_args(self) -> dict[str, Any]:
        request = self.request
        try:
            return parse(
                request.query_arguments, request.body_arguments,
                request.headers.get("Content-Type", ""), request.body,
            )  # fmt: skip
        except BadRequest as e:
            raise HTTPError(400, reason=str(e)) from None

    def set_status(self, status_code: int, reason: str | None = None) -> None:
        self.message = reason
        if reason is not None:
            # Of the status line: file names have all kinds of letters.
            reason = re.sub(r"[^ -;=?-~]", "?", reason)[:MAX_REASON]
        super().set_status(status_code, reason)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = {"code": status_code, "message": self.message or self._reason}
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        self.finish(json.dumps({"error": error}))
