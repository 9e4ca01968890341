# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Marks on a real klippy: the line that is named is the one the motors are in.

Many short files on one printer, each with something that could lead the count of
bytes or the order of lines astray; truth is in the board's steps.
"""
from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.virtual_printer import mark_watch
from tests.virtual_printer.klippy_tree import prepare
from tests.virtual_printer.mark_watch import START_X, Job, Line, Sample, Watch, problems
from tests.virtual_printer.printer import VirtualPrinter

SLOW = 30.0  # mm/s
MARKS = 6  # at least so many are looked at in a file
pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CONFIG = mark_watch.CONFIG + """
[sdcard_loop]

[gcode_macro MANY_MOVES]
gcode:
    G91
    {% for i in range(40) %}
    G1 X0.5 F3600
    G1 Y{ 0.5 if i % 2 else -0.5 }
    {% endfor %}
    G90

[gcode_macro FAILS_HALFWAY]
gcode:
    G91
    G1 X12 F3600
    G1 X1000
    G90

[gcode_macro ASIDE]
gcode:
    SAVE_GCODE_STATE NAME=aside
    G91
    G1 Y10 F6000
    G1 Y-10
    RESTORE_GCODE_STATE NAME=aside

[gcode_macro AWAY]
gcode:
    G91
    G1 Y10 F6000
    G90

[bed_mesh]
mesh_min: 10, 10
mesh_max: 240, 240
probe_count: 3, 3

[bed_mesh wavy]
version: 1
points:
    0.0, 0.3, 0.0
    0.3, -0.3, 0.3
    0.0, 0.3, 0.0
x_count: 3
y_count: 3
mesh_x_pps: 2
mesh_y_pps: 2
algo: lagrange
tension: 0.2
min_x: 10
max_x: 240
min_y: 10
max_y: 240
"""


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    with VirtualPrinter(seed=4, config=CONFIG) as printer:
        printer.power_on(moonraker=False, wait=False)
        yield Watch(printer)


def check(
    samples: list[Sample], job: Job, lines: list[Line] | None = None
) -> Sample:
    """Returns the last sample."""
    assert problems(samples, job, lines) == []
    # klippy answers four times a second.
    assert sum(s.mark is not None for s in samples) >= MARKS
    return samples[-1]


def check_all(watch: Watch, job: Job, name: str) -> None:
    last = check(watch.print(job, name), job)
    assert last.state == "complete"
    assert last.mark is not None and last.mark["file_position"] == job.size


def test_plain_lines_comments_and_blank_ones(watch: Watch) -> None:
    job = Job()
    for _ in range(6):
        job.add("; a comment")
        job.move(comment=" ; and another")
        job.add("")
        job.add("   ")
        job.move(2.0)
        job.move(0.4)
    check_all(watch, job, "plain.gcode")


def test_windows_line_ends(watch: Watch) -> None:
    job = Job(ending="\r\n")
    for _ in range(8):
        job.add("; a comment")
        job.move()
        job.add("")
    check_all(watch, job, "crlf.gcode")


def test_utf8_and_more_than_one_block_of_klippy(watch: Watch) -> None:
    job = Job()
    for _ in range(5):
        for _ in range(60):
            job.add("; größer – 测试 größer – 测试 größer – 测试")
        job.add("M117 größer – 测试")
        job.move(12.0, " ; Würfel")
        job.move(4.0)
    assert job.size > 2 * 8192
    check_all(watch, job, "größe.gcode")


def test_a_macro_with_many_moves_is_one_line(watch: Watch) -> None:
    job = Job()
    job.moves(3)
    for _ in range(4):
        job.add("MANY_MOVES", 20.0)
        job.move()
    check_all(watch, job, "macro.gcode")


def test_arcs_and_their_share(watch: Watch) -> None:
    job = Job()
    job.move()
    for way in ("G2", "G3") * 3:
        job.add(f"{way} X{job.x + 24} I12 J0 F3600", 24.0, "arc")
        job.move()
    samples = watch.print(job, "arcs.gcode")
    check(samples, job)
    arcs = {one.offset for one in job.lines if one.splits == "arc"}
    shares = [s.mark["fraction"] for s in samples
              if s.mark is not None and s.mark["file_position"] in arcs]  # fmt: skip
    assert max(shares) > 0.5


def test_lines_that_a_bed_mesh_splits(watch: Watch) -> None:
    watch.klippy.gcode("BED_MESH_PROFILE LOAD=wavy")
    try:
        job = Job()
        job.moves(4, 45.0)
        samples = watch.print(job, "mesh.gcode")
    finally:
        watch.klippy.gcode("BED_MESH_CLEAR")
    check(samples, job)
    heights = [s.mark["toolhead_z"] for s in samples if s.mark is not None]
    assert max(heights) - min(heights) > 0.1


def test_waiting_for_time_motors_and_heat(watch: Watch) -> None:
    job = Job()
    for wait in ("G4 P300", "M400", "M109 S35", "G4 P200", "M400"):
        job.moves(3)
        job.add(wait)
    job.add("M104 S0")
    check_all(watch, job, "waits.gcode")


def test_a_jump_by_m26(watch: Watch) -> None:
    job = Job(speed=SLOW)
    job.moves(20)
    ran: list[Line] = []

    def jump(watch: Watch) -> None:
        watch.gcode("M25")
        watch.gcode("M400")
        at = watch.x()
        ran.extend(one for one in job.lines if one.x1 < at + 0.1)
        would_be_next, _, _, first, *rest = job.lines[len(ran) :]
        ran.append(Line(would_be_next.offset, at, at, placed=False))
        ran.extend([Line(first.offset, at, first.x1, "straight"), *rest])
        watch.gcode(f"M26 S{first.offset}\nM24")

    samples = watch.print(job, "m26.gcode", jump)
    last = check(samples, job, ran)
    assert len(ran) == 18
    assert last.mark is not None and last.mark["file_position"] == job.size


def test_a_loop_in_the_file(watch: Watch) -> None:
    job = Job()
    job.moves(2)
    job.add("G91")
    job.add("SDCARD_LOOP_BEGIN COUNT=3")
    begin = len(job.lines)
    for _ in range(4):
        job.add("G1 X8 F3600", 8.0, "straight")
    job.add("SDCARD_LOOP_END")
    body = job.lines[begin:]
    for _ in range(2):
        job.lines += [
            Line(one.offset, job.x + one.x0 - body[0].x0, job.x + one.x1 - body[0].x0,
                 one.splits)
            for one in body
        ]  # fmt: skip
        job.x += 32.0
    job.add("G90")
    job.moves(2)
    check_all(watch, job, "loop.gcode")


def test_pause_park_and_resume(watch: Watch) -> None:
    job = Job(speed=SLOW)
    job.moves(20)

    def pause(watch: Watch) -> None:
        watch.gcode("PAUSE\nM400")
        watch.gcode("G91\nG1 Y20 Z5 F6000\nG90\nM400")
        watch.gcode("RESUME")

    last = check(watch.print(job, "pause.gcode", pause), job)
    assert last.mark is not None and last.mark["file_position"] == job.size


def test_cancel(watch: Watch) -> None:
    job = Job(speed=SLOW)
    job.moves(20)
    samples = watch.print(job, "cancel.gcode", lambda w: w.gcode("CANCEL_PRINT"))
    last = check(samples, job)
    assert last.state == "cancelled"
    assert last.mark is not None and last.mark["file_position"] < job.size


def test_an_error_inside_a_macro(watch: Watch) -> None:
    job = Job()
    job.moves(8)
    failing = job.size
    job.add("FAILS_HALFWAY", 12.0)
    job.moves(4)
    last = check(watch.print(job, "fails.gcode"), job)
    assert last.state == "error"
    assert last.mark is not None and last.mark["file_position"] == failing
    assert last.nozzle[0] == pytest.approx(START_X + 8 * 8 + 12, abs=0.05)


def test_an_excluded_object_is_skipped(watch: Watch) -> None:
    job = Job()
    for name in ("Würfel_größe", "测试"):
        job.add(f"EXCLUDE_OBJECT_DEFINE NAME={name} CENTER=100,100")
    job.add("EXCLUDE_OBJECT NAME=Würfel_größe")
    for _ in range(6):
        # klippy wants to see some extrusions before it skips anything.
        job.add(f"G1 X{job.x + 2:.3f} E0.1 F3600", 2.0, "straight")
    at = job.x
    for n in range(6):
        name = ("Würfel_größe", "测试")[n % 2]
        job.add(f"EXCLUDE_OBJECT_START NAME={name}", placed=False)
        for k in range(3):
            at += 8.0
            text = f"G1 X{at:.3f} E0.1 F3600"
            if n % 2:
                # The first one travels over what was skipped as well.
                job.add(text, at - job.x, "straight" if k else "", placed=k > 0)
            else:
                job.add(text, placed=False)
        job.add(f"EXCLUDE_OBJECT_END NAME={name}", placed=False)
    samples = watch.print(job, "objects.gcode")
    problem = [p for p in problems(samples, job)]
    assert problem == []


@pytest.mark.parametrize("macro", ["ASIDE", "AWAY"])
def test_a_macro_of_the_console_between_two_lines(watch: Watch, macro: str) -> None:
    job = Job(speed=SLOW)
    job.moves(20)

    def run(watch: Watch) -> None:
        watch.gcode(macro)
        watch.gcode(macro)

    last = check(watch.print(job, "console.gcode", run), job)
    assert last.mark is not None and last.mark["file_position"] == job.size


def test_a_last_line_without_an_end_is_never_promised(watch: Watch) -> None:
    job = Job()
    job.moves(10)
    whole = replace(job)
    job.text += "G1 X200"
    last = check(watch.print(job, "unended.gcode"), whole)
    assert last.mark is not None and last.mark["file_position"] == whole.size


def other_tree(folder: Path) -> Path:
    """A Klipper whose virtual_sdcard keeps its dispatcher under another name."""
    source = Path(os.environ["PLR_KLIPPER_PATH"]).resolve()
    shutil.copytree(
        source / "klippy", folder / "klippy",
        ignore=shutil.ignore_patterns("__pycache__"),
    )  # fmt: skip
    path = folder / "klippy" / "extras" / "virtual_sdcard.py"
    text = path.read_text()
    assert "self.gcode" in text
    path.write_text(text.replace("self.gcode", "self.dispatcher"))
    return folder


def test_a_klippy_that_looks_different_is_followed_from_behind(tmp_path: Path) -> None:
    tree = prepare(other_tree(tmp_path / "other"))
    job = Job(speed=SLOW)
    for _ in range(5):
        job.add("; a comment")
        job.moves(4)
    with VirtualPrinter(seed=5, config=CONFIG, tree=tree) as printer:
        printer.power_on(moonraker=False, wait=False)
        watch = Watch(printer)
        samples = watch.print(job, "other.gcode")
        log = (printer.data / "logs" / "klippy.log").read_text()
    assert "the saved place is approximate" in log
    shutil.rmtree(tree.root)
    assert watch.status["power_loss_recovery"]["approximate"] is True
    assert watch.status["power_loss_recovery"]["trouble"] == ""
    starts = {one.offset: one.x0 for one in job.lines} | {job.size: job.x}
    marks = [(s.mark, s.nozzle[0]) for s in samples if s.mark is not None]
    assert len({mark["file_position"] for mark, _ in marks}) >= 3
    for mark, x in marks:
        assert starts[mark["file_position"]] <= x + 0.05
