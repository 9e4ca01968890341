# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The judge of the bench on lead screws can say no."""
from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace

import pytest

from moonraker_components.power_loss_recovery.planning.objections import APART
from tests.bench import assume_z
from tests.bench.assume_z import Row
from tests.virtual_printer import screw_trial, variants
from tests.virtual_printer.printer import PrinterError
from tests.virtual_printer.screw_trial import Outcome


def outcome(error: float, bound: float, apart: float | None = None) -> Outcome:
    said = "" if apart is None else APART.format(apart)
    words = f"Z is from the record (in doubt by {bound:.2f} mm{said}), not measured"
    return Outcome(error, abs(error), bound, apart, 0.2, (words,), 5.0)


def row(*outcomes: Outcome, knows: bool = False, apart: bool = False) -> Row:
    done = Row(
        "a row", variants.ONE_SCREW, screw_trial.POWER_ON, screw_trial.FLAT,
        len(outcomes), knows, apart, started=len(outcomes),
    )  # fmt: skip
    done.outcomes.extend(outcomes)
    return done


GOOD = outcome(0.002, 0.008, 0.096)


@pytest.mark.parametrize("done", [
    row(GOOD, knows=True),
    row(GOOD, outcome(0.07, 0.088)),
    row(outcome(0.06, 0.008, 0.096), apart=True),
])  # fmt: skip
def test_errors_that_were_told_are_accepted(done: Row) -> None:
    assert assume_z.problems([done]) == []


@pytest.mark.parametrize(("done", "word"), [
    (row(outcome(0.09, 0.088)), "beyond what was told"),
    (row(outcome(0.06, 0.008, 0.096)), "beyond what was told"),
    (row(outcome(0.06, 0.008), apart=True), "beyond what was told"),
    (row(outcome(0.10, 0.008, 0.096), apart=True), "beyond what was told"),
    (row(outcome(0.07, 0.088), knows=True), "0 known, asked 1"),
    (row(outcome(0.0105, 0.0099), knows=True), "further off than 0.01"),
    (row(replace(GOOD, warnings=()), knows=True), "not told"),
    (row(replace(GOOD, apart=0.2), knows=True), "not told"),
    (row(replace(GOOD, apart=None), knows=True), "not told"),
])  # fmt: skip
def test_what_is_missed_is_named(done: Row, word: str) -> None:
    assert any(word in text for text in assume_z.problems([done]))


def test_a_cut_that_was_not_resumed_is_missed() -> None:
    done = row(GOOD, knows=True)
    done.failures.append("a row, seed 1: the nozzle was not lifted")
    assert assume_z.problems([done]) == ["not resumed: a row, seed 1: the nozzle was"
                                         " not lifted"]  # fmt: skip


def test_a_row_goes_on_until_it_has_seen_what_it_wants() -> None:
    done = row(GOOD, outcome(0.07, 0.088), knows=True)
    assert done.wants_more()
    done.started += 1
    assert not done.wants_more()
    done.outcomes.append(GOOD)
    assert not done.wants_more() and len(done.known) == done.wanted


def test_a_row_gives_up() -> None:
    done = row(outcome(0.07, 0.088), knows=True)
    done.started = assume_z.MAX_TRIES
    done.outcomes *= assume_z.MAX_TRIES
    assert not done.wants_more()


def test_a_machine_that_was_too_busy_is_not_the_products_failure_for_ever() -> None:
    done = row(GOOD)
    done.outcomes.clear()
    done.started = 0
    for number in range(assume_z.MAX_STARVED + 1):
        assert done.wants_more() and not done.failures
        done.started += 1
        future: Future[Outcome] = Future()
        future.set_exception(PrinterError("400: Communication timeout during homing x"))
        assume_z.collect(future, done, number)
    assert len(done.failures) == 1 and not done.wants_more()


def test_all_asked_cuts_are_shared_out() -> None:
    for cuts in (1, 6, 40):
        wanted = [r.wanted for r in assume_z.rows(cuts) if r.knows]
        assert sum(wanted) == cuts
