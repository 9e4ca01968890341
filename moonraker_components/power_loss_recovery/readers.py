# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Other processes that look through parts of a long file at the same time.

Python searches with one core, however many threads it has.  These get the open file,
not its name, and tell no more than what is in the bytes: see gcode/pieces.py.  Whatever
becomes of them, the caller finds the same by itself.
"""
from __future__ import annotations

import fcntl
import logging
import marshal
import mmap
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from .gcode.errors import ScanError
from .gcode.pieces import Digest, Limits, digest, own
from .gcode.text import WINDOW

# Of a shorter file the caller is done before they have begun.
SHORTEST = 1 << 27
# klippy wants a core to itself.
MOST = 2
_NICE = 10
# Seconds.  A thread that asks the kernel something each millisecond gives Python's lock
# away so shortly that another one, which wakes up for it, never gets it.
_WORK, _REST = 0.005, 0.0002
_PIPE = 1 << 20
_LENGTH = struct.Struct("<I")
_MAIN = (
    "import sys; sys.path.insert(0, sys.argv[1])\n"
    "from power_loss_recovery.readers import main; main(int(sys.argv[2]))"
)


class Reader:
    """A Helper, see gcode/pieces.py; `f` is open as long as this is."""

    def __init__(self, f: BinaryIO, window: int = WINDOW) -> None:
        folder = str(Path(__file__).resolve().parent.parent)
        descriptor = f.fileno()
        self._window = window
        self._gone = False
        self._rest_at = 0.0
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _MAIN, folder, str(descriptor)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            pass_fds=(descriptor,), bufsize=0,
        )  # fmt: skip
        asked, answers = self.process.stdin, self.process.stdout
        assert asked is not None and answers is not None
        self._asked, self._answers = asked, answers
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)
        # So that it need not wait until it is listened to; else it does.
        with suppress(OSError):
            fcntl.fcntl(self._answers, fcntl.F_SETPIPE_SZ, _PIPE)

    def ask(self, start: int, end: int, limits: Limits | None) -> None:
        if self._gone:
            return
        try:
            _put(self._asked, (start, end, limits, self._window))
        except OSError as e:
            self._lost(e)

    def ready(self) -> bool:
        if time.monotonic() >= self._rest_at:
            time.sleep(_REST)
            self._rest_at = time.monotonic() + _WORK
        return self._gone or bool(self._poll.poll(0))

    def next(self) -> Digest | None:
        if self._gone:
            return None
        try:
            found = _get(self._answers)
        except (OSError, EOFError, ValueError, TypeError) as e:
            self._lost(e)
            return None
        return None if found is None else Digest(*found)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._asked.close()
        self._answers.close()

    def _lost(self, error: Exception) -> None:
        self._gone = True
        logging.info(f"power_loss_recovery: a reader has ended: {error!r}")


@contextmanager
def beside(f: BinaryIO) -> Iterator[list[Reader]]:
    """As many as this machine has cores for; none for a short file."""
    found: list[Reader] = []
    with ExitStack() as stack:
        if os.fstat(f.fileno()).st_size >= SHORTEST:
            for _ in range(min(MOST, len(os.sched_getaffinity(0)) - 1)):
                try:
                    found.append(Reader(f))
                except OSError as e:
                    # No memory for it: it takes longer.
                    logging.info(f"power_loss_recovery: no second reader: {e}")
                    break
                stack.callback(found[-1].close)
        yield found


def main(descriptor: int) -> None:
    """Answer until nobody asks any more."""
    # Only what nobody else wants: a caller who is made to wait by this keeps
    # Python's lock, and all of Moonraker waits with him.
    os.nice(_NICE)
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
        while True:
            try:
                start, end, limits, window = _get(asked)
            except EOFError:
                return
            try:
                for piece in own(data, start, end, window):
                    _put(answers, tuple(digest(piece, limits)))
            except ScanError:
                pass  # The caller finds it where it is, and says so.
            _put(answers, None)


def _put(pipe: IO[bytes], what: Any) -> None:
    text = marshal.dumps(what)
    pipe.write(_LENGTH.pack(len(text)) + text)
    pipe.flush()


def _get(pipe: IO[bytes]) -> Any:
    """Raises EOFError where the other end has gone."""
    (length,) = _LENGTH.unpack(_read(pipe, _LENGTH.size))
    return marshal.loads(_read(pipe, length))


def _read(pipe: IO[bytes], length: int) -> bytes:
    found = b""
    while len(found) < length:
        more = pipe.read(length - len(found))
        if not more:
            raise EOFError
        found += more
    return found
