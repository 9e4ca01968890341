# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a bug report needs, in one file, without secrets.  Blocking calls."""
from __future__ import annotations

import contextlib
import json
import os
import platform
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from . import checkup_host
from .redact import redact

TAIL = 2 << 20  # bytes of a log
JOURNAL_MAX = 4 << 20
LOGS = ("klippy.log", "moonraker.log")
CONFIGS = ("printer.cfg", "moonraker.conf")
ABOUT = """\
Made by scripts/plr bundle for a bug report of power loss recovery.

doctor.txt   what the doctor found          status.json  what our API answered
config/      configuration, what looks like a password or a key is taken out
logs/        the ends of the logs, the same taken out
plr/         the journal and what lies beside it: names of prints, lines of G-code
host.txt     the host

Look through it before you give it to others.
"""


def write(
    out: Path, data: Path, journal: Path, doctor: Iterable[str],
    told: Mapping[str, Any],
) -> list[str]:  # fmt: skip
    """Returns the names of what is in it.  `out` must not exist.  told: answers of the
    API by name.  Raises OSError."""
    with zipfile.ZipFile(out, "x", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("README.txt", ABOUT)
        bundle.writestr("doctor.txt", redact("\n".join(doctor)) + "\n")
        status = json.dumps(told, indent=1, sort_keys=True, default=str)
        bundle.writestr("status.json", redact(status) + "\n")
        bundle.writestr("host.txt", "\n".join(_host(data, journal)) + "\n")
        for name, text in _configs(data / "config"):
            bundle.writestr(name, text)
        for log in LOGS:
            path = data / "logs" / log
            if path.is_file():
                bundle.writestr(f"logs/{log}", redact(_tail(path)))
        for path in _beside(journal):
            # It is being written to: what it is now, whole or not, is what counts.
            with contextlib.suppress(OSError):
                bundle.writestr(f"plr/{path.name}", path.read_bytes())
        return bundle.namelist()


def _tail(path: Path) -> str:
    with path.open("rb") as f:
        size = f.seek(0, os.SEEK_END)
        f.seek(max(size - TAIL, 0))
        data = f.read()
    if size > TAIL:
        # The first line may have lost the name of its secret.
        data = data.partition(b"\n")[2]
    return data.decode("utf-8", "replace")


def _configs(folder: Path) -> Iterator[tuple[str, str]]:
    done: set[str] = set()
    for top in CONFIGS:
        if not (folder / top).is_file():
            continue
        for path in checkup_host.config(folder / top).files:
            if path in done or "secret" in os.path.basename(path).lower():
                continue
            done.add(path)
            inside = os.path.relpath(path, folder)
            name = inside.replace("../", "") if inside.startswith("..") else inside
            text = checkup_host.FILES.read(path) or ""
            yield f"config/{name}", redact(text.encode("utf-8", "replace").decode())


def _beside(journal: Path) -> list[Path]:
    if not journal.parent.is_dir() or str(journal).startswith(("/dev/", "/sys/")):
        return []
    return sorted(
        path for path in journal.parent.iterdir()
        if path.is_file() and not path.is_symlink()
        and path.suffix not in (".gcode", ".cfg", ".conf")
        and path.stat().st_size <= JOURNAL_MAX
    )  # fmt: skip


def _host(data: Path, journal: Path) -> Iterator[str]:
    yield f"{platform.platform()}, Python {platform.python_version()}"
    disk = checkup_host.where(str(journal))
    yield f"journal: {disk.kind} {','.join(sorted(disk.options))}"
    for name in ("gcodes", "plr"):
        yield f"free in {name}: {checkup_host.free(str(data / name))} bytes"
    for path in ("/etc/os-release", "/proc/cpuinfo", "/proc/meminfo"):
        with contextlib.suppress(OSError):
            lines = Path(path).read_text().splitlines()
            yield from (line for line in lines if line.startswith(
                ("PRETTY_NAME", "Model", "MemTotal", "MemAvailable")))  # fmt: skip
    for key, value in vars(checkup_host.clock()).items():
        yield f"clock {key}: {value}"
