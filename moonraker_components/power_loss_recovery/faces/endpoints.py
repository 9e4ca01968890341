# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Everything that can be asked of us over Moonraker's API: one table.

Registration, the checks of what is asked, the tests of the documentation and the
malformed requests that the tests send are all made from it.
"""
from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import answers
from ..settings import Z_STRATEGIES

# What Moonraker itself reads from the query of any request
RESERVED = ("_", "token", "access_token", "connection_id")
HINTS = ("int", "float", "bool", "json")
MAX_BODY = 4096
MAX_TEXT = 60
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[-+]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})")


class BadRequest(ValueError):
    """What was asked for is not in the table.  The text is one line of ASCII."""


@dataclass(frozen=True)
class Parameter:
    """kind: "bool", "int", "float" (from `low` to `high`), or one of `choices`."""

    name: str
    kind: str
    meaning: str
    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """In words, as errors and the documentation say it."""
        if self.kind == "bool":
            return "true or false"
        if self.kind == "choice":
            return f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"
        return f"{self.low:.0f} to {self.high:.0f}"

    def value(self, raw: Any) -> Any:
        """`raw` checked and converted; raises BadRequest."""
        if self.kind == "bool":
            words = {"true": True, "false": False}
            if isinstance(raw, bool):
                return raw
            if isinstance(raw, str) and raw.lower() in words:
                return words[raw.lower()]
            raise BadRequest(f"{self.name} is {_shown(raw)}: expected {self.allowed}")
        if self.kind == "choice":
            if isinstance(raw, str) and raw in self.choices:
                return raw
            raise BadRequest(f"{self.name} is {_shown(raw)}: expected {self.allowed}")
        return self._number(raw)

    def _number(self, raw: Any) -> float:
        whole = self.kind == "int"
        value = raw
        if isinstance(raw, str) and (_WHOLE if whole else _DECIMAL).fullmatch(raw):
            value = int(raw) if whole else float(raw)
        kinds = (int,) if whole else (int, float)
        good = isinstance(value, kinds) and not isinstance(value, bool)
        # NaN is in no range.
        if not good or not self.low <= value <= self.high:
            what = "a whole number" if whole else "a number"
            raise BadRequest(
                f"{self.name} is {_shown(raw)}: expected {what} from {self.allowed}"
            )
        return value if whole else float(value)


@dataclass(frozen=True)
class Endpoint:
    """method: "GET" changes nothing; what changes anything is "POST" only.
    answer: of answers.py.  one_of: parameters of which at most one may be given."""

    name: str
    method: str
    answer: type
    meaning: str
    parameters: tuple[Parameter, ...] = ()
    one_of: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return f"/server/plr/{self.name}"

    @property
    def rpc(self) -> str:
        return f"server.plr.{self.name}"

    def arguments(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """What was given, checked; what was not is left out.  Raises BadRequest."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in raw:
            if name not in known:
                some = ", ".join(known) or "none"
                raise BadRequest(
                    f"{_shown(name)} is no parameter of {self.name}: it has {some}"
                )
        given = [name for name in self.one_of if name in raw]
        if len(given) > 1:
            raise BadRequest(f"{' and '.join(given)} are given: expected at most one")
        return {name: known[name].value(value) for name, value in raw.items()}


PLACES = (
    Parameter("layer", "int", "resume at this layer, counted from 1", 1, 1_000_000),
    Parameter("z", "float", "resume at the layer of this height, mm", 0, 10_000),
    Parameter("position", "int", "resume at this byte of the file", 0, 10**12),
)
ENDPOINTS = (
    Endpoint("status", "GET", answers.Status, "what is saved, and what goes on"),
    Endpoint("points", "GET", answers.Points,
             "the layers at which the interrupted print can be resumed"),
    Endpoint("layer", "GET", answers.Layer,
             "one of them as lines to draw; the one of the saved place",
             (Parameter("layer", "int", "that of this number", 1, 1_000_000),
              Parameter("position", "int", "that of this byte", 0, 10**12)),
             one_of=("layer", "position")),
    Endpoint("history", "GET", answers.History,
             "the outages of the past, the newest first",
             (Parameter("limit", "int", "so many at most", 1, 1000),)),
    Endpoint("check", "GET", answers.Check,
             "look for what would spoil a resume on this machine"),
    Endpoint("resume", "POST", answers.Resume,
             "resume the interrupted print, where it stopped or at another place",
             (*PLACES,
              Parameter("dry_run", "bool", "check and list the steps only"),
              Parameter("z_strategy", "choice", "where Z comes from, this time",
                        choices=Z_STRATEGIES)),
             one_of=tuple(place.name for place in PLACES)),
    Endpoint("rehearse", "POST", answers.Rehearsal,
             "do what moves in a resume of the last print, without heat or plastic"),
    Endpoint("cancel", "POST", answers.Status,
             "stop a resume that is under way (heaters off, nozzle up, record kept) or"
             " that is about to begin by itself"),
    Endpoint("discard", "POST", answers.Status, "forget the interrupted print"),
    Endpoint("save", "POST", answers.Status, "save the running print now"),
    Endpoint("enable", "POST", answers.Status, "save prints; remembered"),
    Endpoint("disable", "POST", answers.Status, "no longer save prints; remembered"),
)  # fmt: skip
NOTIFICATIONS = {
    "plr_status_changed": "the status, as `status` answers it",
    "plr_resume_progress": "the step that a resume has come to",
}


def parse(
    query: Mapping[str, Sequence[bytes]],
    form: Mapping[str, Sequence[bytes]],
    content_type: str,
    body: bytes,
) -> dict[str, Any]:
    """The parameters of an HTTP request, not yet checked.  Raises BadRequest.

    query, form: values by name, as they were sent.  A body that cannot be read is an
    error: a resume without its parameters is another resume.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if len(body) > MAX_BODY:
        raise BadRequest(f"the body has {len(body)} bytes: at most {MAX_BODY} are read")
    found: dict[str, Any] = {}
    forms = ("application/x-www-form-urlencoded", "multipart/form-data")
    if body and kind == "application/json":
        found = _json(body)
    elif body and (kind not in forms or not form):
        raise BadRequest("the body cannot be read: expected a JSON object")
    for raw_name, values in [*query.items(), *form.items()]:
        name, _, hint = raw_name.partition(":")
        if name in RESERVED:
            continue
        if name in found or len(values) != 1:
            raise BadRequest(f"{_shown(name)} is given more than once")
        if hint and hint not in HINTS:
            raise BadRequest(f"{_shown(raw_name)}: expected a name")
        try:
            found[name] = values[0].decode("ascii")
        except UnicodeDecodeError:
            raise BadRequest(f"{_shown(name)} is {_shown(values[0])}") from None
    return found


def _json(body: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise BadRequest("the body names a parameter more than once")
        return found

    try:
        found = json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError) as e:
        if isinstance(e, BadRequest):
            raise
        raise BadRequest("the body is no JSON") from None
    if not isinstance(found, dict):
        raise BadRequest(f"the body is {_shown(found)}: expected a JSON object")
    return found


def _shown(value: Any) -> str:
    """Some of it, in characters that may stand anywhere."""
    text = ascii(value if isinstance(value, (str, bytes, bool, type(None))) else
                 value if isinstance(value, (int, float)) and abs(value) < 1e18 else
                 type(value).__name__)  # fmt: skip
    text = re.sub(r"[<>]", "?", text)
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."
