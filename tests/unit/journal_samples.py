# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A journal with marks in it, for the tests that start from one."""
from __future__ import annotations

from moonraker_components.power_loss_recovery.journal import Journal

A, B = b"A" * 16, b"B" * 16
SLOT = 4096


def marked(path: str, count: int = 3) -> Journal:
    journal = Journal.open(path)
    journal.write_job(A, b"job")
    for number in range(count):
        journal.write_mark(A, b"mark %d" % number)
    return journal


def mark_of(journal: Journal) -> bytes:
    state = journal.read()
    assert state is not None and state.closed is None
    return state.mark_payload
