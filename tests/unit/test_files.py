# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Only the file that was printed is resumed, and it is never touched."""
from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from moonraker_components.power_loss_recovery import files, plan
from moonraker_components.power_loss_recovery.files import FileProblem
from moonraker_components.power_loss_recovery.gcode.errors import GcodeError
from moonraker_components.power_loss_recovery.record import Job, Record
from tests.unit.samples import FACTS, GCODE, POSITION, record, state


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "gcodes"
    (root / "sub").mkdir(parents=True)
    (root / "part.gcode").write_bytes(GCODE)
    (tmp_path / "outside.gcode").write_bytes(GCODE)
    (tmp_path / "scratch").mkdir()
    return root


def job_of(root: Path, name: str = "part.gcode") -> Job:
    return files.identify(root, str(root / name), 1.0).job


def written(root: Path, rec: Record | None = None, tag: str = "0a1b") -> str:
    rec, job, path = rec or record(), job_of(root), root / "part.gcode"
    head, line, _ = files.examine(path, rec.file_position)
    made = plan.make(rec, job, head, line, FACTS)
    return files.write_resume_file(
        root, path, job, rec, head, made, tag, root.parent / "scratch"
    )


BAD_NAMES = [
    "", "/etc/passwd", "../outside.gcode", "sub/../../outside.gcode", ".", "sub/..",
    "a\nb", "a\rb", "a\0b", 'a"b', "a\x7fb",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leads_elsewhere_is_refused(root: Path, name: str) -> None:
    with pytest.raises(FileProblem):
        files.inside(root, name)
    with pytest.raises(FileProblem):
        files.verify(root, replace(job_of(root), name=name), record())


def test_a_link_that_leads_outside_is_refused(root: Path) -> None:
    (root / "link.gcode").symlink_to(root.parent / "outside.gcode")
    with pytest.raises(FileProblem, match="outside"):
        files.inside(root, "link.gcode")
    with pytest.raises(FileProblem, match="outside"):
        files.identify(root, str(root / "link.gcode"), 1.0)


@pytest.mark.parametrize("name", ["part.gcode", "sub/Würfel – 测试.gcode", "a;b#c.g"])
def test_ordinary_names_are_found(root: Path, name: str) -> None:
    (root / name).write_bytes(GCODE)
    assert files.inside(root, name) == root / name
    assert job_of(root, name).name == name


def test_a_print_is_known_by_name_size_and_content(root: Path) -> None:
    source = files.identify(root, str(root / "sub" / ".." / "part.gcode"), 5.0)
    assert (source.job.name, source.job.size) == ("part.gcode", len(GCODE))
    assert (source.job.started, source.stamp) == (5.0, None)
    assert source.path == root / "part.gcode"


@pytest.mark.parametrize("printed", ["/nowhere/part.gcode", "x\0y", ""])
def test_a_print_outside_of_the_folder_is_refused(root: Path, printed: str) -> None:
    with pytest.raises(FileProblem):
        files.identify(root, printed, 1.0)


def test_a_print_whose_file_is_gone_is_refused(root: Path) -> None:
    with pytest.raises(FileProblem, match="No such file"):
        files.identify(root, str(root / "gone.gcode"), 1.0)


def test_the_line_at_a_place_is_its_text(root: Path) -> None:
    path = root / "part.gcode"
    assert files.text_at(path, POSITION) == "G1 X100 Y150 E5"
    assert files.text_at(path, len(GCODE)) == ""
    with pytest.raises(GcodeError, match="inside a line"):
        files.text_at(path, POSITION + 1)
    path.write_bytes(b"; " + b"\xff\xe6" * 200)
    assert len(files.text_at(path, 0)) == 120


def test_the_file_as_it_was_is_accepted(root: Path) -> None:
    assert files.verify(root, job_of(root), record()) == root / "part.gcode"
    os.utime(root / "part.gcode", (1, 1))
    files.verify(root, job_of(root), record())


@pytest.mark.parametrize("content", [
    GCODE + b"; more\n", GCODE[:-1], GCODE.replace(b"X150", b"X151"), b"",
])  # fmt: skip
def test_an_edited_file_is_refused(root: Path, content: bytes) -> None:
    job = job_of(root)
    (root / "part.gcode").write_bytes(content)
    with pytest.raises(FileProblem, match="was changed"):
        files.verify(root, job, record())


def test_a_deleted_file_is_refused(root: Path) -> None:
    job = job_of(root)
    (root / "part.gcode").unlink()
    with pytest.raises(FileProblem, match="is gone"):
        files.verify(root, job, record())
    (root / "part.gcode").mkdir()
    with pytest.raises(FileProblem, match="is gone"):
        files.verify(root, job, record())


@pytest.mark.parametrize(("rec", "said"), [
    (record(line="G1 X1"), "another line"),
    (record(file_position=POSITION + 1), "inside a line"),
    (record(file_position=0), "another line"),
])  # fmt: skip
def test_a_record_of_another_place_is_refused(
    root: Path, rec: Record, said: str
) -> None:
    with pytest.raises(FileProblem, match=said):
        files.verify(root, job_of(root), rec)


def test_a_file_at_its_end_has_nothing_to_examine(root: Path) -> None:
    with pytest.raises(FileProblem, match="to its end"):
        files.examine(root / "part.gcode", len(GCODE))
    with pytest.raises(FileProblem, match="inside a line"):
        files.examine(root / "part.gcode", POSITION + 1)


def _unread(path: Path) -> tuple[int, ...]:
    """All that reading a file does not change."""
    found = path.stat()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def test_the_resume_file_is_of_the_original(root: Path) -> None:
    before = _unread(root / "part.gcode")
    name = written(root, record(fraction=0.5))
    assert name == ".plr/resume-0a1b.gcode"
    text = (root / name).read_bytes()
    assert text.endswith(b"E2.5\n" + GCODE[GCODE.index(b"G1 X100 Y100 E5"):])
    source = files.identify(root, str(root / name), 7.0)
    assert source.stamp is not None and source.path == root / "part.gcode"
    assert source.job == replace(job_of(root), started=7.0)
    assert _unread(root / "part.gcode") == before
    assert list((root.parent / "scratch").iterdir()) == []


def test_a_resume_file_whose_original_changed_is_no_longer_it(root: Path) -> None:
    name = written(root)
    (root / "part.gcode").write_bytes(GCODE.replace(b"X150", b"X151"))
    with pytest.raises(FileProblem, match="no longer the file"):
        files.identify(root, str(root / name), 7.0)


def test_a_damaged_resume_file_is_an_error_and_no_print(root: Path) -> None:
    name = written(root)
    data = (root / name).read_bytes()
    (root / name).write_bytes(data.replace(b"plr_fraction", b"plr_friction", 1))
    with pytest.raises(GcodeError, match="damaged"):
        files.identify(root, str(root / name), 7.0)


def test_what_a_power_cut_left_is_removed(root: Path) -> None:
    scratch = root.parent / "scratch"
    (scratch / "resume-00ff.tmp").write_bytes(b"x")
    (scratch / "journal").write_bytes(b"x")
    written(root)
    assert [p.name for p in scratch.iterdir()] == ["journal"]


def test_only_our_own_files_are_removed(root: Path) -> None:
    files.remove_resume_files(root)
    written(root)
    mine = root / ".plr"
    (mine / "resume-beef.tmp").write_bytes(b"x")
    for name in ("notes.txt", "resume-.gcode", "my-resume-0a.gcode"):
        (mine / name).write_bytes(b"x")
    files.remove_resume_files(root)
    assert sorted(p.name for p in mine.iterdir()) == [
        "my-resume-0a.gcode", "notes.txt", "resume-.gcode",
    ]  # fmt: skip
    assert (root / "part.gcode").read_bytes() == GCODE


GUIDE = b"""; made by a slicer
M73 P0
EXCLUDE_OBJECT_DEFINE NAME=A
START_PRINT EXTRUDER=210 BED=60
;;;;; PLR_RESUME - INITIAL PRINTER SETUP STARTS ;;;;;
G28
;;;;; PLR_RESUME - PRINT GCODE STARTS ;;;;;
G92 E0
"""


def test_of_what_stands_before_the_guides_placeholder_settings_run(root: Path) -> None:
    (root / "part.gcode").write_bytes(GUIDE + GCODE)
    head, _, _ = files.examine(root / "part.gcode", len(GUIDE) + POSITION)
    lines = files.setup(root / "part.gcode", head)
    assert [line for line in lines if not line.startswith(b";")] == [b"M73 P0"]
    left_out = b"; not run, as it may move or heat: START_PRINT EXTRUDER=210 BED=60"
    assert left_out in lines
    assert b"G28" not in b"".join(lines)


def test_without_the_placeholder_nothing_of_the_start_runs(root: Path) -> None:
    (root / "part.gcode").write_bytes(GUIDE.replace(b"INITIAL", b"SOME") + GCODE)
    head, _, _ = files.examine(root / "part.gcode", len(GUIDE) - 3 + POSITION)
    assert files.setup(root / "part.gcode", head) == []


def test_a_placeholder_far_into_the_file_is_refused(root: Path) -> None:
    start = b"G1 X1\n" * 200_000
    (root / "part.gcode").write_bytes(start + GUIDE + GCODE)
    head, _, _ = files.examine(root / "part.gcode", len(start + GUIDE) + POSITION)
    with pytest.raises(FileProblem, match="placeholder stands at offset"):
        files.setup(root / "part.gcode", head)


END = b"G1 E-2 F1800\nG1 X5 Y5 F6000\nM104 S0\nM84\n; settings = many\n"


@pytest.mark.parametrize(("after", "relative", "complete"), [
    (b"G1 X100 Y100 E5\n" + END, True, False), (END, True, True), (b"", True, True),
    # What was pulled back comes forward, and nothing more.
    (b"G1 E-2\nG1 E2\nG1 X1 Y1\n", True, True),
    (b"G1 X9 Y9 E5\n", False, True), (b"G1 X9 Y9 E15\n", False, False),
])  # fmt: skip
def test_whether_anything_is_missing_is_seen_at_the_end_of_the_file(
    root: Path, after: bytes, relative: bool, complete: bool
) -> None:
    (root / "part.gcode").write_bytes(GCODE + after)
    coordinates = {"absolute_extrude": not relative}
    rec = record(file_position=len(GCODE), state=state(coordinates=coordinates))
    assert files.is_complete(root, job_of(root), rec) is complete


def test_far_from_the_end_the_file_is_not_even_read(root: Path) -> None:
    job = replace(job_of(root), name="nowhere.gcode", size=files.MAX_END + 100)
    assert files.is_complete(root, job, record(file_position=50)) is False
