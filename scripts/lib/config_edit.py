# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Our lines in printer.cfg and moonraker.conf: put in, and taken out again exactly.

    config_edit.py show|add|remove|left klipper|moonraker PRINTER_DATA [ORIGIN BRANCH]

show: prints the lines that add would put in, nothing if there is nothing to do.  They
stand in blocks between two marks.  What is there already, in any included file, is not
added.  add and remove write a whole new file beside the old one and swap it in, keep a
copy in PRINTER_DATA/plr/backup, and print where.  left: prints what names us outside of
our blocks, as FILE: LINE.  Exit status 1 with one line that says
why.
"""
from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "moonraker_components"))

from power_loss_recovery.doctor import checkup_host  # noqa: E402
from power_loss_recovery.doctor.klipper_config import SAVE_CONFIG  # noqa: E402

BEGIN = "# >>> power loss recovery: by its install.sh, taken out by uninstall.sh"
END = "# <<< power loss recovery"
# The file did not end in a line break before our block came.
JOINED = " (joined)"
OWN = "power_loss_recovery"
INCLUDE = "include power-loss-recovery/power_loss_recovery.cfg"
# Sections that a block of ours may have: more is somebody else's, and stays.
SECTIONS = {
    INCLUDE, "respond", "pause_resume", "virtual_sdcard", "save_variables", OWN,
    f"update_manager {OWN}",
}  # fmt: skip
HINTS = """\
# With a Z+ switch for each Z motor (README.md, Options):
#pin_stepper_z: ^PG10
#pin_stepper_z1: ^PG11
#z_position: 250"""
_HEADER = re.compile(r"^\[([^\]]+)\]", re.MULTILINE)


class Problem(Exception):
    """Nothing was changed; the text says why."""


def short(path: Path) -> str:
    """With ~ for the home, as owners write it."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def klipper_lines(data: Path) -> tuple[list[str], list[str]]:
    """For the beginning and for the end of printer.cfg: what is missing."""
    config = checkup_host.config(data / "config" / "printer.cfg")
    there = {" ".join(name.split()).lower() for name in config.sections}
    macros = os.path.realpath(ROOT / "macros" / "power_loss_recovery.cfg")
    included = any(os.path.realpath(file) == macros for file in config.files)
    # First of all, so that what the owner writes under the same name counts.
    top = [] if included else [f"[{INCLUDE}]"]
    wanted = (
        ("virtual_sdcard", [f"path: {short(data / 'gcodes')}"]),
        ("pause_resume", []),
        ("respond", []),
        ("save_variables",
         [f"filename: {short(data / 'config' / 'variables.cfg')}"]),
        (OWN, HINTS.split("\n")),
    )  # fmt: skip
    bottom: list[str] = []
    for section, options in wanted:
        if section not in there:
            bottom += [f"[{section}]", *options, ""]
    return top, bottom[:-1]


def moonraker_lines(data: Path, origin: str, branch: str) -> list[str]:
    config = checkup_host.config(data / "config" / "moonraker.conf")
    there = {" ".join(name.split()) for name in config.sections}
    lines: list[str] = []
    if OWN not in there:
        lines += [f"[{OWN}]", ""]
    managed = any(name.split()[0] == "update_manager" for name in there)
    if origin and managed and f"update_manager {OWN}" not in there:
        lines += [
            f"[update_manager {OWN}]", "type: git_repo", f"path: {short(ROOT)}",
            f"origin: {origin}", f"primary_branch: {branch}",
            "managed_services: klipper moonraker", "",
        ]  # fmt: skip
    return lines[:-1]


def block(lines: list[str], newline: str, joined: bool = False) -> str:
    first = BEGIN + (JOINED if joined else "")
    return "".join(line + newline for line in [first, *lines, END])


def added(text: str, top: list[str], bottom: list[str]) -> str:
    """`bottom` comes before what SAVE_CONFIG has written, which must stay last."""
    newline = "\r\n" if "\r\n" in text else "\n"
    plain, mark, saved = text.partition(SAVE_CONFIG)
    if bottom:
        joined = bool(plain) and not plain.endswith("\n")
        plain += (newline if joined else "") + block(bottom, newline, joined)
    if top:
        plain = block(top, newline) + plain
    return plain + mark + saved


def removed(text: str) -> str:
    """Raises Problem if there is more in a block than we have put there."""
    pattern = re.compile(
        rf"(?P<before>\r?\n)?^{re.escape(BEGIN)}(?P<joined>{re.escape(JOINED)})?\r?\n"
        rf"(?P<inside>(?:(?!{re.escape(BEGIN)}).*\n)*?){re.escape(END)}(?:\r?\n|\Z)",
        re.MULTILINE,
    )

    def out(found: re.Match[str]) -> str:
        strange = set(_HEADER.findall(found["inside"])) - SECTIONS
        if strange:
            raise Problem(
                f"between our two marks stands [{min(strange)}]: move it above or below"
                " them first"
            )
        return "" if found["joined"] else found["before"] or ""

    return pattern.sub(out, text)


def write(path: Path, text: str, data: Path) -> Path:
    """Returns where the old one is kept."""
    backup = data / "plr" / "backup" / time.strftime("%Y%m%d-%H%M%S") / path.name
    number = 1
    while backup.exists():
        number += 1
        backup = backup.with_name(f"{path.name}.{number}")
    backup.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, backup)
    # A link stays a link: the file that it leads to is replaced.
    target = Path(os.path.realpath(path))
    new = target.with_name(target.name + ".plr-new")
    with open(new, "w", encoding="utf-8", errors="surrogateescape", newline="") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    shutil.copystat(target, new)
    os.replace(new, target)
    return backup


def left(path: Path) -> list[str]:
    pattern = re.compile(
        rf"(?m)^(\[(?:update_manager +)?{OWN}\]|\[include +power-loss-recovery/.*\])"
    )
    return [
        f"{file}: {found}"
        for file in checkup_host.config(path).files
        for found in pattern.findall(checkup_host.FILES.read(file) or "")
    ]


def main(do: str, which: str, data: Path, origin: str = "", branch: str = "") -> None:
    name = "printer.cfg" if which == "klipper" else "moonraker.conf"
    path = data / "config" / name
    if do == "left":
        print("\n".join(left(path)))
        return
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as f:
        text = f.read()
    if do == "remove":
        new = removed(text)
    else:
        top, bottom = (
            klipper_lines(data) if which == "klipper"
            else ([], moonraker_lines(data, origin, branch))
        )  # fmt: skip
        new = added(text, top, bottom)
        if do == "show":
            print("\n".join(top + [""] * bool(top and bottom) + bottom), end="")
            return
    if new != text:
        print(write(path, new, data))


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], Path(sys.argv[3]).absolute(), *sys.argv[4:])
    except Problem as problem:
        sys.exit(f"error: {sys.argv[2]}: {problem}")
    except OSError as problem:
        sys.exit(f"error: {problem.filename}: {problem.strerror}")
