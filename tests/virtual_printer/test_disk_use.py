# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""SQLite on the forgetful disk, and the disk as the virtual printer uses it."""
from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import forgetful, fuse_disk
from .disk import Disk, DiskUnavailable, ForgetfulDisk, OrdinaryDisk, disk_for
from .disk_programs import KINDS, NEW, OLD, disk_of, left_on, need_disk, run


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    need_disk(request.param)
    return request.param


COMMITS = """
import sqlite3
c = sqlite3.connect('db', isolation_level=None)
c.execute('pragma journal_mode={}')
c.execute('pragma synchronous={}')
c.execute('create table t (n integer primary key, x blob)')
for n in range(8):
    c.execute('insert into t values (?, ?)', (n, bytes(5000)))
"""
# Writes to the database long before it would commit
UNFINISHED = """
c.execute('pragma cache_spill=1')
c.execute('pragma cache_size=2')
c.execute('begin')
for n in range(100, 120):
    c.execute('insert into t values (?, ?)', (n, bytes(5000)))
"""


def rows_after_cuts(
    kind: str, folder: Path, program: str, count: int = 10
) -> set[object]:
    """What SQLite finds: a number of rows that were committed, or "hurt"."""
    found: set[object] = set()
    for seed in range(count):
        data = folder / str(seed) / "data"
        data.mkdir(parents=True)
        with disk_of(kind, data) as disk:
            disk.power_on()
            run(disk, program)
            disk.power_lost(seed)
            found.add(rows_in(data / "db"))
    return found


def rows_in(path: Path) -> object:
    connection = sqlite3.connect(path)
    try:
        whole = connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        rows = [n for (n,) in connection.execute("select n from t order by n")]
        return len(rows) if whole and rows == [*range(len(rows))] else "hurt"
    except sqlite3.DatabaseError:
        return "hurt"
    finally:
        connection.close()


@pytest.mark.parametrize("journal", ["delete", "persist", "wal"])
def test_sqlite_keeps_what_was_committed_before_an_unfinished_transaction(
    tmp_path: Path, kind: str, journal: str
) -> None:
    program = COMMITS.format(journal, "full") + UNFINISHED
    assert rows_after_cuts(kind, tmp_path, program) == {8}


def test_sqlite_extra_keeps_the_last_commit(tmp_path: Path, kind: str) -> None:
    assert rows_after_cuts(kind, tmp_path, COMMITS.format("delete", "extra")) == {8}


def test_sqlite_full_may_undo_the_last_commit_and_no_other(
    tmp_path: Path, kind: str
) -> None:
    """It does not sync the folder after it removed the rollback journal, see
    https://sqlite.org/pragma.html#pragma_synchronous"""
    assert rows_after_cuts(kind, tmp_path, COMMITS.format("delete", "full")) == {7, 8}


def test_sqlite_that_does_not_sync_gets_hurt(tmp_path: Path, kind: str) -> None:
    program = COMMITS.format("delete", "off") + UNFINISHED
    assert "hurt" in rows_after_cuts(kind, tmp_path, program)


# The disk itself


@pytest.fixture
def disk(tmp_path: Path, kind: str) -> Iterator[ForgetfulDisk]:
    data = tmp_path / "disk" / "data"
    data.mkdir(parents=True)
    (data / "old").write_bytes(OLD)
    with disk_of(kind, data) as disk:
        disk.power_on()
        yield disk


def test_a_settled_file_is_kept_and_one_beside_it_is_not(disk: ForgetfulDisk) -> None:
    lost = set()
    for seed in range(8):
        folder = disk.data / f"gcodes{seed}"
        folder.mkdir()
        for name in ("settled", "beside"):
            (folder / name).write_bytes(NEW)
        disk.settle(folder / "settled")
        disk.power_lost(seed)
        assert (folder / "settled").read_bytes() == NEW
        beside = folder / "beside"
        lost.add(beside.read_bytes() if beside.exists() else None)
        disk.power_on()
    assert lost & {None, b""}


def test_what_is_there_at_power_on_is_durable(disk: ForgetfulDisk) -> None:
    disk.power_lost(0)
    (disk.data / "between").write_bytes(NEW)
    for seed in range(8):
        disk.power_on()
        disk.power_lost(seed)
    assert left_on(disk) == {"old": OLD, "between": NEW}


def test_a_synced_folder_keeps_names_that_others_made(disk: ForgetfulDisk) -> None:
    for seed in range(12):
        (disk.data / "beside").write_bytes(NEW)
        run(disk, "sync('.')")
        disk.power_lost(seed)
        assert set(left_on(disk)) == {"old", "beside"}
        (disk.data / "beside").unlink()
        disk.power_on()


def test_a_file_in_the_place_of_one_that_others_removed_has_not_its_content(
    disk: ForgetfulDisk,
) -> None:
    for seed in range(6):
        (disk.data / "old").unlink()
        run(disk, "create('file', False); sync('.')")
        disk.power_lost(seed)
        left = left_on(disk)
        assert b"o" not in left["file"] and left.get("old") in (None, OLD)
        (disk.data / "file").unlink()
        (disk.data / "old").write_bytes(OLD)
        disk.power_on()


def test_inode_and_time_of_a_reverted_file_are_those_of_its_content(
    disk: ForgetfulDisk,
) -> None:
    before = (disk.data / "old").stat()
    for seed in range(8):
        run(disk, "os.pwrite(os.open('old', RW), NEW, 0); os.unlink('old')")
        disk.power_lost(seed)
        if left_on(disk) == {"old": OLD}:
            break
        (disk.data / "old").write_bytes(OLD)
        before = (disk.data / "old").stat()
        disk.power_on()
    after = (disk.data / "old").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert after.st_nlink == 1


def test_logs_are_left_alone(disk: ForgetfulDisk) -> None:
    (disk.data / "logs").mkdir()
    for seed in range(6):
        disk.power_on()
        run(disk, f"create('logs/{seed}', False)")
        disk.power_lost(seed)
        assert (disk.data / "logs" / str(seed)).read_bytes() == NEW


def test_statistics_count_syncs_and_name_what_was_reverted(disk: ForgetfulDisk) -> None:
    run(disk, "create('a', True); create('b', True); sync('.')")
    assert disk.statistics().syncs == 3
    disk.power_lost(0)
    assert disk.statistics().syncs == 3
    assert disk.statistics().reverted == ()
    reverted = set()
    for seed in range(8):
        (disk.data / "old").write_bytes(OLD)
        disk.power_on()
        run(disk, "os.pwrite(os.open('old', RW), NEW, 0)")
        disk.power_lost(seed)
        kept = left_on(disk)["old"] == NEW
        assert disk.statistics().reverted == (() if kept else ("old",))
        reverted |= set(disk.statistics().reverted)
    assert reverted == {"old"}


@pytest.mark.parametrize("kind", ["preload"], scope="module")
def test_a_sync_of_everything_is_refused_not_misjudged(disk: ForgetfulDisk) -> None:
    run(disk, "os.sync()")
    with pytest.raises(ValueError, match=r"sync\(\)"):
        disk.power_lost(0)


def test_without_a_compiler_the_printer_goes_on_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(forgetful, "REPO", tmp_path)
    monkeypatch.setattr(forgetful, "COMMAND", ("no-such-compiler",))
    for _ in range(2):
        disk = disk_for(tmp_path, tmp_path, [])
        assert isinstance(disk, OrdinaryDisk)
        assert disk.unavailable == "no-such-compiler is not installed"
    assert capfd.readouterr().err.count("Un-synced writes are kept") == 1


def test_a_python_that_does_not_load_the_library_is_found_out(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nunset LD_PRELOAD\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with pytest.raises(DiskUnavailable, match="does not load"):
        Disk(tmp_path, tmp_path, [str(python)])


# The disk of FUSE


def test_without_libfuse_the_reason_is_given_and_the_folder_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSE_LIBRARY_PATH", str(tmp_path / "none.so"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "old").write_bytes(OLD)
    with pytest.raises(DiskUnavailable, match=r"cannot mount: OSError: .*none\.so"):
        fuse_disk.FuseDisk(tmp_path, tmp_path / "data")
    assert (tmp_path / "data" / "old").read_bytes() == OLD
    assert os.listdir(tmp_path) == ["data"]


def test_without_a_device_there_is_no_fuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuse_disk, "DEVICE", tmp_path / "fuse")
    with pytest.raises(DiskUnavailable, match="no FUSE: .* is not there"):
        fuse_disk.FuseDisk(tmp_path, tmp_path / "data")


@pytest.mark.parametrize("kind", ["fuse"], scope="module")
def test_a_mapped_write_that_was_never_synced_does_not_come_later(
    disk: ForgetfulDisk,
) -> None:
    left = set()
    for seed in range(8):
        (disk.data / "old").write_bytes(OLD)
        disk.power_on()
        run(disk, "import mmap; mmap.mmap(os.open('old', RW), 0)[:512] = b'm' * 512")
        disk.power_lost(seed)
        first = left_on(disk)
        disk.power_on()
        disk.power_lost(seed)
        assert left_on(disk) == first
        left.add(first["old"])
    assert OLD in left


@pytest.mark.parametrize("kind", ["fuse"], scope="module")
def test_a_program_without_a_preloaded_library_is_on_the_disk(
    disk: ForgetfulDisk,
) -> None:
    lost = set()
    for seed in range(8):
        (disk.data / "old").write_bytes(OLD)
        disk.power_on()
        (disk.data / "old").write_bytes(NEW)
        with open(disk.data / "synced", "wb") as synced:
            synced.write(NEW)
            synced.flush()
            os.fsync(synced.fileno())
        disk.power_lost(seed)
        left = left_on(disk)
        assert left["synced"] == NEW
        lost.add(left["old"] != NEW)
    assert True in lost


@pytest.mark.parametrize("kind", ["fuse"], scope="module")
def test_what_uses_the_disk_is_gone_once_it_is_closed(disk: ForgetfulDisk) -> None:
    assert os.path.ismount(disk.data)
    disk.close()
    assert not os.path.ismount(disk.data)
