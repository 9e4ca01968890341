# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A host that did not run klippy in time, and klippy said so: tried once more.

Each such test is named in pytest's summary.  Any other failure is one at once.
"""
from __future__ import annotations

import re

import pytest

from tests.virtual_printer.busy import STARVED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    words = [re.escape(text) for text in STARVED]
    for item in items:
        if item.get_closest_marker("e2e"):
            item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=words))
