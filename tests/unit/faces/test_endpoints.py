# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What may be asked: the table, and what a request must be to get through it."""
from __future__ import annotations

import inspect
import math
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.faces.api import Api
from moonraker_components.power_loss_recovery.faces.endpoints import (
    ENDPOINTS,
    MAX_BODY,
    BadRequest,
    parse,
)

BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}
RESUME = BY_NAME["resume"]
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def test_what_changes_anything_is_post_only() -> None:
    getters = {endpoint.name for endpoint in ENDPOINTS if endpoint.method == "GET"}
    assert getters == {"status", "points", "layer", "history", "check"}
    assert {e.method for e in ENDPOINTS} == {"GET", "POST"}


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: e.name)
def test_each_row_has_its_method_with_these_parameters(endpoint: Any) -> None:
    found = inspect.signature(getattr(Api, f"_{endpoint.name}")).parameters
    named = {name for name, p in found.items() if p.kind is p.POSITIONAL_OR_KEYWORD}
    rest = any(p.kind is p.VAR_KEYWORD for p in found.values())
    free = set(endpoint.one_of) if rest else set()
    assert named - {"self"} | free == {p.name for p in endpoint.parameters}


@pytest.mark.parametrize(("raw", "value"), [
    ({"layer": 5}, 5), ({"layer": "5"}, 5), ({"layer": 1_000_000}, 1_000_000),
    ({"z": 1}, 1.0), ({"z": "1.25"}, 1.25), ({"z": ".5"}, 0.5), ({"z": 0}, 0.0),
    ({"position": "123456789012"}, 123456789012),
    ({"dry_run": True}, True), ({"dry_run": "FALSE"}, False),
    ({"z_strategy": "assume"}, "assume"),
])  # fmt: skip
def test_good_values_are_taken(raw: dict[str, Any], value: Any) -> None:
    (found,) = RESUME.arguments(raw).values()
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("raw", [
    {"layer": 0}, {"layer": -1}, {"layer": 1_000_001}, {"layer": 5.0}, {"layer": True},
    {"layer": "5.0"}, {"layer": ""}, {"layer": " 5"}, {"layer": "5\n"}, {"layer": "٥"},
    {"layer": "1_0"}, {"layer": None}, {"layer": [5]}, {"layer": {}},
    {"layer": 10**400}, {"layer": "9" * 400},
    {"z": math.nan}, {"z": math.inf}, {"z": "nan"}, {"z": "1e3"}, {"z": "."},
    {"z": -0.1}, {"z": "0x1"}, {"z": False}, {"position": -1}, {"position": 10**13},
    {"dry_run": "yes"}, {"dry_run": 1}, {"dry_run": None}, {"dry_run": "true\n"},
    {"z_strategy": "Assume"}, {"z_strategy": ""}, {"z_strategy": ["assume"]},
    {"layers": 3}, {"LAYER": 3}, {"": 1}, {"file": "../x"}, {"layer\n": 3},
])  # fmt: skip
def test_bad_values_are_refused_in_one_plain_line(raw: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as e:
        RESUME.arguments(raw)
    text = str(e.value)
    assert text and len(text) < 250 and text.isascii() and text.isprintable()
    assert "<" not in text


def test_a_resume_has_one_place() -> None:
    with pytest.raises(BadRequest, match="layer and z are given"):
        RESUME.arguments({"layer": 3, "z": 1.0})


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: e.name)
def test_nothing_needs_to_be_given(endpoint: Any) -> None:
    assert endpoint.arguments({}) == {}


def http(query: Any = None, form: Any = None, kind: str = "", body: bytes = b"") -> Any:
    return parse(query or {}, form or {}, kind, body)


def test_a_request_may_be_a_query_a_form_or_json() -> None:
    assert http({"layer": [b"3"]}) == {"layer": "3"}
    assert http({"layer:int": [b"3"], "token": [b"x"], "_": [b"1"]}) == {"layer": "3"}
    assert http(form={"z": [b"1"]}, kind=FORM, body=b"z=1") == {"z": "1"}
    assert http(kind=JSON + "; charset=utf-8", body=b'{"z": 1}') == {"z": 1}
    assert http(kind=JSON) == {} == http()


@pytest.mark.parametrize(("kind", "body"), [
    (JSON, b'{"layer": 5'), (JSON, b"[]"), (JSON, b"5"), (JSON, b"null"), (JSON, b'""'),
    (JSON, b"\xff\xfe"), (JSON, b"layer=5"), (JSON, b'{"z": 1, "z": 2}'),
    (JSON, b"[" * 4000), (JSON, b" " * (MAX_BODY + 1)), ("", b'{"layer": 5}'),
    ("text/plain", b"layer=5"), (FORM, b"\x00"), ("multipart/form-data", b"--x--"),
])  # fmt: skip
def test_a_body_that_cannot_be_read_is_not_left_out(kind: str, body: bytes) -> None:
    with pytest.raises(BadRequest):
        http(kind=kind, body=body)


@pytest.mark.parametrize("query", [
    {"layer": [b"3", b"4"]}, {"layer": [b"3"], "layer:int": [b"3"]},
    {"layer:eval": [b"3"]}, {"layer": [b"\xff"]}, {"layer": ["٥".encode()]},
])  # fmt: skip
def test_a_query_that_says_two_things_is_refused(query: Any) -> None:
    with pytest.raises(BadRequest):
        http(query)


def test_a_body_and_a_query_may_not_contradict_each_other() -> None:
    with pytest.raises(BadRequest, match="more than once"):
        http({"layer": [b"3"]}, kind=JSON, body=b'{"layer": 4}')
