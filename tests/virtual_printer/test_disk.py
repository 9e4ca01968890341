# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a power cut leaves of the work of small programs, for each of some seeds."""
from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from .disk_content import after_cut, durable
from .disk_history import Event
from .disk_programs import KINDS, NEW, OLD, Files, disk_of, left_on, need_disk, run

Outcomes = Callable[..., list[Files]]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    need_disk(request.param)
    return request.param


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def outcomes(tmp_path: Path, kind: str) -> Outcomes:
    """The files after a program and a cut, for each of some seeds.

    Before it there is a file `old` in a folder that is durable.
    """

    def cut(program: str, count: int = 12) -> list[Files]:
        found = []
        data = Path(tempfile.mkdtemp(dir=tmp_path)) / "data"
        data.mkdir()
        with disk_of(kind, data) as disk:
            for seed in range(count):
                empty(data)
                (data / "old").write_bytes(OLD)
                disk.power_on()
                run(disk, program)
                disk.power_lost(seed)
                found.append(left_on(disk))
        return found

    return cut


# Content


def test_a_write_that_was_not_synced_is_lost_or_torn(outcomes: Outcomes) -> None:
    left = [f["old"] for f in outcomes("os.pwrite(os.open('old', RW), NEW, 0)")]
    assert OLD in left
    torn = [content for content in left if content not in (OLD, NEW)]
    assert torn
    for content in torn:
        sectors = {content[at : at + 512][:1] * 512 for at in range(0, 2560, 512)}
        assert sectors <= {b"o" * 512, b"n" * 512}
        assert all(len(set(content[at : at + 512])) == 1 for at in range(0, 2560, 512))


@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_a_write_that_was_synced_is_kept(outcomes: Outcomes, call: str) -> None:
    program = f"fd = os.open('old', RW); os.write(fd, NEW); os.{call}(fd)"
    assert [f["old"] for f in outcomes(program)] == [NEW] * 12


def test_a_write_after_a_sync_is_lost_but_not_the_one_before(
    outcomes: Outcomes,
) -> None:
    left = outcomes(
        """
        fd = os.open('old', RW)
        os.pwrite(fd, b'A' * 512, 0)
        os.fdatasync(fd)
        os.pwrite(fd, b'B' * 512, 512)
        """
    )
    assert {f["old"][:512] for f in left} == {b"A" * 512}
    assert {f["old"][512:1024] for f in left} == {b"o" * 512, b"B" * 512}


def test_a_sync_of_a_descriptor_that_can_only_write_counts(outcomes: Outcomes) -> None:
    program = "fd = os.open('old', os.O_WRONLY); os.write(fd, NEW); os.fsync(fd)"
    assert [f["old"] for f in outcomes(program, 4)] == [NEW] * 4


def test_a_write_with_o_dsync_is_durable_and_its_neighbour_is_not(
    outcomes: Outcomes, kind: str
) -> None:
    left = outcomes(
        """
        plain, dsync = os.open('old', RW), os.open('old', RW | os.O_DSYNC)
        os.pwrite(plain, b'P' * 512, 0)
        os.pwrite(dsync, b'D' * 512, 1024)
        os.lseek(dsync, 2048, 0)
        os.write(dsync, b'E' * 100)
        """
    )
    assert {f["old"][1024:1536] for f in left} == {b"D" * 512}
    assert {f["old"][2048:2148] for f in left} == {b"E" * 100}
    # FUSE is told of a sync of the file, and not of which part.
    lost = {b"o" * 512} if kind == "preload" else set()
    assert {f["old"][:512] for f in left} == {b"P" * 512} | lost


def test_a_mapped_write_counts_from_msync(outcomes: Outcomes) -> None:
    left = outcomes(
        """
        import mmap
        fd = os.open('old', RW)
        view = mmap.mmap(fd, 0)
        view[:512] = b'A' * 512
        view.flush()
        view[512:1024] = b'B' * 512
        """
    )
    assert {f["old"][:512] for f in left} == {b"A" * 512}
    assert {f["old"][512:1024] for f in left} == {b"o" * 512, b"B" * 512}


def test_a_file_rewritten_as_save_variables_does_is_old_or_empty_or_torn(
    outcomes: Outcomes,
) -> None:
    left = [
        f["old"]
        for f in outcomes("with open('old', 'w') as f: f.write('n' * 3000)", 24)
    ]
    assert OLD in left and b"" in left
    for content in left:
        # Blocks that were given back are not mixed with new ones.
        assert content == OLD or not content.strip(b"n\0")


def test_a_sync_after_the_rewrite_makes_it_durable(outcomes: Outcomes) -> None:
    program = """
        with open('old', 'w') as f:
            f.write('n' * 3000)
            f.flush()
            os.fsync(f.fileno())
        """
    assert [f["old"] for f in outcomes(program, 4)] == [NEW] * 4


def test_a_file_cut_short_keeps_what_was_not_cut_off() -> None:
    for seed in range(50):
        left = after_cut(b"o" * 4096, 512, b"n" * 4096, random.Random(seed))
        if left != b"o" * 4096:
            assert b"o" not in left[512:]


def test_the_copy_that_was_begun_last_counts_whatever_was_told_last() -> None:
    events = [
        Event("F", 30, 1, copy="newest"),
        Event("F", 10, 1, copy="oldest"),
        Event("W", 40, 1, number=2, copy="patch"),
        Event("T", 20, 1, number=0),
    ]
    copies = {"newest": b"nnnn", "oldest": b"oooo", "patch": b"PP"}
    assert durable(events, copies.__getitem__) == (b"nnPP", 4, "patch")


def test_a_sync_leaves_the_locks_that_a_program_holds(outcomes: Outcomes) -> None:
    left = outcomes(
        """
        import fcntl
        fd = os.open('old', RW)
        fcntl.lockf(fd, fcntl.LOCK_EX)
        os.fsync(fd)
        if os.fork() == 0:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                create('locked', True)
            os._exit(0)
        os.wait()
        """,
        2,
    )
    assert all("locked" in f for f in left)


# Names


def test_a_new_file_that_was_synced_has_its_name(outcomes: Outcomes) -> None:
    left = outcomes("os.makedirs('a/b'); create('a/b/file', True)")
    assert [f.get("a/b/file") for f in left] == [NEW] * 12


def test_a_new_file_that_was_not_synced_may_be_nowhere_or_empty(
    outcomes: Outcomes,
) -> None:
    left = [f.get("file") for f in outcomes("create('file', False)")]
    assert None in left
    assert any(content is not None and content != NEW for content in left)


def test_a_name_in_a_synced_folder_is_kept_but_not_its_content(
    outcomes: Outcomes,
) -> None:
    left = [f.get("file") for f in outcomes("create('file', False); sync('.')")]
    assert None not in left
    assert b"" in left


def test_a_rename_without_a_sync_of_the_folder_happens_or_does_not(
    outcomes: Outcomes,
) -> None:
    left = outcomes("create('new', True); os.replace('new', 'old')")
    assert {tuple(sorted(f.items())) for f in left} == {
        (("new", NEW), ("old", OLD)),
        (("old", NEW),),
    }


def test_a_rename_with_a_sync_of_the_folder_is_kept(outcomes: Outcomes) -> None:
    left = outcomes("create('new', True); os.replace('new', 'old'); sync('.')")
    assert left == [{"old": NEW}] * 12


def test_a_rename_of_a_file_that_was_not_synced_can_lose_both(
    outcomes: Outcomes,
) -> None:
    left = outcomes("create('new', False); os.replace('new', 'old'); sync('.')")
    assert b"" in [f["old"] for f in left]
    assert all("new" not in f for f in left)


def test_a_removed_file_may_come_back(outcomes: Outcomes) -> None:
    left = [f.get("old") for f in outcomes("os.unlink('old')")]
    assert set(left) == {None, OLD}


def test_a_removed_file_stays_away_once_the_folder_is_synced(
    outcomes: Outcomes,
) -> None:
    assert outcomes("os.unlink('old'); sync('.')") == [{}] * 12


def test_changes_to_a_folder_reach_the_disk_in_their_order(outcomes: Outcomes) -> None:
    left = outcomes(
        """
        for name in 'abc':
            create(name, False)
        os.unlink('old')
        """,
        24,
    )
    names = {"".join(sorted(f)) for f in left}
    assert names <= {"old", "aold", "abold", "abcold", "abc"}
    assert len(names) > 2


def test_a_file_that_is_linked_then_unlinked_is_never_without_a_name(
    outcomes: Outcomes,
) -> None:
    program = "create('new', True); os.link('new', 'file'); os.unlink('new')"
    assert outcomes(program + "; sync('.')", 4) == [{"old": OLD, "file": NEW}] * 4
    left = outcomes(program)
    assert all(NEW in (f.get("new"), f.get("file")) for f in left)
    assert len({tuple(f) for f in left}) > 1


def test_an_inode_that_is_used_again_does_not_bring_back_the_old_content(
    outcomes: Outcomes,
) -> None:
    left = outcomes(
        """
        for n in range(20):
            create('temporary', True)
            os.unlink('temporary')
        sync('.')
        create('file', False)
        sync('.')
        """
    )
    assert all(set(f) == {"old", "file"} for f in left)
    assert b"" in [f["file"] for f in left]


def test_a_folder_that_was_moved_takes_its_files_along(outcomes: Outcomes) -> None:
    left = outcomes(
        "os.mkdir('a'); create('a/file', True); os.rename('a', 'b'); sync('.')", 4
    )
    assert left == [{"old": OLD, "b/file": NEW}] * 4


def test_a_file_moved_to_another_folder_is_in_one_of_them(outcomes: Outcomes) -> None:
    left = outcomes(
        """
        os.mkdir('a'); os.mkdir('b')
        create('a/file', True); create('b/other', True)
        os.rename('a/file', 'b/file')
        os.unlink('b/other')
        """,
        24,
    )
    names = {tuple(sorted(set(f) - {"old"})) for f in left}
    assert names == {("a/file", "b/other"), ("b/file", "b/other"), ("b/file",)}


def test_a_new_folder_is_empty_whatever_its_inode_held_before(
    outcomes: Outcomes,
) -> None:
    left = outcomes(
        """
        for n in range(10):
            os.mkdir('a'); create('a/file', True); sync('a'); sync('.')
            os.unlink('a/file'); os.rmdir('a')
        os.mkdir('b'); create('b/other', False)
        sync('.'); sync('b')
        """
    )
    assert all(set(f) == {"old", "b/other"} for f in left)


def test_a_child_process_is_on_the_disk_as_well(outcomes: Outcomes) -> None:
    left = outcomes("os.system('printf x > made'); sync('made')", 4)
    assert [f.get("made") for f in left] == [b"x"] * 4


def test_syncs_of_several_threads_each_count(outcomes: Outcomes) -> None:
    left = outcomes(
        """
        import threading
        fd = os.open('old', RW)
        def work(n):
            for _ in range(50):
                os.pwrite(fd, bytes([65 + n]) * 512, 512 * n)
                os.fdatasync(fd)
        threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
        for t in threads: t.start()
        for t in threads: t.join()
        """,
        6,
    )
    whole = b"".join(bytes([65 + n]) * 512 for n in range(5))
    assert [f["old"][:2560] for f in left] == [whole] * 6
