# A disk that forgets what was never synced, as a file system of its own
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Whatever is done below `data`, by any program in any way, passes through FUSE.

Needs mfusepy (from PyPI), libfuse and the right to mount. Beyond what disk.py says:
msync makes the whole file durable, since FUSE is not told the range; sync() and
syncfs() do not reach a FUSE file system at all.
"""
from __future__ import annotations

import contextlib
import functools
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .disk import ForgetfulDisk
from .forgetful import DiskUnavailable

DEVICE = Path("/dev/fuse")
SERVER = Path(__file__).with_name("fuse_server.py")
TIMEOUT = 20.0


class FuseDisk(ForgetfulDisk):
    """Mounted on `data`; what is in that folder already moves to the disk.

    Raises DiskUnavailable where nothing can be mounted; the message says why.
    slow: syncs of files whose path below `data` begins with the first of these take
    as many seconds as the second says.
    """

    slow: tuple[str, float] = ("", 0.0)

    def __init__(self, root: Path, data: Path, pythons: Sequence[str] = ()) -> None:
        """`pythons` are of no interest: here any program is on the disk."""
        content = root / "platter"
        if not DEVICE.exists():
            raise DiskUnavailable(f"no FUSE: {DEVICE} is not there")
        data.rename(content)
        data.mkdir()
        super().__init__(root, data, content)
        self._errors = tempfile.TemporaryFile()
        self._server = subprocess.Popen(
            [sys.executable, str(SERVER), str(self.data), str(self.content),
             str(self.store), *map(str, self.slow)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            start_new_session=True,
        )  # fmt: skip
        try:
            self._ask("mount")
        except DiskUnavailable:
            self.close()
            data.rmdir()
            content.rename(data)
            raise

    def power_lost(self, seed: int) -> None:
        # What the kernel still has of mapped files goes as well.
        self._ask("unmount")
        super().power_lost(seed)
        self._ask("mount")

    def close(self) -> None:
        """Unmount; again, and nothing happens."""
        assert self._server.stdin is not None and self._server.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._server.stdin.close()
        self._server.wait(TIMEOUT)
        self._server.stdout.close()
        self._errors.close()

    def _ask(self, command: str) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        try:
            self._server.stdin.write(command.encode() + b"\n")
            self._server.stdin.flush()
            ready = select.select([self._server.stdout], [], [], TIMEOUT)[0]
            answer = self._server.stdout.readline() if ready else b""
        except BrokenPipeError:
            answer = b""
        if answer.decode().strip() != command + "ed":
            self._errors.seek(0)
            lines = self._errors.read().decode().split("\n")
            reason = next((line for line in reversed(lines) if line.strip()), "")
            raise DiskUnavailable(
                f"no FUSE: cannot {command}: {reason.strip() or 'no answer'}"
            )


@functools.cache
def why_not() -> str:
    """Why there can be no FuseDisk here; empty where there can be one."""
    folder = Path(tempfile.mkdtemp(prefix="plr-fuse-"))
    try:
        (folder / "data").mkdir()
        disk = FuseDisk(folder, folder / "data")
    except DiskUnavailable as e:
        return str(e)
    else:
        mounted = os.path.ismount(disk.data)
        disk.close()
        return "" if mounted else "no FUSE: mounted, but not there"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
