# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A journal on a partition, on FRAM, or where a power cut would take it along."""
from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from moonraker_components.power_loss_recovery.journal import (
    Disk,
    Journal,
    JournalError,
)
from moonraker_components.power_loss_recovery.store import journal_place
from moonraker_components.power_loss_recovery.store.journal_place import (
    is_still_there,
    look,
    warning,
)
from tests.unit.journal_samples import SLOT, A, mark_of
from tests.unit.mounted import loop_device


class DeviceDisk(Disk):
    """Shows every file as a block device; knows no sync if it is a memory chip."""

    def __init__(self, chip: bool = False) -> None:
        self.chip = chip
        self.cut_after: int | None = None

    def stat(self, path: str) -> Any:  # type: ignore[override]
        info = os.stat(path)
        mode = stat.S_IFDIR if stat.S_ISDIR(info.st_mode) else stat.S_IFBLK
        return SimpleNamespace(
            st_mode=mode, st_dev=info.st_dev, st_ino=info.st_ino, st_rdev=7, st_size=0
        )

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        if self.chip:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        os.fdatasync(fd)

    def replace(self, *args: Any) -> None:  # type: ignore[override]
        raise AssertionError("a device cannot be replaced")

    rename = unlink = replace  # type: ignore[assignment]


@pytest.fixture
def device(tmp_path: Path) -> Path:
    return tmp_path / "device"


def saved(path: Path, disk: Disk, count: int = 40) -> Journal:
    journal = Journal(str(path), disk=disk)
    journal.write_job(A, b"job")
    for number in range(count):
        journal.write_mark(A, b"mark %d" % number)
    return journal


@pytest.mark.parametrize("chip", [False, True])
@pytest.mark.parametrize("blank", [b"\0", b"\xff"])
@pytest.mark.parametrize("slots", [12, 16, 64, 600])
def test_a_blank_place_of_any_size_becomes_a_journal(
    device: Path, slots: int, blank: bytes, chip: bool
) -> None:
    device.write_bytes(blank * (slots * SLOT))
    disk = DeviceDisk(chip)
    saved(device, disk)
    again = Journal(str(device), disk=disk)
    assert mark_of(again) == b"mark 39"
    again.write_mark(A, b"more")
    assert mark_of(Journal(str(device), disk=disk)) == b"more"
    again.close_job(A, "complete")
    state = Journal(str(device), disk=disk).read()
    assert state is not None and state.closed == "complete"
    assert device.stat().st_size == slots * SLOT
    assert device.read_bytes()[64 * SLOT :] in (b"", blank * ((slots - 64) * SLOT))


@pytest.mark.parametrize("at", [0, 510, 1080, 65536, 200_000, (1 << 20) - 1])
def test_a_place_that_holds_something_else_is_left_alone(device: Path, at: int) -> None:
    content = bytearray(2 << 20)
    content[at] = 7
    device.write_bytes(content)
    for _ in range(2):
        with pytest.raises(JournalError, match="not blank.*dd if=/dev/zero"):
            saved(device, DeviceDisk())
    assert device.read_bytes() == content


def test_a_place_too_small_is_refused_with_what_it_needs(device: Path) -> None:
    device.write_bytes(bytes(11 * SLOT))
    with pytest.raises(JournalError, match="has 45056 bytes.* needs 49152"):
        saved(device, DeviceDisk())
    assert device.read_bytes() == bytes(11 * SLOT)


@pytest.mark.parametrize("torn", [0b1, 0b10, 0b10101010, 0b11111110, 0b11111111])
def test_a_cut_while_it_was_made_a_journal_does_not_lose_the_place(
    device: Path, torn: int
) -> None:
    device.write_bytes(bytes(64 * SLOT))
    Journal.open(str(device), disk=DeviceDisk()).close()
    content = bytearray(device.read_bytes())
    for sector in range(8):
        if not torn & 1 << sector:
            content[sector * 512 : (sector + 1) * 512] = bytes(512)
    device.write_bytes(content)
    saved(device, DeviceDisk())
    assert mark_of(Journal(str(device), disk=DeviceDisk())) == b"mark 39"


def test_a_sync_that_a_file_does_not_know_is_an_error(tmp_path: Path) -> None:
    class NoSync(Disk):
        def fdatasync(self, fd: int) -> None:  # type: ignore[override]
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    with pytest.raises(JournalError):
        saved(tmp_path / "journal", NoSync())


def test_a_journal_on_a_real_block_device(tmp_path: Path) -> None:
    with loop_device(tmp_path / "image", 1 << 20) as name:
        saved(Path(name), Disk()).close()
        assert mark_of(Journal(name)) == b"mark 39"
    assert (tmp_path / "image").read_bytes().startswith(b"PLRJOURN")


def test_a_memory_chip_is_a_fixed_place() -> None:
    class Chip(Disk):
        def stat(self, path: str) -> Any:  # type: ignore[override]
            return SimpleNamespace(
                st_mode=stat.S_IFREG, st_dev=1, st_ino=2, st_size=65536
            )

    chip = "/sys/bus/i2c/devices/1-0050/eeprom"
    found = journal_place.look(Chip(), chip)
    assert found is not None and found.fixed
    found = journal_place.look(Chip(), "/home/pi/eeprom")
    assert found is not None and not found.fixed


MOUNTS = """\
22 1 179:2 / / rw,noatime - ext4 /dev/mmcblk0p2 rw
23 22 0:5 / /dev rw - devtmpfs udev rw
24 23 0:22 / /dev/shm rw - tmpfs tmpfs rw
25 22 0:23 / /var/log rw - tmpfs log2ram rw
26 22 8:1 / /mnt/my\\040disk rw - ext4 /dev/sda1 rw
27 22 252:0 / /mnt/zram rw - ext4 /dev/zram0 rw
28 22 0:44 / /over rw - tmpfs a rw
29 28 8:2 / /over rw - ext4 /dev/sdb1 rw
"""


@pytest.mark.parametrize(("path", "kind"), [
    ("/home/pi/printer_data/plr/journal", ""), ("/var/log/plr/journal", "tmpfs"),
    ("/var/logs/journal", ""), ("/dev/shm/journal", "tmpfs"),
    ("/dev/no-such-device", "devtmpfs"), ("/mnt/my disk/journal", ""),
    ("/mnt/zram/plr/journal", "a RAM disk"), ("/over/journal", ""),
])  # fmt: skip
def test_a_journal_in_memory_is_warned_of(path: str, kind: str) -> None:
    said = warning(path, MOUNTS)
    if kind:
        assert f"in memory ({kind})" in said and "journal_path" in said
        assert path in said
    else:
        assert said == ""


def test_without_a_list_of_mounts_nothing_is_known() -> None:
    assert warning("/var/log/journal", "") == ""


def test_this_machine_is_understood() -> None:
    mounts = Path("/proc/self/mountinfo")
    if not mounts.exists() or not os.path.ismount("/dev/shm"):
        pytest.skip("needs /proc/self/mountinfo and a /dev/shm")
    assert "in memory (tmpfs)" in warning("/dev/shm/journal", mounts.read_text())


CHANGES = ["nothing", "deleted", "replaced", "longer", "content"]


@pytest.mark.parametrize("what", CHANGES)
def test_the_short_look_sees_what_the_long_one_does(tmp_path: Path, what: str) -> None:
    path, disk = tmp_path / "journal", Disk()
    path.write_bytes(bytes(4096))
    place = look(disk, str(path))
    assert place is not None
    if what == "deleted":
        path.unlink()
    elif what == "replaced":
        other = tmp_path / "other"
        other.write_bytes(bytes(4096))
        other.rename(path)
    elif what in ("longer", "content"):
        path.write_bytes(b"x" * (4096 if what == "content" else 4097))
    same = what in ("nothing", "content")
    assert is_still_there(disk, str(path), place) is same
    assert (look(disk, str(path)) == place) is same


def test_the_short_look_knows_a_device_by_its_number(tmp_path: Path) -> None:
    info = SimpleNamespace(st_mode=stat.S_IFBLK, st_dev=1, st_ino=2, st_size=0)
    info.st_rdev = 3
    disk = cast(Disk, SimpleNamespace(stat=lambda path: info))
    place = look(disk, "/dev/mmcblk1")
    assert place is not None and is_still_there(disk, "/dev/mmcblk1", place)
    info.st_rdev = 4
    assert not is_still_there(disk, "/dev/mmcblk1", place)
