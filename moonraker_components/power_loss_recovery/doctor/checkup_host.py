# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a doctor can see on the host itself: files, links, the disk, the clock.

Blocking calls.
"""
from __future__ import annotations

import glob
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ..calibration import mending
from ..store.journal_place import mount_of
from .findings import SECTION, Clock, Disk, Links
from .klipper_config import Config, Files, load

OURS = Path(__file__).resolve().parents[3]
MOUNTS = Path("/proc/self/mountinfo")
TIME_SYNC = Path("/run/systemd/timesync")
CLOCK_MODULES = Path("/sys/class/rtc")
BLOCK = 4096
PROBES = 5
PROBE_TIME = 3.0  # seconds: a disk that is slower has been seen
GIT_TIMEOUT = 10.0
MAX_CONFIG = 4 << 20


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            return f.read(MAX_CONFIG)
    except OSError:
        return None


def _find(pattern: str) -> list[str]:
    return [os.path.abspath(found) for found in glob.glob(pattern)]


FILES = Files(_read, _find)


def config(path: Path) -> Config:
    return load(os.path.abspath(path), FILES)


def expand(path: str) -> str:
    return os.path.expanduser(path)


def real(path: str) -> str:
    return os.path.realpath(expand(path))


def free(path: str) -> int | None:
    """Bytes that a program may still write there."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def where(path: str) -> Disk:
    """The disk below a file, without writing to it."""
    mounts = MOUNTS.read_text() if MOUNTS.exists() else ""
    mount = mount_of(path, mounts)
    return Disk(path, mount.kind, mount.volatile, mount.options)


def journal_disk(path: str) -> Disk:
    """The same, and what a save costs: some blocks are written beside the journal."""
    found = where(path)
    folder = os.path.dirname(path)
    if not found.kind or path.startswith(("/sys/", "/dev/")):
        return found  # a device of its own, which is not for trying
    latency, error = None, ""
    try:
        latency = _latency(folder)
    except OSError as e:
        error = e.strerror or str(e)
    return Disk(path, found.kind, found.volatile, found.options, free(folder), latency,
                error)  # fmt: skip


def _latency(folder: str) -> float:
    """Seconds for one synced block, the median.  Raises OSError."""
    fd, name = tempfile.mkstemp(prefix=".plr-check-", dir=folder)
    took: list[float] = []
    try:
        os.pwrite(fd, bytes(BLOCK * PROBES), 0)
        os.fsync(fd)
        for i in range(PROBES):
            start = time.monotonic()
            os.pwrite(fd, bytes([i + 1]) * BLOCK, i * BLOCK)
            os.fdatasync(fd)
            took.append(time.monotonic() - start)
            if sum(took) > PROBE_TIME:
                break
    finally:
        os.close(fd)
        os.unlink(name)
    return statistics.median(took)


def clock() -> Clock:
    synchronised = None
    if TIME_SYNC.exists():
        synchronised = (TIME_SYNC / "synchronized").exists()
    battery = CLOCK_MODULES.is_dir() and any(CLOCK_MODULES.iterdir())
    return Clock(time.time(), synchronised, battery)


def variables_problem(path: str) -> str:
    """Why klippy could not read its variables; nothing if it can."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return ""
    except OSError as e:
        return e.strerror or str(e)
    try:
        mending.parse(data)
    except ValueError as e:
        return " ".join(str(e).split())
    return ""


def components_folder(moonraker: str) -> str:
    """Of a checkout, of the package, or of a Python environment with it; or ""."""
    for pattern in ("moonraker/components", "components",
                    "lib/python3*/site-packages/moonraker/components"):  # fmt: skip
        found = sorted(glob.glob(os.path.join(glob.escape(moonraker), pattern)))
        if found:
            return found[-1]
    return ""


def links(klipper: str, moonraker: str) -> Links:
    """klipper, moonraker: their folders, empty if nobody knows them."""
    extras: dict[str, str] = {}
    older = ""
    for folder in ("extras", "plugins") if klipper else ():
        place = os.path.join(klipper, "klippy", folder, SECTION)
        if os.path.lexists(place):
            extras[place] = os.path.realpath(place) if os.path.exists(place) else ""
        if os.path.lexists(place + ".py"):
            older = place + ".py"
    components = components_folder(moonraker) if moonraker else ""
    component = os.path.join(components, SECTION) if components else ""
    if not os.path.lexists(component):
        component = ""
    module = os.path.join(component, "__init__.py")
    there = bool(component) and os.path.exists(module)
    return Links(
        klipper=klipper if os.path.isdir(os.path.join(klipper, "klippy")) else "",
        moonraker=components and moonraker,
        extras=extras,
        older=older,
        component=component,
        component_to=os.path.dirname(os.path.realpath(module)) if there else "",
        folder_link=bool(component) and os.path.islink(component),
        ours=str(OURS),
        dirty=_untracked(klipper, list(extras)),
    )


def _untracked(repository: str, paths: Sequence[str]) -> list[str]:
    if not paths or not os.path.exists(os.path.join(repository, ".git")):
        return []
    try:
        done = subprocess.run(
            ["git", "-C", repository, "status", "--porcelain", "--", *paths],
            capture_output=True, text=True, timeout=GIT_TIMEOUT,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line[3:] for line in done.stdout.splitlines() if line.startswith("??")]
