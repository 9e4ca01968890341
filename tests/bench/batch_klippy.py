# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""klippy without a board: prints a file from the virtual SD card as fast as it can."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.virtual_printer.klippy_api import Klippy
from tests.virtual_printer.klippy_tree import REPO, KlippyTree, prepare
from tests.virtual_printer.mcu_core import DICTIONARY
from tests.virtual_printer.printer import PrinterError
from tests.virtual_printer.variants import VORON_24

# A way to have all steps made: the next print would have to do it.  And a second of
# this clock is twenty minutes of printing: settings are looked at more often.
MORE_CONFIG = "\n[force_move]\nenable_force_move: True\n"
OURS = "\n[power_loss_recovery]\nmark_interval: 0.05\n"
FLUSH = "SET_KINEMATIC_POSITION X=100 Y=100 Z=100"
WATCHED = Path(__file__).with_name("watched_klippy.py")
PERIOD = 0.05  # s between two looks whether it is over
TIMEOUT = 600.0


def without_extra(config: str) -> str:
    """printer.cfg or moonraker.conf with nothing of ours in it."""
    config = re.sub(r"(?m)^\[include .*power_loss_recovery\.cfg\]\n", "", config)
    return re.sub(r"(?ms)^\[power_loss_recovery\]\n.*?(?=^\[|\Z)", "", config)


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process, also of those that have ended; in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def thread_seconds(pid: int) -> float:
    """Of all threads that a process has; exact."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in threads) / 1e9


@dataclass(frozen=True)
class WatchedTree(KlippyTree):
    """count: have the lookahead queue watched.  clock: "own" or "following"; see
    watched_klippy.py."""

    count: bool
    clock: str

    def command(self) -> list[str]:
        klippy = self.root / "klippy"
        folder, package, start = self.root, "klippy.", "klippy"
        if (klippy / "printer.py").exists():
            start = "printer"
        elif not self.is_package:
            folder, package = klippy, ""
        python, count = super().command()[0], "count" if self.count else "no"
        return [python, str(WATCHED), str(folder), package, start, count, self.clock]


def watched(
    count: bool = True, clock: str = "own", others: Sequence[Path] = ()
) -> WatchedTree:
    tree = prepare(others=others)
    return WatchedTree(tree.root, tree.name, tree.is_package, count, clock)


class BatchKlippy:
    """A klippy whose board is a file; what it would send goes nowhere."""

    others: tuple[Path, ...] = ()  # extras beside ours

    def __init__(self, gcode: Path, extra: bool, count: bool = False) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="plr-batch-"))
        self.uds = self.root / "klippy.sock"
        self.name = "bench.gcode"
        self.extra = extra
        (self.root / "gcodes").mkdir()
        shutil.copyfile(gcode, self.root / "gcodes" / self.name)
        (self.root / "printer.cfg").write_text(self._config(extra))
        (self.root / "dict").write_bytes(zlib.decompress(DICTIONARY.blob))
        tree = watched(count, "following", self.others)
        with open(self.root / "out", "wb") as out:
            self.process = subprocess.Popen(
                [*tree.command(), str(self.root / "printer.cfg"),
                 "-I", str(self.root / "tty"), "-o", os.devnull, "-d",
                 str(self.root / "dict"), "-a", str(self.uds),
                 "-l", str(self.root / "klippy.log")],
                cwd=tree.root, env=dict(os.environ, PYTHONPATH=str(tree.root)),
                stdout=out, stderr=out,
            )  # fmt: skip
        host: Any = SimpleNamespace(uds=self.uds)
        try:
            self.api = Klippy(host)
        except PrinterError:
            self._end()
            raise

    def __enter__(self) -> BatchKlippy:
        return self

    def __exit__(self, *exc: object) -> None:
        self.api.close()
        self._end()

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.root)

    def _config(self, extra: bool) -> str:
        text = VORON_24.printer_cfg()
        for key, value in (
            ("PORT", "/dev/null"),
            ("GCODES", str(self.root / "gcodes")),
            ("MACROS", str(REPO / "macros" / "power_loss_recovery.cfg")),
            ("VARIABLES", str(self.root / "variables.cfg")),
        ):
            text = text.replace("{" + key + "}", value)
        return (text + OURS if extra else without_extra(text)) + MORE_CONFIG

    def print_cpu(self, asked: Sequence[str] = ()) -> float:
        """Print the file once, to the last step; returns seconds of CPU.

        asked: objects whose status is asked for all the time.
        """
        before = thread_seconds(self.process.pid)
        self.print_file(asked)
        self.api.gcode(FLUSH)
        took = thread_seconds(self.process.pid) - before
        self._check()
        return took

    def print_file(self, asked: Sequence[str] = (), until: str = "complete") -> None:
        """asked, until: as for wait_printed()."""
        self.api.gcode(f"SDCARD_PRINT_FILE FILENAME={self.name}")
        self.wait_printed(asked, until)

    def wait_printed(
        self, asked: Sequence[str] = (), until: str = "complete"
    ) -> None:
        """Until all lines are read, or those up to a pause."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            stats = self.api.objects("print_stats", *asked)["print_stats"]
            if stats["state"] == until:
                return
            if stats["state"] not in ("printing", "standby"):
                raise PrinterError(f"the print ended: {stats}")
            time.sleep(PERIOD)
        raise PrinterError(f"not printed within {TIMEOUT:.0f} s")

    def mark(self) -> dict[str, Any]:
        told = self.api.objects("power_loss_recovery")["power_loss_recovery"]
        assert told["trouble"] == ""
        return told["mark"]

    def _check(self) -> None:
        """Ours, if it is there, has followed the print to its last moves."""
        if not self.extra:
            return
        ours = self.api.objects("power_loss_recovery")["power_loss_recovery"]
        mark, size = ours["mark"], (self.root / "gcodes" / self.name).stat().st_size
        if ours["trouble"] or not mark or mark["file_position"] < size * 0.9:
            raise PrinterError(f"the extra does not follow the print: {ours}")
