# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What one save costs, against what the disk can do and against other ways to save.

    python -m tests.bench.journal [--folder PATH] [--rounds N]

A save as Moonraker does it: in a worker thread. Each other way runs in the same
thread, on the same file system, in turn with it, with a record of the same size.
Durations are those of the thread's own call. Exit status 1 if a figure is missed.

Bytes are those that reach a loop device with an ext4 of its own, which takes root;
else those of /proc/self/io, where a kernel with large folios counts the whole folio
for each block of it: more than is written.
"""
from __future__ import annotations

import argparse
import os
import random
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from moonraker_components.power_loss_recovery.journal import Journal

from .block_device import NoDevice, mounted
from .ending import ended

SLOT = 4096
RECORD = 1400  # bytes of a usual mark
MAX_RATIO, MAX_BYTES = 1.3, 8192
WARM_UP = 10
JOB = b"J" * 16
OURS, BARE = "journal", "pwrite + fdatasync of 4 KiB"
SQLITE, RENAME = "SQLite WAL, synchronous=FULL", "write, fsync, rename, fsync(dir)"
Save = Callable[[bytes], object]
# In RAM nothing is synced: a ratio there would say nothing.
NO_DISK = ("tmpfs", "ramfs")


@contextmanager
def journal(folder: Path) -> Iterator[Save]:
    ours = Journal.open(str(folder / "journal"))
    ours.write_job(JOB, b"job")
    yield lambda record: ours.write_mark(JOB, record)
    ours.close()


@contextmanager
def bare(folder: Path) -> Iterator[Save]:
    """The slots of a file of the same size by turns, all written before."""
    fd = os.open(folder / "bare", os.O_RDWR | os.O_CREAT, 0o644)
    os.pwrite(fd, bytes(64 * SLOT), 0)
    os.fsync(fd)
    slots = iter(range(1 << 60))

    def save(record: bytes) -> None:
        os.pwrite(fd, record.ljust(SLOT, b"\0"), next(slots) % 64 * SLOT)
        os.fdatasync(fd)

    yield save
    os.close(fd)


@contextmanager
def sqlite(folder: Path) -> Iterator[Save]:
    database = sqlite3.connect(
        folder / "db", isolation_level=None, check_same_thread=False
    )
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=full")
    database.execute("create table state (id integer primary key, record blob)")
    yield lambda record: database.execute(
        "insert or replace into state values (1, ?)", (record,)
    )
    database.close()


@contextmanager
def rename(folder: Path) -> Iterator[Save]:
    def save(record: bytes) -> None:
        with open(folder / "new", "wb") as out:
            out.write(record)
            out.flush()
            os.fsync(out.fileno())
        os.replace(folder / "new", folder / "state")
        fd = os.open(folder, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    yield save


WAYS = {OURS: journal, BARE: bare, SQLITE: sqlite, RENAME: rename}


def dirtied() -> int:
    """Bytes that this process made dirty, as the kernel accounts for them."""
    text = Path("/proc/self/io").read_text()
    return int(text.split("write_bytes: ")[1].split()[0])


@contextmanager
def all_ways(folder: Path) -> Iterator[dict[str, Save]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(way(folder)) for name, way in WAYS.items()}


def measure(folder: Path, rounds: int, seed: int) -> dict[str, list[float]]:
    """Seconds of each save, by way; the order is shuffled anew in each round, so
    that noise hits all alike."""
    rng = random.Random(seed)
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}

    def timed(save: Save, record: bytes) -> float:
        started = time.perf_counter()
        save(record)
        return time.perf_counter() - started

    with ThreadPoolExecutor(1) as pool, all_ways(folder) as saves:
        for number in range(rounds + WARM_UP):
            record = rng.randbytes(RECORD)
            for name in rng.sample(list(saves), len(saves)):
                took = pool.submit(timed, saves[name], record).result()
                if number >= WARM_UP:
                    seconds[name].append(took)
    return seconds


def count_bytes(folder: Path, rounds: int, seed: int) -> tuple[str, dict[str, float]]:
    """Where they were counted, and bytes per save, by way."""
    try:
        with mounted(folder) as (place, written):
            return "block device", _bytes_of(place, written, rounds, seed)
    except NoDevice as e:
        where = f"/proc/self/io ({e})"
        return where, _bytes_of(folder, dirtied, rounds, seed)


def _bytes_of(
    folder: Path, written: Callable[[], int], rounds: int, seed: int
) -> dict[str, float]:
    rng, found = random.Random(seed), {}
    with all_ways(folder) as saves:
        for name, save in saves.items():
            for _ in range(WARM_UP):
                save(rng.randbytes(RECORD))
            before = written()
            for _ in range(rounds):
                save(rng.randbytes(RECORD))
            found[name] = (written() - before) / rounds
    return found


def file_system(folder: Path) -> str:
    done = subprocess.run(
        ["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    parser.add_argument("--rounds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    kind = file_system(args.folder)
    if kind in NO_DISK:
        print(f"{args.folder} is {kind}, which is no disk: give another --folder")
        return 2
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="plr-bench-") as folder:
        timing, counting = Path(folder) / "timing", Path(folder) / "counting"
        timing.mkdir()
        counting.mkdir()
        seconds = measure(timing, args.rounds, args.seed)
        where, sizes = count_bytes(counting, args.rounds, args.seed)
    ratios = {
        name: median(seconds[OURS]) / median(took) for name, took in seconds.items()
    }
    print(
        f"{args.rounds} saves of each, {RECORD} bytes, file system {kind};"
        f" bytes counted at: {where}\n\n{table(seconds, ratios, sizes)}"
    )
    good = (
        ratios[BARE] <= MAX_RATIO and ratios[SQLITE] < 1 and ratios[RENAME] < 1
        and 0 < sizes[OURS] <= MAX_BYTES
    )  # fmt: skip
    print(f"asked: {MAX_RATIO} of bare, below 1 of both others, {MAX_BYTES} bytes")
    return ended(good)


def table(
    seconds: dict[str, list[float]], ratios: dict[str, float], sizes: dict[str, float]
) -> str:
    lines = [
        "| one save | median us | p95 us | journal / this | bytes written |",
        "|---|---|---|---|---|",
    ]
    for name, took in seconds.items():
        p95 = sorted(took)[int(len(took) * 0.95)]
        lines.append(
            f"| {name} | {median(took) * 1e6:.0f} | {p95 * 1e6:.0f} |"
            f" {ratios[name]:.2f} | {sizes[name]:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
