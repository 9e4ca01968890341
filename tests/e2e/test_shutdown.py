# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""klippy shuts down and its host lives on: where did the motors stop?"""
from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.virtual_printer import mark_watch, oracle, outage, parts
from tests.virtual_printer.klippy_api import Klippy
from tests.virtual_printer.mark_watch import Job, Watch
from tests.virtual_printer.printer import VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 11
SPEED = 30.0  # mm/s
MOST_LOST_S = 0.3
# A board that has lost its power lived when it last sent a temperature.
MOST_LOST_SILENT_S = 1.5
PART = parts.Part(size=16, layers=3, long_line=60)
Stop = Callable[[VirtualPrinter], object]


def m112(printer: VirtualPrinter) -> None:
    printer.post("/printer/emergency_stop")


def emergency_stop(printer: VirtualPrinter) -> None:
    """The same, without Moonraker."""
    klippy = Klippy(printer)
    klippy.send("emergency_stop")
    klippy.close()


def board_fault(printer: VirtualPrinter) -> None:
    printer.machine("shutdown", reason="ADC out of range")


def unplugged(printer: VirtualPrinter) -> None:
    printer.machine("brown_out", usb=True)


def long_and_short_lines() -> Job:
    job = Job(speed=SPEED)
    job.move(25.0)
    job.moves(8, 2.0)
    job.add("; a comment")
    job.add(f"G2 X{job.x + 20} I10 J0 F{SPEED * 60:.0f}", 20.0, "arc")
    job.moves(40, 0.5)
    job.move(60.0)
    return job


@dataclass(frozen=True)
class Stopped:
    """x: where the motors stood then; claimed: where the mark says they were."""

    x: float
    claimed: float
    exact: bool
    problems: list[str]

    @property
    def lost_s(self) -> float:
        return (self.x - self.claimed) / SPEED


def stop_at(watch: Watch, after_s: float, stop: Stop) -> Stopped:
    """Print, stop that long after the first motion, and compare."""
    job = long_and_short_lines()
    mark, x = watch.stop(job, "stop.gcode", after_s, stop)
    (line,) = [one for one in job.lines if one.offset == mark["file_position"]]
    share = mark["fraction"]
    claimed = line.reached(share)
    wrong = []
    if claimed > x + mark_watch.EPS:
        wrong.append(f"byte {line.offset} + {share:.3f}: X {claimed:.3f}, not {x:.3f}")
    exact = abs(mark["latest"]["print_time"] - mark["print_time"]) < 0.1
    if exact and abs(mark["live_position"][0] - x) > mark_watch.EPS:
        wrong.append(f"live_position {mark['live_position']}, not X {x:.3f}")
    return Stopped(x, claimed, exact, wrong)


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
