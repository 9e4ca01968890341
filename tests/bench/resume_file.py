# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""How long a whole resume file takes at a cut of 50 %, against cp of the file.

    python -m tests.bench.resume_file [--sizes MB ...] [--folder PATH] [--repeat N]

"write" is the file alone, when the state is known; "plr" is all that scripts/plr does
for a byte position, the scan of what comes before included; "part" is what Moonraker's
side must know before it can write: also where on the bed the part stands, for the purge
beside it; "component" is all that it does with a record: also whether the rest of the
file stays within the machine, for which all of it is looked at.  Files and measures are
those of scan.py; all but "write" have readers where there is a core for them, whose
memory is counted.  cp leaves its bytes in memory; ours are made durable.  So the time
of our fsync is not in "s" and "x cp"; "x cp+fsync" has it on both sides.
"""
from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from moonraker_components.power_loss_recovery import files
from moonraker_components.power_loss_recovery.gcode.extent import Extent
from moonraker_components.power_loss_recovery.gcode.rewriter import fingerprint, write
from moonraker_components.power_loss_recovery.gcode.scan import scan
from moonraker_components.power_loss_recovery.offline import offline
from moonraker_components.power_loss_recovery.readers import beside
from tests.bench import big_gcode
from tests.bench.scan import (
    MAX_BLOCKED,
    MAX_GROWTH,
    MAX_MEMORY,
    TICK,
    anonymous,
    copy_speed,
)

SHARE = 0.5
MAX_RATIO = 1.1
JOBS = ("write", "plr", "part", "component")


def cut_of(path: Path) -> int:
    with open(path, "rb") as f:
        f.seek(int(os.path.getsize(path) * SHARE))
        f.readline()
        return f.tell()


def make(path: Path, out: Path, job: str) -> None:
    position = cut_of(path)
    if job == "plr":
        place = files.Place(position=position)
        offline.resume_file(offline.Asked(path, place, out))
        return
    if job == "part":
        with files.mapped(path) as (f, data), beside(f) as readers:
            head = scan(data, position, Extent(data, helpers=readers))
        files.setup(path, head)
    elif job == "component":
        head, _, _ = files.examine(path, position)
        files.setup(path, head)
    with open(path, "rb") as f:
        size = os.path.getsize(path)
        write(
            f, out, original=path.name, original_size=size,
            original_fingerprint=fingerprint(f, size), header_end=0,
            file_position=position, prologue=[b"M83 ; relative filament"],
        )  # fmt: skip


async def measure(path: Path, job: str) -> dict[str, float]:
    out, synced, fsync = path.with_suffix(".resume"), 0.0, os.fsync

    def timed(fd: int) -> None:
        nonlocal synced
        begin = time.perf_counter()
        fsync(fd)
        synced += time.perf_counter() - begin

    os.fsync = timed  # type: ignore[assignment]
    before, peak, blocked, ticks = anonymous(), 0.0, 0.0, 0
    begin = time.perf_counter()
    work = asyncio.create_task(asyncio.to_thread(make, path, out, job))
    while not work.done():
        woken = time.perf_counter()
        await asyncio.sleep(TICK)
        blocked = max(blocked, time.perf_counter() - woken - TICK)
        ticks += 1
        if ticks % 8 == 0:
            peak = max(peak, anonymous())
    await work
    seconds = time.perf_counter() - begin - synced
    out.unlink()
    return {
        "seconds": seconds, "fsync": synced, "blocked": blocked * 1000.0,
        "memory": max(peak, anonymous()) - before,
    }  # fmt: skip


def best(path: Path, job: str, repeat: int) -> dict[str, float]:
    runs = []
    for _ in range(repeat):
        command = [sys.executable, "-m", __spec__.name, "--one", str(path), job]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout))
    found = {key: min(run[key] for run in runs) for key in runs[0]}
    return {**found, "memory": max(run["memory"] for run in runs)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 500, 2000])
    parser.add_argument("--dialects", nargs="+", default=["orca", "prusa"])
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(asyncio.run(measure(Path(options.one[0]), options.one[1]))))
        return 0
    print("| file | what | s | x cp | x cp+fsync | memory MB | loop blocked ms |")
    print("|---|---|---|---|---|---|---|")
    missed = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for dialect in options.dialects:
            slowness: dict[str, list[float]] = {job: [] for job in JOBS}
            for size in options.sizes:
                path = Path(folder) / f"{dialect}_{size}.gcode"
                big_gcode.write(path, size * 1_000_000, dialect)
                length = os.path.getsize(path)
                copied = length / copy_speed(path, options.repeat) / 1e6
                durable = length / copy_speed(path, options.repeat, True) / 1e6
                for job, slow in slowness.items():
                    run = best(path, job, options.repeat)
                    ratio = run["seconds"] / copied
                    whole = run["seconds"] + run["fsync"]
                    print(
                        f"| {dialect} {size} MB | {job} | {run['seconds']:.3f} |"
                        f" {ratio:.2f} | {whole / durable:.2f} | {run['memory']:.1f} |"
                        f" {run['blocked']:.1f} |",
                        flush=True,
                    )
                    what = f"{job} of {dialect} {size} MB"
                    if run["memory"] > MAX_MEMORY:
                        missed.append(f"{what}: {run['memory']:.0f} MB of memory")
                    if run["blocked"] > MAX_BLOCKED:
                        missed.append(f"{what}: loop blocked {run['blocked']:.0f} ms")
                    if ratio > MAX_RATIO and size >= 500:
                        missed.append(f"{what}: {ratio:.2f} x cp")
                    slow.append(run["seconds"] / length)
                path.unlink()
            missed += [
                f"{job} of {dialect}: {slow[-1] / slow[0]:.1f} x as long for each byte"
                for job, slow in slowness.items() if slow[-1] > slow[0] * MAX_GROWTH
            ]  # fmt: skip
    print(
        f"\nasked: at most {MAX_RATIO} x cp from 500 MB on, {MAX_MEMORY:.0f} MB,"
        f" {MAX_BLOCKED:.0f} ms, and {MAX_GROWTH} x as long for each byte of the"
        " largest file"
    )
    print("\n".join(["missed:", *missed]) if missed else "all as wanted")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
