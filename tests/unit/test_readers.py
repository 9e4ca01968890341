# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Real processes beside this one find the same; without them, nothing is missed."""
from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from moonraker_components.power_loss_recovery import files, readers
from moonraker_components.power_loss_recovery.gcode import pieces
from moonraker_components.power_loss_recovery.gcode.ahead import Reach, rest
from moonraker_components.power_loss_recovery.gcode.extent import Extent
from moonraker_components.power_loss_recovery.gcode.scan import Head, scan
from moonraker_components.power_loss_recovery.readers import Reader, beside
from tests.unit.gcode.random_print import random_print

LINES = 4000


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pieces, "_PART", 8000)
    target = tmp_path / "part.gcode"
    target.write_bytes(random_print(random.Random(3), LINES))
    return target


def cut_of(path: Path) -> int:
    data = path.read_bytes()
    return data.rfind(b"\n", 0, len(data) // 2) + 1


def examine(path: Path, how: str = "alone") -> tuple[Head, Reach | None]:
    """how: alone, helped, or robbed of the helper at the cut."""
    with files.mapped(path) as (f, data):
        helpers = [] if how == "alone" else [Reader(f, 2048)]
        try:
            extent = Extent(data, 2048, helpers=helpers)
            head = scan(data, cut_of(path), extent)
            if how == "robbed":
                helpers[0].process.kill()
                helpers[0].process.wait()
            return head, rest(extent)
        finally:
            for helper in helpers:
                helper.close()


@pytest.mark.parametrize("how", ["helped", "robbed"])
def test_the_same_is_found_with_a_reader(path: Path, how: str) -> None:
    alone, found = examine(path), examine(path, how)
    for one in (alone, found):
        assert one[0].footprint is not None
    assert found == alone


def test_a_reader_finds_what_the_caller_would(path: Path) -> None:
    limits = ((50.0, 60.0), (50.0, 60.0))
    with files.mapped(path) as (f, data):
        reader = Reader(f, 2048)
        try:
            for start, end in ((0, cut_of(path)), (cut_of(path), len(data))):
                reader.ask(start, end, limits)
                for piece in pieces.own(data, start, end, 2048):
                    have, want = reader.next(), pieces.digest(piece, limits)
                    # In any order: only the highest counts.
                    assert sorted(have.heights) == sorted(want.heights)
                    assert have._replace(heights=None) == want._replace(heights=None)
                assert reader.next() is None
        finally:
            reader.close()


def test_a_reader_that_cannot_go_on_leaves_it_to_the_caller(path: Path) -> None:
    with open(path, "r+b") as f:
        f.seek(-9000, os.SEEK_END)
        f.write(b"\0")
        f.flush()
        reader = Reader(f, 2048)
        try:
            size = path.stat().st_size
            reader.ask(0, size, None)
            found = list(iter(reader.next, None))
            assert 0 < sum(digest.length for digest in found) <= size - 9000
            # It answers what it is asked next.
            reader.ask(0, 2048, None)
            assert reader.next() is not None and reader.next() is None
        finally:
            reader.close()


def test_a_reader_ends_with_the_one_who_asked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "SHORTEST", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with open(path, "rb") as f, beside(f) as found:
        pass
    assert found and all(reader.process.returncode is not None for reader in found)


def test_how_many_there_are(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = path.stat().st_size
    for cores, shortest, wanted in (
        (1, 1, 0), (2, 1, 1), (3, size, 2), (8, size, 2), (8, size + 1, 0),
    ):  # fmt: skip
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        monkeypatch.setattr(readers, "SHORTEST", shortest)
        with open(path, "rb") as f, beside(f) as found:
            assert len(found) == wanted


def test_where_none_can_be_started_the_file_is_read_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(readers.sys, "executable", "/nowhere/python")
    monkeypatch.setattr(readers, "SHORTEST", 1)
    head, _, reach = files.examine(path, cut_of(path))
    monkeypatch.undo()
    wanted, _, wanted_reach = files.examine(path, cut_of(path))
    assert head.footprint == wanted.footprint and reach == wanted_reach


def test_examining_a_long_file_asks_readers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    asked: list[int] = []
    ask = Reader.ask

    def note(self: Reader, start: int, end: int, limits: pieces.Limits | None) -> None:
        asked.append(start)
        ask(self, start, end, limits)

    monkeypatch.setattr(Reader, "ask", note)
    files.examine(path, cut_of(path))
    assert not asked
    monkeypatch.setattr(readers, "SHORTEST", 1)
    files.examine(path, cut_of(path))
    assert asked


def test_the_event_loop_gets_its_turn(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    now = 100.0
    monkeypatch.setattr(readers.time, "monotonic", lambda: now)
    monkeypatch.setattr(readers.time, "sleep", slept.append)
    with open(path, "rb") as f:
        reader = Reader(f)
        try:
            for _ in range(100):
                reader.ready()
                now += 0.001
        finally:
            monkeypatch.undo()
            reader.close()
    assert 18 <= len(slept) <= 22 and min(slept) > 0.0


def test_a_reader_takes_what_nobody_else_wants(path: Path) -> None:
    with open(path, "rb") as f:
        reader = Reader(f, 2048)
        try:
            reader.ask(0, 2048, None)
            assert reader.next() is not None
            found = os.getpriority(os.PRIO_PROCESS, reader.process.pid)
            mine = os.getpriority(os.PRIO_PROCESS, 0)
            assert found == min(mine + 10, 19)
        finally:
            reader.close()
