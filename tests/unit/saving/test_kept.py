# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Interrupted prints that are set aside: whole or not there, the newest first."""
from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.journal import JournalError
from moonraker_components.power_loss_recovery.saving.kept import Kept
from moonraker_components.power_loss_recovery.saving.lineage import Pending
from moonraker_components.power_loss_recovery.store.journal_file import Disk
from tests.unit.samples import JOB, record

A = Pending(b"A" * 16, JOB, record())
B = Pending(b"B" * 16, JOB, record(fraction=0.5))


def ids(kept: Kept) -> list[bytes]:
    return [one.job_id for one in kept.read()]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "plr" / "kept")


def test_without_a_folder_there_is_nothing(kept: Kept) -> None:
    assert kept.read() == ()
    kept.remove(A.job_id)


def test_what_was_set_aside_last_comes_first(kept: Kept) -> None:
    kept.add(A)
    kept.add(B)
    first, second = kept.read()
    assert (first.job_id, first.record, first.aside) == (B.job_id, B.record, True)
    assert second.record == A.record and second.job == JOB
    kept.remove(B.job_id)
    assert ids(kept) == [A.job_id]
    kept.add(B)
    assert ids(kept) == [B.job_id, A.job_id]


@pytest.mark.parametrize("cut", [0, 8, 19, 20, 21, 300, -1])
def test_a_file_that_is_not_whole_is_none(kept: Kept, cut: int) -> None:
    kept.add(A)
    kept.add(B)
    (path,) = kept.folder.glob(f"*-{B.job_id.hex()}.kept")
    path.write_bytes(path.read_bytes()[:cut])
    assert ids(kept) == [A.job_id]


def test_a_flipped_bit_anywhere_is_noticed(kept: Kept) -> None:
    kept.add(A)
    (path,) = kept.folder.iterdir()
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        changed = bytes([whole[place] ^ 4])
        path.write_bytes(whole[:place] + changed + whole[place + 1 :])
        assert kept.read() == (), place
    path.write_bytes(whole)
    assert ids(kept) == [A.job_id]


@pytest.mark.parametrize("name", [
    "x", "000001-41.kept", "000001-" + "g" * 32 + ".kept", "000001-" + "41" * 16,
    "000002-" + "41" * 16 + ".kept.new",
])  # fmt: skip
def test_other_files_are_left_alone(kept: Kept, name: str) -> None:
    kept.add(A)
    (kept.folder / name).write_bytes(b"x")
    assert ids(kept) == [A.job_id]
    kept.remove(A.job_id)
    assert (kept.folder / name).exists() and ids(kept) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    class Full(Disk):
        @staticmethod
        def pwrite(*args: Any) -> int:  # type: ignore[override]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    kept = Kept(tmp_path / "kept", Full())
    with pytest.raises(JournalError, match="part.gcode cannot be set aside: No space"):
        kept.add(A)
    assert kept.read() == () and list(kept.folder.iterdir()) == []


def test_what_cannot_be_removed_is_told(tmp_path: Path) -> None:
    class ReadOnly(Disk):
        @staticmethod
        def unlink(*args: Any) -> None:  # type: ignore[override]
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    kept = Kept(tmp_path / "kept", ReadOnly())
    kept.add(A)
    with pytest.raises(JournalError, match="Cannot remove .*Read-only"):
        kept.remove(A.job_id)
