# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What each side may import and use, so that the core stays a pure function and the
klippy side loads on every klippy and never waits."""
from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
COMPONENT = REPO / "moonraker_components" / "power_loss_recovery"
EXTRA = REPO / "klippy_extras" / "power_loss_recovery"

# Whole folders, and single modules of the others
PURE = [
    "gcode/*.py", "planning/*.py", "settings.py", "record.py", "history.py", "plan.py",
    "prompts.py", "answers.py", "reading.py", "tools.py",
    "asking/dialogs.py", "asking/doubts.py", "asking/unattended.py",
    "calibration/mending.py", "calibration/variables_copy.py",
    "doctor/diagnosis.py", "doctor/host.py", "doctor/machine.py",
    "doctor/macros.py", "doctor/findings.py", "doctor/gcode_macros.py",
    "doctor/klipper_config.py", "doctor/redact.py", "faces/endpoints.py",
    "offline/standalone.py", "resuming/stops.py", "saving/due.py",
    "saving/interruption.py", "saving/machine_state.py", "saving/pacing.py",
    "store/checks.py", "store/journal_format.py", "store/payloads.py",
]  # fmt: skip
# publish.py writes the resume file; rewriter.py reads the original through an open
# file, and calls publish.
WRITES = {"publish.py": {"os", "pathlib"}, "rewriter.py": {"os", "pathlib"}}
# Names in annotations only
TYPES_ONLY = {"text.py": {"mmap"}}
ALLOWED = {
    "__future__", "ast", "collections", "configparser", "dataclasses", "enum",
    "errno", "functools", "hashlib", "json", "math", "re", "shlex", "struct",
    "typing", "zlib",
}  # fmt: skip
CALLS = {"open", "print", "input", "eval", "exec", "__import__", "compile"}


def core() -> list[Path]:
    return [path for name in PURE for path in sorted(COMPONENT.glob(name))]


def sources(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.suffix == ".py"]


def imported(tree: ast.AST) -> Iterator[str]:
    """Absolute imports, as their first part; relative ones as ".module", whatever the
    folder is."""
    folders = {path.name for path in COMPONENT.iterdir() if path.is_dir()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                yield (node.module or "").partition(".")[0]
            elif node.module and node.module not in folders:
                yield "." + node.module.rpartition(".")[2]
            else:
                yield from ("." + alias.name for alias in node.names)


def called(tree: ast.AST) -> set[str]:
    return {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def attributes(tree: ast.AST) -> set[str]:
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("path", core(), ids=lambda p: p.name)
def test_the_core_has_no_clock_no_files_and_no_loop(path: Path) -> None:
    tree = ast.parse(path.read_text())
    allowed = ALLOWED | WRITES.get(path.name, set()) | TYPES_ONLY.get(path.name, set())
    absolute = {name for name in imported(tree) if not name.startswith(".")}
    assert absolute <= allowed
    assert not called(tree) & CALLS
    assert "import_module" not in attributes(tree)


def test_the_core_stands_on_the_core_only() -> None:
    known = {"." + path.stem for path in core()}
    for path in core():
        relative = {n for n in imported(ast.parse(path.read_text())) if n[0] == "."}
        assert relative <= known, path.name


# What knows Moonraker, and what waits, reads or writes without knowing it
GLUE = {
    "__init__.py", "component.py", "calibration/calibration_keeper.py",
    "doctor/checker.py", "faces/api.py", "faces/console.py", "faces/overview.py",
    "faces/page_server.py", "faces/strict_http.py", "resuming/rehearsal.py",
    "resuming/resumer.py", "saving/job_history.py", "saving/mesh_keeper.py",
    "saving/outage_keeper.py",
}  # fmt: skip
SHELLS = {
    "files.py", "journal.py", "readers.py", "sequence.py", "asking/attempts.py",
    "asking/attendant.py", "asking/auto_resume.py", "asking/bed_holder.py",
    "asking/bed_watch.py", "asking/offer.py", "calibration/calibration_file.py",
    "doctor/bundle.py", "doctor/checkup.py", "doctor/checkup_host.py",
    "doctor/command.py", "faces/layer_view.py", "offline/cli.py", "offline/offline.py",
    "resuming/elsewhere.py", "resuming/machine_facts.py", "resuming/preparing.py",
    "resuming/read_once.py", "resuming/recovery.py", "saving/keeper.py",
    "saving/kept.py", "saving/lineage.py", "saving/outages.py", "saving/stopped.py",
    "saving/tracker.py", "saving/trouble.py", "saving/witness.py",
    "store/journal_file.py", "store/journal_place.py",
}  # fmt: skip


def folder_of(path: Path) -> str:
    return str(path.relative_to(COMPONENT))


def test_what_is_pure_is_listed() -> None:
    """A new module of the component is looked at, and put on one of the sides."""
    modules = {folder_of(path) for path in COMPONENT.rglob("*.py")}
    folders = {name for name in modules if name.endswith("/__init__.py")}
    pure = {folder_of(path) for path in core()}
    assert modules - folders == (GLUE | SHELLS | pure) - folders
    assert not GLUE & SHELLS and not (GLUE | SHELLS) & pure


def test_only_the_glue_knows_moonraker() -> None:
    for path in COMPONENT.rglob("*.py"):
        names = set(imported(ast.parse(path.read_text())))
        if folder_of(path) not in GLUE:
            assert not names & {"moonraker", "tornado"}, path.name
        assert "klippy" not in names


# The side that runs in klippy

extra = pytest.mark.parametrize(
    "path", sources(sorted(EXTRA.glob("*.py"))), ids=lambda p: p.name
)
# Of Python 2.7 and 3 alike
EXTRA_IMPORTS = {
    "ast", "binascii", "bisect", "collections", "contextlib", "json", "logging",
    "math", "re", "sys", "time",
}  # fmt: skip
# PLR_Z_HOME waits for its moves, as G28 does: a calibration is refused in a print.
WAIT_FOR_MOVES = {"z_homing.py", "z_lift.py", "z_motors.py"}


@extra
def test_the_extra_imports_nothing_of_klippy(path: Path) -> None:
    names = {name for name in imported(ast.parse(path.read_text()))}
    own = {"." + p.stem for p in EXTRA.glob("*.py")}
    assert names <= EXTRA_IMPORTS | own


def newer_than_python_2(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        kind = type(node).__name__
        if kind in (
            "JoinedStr", "NamedExpr", "AnnAssign", "AsyncFunctionDef", "Await",
            "AsyncFor", "AsyncWith", "YieldFrom", "Nonlocal", "MatMult", "Match",
            "TryStar", "TypeAlias",
        ):  # fmt: skip
            yield f"{kind} in line {getattr(node, 'lineno', '?')}"
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            given = node.args
            if isinstance(node, ast.FunctionDef) and node.returns is not None:
                yield f"annotation in line {node.lineno}"
            if given.kwonlyargs or given.posonlyargs:
                yield f"keyword-only argument in line {node.lineno}"
            every = [*given.args, given.vararg, given.kwarg]
            if any(a is not None and a.annotation is not None for a in every):
                yield f"annotation in line {node.lineno}"
        if isinstance(node, ast.ClassDef) and node.keywords:
            yield f"class keyword in line {node.lineno}"
        if isinstance(node, ast.Raise) and node.cause is not None:
            yield f"raise from in line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "super" and not node.args:
                yield f"super() in line {node.lineno}"
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            if any(isinstance(item, ast.Starred) for item in node.elts):
                yield f"unpacking in line {node.lineno}"
        if isinstance(node, ast.Dict) and None in node.keys:
            yield f"unpacking in line {node.lineno}"


@extra
def test_the_extra_is_python_2_as_well(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text, feature_version=(3, 4))
    assert list(newer_than_python_2(tree)) == []
    assert not re.search(r"\b\d+_\d+\b", text), "an underscore in a number"
    assert text.isascii(), "Python 2 wants a coding line for this"


@pytest.mark.parametrize("line", [
    "f'{x}'", "(y := 1)", "a: int = 1", "def f(x: int): pass", "def f() -> None: pass",
    "def f(*, a): pass", "raise A from b", "class A(metaclass=B): pass", "super().x",
    "{**a}", "[*a]", "async def f(): pass",
])  # fmt: skip
def test_the_check_itself_finds_new_syntax(line: str) -> None:
    assert list(newer_than_python_2(ast.parse(line)))


@extra
def test_the_extra_touches_no_file_and_never_sleeps(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not called(tree) & CALLS
    found = attributes(tree)
    assert not found & {
        "sleep", "pause", "dwell", "system", "popen", "connect", "recv", "send",
    }  # fmt: skip
    if path.name not in WAIT_FOR_MOVES:
        assert not found & {"wait_moves", "get_last_move_time"}


@extra
def test_the_extra_catches_no_bare_exception(path: Path) -> None:
    handlers = [n for n in ast.walk(ast.parse(path.read_text()))
                if isinstance(n, ast.ExceptHandler)]  # fmt: skip
    assert all(h.type is not None for h in handlers)


def test_marks_never_flush_the_queue() -> None:
    """Flushing between two lines of a print costs a stop on the part."""
    for name in ("marks.py", "dispatch.py", "timeline.py", "snapshot.py"):
        found = attributes(ast.parse((EXTRA / name).read_text()))
        assert not {word for word in found if "flush" in word}
