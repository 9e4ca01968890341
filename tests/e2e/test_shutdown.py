# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""klippy shuts down and its host lives on: where did the motors stop?"""
from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.virtual_printer import mark_watch, oracle, outage, parts
from tests.virtual_printer.mark_watch import Watch
from tests.virtual_printer.printer import VirtualPrinter
from tests.virtual_printer.stop_trial import (
    SLOW,
    Stop,
    board_fault,
    emergency_stop,
    frozen,
    stop_at,
    unplugged,
)

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 11
MOST_LOST_S = 0.3
# A board that has lost its power lived when it last sent a temperature.
MOST_LOST_SILENT_S = 1.5
# Of a host that stands still nobody knows how many steps were on their way.
MOST_LOST_LATE_S = 3.0
PART = parts.Part(size=16, layers=3, long_line=60)


def m112(printer: VirtualPrinter) -> None:
    printer.post("/printer/emergency_stop")


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    with VirtualPrinter(seed=SEED, config=mark_watch.CONFIG) as printer:
        printer.power_on(moonraker=False, wait=False)
        yield Watch(printer)


@pytest.mark.parametrize("stop", [emergency_stop, board_fault])
def test_the_stop_is_known_to_a_fraction_of_a_second(watch: Watch, stop: Stop) -> None:
    source = random.Random(SEED)
    results = [stop_at(watch, source.uniform(0.3, 5.0), stop) for _ in range(5)]
    print(f"\n{stop.__name__}: lost", *(f"{r.lost_s:.3f} s" for r in results))
    assert [r.problems for r in results] == [[]] * len(results)
    assert all(r.exact for r in results)
    assert max(r.lost_s for r in results) <= MOST_LOST_S


def test_of_a_board_without_power_only_the_last_life_is_promised(watch: Watch) -> None:
    result = stop_at(watch, 2.0, unplugged)
    print(f"\nunplugged: lost {result.lost_s:.3f} s")
    assert result.problems == []
    assert not result.exact
    assert result.lost_s <= MOST_LOST_SILENT_S


def test_of_a_host_that_was_late_nothing_is_promised_that_came_late(
    watch: Watch,
) -> None:
    result = stop_at(watch, 1.5, frozen, SLOW)
    print(f"\nfrozen: lost {result.lost_s:.3f} s, the board says {result.reason}")
    assert result.problems == []
    assert not result.exact
    assert result.lost_s <= MOST_LOST_LATE_S


# With Moonraker and a resume: the oracle decides


@dataclass(frozen=True)
class Case:
    name: str
    stop: Stop
    restart: bool
    most_lost_s: float


CASES = [
    Case("M112", m112, False, MOST_LOST_S),
    Case("board without power", unplugged, True, MOST_LOST_SILENT_S),
]


def run_case(case: Case, path: Path, after_s: float, seed: int) -> outage.Outcome:
    return outage.run_shut_down(path, after_s, seed, case.stop, case.restart)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, oracle.Verdict]:
    path = parts.write(tmp_path_factory.mktemp("part") / "part.gcode", PART)
    source = random.Random(SEED)
    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(outage.run_undisturbed, path, SEED)
        outcomes = {
            case.name: pool.submit(
                run_case, case, path, source.uniform(3.0, 12.0), SEED + n
            )
            for n, case in enumerate(CASES)
        }
        for future in outcomes.values():
            assert future.result().trouble == ""
        return {
            name: outage.judge(whole.result(), future.result())
            for name, future in outcomes.items()
        }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_part_comes_out_whole(verdicts: dict, case: Case) -> None:
    verdict = verdicts[case.name]
    print(f"\n{case.name}: {verdict.lost_s} s done twice")
    assert verdict.reasons() == []
    assert max(verdict.lost_s) <= case.most_lost_s
