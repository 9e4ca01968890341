# A klippy that carries our extra, made from any Klipper or Kalico tree
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The tree under test is never written to: klippy is copied into the checkout's
cache, once for each state of the tree, and our extra is linked into the copy as
`scripts/install.sh` would link it into the real one.
"""
from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
EXTRA = REPO / "klippy_extras" / "power_loss_recovery"


@dataclass(frozen=True)
class KlippyTree:
    """A runnable klippy.  `name` tells a person which one it is."""

    root: Path
    name: str
    is_package: bool

    def command(self) -> list[str]:
        python = os.environ.get("PLR_KLIPPY_PYTHON", sys.executable)
        if self.is_package:
            return [python, "-c", "from klippy.klippy import main; main()"]
        return [python, str(self.root / "klippy" / "klippy.py")]


def prepare(
    source: Path | None = None, extra: Path = EXTRA, others: Sequence[Path] = ()
) -> KlippyTree:
    """Copy klippy from `source` (default: $PLR_KLIPPER_PATH) and link our extra.

    others: files or folders that are linked beside it.
    """
    given = source or os.environ.get("PLR_KLIPPER_PATH")
    if not given:
        raise FileNotFoundError("No Klipper is set up: run scripts/test or demo")
    source = Path(given).resolve()
    klippy = source / "klippy"
    if not (klippy / "klippy.py").exists():
        raise FileNotFoundError(
            f"No Klipper in {source}: expected {klippy / 'klippy.py'}. "
            "Give the top folder of a Klipper or Kalico checkout."
        )
    files = sorted(
        (str(p.relative_to(klippy)), p.stat().st_mtime_ns, p.stat().st_size)
        for p in klippy.rglob("*")
        if p.suffix in (".py", ".c", ".h") and "__pycache__" not in p.parts
    )
    linked = [str(path) for path in (extra, *others)]
    digest = hashlib.sha256(repr((str(source), *linked, files)).encode())
    # Only PyPI's package has relative imports there: it cannot run as a script.
    is_package = "from . import" in (klippy / "klippy.py").read_text()
    root = REPO / ".cache" / "trees" / digest.hexdigest()[:16]
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / ".ready").exists():
            _copy(klippy, root / "klippy", (extra, *others))
            _build_helper(root, is_package)
            (root / ".ready").touch()
    return KlippyTree(root, source.name, is_package)


def _build_helper(root: Path, is_package: bool) -> None:
    """klippy's C code, now and once, and not at the first start of several."""
    package = "klippy.chelper" if (is_package or _is_kalico(root)) else "chelper"
    path = root if "." in package else root / "klippy"
    subprocess.run(
        [os.environ.get("PLR_KLIPPY_PYTHON", sys.executable), "-c",
         f"import {package} as c; c.get_ffi()"],
        cwd=path, env=dict(os.environ, PYTHONPATH=str(path)), check=True,
        capture_output=True,
    )  # fmt: skip


def _is_kalico(root: Path) -> bool:
    return (root / "klippy" / "printer.py").exists()


def _copy(klippy: Path, target: Path, linked: Sequence[Path]) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(klippy, target, ignore=shutil.ignore_patterns("__pycache__"))
    plugins = target / "plugins"
    folder = plugins if plugins.is_dir() else target / "extras"
    for path in linked:
        link = folder / path.name
        if link.is_symlink() or link.exists():
            raise FileExistsError(f"{klippy} already has {path.name} in {folder.name}")
        link.symlink_to(path)
