# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The second copy of the calibration, and a variables file cut short anywhere."""
from __future__ import annotations

import ast
import configparser
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.calibration import (
    calibration_file,
    mending,
)
from moonraker_components.power_loss_recovery.calibration.mending import (
    Calibration,
    CalibrationError,
)
from moonraker_components.power_loss_recovery.calibration.variables_copy import (
    VariablesCopy,
)
from moonraker_components.power_loss_recovery.store.journal_file import Disk

INFO = {"time": 1700000000, "config": {"Z motors": "stepper_z", "pin": "^!mcu:ZP0"}}
OURS = {
    "z_calibration_info": INFO,
    "z_endstop_position_stepper_z": 231.987654,
    "z_endstop_position_stepper_z1": 232.5,
    "z_offset_stepper_z": 0.0,
    "z_offset_stepper_z1": -0.512346,
}
OTHERS: dict[str, Any] = {
    "a_list": [1, "two", None], "hours": 123.5, "name": "50 € = ü # ; x", "zz": True,
}  # fmt: skip
PATH = "/home/pi/printer_data/config/variables.cfg"


def copy(path: str = PATH, **changes: Any) -> Calibration:
    return Calibration.from_klippy({**OTHERS, **OURS, **changes}, path)


def as_klippy_writes(variables: dict[str, Any]) -> bytes:
    lines = [f"{name} = {value!r}\n" for name, value in sorted(variables.items())]
    return ("[Variables]\n" + "".join(lines) + "\n").encode()


def as_klippy_reads(path: Path) -> dict[str, Any]:
    """extras/save_variables.py, loadVariables()"""
    found = {}
    file = configparser.ConfigParser()
    file.read(path, encoding="utf-8")
    if file.has_section("Variables"):
        for name, value in file.items("Variables"):
            found[name] = ast.literal_eval(value)
    return found


def test_it_keeps_the_calibration_and_nothing_else() -> None:
    made = copy()
    assert made.variables == OURS
    assert made.time == 1700000000
    assert Calibration.from_bytes(made.to_bytes()) == made


def test_a_copy_with_any_byte_changed_or_missing_is_refused() -> None:
    data = copy().to_bytes()
    for at in range(len(data) - 1):
        changed = bytearray(data)
        changed[at] ^= 1
        for bad in (bytes(changed), data[:at]):
            with pytest.raises(CalibrationError):
                Calibration.from_bytes(bad)


@pytest.mark.parametrize("changes", [
    {"z_calibration_info": None}, {"z_calibration_info": {"time": 1}},
    {"z_calibration_info": {**INFO, "time": "1"}},
    {"z_calibration_info": {**INFO, "time": float("inf")}},
    {"z_calibration_info": {**INFO, "time": True}},
    {"z_calibration_info": {**INFO, "config": {"pin": 3}}},
    {"z_calibration_info": {**INFO, "config": {"pin": "100 %"}}},
    {"z_offset_stepper_z": "0"}, {"z_offset_stepper_z": float("nan")},
    {"z_offset_stepper_z": 5001}, {"z_offset_stepper_z": True},
])  # fmt: skip
def test_what_is_not_a_calibration_is_not_kept(changes: dict[str, Any]) -> None:
    with pytest.raises(CalibrationError):
        copy(**changes)


@pytest.mark.parametrize("path", ["variables.cfg", "/a\nb", "/a\0b"])
def test_a_path_that_could_be_anything_is_refused(path: str) -> None:
    with pytest.raises(CalibrationError):
        copy(path)


def test_the_command_survives_klippys_parser() -> None:
    name, data = copy().command().split(" DATA=")
    assert name == "_PLR_RESTORE_CALIBRATION" and data.isalnum()
    assert json.loads(bytes.fromhex(data)) == OURS


@pytest.mark.parametrize("path", ["", "~/nowhere/variables.cfg", PATH])
def test_a_missing_file_is_not_made(tmp_path: Path, path: str) -> None:
    target = str(tmp_path / "gone") if path == PATH else path
    made = Calibration(1, OURS, target if target.startswith("/") else "")
    assert calibration_file.mend_variables(made) is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_cut_short_at_any_byte_is_readable_and_has_the_calibration(
    tmp_path: Path,
) -> None:
    path = tmp_path / "variables.cfg"
    whole = as_klippy_writes({**OTHERS, **OURS})
    made = copy(str(path))
    mended = 0
    for length in range(len(whole) + 1):
        cut = whole[:length]
        path.write_bytes(cut)
        done = calibration_file.mend_variables(made)
        found = as_klippy_reads(path)
        if done is None:
            assert path.read_bytes() == cut
            continue
        mended += 1
        aside = Path(done[1])
        assert aside.read_bytes() == cut
        aside.unlink()
        assert OURS.items() <= found.items()
        others = {name: v for name, v in found.items() if name not in OURS}
        # What was whole, all of it, and no half value
        lines = whole[: cut.rfind(b"\n") + 1].decode()
        assert others == {n: v for n, v in OTHERS.items() if f"\n{n} = " in lines}
        assert set(done[0].kept) == set(others)
        assert list(tmp_path.iterdir()) == [path]
    # Most of them: else this test looks at nothing
    assert mended > len(whole) * 0.8


@given(st.binary(max_size=300), st.integers(0, 400))
def test_torn_sectors_are_survived(noise: bytes, at: int) -> None:
    whole = as_klippy_writes({**OTHERS, **OURS})
    data = whole[:at] + noise + whole[at + len(noise) :]
    found = mending.parse(mending.mend(data, OURS).data)
    assert OURS.items() <= found.items()
    assert all(name.isprintable() for name in found)


def test_what_is_lost_is_named() -> None:
    data = b"[Variables]\na = [1, \nb = 2\n\0\0\0\nc = 100%\nd = 50%%\ne = 3"
    done = mending.mend(data, OURS)
    assert done.lost == ("a", "?", "c", "d", "e")
    assert done.kept == ("b",)


def test_a_percent_sign_is_written_as_klippy_reads_it() -> None:
    done = mending.mend(b"[Variables]\na = '50%%'\nb = ]\n", OURS)
    assert mending.parse(done.data)["a"] == "50%"


@given(st.integers(0, 400))
def test_what_a_cut_took_is_taken_as_it_was(at: int) -> None:
    whole = as_klippy_writes({**OTHERS, "hours": 999})
    done = mending.mend(whole[:at], {}, OTHERS)
    found = mending.parse(done.data)
    assert {**found, "hours": 0} == {**OTHERS, "hours": 0}
    assert found["hours"] in (OTHERS["hours"], 999)
    assert set(done.kept) | set(done.older) == set(OTHERS)


@pytest.mark.parametrize("content", [
    b"", b"{}\n[Variables]\na = 1\n", b"[" * 100_000 + b"\n", b"5\n", b"\xff\n",
    VariablesCopy("relative", "boot", b"[Variables]\na = 1\n").to_bytes(),
    VariablesCopy("/new\nline", "boot", b"[Variables]\na = 1\n").to_bytes(),
    VariablesCopy(PATH, "boot", b"[Variables]\na = ]\n").to_bytes(),
    VariablesCopy(PATH, "boot", b"").to_bytes(),
])  # fmt: skip
def test_a_copy_of_the_variables_that_could_be_anything_is_refused(
    content: bytes,
) -> None:
    with pytest.raises(CalibrationError):
        VariablesCopy.from_bytes(content)


def test_a_copy_of_the_variables_with_any_byte_changed_is_refused() -> None:
    whole = VariablesCopy(PATH, "boot", as_klippy_writes(OTHERS)).to_bytes()
    assert VariablesCopy.from_bytes(whole).variables == OTHERS
    for i in range(whole.index(b"\n") + 1, len(whole)):
        with pytest.raises(CalibrationError):
            VariablesCopy.from_bytes(whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :])


class Broken(Disk):
    """A disk that fails at the nth call of one kind."""

    def __init__(self, kind: str, number: int) -> None:
        self.left = number
        real = getattr(Disk, kind)

        def fail(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise OSError(28, "No space left on device")
            return real(*args, **kwargs)

        setattr(self, kind, fail)


@pytest.mark.parametrize("kind", ["open", "pwrite", "fsync", "replace"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_disk_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, kind: str, number: int
) -> None:
    path = tmp_path / "variables.cfg"
    path.write_bytes(b"[Vari")
    try:
        calibration_file.mend_variables(copy(str(path)), None, Broken(kind, number))
    except OSError:
        assert path.read_bytes() == b"[Vari"
        return
    assert as_klippy_reads(path) == OURS


def test_the_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "real.cfg", tmp_path / "variables.cfg"
    path.write_bytes(b"[Vari")
    path.chmod(0o600)
    link.symlink_to(path)
    assert calibration_file.mend_variables(copy(str(link))) is not None
    assert link.is_symlink() and as_klippy_reads(path) == OURS
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_far_too_large_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "variables.cfg"
    path.write_bytes(b"[" * (mending.MAX_FILE + 1))
    with pytest.raises(ValueError, match="larger"):
        calibration_file.mend_variables(copy(str(path)))


def test_a_damaged_copy_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "z_calibration"
    assert calibration_file.read(str(path)) is None
    path.write_bytes(copy("").to_bytes()[:-9])
    with pytest.raises(CalibrationError, match="checksum"):
        calibration_file.read(str(path))
    assert calibration_file.read(str(path)) is None
    calibration_file.write(str(path), copy(""))
    assert calibration_file.read(str(path)) == copy("")


def test_klippys_own_file_is_made_durable_as_well(tmp_path: Path) -> None:
    variables = tmp_path / "variables.cfg"
    variables.write_bytes(as_klippy_writes(OURS))
    synced = []
    disk = Disk()

    def fsync(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").resolve().name)

    disk.fsync = fsync  # type: ignore[misc]
    made = copy(str(variables))
    calibration_file.write(str(tmp_path / "z_calibration"), made, disk)
    assert "variables.cfg" in synced
