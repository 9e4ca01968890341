# The process behind a mounted file system that writes down what was synced
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A FUSE file system that shows one folder in another place.

    python fuse_server.py MOUNT_POINT CONTENT STORE [SLOW SECONDS]

Each call is done in CONTENT and then written down in STORE/log, copies of what was
synced beside it, in the form that forgetful_log.c describes; without a log nothing
is written down. Lines on stdin, "mount" and "unmount", are answered by "mounted"
and "unmounted" once it is so. It ends when stdin does. A sync of a file whose path
begins with SLOW takes SECONDS, in which the power may be cut.

A call that changes something and its record are one. The kernel passes on each
write() at once, a mapped page when it is synced or its program ends, and takes what
it has cached along when it unmounts.
"""
from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import queue
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mfusepy

STAT_FIELDS = (
    "st_mode", "st_ino", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks",
)  # fmt: skip
STATVFS_FIELDS = (
    "f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files",
    "f_frsize", "f_namemax",
)  # fmt: skip
# Seen to by the kernel, or here.
NOT_PASSED_ON = os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_DIRECT


class Log:
    """The records of what was done."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._numbers = itertools.count()

    def record(
        self, kind: str, stamp: int, inode: int, place: tuple[int, str],
        number: int = 0, place2: tuple[int, str] = (0, ""), copy: str = "",
    ) -> None:  # fmt: skip
        fields = (kind, stamp, inode, *place, *place2, number, copy)
        data = b"".join(os.fsencode(str(field)) + b"\0" for field in fields)
        # Not there: the power is off.
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(self.store / "log", os.O_WRONLY | os.O_APPEND)
            try:
                os.write(fd, data)
            finally:
                os.close(fd)

    def copy(self, stamp: int, data: bytes, times: tuple[int, int]) -> str:
        name = f"{stamp}.{next(self._numbers)}"
        path = self.store / "copies" / name
        with contextlib.suppress(FileNotFoundError):
            path.write_bytes(data)
            os.utime(path, ns=times)
        return name

    def keep(self, path: str) -> None:
        """Before a name is taken from what it stands for."""
        try:
            info = os.lstat(path)
        except FileNotFoundError:
            return
        if stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode):
            target = self.store / "keep" / str(info.st_ino)
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                os.link(path, target, follow_symlinks=False)


def is_killed(thread: int) -> bool:
    """Whether a thread has SIGKILL waiting; it goes no further than its call."""
    try:
        status = Path(f"/proc/{thread}/status").read_text()
    except OSError:
        return True
    masks = [
        int(line.split()[1], 16)
        for line in status.splitlines()
        if line.startswith(("SigPnd:", "ShdPnd:"))
    ]
    return any(mask >> (signal.SIGKILL - 1) & 1 for mask in masks)


def alone(method: Callable[..., int]) -> Callable[..., int]:
    """One at a time."""

    @functools.wraps(method)
    def wrapped(self: Mirror, *args: Any) -> int:
        with self.one:
            return method(self, *args)

    return wrapped


class Mirror(mfusepy.Operations):
    """`content`, with all that is done to it in the log."""

    use_ns = True

    def __init__(self, content: str, log: Log, slow: str, seconds: float) -> None:
        self.content = content
        self.log = log
        self.slow = slow
        self.seconds = seconds
        self.one = threading.RLock()

    def init(self, path: str) -> None:
        print("mounted", flush=True)

    def _real(self, path: str) -> str:
        return self.content + path

    def _place(self, path: str | None) -> tuple[int, str]:
        if path is None:
            return 0, ""
        folder, name = os.path.split(self._real(path))
        return os.stat(folder).st_ino, name

    def _name(self, kind: str, path: str) -> None:
        info = os.lstat(self._real(path))
        self.log.record(
            kind, time.monotonic_ns(), info.st_ino, self._place(path), info.st_mode
        )

    # What changes nothing

    def access(self, path: str, amode: int) -> int:
        if not os.access(self._real(path), amode):
            raise mfusepy.FuseOSError(errno.EACCES)
        return 0

    def getattr(self, path: str | None, fh: int | None = None) -> dict[str, Any]:
        info = os.lstat(self._real(path)) if path is not None else os.fstat(fh or -1)
        found = {key: getattr(info, key) for key in STAT_FIELDS}
        for key in ("st_atime", "st_mtime", "st_ctime"):
            found[key] = getattr(info, key + "_ns")
        return found

    def readdir(self, path: str, fh: int) -> Iterator[Any]:
        for name in (".", ".."):
            yield name, {"st_mode": stat.S_IFDIR}, 0
        for item in os.scandir(self._real(path)):
            mode = item.stat(follow_symlinks=False).st_mode
            yield item.name, {"st_mode": mode, "st_ino": item.inode()}, 0

    def readlink(self, path: str) -> str:
        return os.readlink(self._real(path))

    def statfs(self, path: str) -> dict[str, int]:
        info = os.statvfs(self._real(path))
        return {key: getattr(info, key) for key in STATVFS_FIELDS}

    def read(self, path: str | None, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    # What no cut is asked about

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self._real(path), mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        os.lchown(self._real(path), uid, gid)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        os.utime(self._real(path), ns=times, follow_symlinks=False)
        return 0

    def mknod(self, path: str, mode: int, dev: int) -> int:
        os.mknod(self._real(path), mode, dev)
        return 0

    # Open files

    def open(self, path: str, flags: int) -> int:
        if flags & os.O_TRUNC:
            self.truncate(path, 0)
        flags &= ~NOT_PASSED_ON
        if flags & os.O_ACCMODE == os.O_WRONLY:
            # A sync copies what there is.
            flags += os.O_RDWR - os.O_WRONLY
        return os.open(self._real(path), flags)

    @alone
    def create(self, path: str, mode: int, fi: Any = None) -> int:
        fd = os.open(self._real(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        self._name("C", path)
        return fd

    def release(self, path: str | None, fh: int) -> int:
        os.close(fh)
        return 0

    @alone
    def write(self, path: str | None, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    @alone
    def truncate(self, path: str | None, length: int, fh: int | None = None) -> int:
        if path is None and fh is None:
            # mfusepy does not say which open file without a name it is.
            raise mfusepy.FuseOSError(errno.EOPNOTSUPP)
        real: str | int = self._real(path) if path is not None else fh or -1
        os.truncate(real, length)
        inode = os.stat(real).st_ino
        stamp = time.monotonic_ns()
        self.log.record("T", stamp, inode, self._place(path), length)
        return 0

    def fsync(self, path: str | None, datasync: int, fh: int) -> int:
        with self.one:
            stamp, info = time.monotonic_ns(), os.fstat(fh)
            data = os.pread(fh, info.st_size, 0)
        if self.slow and (path or "").startswith(self.slow):
            time.sleep(self.seconds)
        if is_killed(mfusepy.fuse_get_context()[2]):
            # It never hears of it: the cut came before the sync was done.
            raise mfusepy.FuseOSError(errno.EIO)
        with self.one:
            copy = self.log.copy(stamp, data, (info.st_atime_ns, info.st_mtime_ns))
            self.log.record("F", stamp, info.st_ino, self._place(path), copy=copy)
        return 0

    @alone
    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        stamp, info, listing = time.monotonic_ns(), os.stat(self._real(path)), b""
        for item in os.scandir(self._real(path)):
            mode = item.stat(follow_symlinks=False).st_mode
            fields = (item.inode(), mode, item.name)
            listing += b"".join(os.fsencode(str(f)) + b"\0" for f in fields)
        copy = self.log.copy(stamp, listing, (info.st_atime_ns, info.st_mtime_ns))
        place = (0, "") if path == "/" else self._place(path)
        self.log.record("D", stamp, info.st_ino, place, copy=copy)
        return 0

    # Names

    @alone
    def mkdir(self, path: str, mode: int) -> int:
        os.mkdir(self._real(path), mode)
        self._name("C", path)
        return 0

    @alone
    def symlink(self, target: str, source: str) -> int:
        os.symlink(source, self._real(target))
        self._name("C", target)
        return 0

    @alone
    def link(self, target: str, source: str) -> int:
        os.link(self._real(source), self._real(target), follow_symlinks=False)
        self._name("L", target)
        return 0

    @alone
    def unlink(self, path: str) -> int:
        return self._remove(path, os.unlink)

    @alone
    def rmdir(self, path: str) -> int:
        return self._remove(path, os.rmdir)

    def _remove(self, path: str, remove: Any) -> int:
        real = self._real(path)
        info = os.lstat(real)
        self.log.keep(real)
        remove(real)
        stamp, place = time.monotonic_ns(), self._place(path)
        if not stat.S_ISSOCK(info.st_mode):
            self.log.record("U", stamp, info.st_ino, place, info.st_mode)
        return 0

    @alone
    def rename(self, old: str, new: str) -> int:
        info, place = os.lstat(self._real(old)), self._place(old)
        self.log.keep(self._real(new))
        os.rename(self._real(old), self._real(new))
        stamp = time.monotonic_ns()
        self.log.record(
            "R", stamp, info.st_ino, place, info.st_mode, self._place(new)
        )
        return 0


def listen(commands: queue.Queue[str]) -> None:
    """Ends the mount that is there at "unmount", and at the end of stdin."""
    main = threading.main_thread().ident
    assert main is not None
    for line in itertools.chain(sys.stdin, ["end"]):
        commands.put(line.strip())
        if line.strip() != "mount":
            # To libfuse's own handler while something is mounted; else it just ends.
            signal.pthread_kill(main, signal.SIGTERM)


def main() -> None:
    mount_point, content, store, *rest = sys.argv[1:]
    slow, seconds = rest or ("", "0")
    commands: queue.Queue[str] = queue.Queue()
    threading.Thread(target=listen, args=(commands,), daemon=True).start()
    while commands.get() == "mount":
        try:
            mfusepy.FUSE(
                Mirror(content, Log(Path(store)), slow, float(seconds)), mount_point,
                foreground=True, use_ino=True, hard_remove=True, fsname="forgetful",
            )  # fmt: skip
        except RuntimeError as error:
            print(f"libfuse ended with status {error}", file=sys.stderr)
        if commands.get() == "end":
            return
        print("unmounted", flush=True)


if __name__ == "__main__":
    main()
