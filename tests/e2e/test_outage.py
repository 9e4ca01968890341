# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The main job on real klippy and real Moonraker: the oracle decides.

All prints run at the same time, each on a virtual printer of its own; then each
test looks at one of them.  `pytest -s` or the file artifacts/outage.md shows the
figures.
"""
from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from moonraker_components.power_loss_recovery.planning.purge import APART
from tests.virtual_printer import faults, moments, oracle, outage, parts
from tests.virtual_printer.klippy_tree import REPO, prepare
from tests.virtual_printer.printer import VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 20
# More at once, and a boot of one can starve another in the middle of homing.
PRINTERS = 5
RELATIVE = parts.Part(size=20, layers=4, relative_e=True)
ABSOLUTE = parts.Part(
    size=20, layers=4, relative_e=False, z_hop=0.4, placeholders=True
)
CASES = [
    ("relative", "perimeter"), ("relative", "infill"), ("relative", "travel"),
    ("relative", "retracted"), ("relative", "layer change"), ("relative", "long line"),
    ("relative", "first second"), ("relative", "near the end"),
    ("absolute", "perimeter"), ("absolute", "infill"), ("absolute", "first layer"),
    ("absolute", "layer change"), ("absolute", "long line"), ("absolute", "retracted"),
]  # fmt: skip
TWICE = ("relative", "cut again in the resumed print")
IN_SEQUENCE = ("absolute", "cut again while resuming")
AWAY = ("relative", "after Moonraker was away")
Hook = Callable[[VirtualPrinter], None]


@dataclass(frozen=True)
class Result:
    cuts: tuple[float, ...]
    seed: int
    outcome: outage.Outcome
    verdict: oracle.Verdict


def moonraker_away(printer: VirtualPrinter) -> None:
    """Moonraker dies while klippy prints, and comes back."""
    printer.wait(
        "a tenth of the print",
        lambda: printer.objects("virtual_sdcard")["virtual_sdcard"]["progress"] > 0.1,
        120,
    )
    faults.moonraker_crash(printer)
    time.sleep(3.0)
    printer.start_moonraker()
    printer.wait_ready()


def cut_while_resuming(printer: VirtualPrinter) -> None:
    def heating() -> bool:
        step = printer.get("/server/plr/status")["step"]
        return step is not None and step["name"] == "heat"

    printer.gcode("PLR_RESUME_PRINT")
    printer.wait("the step before the purge", heating, 120)
    faults.power_cut(printer)
    printer.power_on()
    outage.wait_offer(printer)


class Prints:
    """Everything printed, started at once, waited for case by case."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor) -> None:
        self.pool = pool
        tree = prepare()
        self.parts = {"relative": RELATIVE, "absolute": ABSOLUTE}
        self.files = {
            name: parts.write(folder / f"{name}.gcode", part)
            for name, part in self.parts.items()
        }
        whole = {
            name: pool.submit(outage.run_undisturbed, path, SEED, tree)
            for name, path in self.files.items()
        }
        self.whole = {name: future.result() for name, future in whole.items()}
        self.moments = {
            name: moments.find(self.whole[name], part, random.Random(SEED))
            for name, part in self.parts.items()
        }
        self.tree = tree
        self.futures: dict[tuple[str, str], Future[Result]] = {}
        self.purges: list[dict[str, float]] = []  # of TWICE
        self._start(TWICE, (self.moments["relative"]["infill"] / 2, 9.0), SEED,
                    between=self._note_purge)  # fmt: skip
        infill = (self.moments["absolute"]["infill"],)
        self._start(IN_SEQUENCE, infill, SEED, between=cut_while_resuming)
        self._start(AWAY, (6.0,), SEED, during=moonraker_away)
        for n, case in enumerate(CASES):
            self._start(case, (self.moments[case[0]][case[1]],), SEED + n)

    def _note_purge(self, printer: VirtualPrinter) -> None:
        planned = printer.post("/server/plr/resume", dry_run=True)
        self.purges.append(planned["purge"])

    def _start(
        self, case: tuple[str, str], cuts: tuple[float, ...], seed: int,
        during: Hook | None = None, between: Hook | None = None,
    ) -> None:  # fmt: skip
        def run() -> Result:
            outcome = outage.run_interrupted(
                self.files[case[0]], cuts, seed, self.tree,
                during=during, between=between,
            )  # fmt: skip
            verdict = outage.judge(self.whole[case[0]], outcome)
            return Result(cuts, seed, outcome, verdict)

        self.futures[case] = self.pool.submit(run)

    def __getitem__(self, case: tuple[str, str]) -> Result:
        return self.futures[case].result()

    def table(self) -> str:
        lines = [
            "| file | cut in | at s | seed | missing mm | twice s | twice mm | Z mm |"
            " corner mm | XY mm | collisions | hot on part s |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for (file, kind), future in self.futures.items():
            if future.exception() is not None:
                lines.append(f"| {file} | {kind} | | | {future.exception()} |")
                continue
            r, v = future.result(), future.result().verdict
            lines.append(
                f"| {file} | {kind} | {', '.join(f'{c:.2f}' for c in r.cuts)} |"
                f" {r.seed} | {v.missing_mm:.2f} |"
                f" {', '.join(f'{s:.2f}' for s in v.lost_s)} | {v.doubled_mm:.1f} |"
                f" {v.z_error_mm:.4f} | {v.z_corner_error_mm:.4f} |"
                f" {v.xy_error_mm:.4f} | {v.collisions} |"
                f" {', '.join(f'{s:.1f}' for s in v.hot_dwell_s)} |"
            )
        return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def prints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prints]:
    with ThreadPoolExecutor(PRINTERS) as pool:
        everything = Prints(tmp_path_factory.mktemp("parts"), pool)
        yield everything
        artifacts = REPO / "artifacts"
        artifacts.mkdir(exist_ok=True)
        table = everything.table()
        (artifacts / "outage.md").write_text(table)
        print("\n" + table)


@pytest.mark.parametrize(
    "case", [*CASES, TWICE, IN_SEQUENCE, AWAY], ids=lambda c: f"{c[0]}, {c[1]}"
)
def test_the_part_comes_out_whole(prints: Prints, case: tuple[str, str]) -> None:
    result = prints[case]
    assert result.outcome.trouble == ""
    assert not result.outcome.original_changed
    assert len(result.outcome.cuts) == len(result.cuts)
    assert result.verdict.reasons() == []


def test_a_second_resume_purges_beside_the_strip_of_the_first(prints: Prints) -> None:
    assert prints[TWICE].outcome.resumed
    first, second = prints.purges
    assert first["on_bed"] and second["on_bed"]
    beside_x = max(second["x"] - first["end_x"], first["x"] - second["end_x"])
    beside_y = max(second["y"] - first["end_y"], first["y"] - second["end_y"])
    assert max(beside_x, beside_y) >= APART


def test_the_offer_is_there_soon_after_the_boot(prints: Prints) -> None:
    slowest = max(max(prints[case].outcome.offer_s) for case in CASES)
    assert slowest <= 5.0
