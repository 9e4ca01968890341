# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""How fast a cut at 90 % of a file is examined, as a table.

    python -m tests.bench.scan [--sizes MB ...] [--folder PATH] [--repeat N]

Files as big_gcode.py writes them, read into the page cache first.  Each scan runs in
a thread of a process of its own, as Moonraker's does, beside an event loop that wants
to run every millisecond: the longest time it had to wait is what the scan blocks.
"cp" is the time of cp for as many bytes.  "extent" is the scan that also finds where
the part stands, as the component needs it; "points" lists all layers.  All times are
the best of N.
"""
from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import mmap
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from moonraker_components.power_loss_recovery.gcode.extent import Extent
from moonraker_components.power_loss_recovery.gcode.points import points
from moonraker_components.power_loss_recovery.gcode.scan import scan
from tests.bench.big_gcode import write

SHARE = 0.9
MIN_SPEED, MAX_MEMORY, MAX_BLOCKED = 500.0, 64.0, 20.0
MAX_GROWTH = 1.5  # seconds per byte, largest file against smallest
TICK = 0.001
TASKS = Path("/proc/self/task")
JOBS: dict[str, Callable[[mmap.mmap, int], object]] = {
    "scan": scan,
    "points": lambda data, end: points(data),
    "extent": lambda data, end: scan(data, end, Extent(data)),
}


def anonymous() -> float:
    """MB of this process, and of those that it has started, that no file backs."""
    found = 0
    children = [path.read_text().split() for path in TASKS.glob("*/children")]
    for process in ("self", *itertools.chain(*children)):
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except OSError:
            continue  # ended meanwhile
        match = re.search(r"RssAnon:\s+(\d+) kB", status)
        found += 0 if match is None else int(match[1])
    return found / 1024.0


async def measure(path: Path, job: str) -> dict[str, float]:
    with open(path, "rb") as f:
        data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    end = int(len(data) * SHARE)
    end += data[end : end + (1 << 20)].index(b"\n") + 1
    before, peak, blocked = anonymous(), 0.0, 0.0
    begin = time.perf_counter()
    work = asyncio.create_task(asyncio.to_thread(JOBS[job], data, end))
    ticks = 0
    while not work.done():
        woken = time.perf_counter()
        await asyncio.sleep(TICK)
        blocked = max(blocked, time.perf_counter() - woken - TICK)
        ticks += 1
        if ticks % 8 == 0:
            peak = max(peak, anonymous())
    await work
    seconds = time.perf_counter() - begin
    return {
        "seconds": seconds,
        "bytes": float(end if job != "points" else len(data)),
        "memory": max(peak, anonymous()) - before,
        "blocked": blocked * 1000.0,
    }


def best(path: Path, job: str, repeat: int) -> dict[str, float]:
    runs = []
    for _ in range(repeat):
        command = [sys.executable, "-m", "tests.bench.scan", "--one", str(path), job]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout))
    # Other work on the machine only adds to these; to memory nothing does.
    found = {key: min(run[key] for run in runs) for key in runs[0]}
    return {**found, "memory": max(run["memory"] for run in runs)}


def copy_speed(path: Path, repeat: int, durable: bool = False) -> float:
    """MB/s of cp, and of fsync after it if durable."""
    target = path.with_suffix(".copy")
    seconds = []
    for _ in range(repeat):
        begin = time.perf_counter()
        subprocess.run(["cp", str(path), str(target)], check=True)
        if durable:
            with open(target, "rb") as f:
                os.fsync(f.fileno())
        seconds.append(time.perf_counter() - begin)
        target.unlink()
    return os.path.getsize(path) / min(seconds) / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 500, 2000])
    parser.add_argument("--dialects", nargs="+", default=["orca", "prusa"])
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=JOBS)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(asyncio.run(measure(Path(options.one[0]), options.one[1]))))
        return 0
    print("| file | what | s | MB/s | x cp | memory MB | loop blocked ms |")
    print("|---|---|---|---|---|---|---|")
    good = True
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for dialect in options.dialects:
            slowness = []
            for size in options.sizes:
                path = Path(folder) / f"{dialect}_{size}.gcode"
                write(path, size * 1_000_000, dialect)
                copied = copy_speed(path, options.repeat)
                for job in options.jobs:
                    run = best(path, job, options.repeat)
                    speed = run["bytes"] / run["seconds"] / 1e6
                    print(
                        f"| {dialect} {size} MB | {job} | {run['seconds']:.3f} |"
                        f" {speed:.0f} | {speed / copied:.2f} | {run['memory']:.1f} |"
                        f" {run['blocked']:.1f} |",
                        flush=True,
                    )
                    good &= run["memory"] <= MAX_MEMORY
                    good &= run["blocked"] <= MAX_BLOCKED
                    if job == "scan":
                        good &= speed >= MIN_SPEED or speed >= copied or size < 500
                        slowness.append(run["seconds"] / run["bytes"])
                path.unlink()
            good &= not slowness or slowness[-1] <= slowness[0] * MAX_GROWTH
    print("\nall as wanted" if good else "\nNOT as wanted")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
