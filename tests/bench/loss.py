# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""How much motion a power cut costs: from the saved place to where the motors stopped.

    python -m tests.bench.loss [--cuts 40] [--seed N] [--workers N]

Needs what the e2e tests need: PLR_KLIPPER_PATH, or scripts/test's environment. Cuts
at seeded instants of real-time prints with the default settings, on a disk that
forgets. The place is read from the journal, the stop is taken from the steps of the
simulated board. Makes artifacts/loss.png and artifacts/loss.md; exit status 1 if a
figure is missed.
"""
from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moonraker_components.power_loss_recovery.journal import Journal
from tests.virtual_printer import parts, quick
from tests.virtual_printer.journal_witness import JOURNAL, saved_in
from tests.virtual_printer.klippy_tree import REPO, prepare
from tests.virtual_printer.printer import PrinterError, VirtualPrinter

from .ending import ended

MAX_P95, MAX_LOST = 1.5, 2.0
AHEAD = -0.01
LAST_CUT = 30.0  # s after the first plastic
FIRST_CUT = 2.5
PARTS = {
    "relative E": parts.Part(size=30, layers=6),
    "absolute E, Z hop": parts.Part(size=24, layers=8, relative_e=False, z_hop=0.4),
    "fast": parts.Part(size=60, layers=4, speed=150, long_line=0),
}


@dataclass(frozen=True)
class Loss:
    """`seconds` is None where nothing was saved."""

    part: str
    after: float
    seconds: float | None


def run(name: str, cuts: Sequence[float], seed: int) -> list[Loss]:
    """One printer; each cut is followed by a boot, a discard and a new print."""
    found = []
    with tempfile.TemporaryDirectory(prefix="plr-loss-") as folder:
        part = parts.write(Path(folder) / "part.gcode", PARTS[name])
        steps = quick.map_of(part)
        with VirtualPrinter(seed=seed, config=quick.CONFIG) as printer:
            if printer.disk.unavailable:
                raise SystemExit(f"No forgetful disk: {printer.disk.unavailable}")
            printer.power_on()
            for cut in cuts:
                found.append(Loss(name, cut, _lost(printer, part, steps, cut)))
    return found


def _lost(
    printer: VirtualPrinter, part: Path, steps: quick.StepMap, cut: float
) -> float | None:
    printer.print_file(part)
    printer.arm_cut(cut)
    when = printer.wait_cut(cut + 60)
    saved = saved_in(Journal(str(printer.data / JOURNAL)).read())
    times = quick.step_times(quick.last_session(printer))
    printer.power_on()
    if saved is None:
        return None
    status = printer.get("/server/plr/status")
    if status["record"]["file_position"] != saved.file_position:
        raise PrinterError(f"the journal says {saved}, Moonraker says {status}")
    printer.post("/server/plr/discard")
    place = steps.steps_before(saved.file_position, saved.fraction)
    return quick.lost_seconds(times, place, when)


def jobs(cuts: int, seed: int) -> list[tuple[str, list[float], int]]:
    rng, names = random.Random(seed), list(PARTS)
    each: dict[str, list[float]] = {name: [] for name in names}
    for number in range(cuts):
        instant = rng.uniform(FIRST_CUT, LAST_CUT)
        each[names[number % len(names)]].append(instant)
    return [(name, each[name], seed + n) for n, name in enumerate(names) if each[name]]


def table(losses: Sequence[Loss]) -> str:
    lines = [
        "| print | cuts | median s | p95 s | max s | least s |",
        "|---|---|---|---|---|---|",
    ]
    for name in [*PARTS, "all"]:
        mine = [
            loss.seconds for loss in losses
            if loss.seconds is not None and name in (loss.part, "all")
        ]  # fmt: skip
        if mine:
            lines.append(
                f"| {name} | {len(mine)} | {np.median(mine):.2f} |"
                f" {np.percentile(mine, 95):.2f} | {max(mine):.2f} | {min(mine):.2f} |"
            )
    return "\n".join(lines) + "\n"


def draw(path: Path, seconds: Sequence[float], title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    end = max(MAX_LOST, *seconds) + 0.1
    axes.hist(seconds, bins=np.arange(0, end + 0.1, 0.1), color="#3b6ea5")
    for value, style, label in (
        (float(np.median(seconds)), "-", "median"),
        (float(np.percentile(seconds, 95)), "--", "p95"),
        (max(seconds), ":", "max"),
    ):
        text = f"{label} {value:.2f}"
        axes.axvline(value, color="black", linestyle=style, label=text)
    axes.set_xlabel("motion lost at the cut, s")
    axes.set_ylabel("cuts")
    axes.set_title(title)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def missed(losses: Sequence[Loss]) -> list[str]:
    """In words, what is not as it must be."""
    seconds = [loss.seconds for loss in losses if loss.seconds is not None]
    found = []
    if len(seconds) < len(losses):
        found.append(f"nothing was saved at {len(losses) - len(seconds)} cuts")
    if not seconds:
        return found
    p95 = float(np.percentile(seconds, 95))
    if p95 > MAX_P95:
        found.append(f"p95 is {p95:.2f} s, at most {MAX_P95} s was asked")
    if max(seconds) > MAX_LOST:
        found.append(f"max is {max(seconds):.2f} s, at most {MAX_LOST} s was asked")
    if min(seconds) < AHEAD:
        found.append(f"a place is {-min(seconds):.3f} s ahead of the motors")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=42)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    tree = prepare()
    with ThreadPoolExecutor(args.workers) as pool:
        started = [pool.submit(run, *job) for job in jobs(args.cuts, args.seed)]
        losses = [loss for future in started for loss in future.result()]
    title = f"{len(losses)} power cuts, default settings, klippy {tree.name}"
    text = f"{title}, seed {args.seed}\n\n{table(losses)}"
    artifacts = REPO / "artifacts"
    artifacts.mkdir(exist_ok=True)
    (artifacts / "loss.md").write_text(text)
    seconds = [loss.seconds for loss in losses if loss.seconds is not None]
    if seconds:
        draw(artifacts / "loss.png", seconds, title)
    print(text)
    wrong = missed(losses)
    return ended(not wrong, wrong)


if __name__ == "__main__":
    raise SystemExit(main())
