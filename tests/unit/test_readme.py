# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What the README documents is what there is, no more and no less."""
from __future__ import annotations

import re

import pytest

from moonraker_components.power_loss_recovery.faces.endpoints import ENDPOINTS, Endpoint
from tests.unit import documented
from tests.virtual_printer import guide, state_rows


@pytest.mark.parametrize("face", sorted(documented.CODED))
def test_the_readme_documents_what_there_is(face: str) -> None:
    coded = documented.as_coded(face)
    assert coded and documented.as_documented(face) == coded


def test_both_sides_have_the_same_faces() -> None:
    assert set(documented.CODED) == set(documented.DOCUMENTED)


@pytest.mark.parametrize("face", sorted(documented.CODED))
def test_what_is_left_out_is_noticed(face: str) -> None:
    text = documented.README.read_text()
    for name in documented.as_coded(face):
        assert name not in documented.DOCUMENTED[face](text.replace(name, "else"))


def test_what_comes_back_is_what_is_tested_and_the_rest_is_named() -> None:
    text = documented.section(documented.README.read_text(), "What comes back")
    restored, lost = text.split("| does not |")
    rows = list(documented.tables(restored))[1:]
    assert rows == [row.name for row in state_rows.ROWS]
    # Its own heading went with the split.
    assert list(documented.tables(lost)) == list(state_rows.LOST)


def test_all_that_the_guide_has_is_there() -> None:
    assert guide.commands() <= documented.as_coded("commands")
    assert guide.options() <= documented.as_coded("options of printer.cfg")


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: e.name)
def test_each_endpoint_has_its_parameters_in_its_row(endpoint: Endpoint) -> None:
    (row,) = [
        row for row in documented.rows(documented.README.read_text(), "API")
        if f"{endpoint.method} {endpoint.path}`" in row
    ]  # fmt: skip
    named = {f"`{p.name}`: {p.allowed}" for p in endpoint.parameters}
    known = documented.as_coded("parameters of endpoints")
    assert {name for name in known if name in row} == named


def test_each_option_says_its_default() -> None:
    """Or that of the last of a group is that of all."""
    options = documented.section(documented.README.read_text(), "Options")
    texts = options.split("\n#   ")
    assert len(texts) > 20
    for block in options.replace("\n#   ", " ").split("\n"):
        if block.startswith("#") and "  " in block:
            assert "The default" in block, block


def test_what_it_links_to_is_there() -> None:
    text = documented.README.read_text()
    targets = re.findall(r"\]\((?!https?:)([^)]+)\)", text)
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    anchors = {"#" + re.sub(r"[^\w -]", "", h).lower().replace(" ", "-")
               for h in headings}  # fmt: skip
    assert "docs/demo.png" in targets and "#tools" in targets
    for target in targets:
        assert target in anchors or (documented.REPO / target).is_file(), target
