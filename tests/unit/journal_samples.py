# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A journal with marks in it, for the tests that start from one."""
from __future__ import annotations

from pathlib import Path

from moonraker_components.power_loss_recovery.journal import Journal
from moonraker_components.power_loss_recovery.record import Job, Record, to_payloads

A, B = b"A" * 16, b"B" * 16
SLOT = 4096


def marked(path: str, count: int = 3) -> Journal:
    journal = Journal.open(path)
    journal.write_job(A, b"job")
    for number in range(count):
        journal.write_mark(A, b"mark %d" % number)
    return journal


def interrupted(path: str | Path, job: Job, record: Record) -> Journal:
    """As a power cut leaves it in that print; its id is A."""
    journal = Journal(str(path))
    job_payload, mark_payload = to_payloads(job, record)
    journal.write_job(A, job_payload)
    journal.write_mark(A, mark_payload)
    return journal


def mark_of(journal: Journal) -> bytes:
    state = journal.read()
    assert state is not None and state.closed is None
    return state.mark_payload
