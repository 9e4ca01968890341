# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Each bench can be started, is in the list of tests/README.md, and can say no."""
from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import cpu, page, shutdown, stalls
from tests.bench.ending import ended
from tests.virtual_printer.klippy_tree import REPO
from tests.virtual_printer.printer import PrinterError
from tests.virtual_printer.stop_trial import Stopped

MODULES = sorted((REPO / "tests" / "bench").glob("[a-z]*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_bench_can_be_started_and_is_listed(path: Path) -> None:
    module = importlib.import_module(f"tests.bench.{path.stem}")
    if f"python -m tests.bench.{path.stem}" in (module.__doc__ or ""):
        assert callable(module.main)
        assert f"`{path.stem}`" in (REPO / "tests" / "README.md").read_text()


def test_the_end_is_said_and_is_the_exit_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (ended(True), ended(False), ended(False, ["40 us", "9 %"])) == (0, 1, 1)
    assert capsys.readouterr().out.splitlines() == [
        "all figures are met", "NOT all figures are met", "40 us", "9 %",
    ]  # fmt: skip


def test_one_stall_or_standstill_more_or_another_motion_is_a_miss() -> None:
    found = stalls.Found(1, 10, "a" * 64, 1.2)
    assert stalls.report("batch", found, found)
    assert stalls.report("batch", replace(found, stalls=2), found)
    for worse in (
        replace(found, stalls=2), replace(found, flushes=11),
        replace(found, motion="b" * 64),
    ):  # fmt: skip
        assert not stalls.report("batch", found, worse)


def test_there_are_as_many_short_moves_as_asked_for() -> None:
    lines = list(stalls.short_moves(2000))
    assert sum(line.startswith("G1") and " E" in line for line in lines) == 2000


def test_a_line_that_costs_more_is_a_miss() -> None:
    assert cpu.report_lines([(30.0, 30.5), (30.0, 40.0), (30.0, 30.5)])
    assert not cpu.report_lines([(30.0, 31.0)])


def test_load_that_is_added_is_a_miss() -> None:
    idle = cpu.Load(0.05, 0.02)
    assert cpu.report_loads([(idle, cpu.Load(0.059, 0.039))])
    assert not cpu.report_loads([(idle, cpu.Load(0.061, 0.02))])
    assert not cpu.report_loads([(idle, cpu.Load(0.05, 0.041))])


def test_a_short_print_is_lengthened_by_its_layers() -> None:
    data = b"PRINT_START\n;LAYER_CHANGE\nG1 X1\nG1 X2\n;TYPE:Custom\nPRINT_END\n"
    long = cpu.lengthened(data)
    assert long.count(b"PRINT_START") == long.count(b"PRINT_END") == 1
    assert long.count(b";LAYER_CHANGE\nG1 X1\nG1 X2\n") >= cpu.LINES / 3
    assert cpu.lengthened(b"G1 X1\n") == b"G1 X1\n"


def test_a_stop_that_is_lost_or_wrong_is_a_miss() -> None:
    good = Stopped(30.0, 27.0, True, [])
    assert shutdown.missed("M112", [good]) == []
    assert shutdown.missed("M112", [replace(good, claimed=20.0)]) != []
    assert shutdown.missed("M112", [replace(good, problems=["no"])]) != []
    silent = replace(good, claimed=5.0, exact=False)
    assert shutdown.missed("board without power", [silent]) == []
    assert shutdown.missed("host that stands still", [silent]) == []


def test_a_stop_that_a_busy_machine_has_spoilt_is_done_again_a_few_times() -> None:
    good = Stopped(30.0, 27.0, True, [], "Command request")
    wrong = replace(good, problems=["no"])
    trials = shutdown.Trials("M112", [1.0] * 20)
    for stopped in (good, wrong, replace(good, unheard_s=1.0)):
        trials.take(stopped)
    assert (len(trials.stops), trials.repeated) == (3, 0)
    early, unheard = replace(good, reason="x"), replace(wrong, unheard_s=1.0)
    for stopped in (early, unheard) * 2:
        trials.take(stopped)
    assert (len(trials.stops), trials.repeated) == (3, shutdown.REPEATS)
    trials.take(unheard)
    assert trials.stops[-1] == unheard
    assert len(trials.places) == 16


def test_a_stop_that_fails_is_a_miss_but_for_a_busy_machine() -> None:
    trials = shutdown.Trials("M112", [1.0] * 9)
    trials.fail(PrinterError("Timer too close"), 0.0)
    trials.fail(PrinterError("timed out"), 1.0)
    assert (trials.failures, trials.repeated) == ([], 2)
    trials.fail(PrinterError("timed out"), 0.0)
    assert trials.failures == ["timed out, after 1.00 s"]
    assert "| 0 | 0 | - |" in shutdown.row(trials)


def test_a_page_that_takes_too_long_is_a_miss() -> None:
    quick = page.Run(0.2, resume=0.3, drawn=1.9, steps=9.0, another=3.0, its_steps=9.0)
    assert page.report([quick])
    assert not page.report([quick, replace(quick, drawn=2.1)])
    assert not page.report([quick, replace(quick, resume=2.1)])
