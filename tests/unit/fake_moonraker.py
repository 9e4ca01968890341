# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Moonraker as the recovery page asks it: answers for the requests of a browser."""
from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from moonraker_components.power_loss_recovery import answers
from tests.unit.typed import problems

STEPS = [
    "Warm the bed to 60 °C", "Soften the nozzle at 165 °C", "Lift the nozzle",
    "Home X and Y", "Find Z on the Z+ switches",
    "Travel beside the part, above everything printed",
    "Heat the nozzle to 215 °C, off the part", "Purge and wipe beside the part",
]  # fmt: skip
PLACE: dict[str, Any] = {
    "file": "part.gcode", "file_position": 2500, "file_size": 10_000, "fraction": 0.5,
    "percent": 25.0, "position": [120.0, 110.0, 0.6, 3.0], "z": 0.6, "layer": 3,
    "layers": 10, "extruder": "extruder", "hotend": 215.0, "bed": 60.0, "bed_now": 31.0,
    "saved_at": 1.7e9, "ago": "4 min ago", "same_boot": False,
    "summary": "part.gcode, layer 3 of 10, Z 0.60 mm, 25 %, saved 4 min ago",
}  # fmt: skip
STATUS: dict[str, Any] = {
    "state": "interrupted", "meaning": answers.STATES["interrupted"], "enabled": True,
    "record": PLACE, "calibration": None, "step": None, "last_save_reason": "layer",
    "saving": {"interval": 1.0, "reason": "", "latency_ms": 2.0, "writes_this_hour": 9,
               "held": None},
    "trouble": "", "last_error": "", "last_errors": [],
    "interruption": {"kind": "power_loss", "words": "The power failed",
                     "thermal": False},
    "waiting": [PLACE["summary"]],
    "warnings": ["The bed has cooled by 29 °C: the part may have come loose."],
    "auto_resume": {"seconds_left": None, "why_not": ""}, "hold_bed": None,
}  # fmt: skip
OBJECTS = {
    "extruder": {"temperature": 24.6}, "extruder1": {"temperature": 190.4},
    "heater_bed": {"temperature": 31.2},
    "toolhead": {"axis_minimum": [0, 0, 0, 0], "axis_maximum": [250, 250, 230, 0]},
}  # fmt: skip
POINTS = [
    {"layer": n + 1, "z": round(0.2 * (n + 1), 2), "file_position": 1000 * n,
     "share": n / 10}
    for n in range(10)
]  # fmt: skip
RING = [100.0, 100.0, 150.0, 100.0, 150.0, 150.0, 100.0, 150.0, 100.0, 100.0]


def layer_at(position: int) -> dict[str, Any]:
    index = min(position // 1000, len(POINTS) - 1)
    seam = index == 2
    return {
        "layer": index + 1, "z": POINTS[index]["z"], "file_position": 1000 * index,
        "printed": [RING[:4]] if seam else [RING] if index < 2 else [],
        "rest": [RING[2:]] if seam else [RING] if index > 2 else [],
        "begin": RING[:2], "seam": RING[2:4] if seam else None, "whole": True,
    }  # fmt: skip


class FakeMoonraker:
    """asked: (method, path, body) of what came.  hang: paths that are not answered.
    prefix: what a proxy puts before all paths; others are not known.
    refuse: path -> (code, message).  away: nobody answers.  locked: who is not
    trusted has to log in; `tokens` and `keys` are those that are good.  only_good:
    everybody is trusted, but who names himself wrongly."""

    def __init__(self, **status: Any) -> None:
        self.status = {**STATUS, **status}
        self.prefix = ""
        self.outages: list[dict[str, Any]] = []
        self.points = POINTS
        self.klippy = "ready"
        self.message = ""
        self.asked: list[tuple[str, str, Any]] = []
        self.hang: set[str] = set()
        self.refuse: dict[str, tuple[int, str]] = {}
        self.away = False
        self.locked = False
        self.only_good = False
        self.tokens = {"good"}
        self.keys = {"k" * 32}
        self.plan_warnings: list[str] = []
        self.sockets: list[Any] = []
        self.waiting: list[Any] = []
        for value, kind in (
            (self.status, answers.Status), (layer_at(0), answers.Layer),
            (self._plan(), answers.Resume),
            ({"file": "", "saved": 0, "points": POINTS}, answers.Points),
        ):  # fmt: skip
            assert problems(value, kind) == []

    def serve(self, page: Any) -> None:
        page.route("**/*", self._route)
        page.route_web_socket("**/websocket*", self._socket)

    # The websocket

    def _socket(self, socket: Any) -> None:
        if self.away:
            socket.close()
            return
        self.sockets.append(socket)

    def notify(self, method: str, *params: Any) -> None:
        for socket in self.sockets:
            socket.send(json.dumps({"jsonrpc": "2.0", "method": method,
                                    "params": list(params)}))  # fmt: skip

    def change(self, **status: Any) -> None:
        """The status is another, and whoever listens hears of it."""
        self.status = {**self.status, **status}
        if "state" in status:
            self.status["meaning"] = answers.STATES[status["state"]]
        assert problems(self.status, answers.Status) == []
        self.notify("notify_plr_status_changed", self.status)

    def hang_up(self) -> None:
        for socket in self.sockets:
            socket.close()
        self.sockets.clear()

    # HTTP

    def answer_now(self) -> None:
        """What hangs."""
        self.hang, waiting, self.waiting = set(), self.waiting, []
        for route in waiting:
            self._route(route)

    def bodies(self, path: str) -> list[Any]:
        return [body for _, asked, body in self.asked if asked == path]

    def _route(self, route: Any) -> None:
        request = route.request
        url = urlsplit(request.url)
        path = url.path.removeprefix(self.prefix)
        if path == "/server/plr/" or path.startswith("/server/plr/page/"):
            route.continue_()
            return
        body = json.loads(request.post_data) if request.post_data else None
        self.asked.append((request.method, path, body))
        if self.away:
            route.abort("connectionrefused")
        elif path in self.hang:
            self.waiting.append(route)
        else:
            self._answer(route, path, parse_qs(url.query), body)

    def _answer(self, route: Any, path: str, query: Any, body: Any) -> None:
        code, result = 200, None
        headers = route.request.headers
        named = "authorization" in headers or "x-api-key" in headers
        locked = named if self.only_good else self.locked
        if locked and not self._known(headers):
            code, result = self._outside(path, body)
        elif path in self.refuse:
            code, result = self.refuse[path]
        else:
            result = self._inside(path, query, body)
        error = {"error": {"code": code, "message": result}}
        answer = {"result": result} if code == 200 else error
        from playwright.sync_api import Error  # not installed everywhere

        # The page gives up what it has asked for when it wants something else.
        with contextlib.suppress(Error):
            route.fulfill(status=code, json=answer)

    def _known(self, headers: Mapping[str, str]) -> bool:
        token = headers.get("authorization", "").removeprefix("Bearer ")
        return token in self.tokens or headers.get("x-api-key") in self.keys

    def _outside(self, path: str, body: Any) -> tuple[int, Any]:
        if path == "/access/info":
            return 200, {
                "default_source": "moonraker", "available_sources": ["moonraker"],
                "login_required": True, "trusted": False,
            }  # fmt: skip
        if path == "/access/login":
            if (body["username"], body["password"]) == ("owner", "right"):
                return 200, {"token": "good", "refresh_token": "again"}
            return 401, "Invalid Password"
        if path == "/access/refresh_jwt" and body == {"refresh_token": "again"}:
            self.tokens = {"newer"}
            return 200, {"token": "newer"}
        return 401, "Unauthorized"

    def _inside(self, path: str, query: Any, body: Any) -> Any:
        if path == "/server/plr/resume" and not body.get("dry_run"):
            self.change(state="resuming", step=None)
            return {**self._plan(), "purge": None, "dry_run": False}
        if path in ("/server/plr/cancel", "/server/plr/discard"):
            kept = path.endswith("cancel")
            auto = {"seconds_left": None, "why_not": ""}
            self.change(
                state="interrupted" if kept else "idle", auto_resume=auto, step=None,
                record=PLACE if kept else None, waiting=[PLACE["summary"]] * kept,
            )  # fmt: skip
            return self.status
        return {
            "/access/info": {"login_required": False, "trusted": True},
            "/access/oneshot_token": "ONCE",
            "/server/info": {"klippy_state": self.klippy},
            "/printer/info": {"state_message": self.message},
            "/printer/objects/query": {
                "status": {name: OBJECTS[name] for name in query if name in OBJECTS}
            },
            "/server/plr/status": self.status,
            "/server/plr/history": {"outages": self.outages},
            "/server/plr/points": {"file": "part.gcode", "saved": 2500,
                                   "points": self.points},
            "/server/plr/layer": layer_at(int(query.get("position", ["2500"])[0])),
            "/server/plr/resume": self._plan(),
        }[path]  # fmt: skip

    def _plan(self) -> dict[str, Any]:
        purge = {"x": 6.0, "y": 6.0, "end_x": 66.0, "end_y": 6.0, "on_bed": True}
        return {"steps": STEPS, "warnings": self.plan_warnings, "z": {},
                "purge": purge, "dry_run": True}  # fmt: skip
