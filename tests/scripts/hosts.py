# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Homes as KIAUH, MainsailOS and people by hand leave them, with real trees in them."""
from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import moonraker

REPO = Path(__file__).resolve().parents[2]
SAVED = """\
#*# <---------------------- SAVE_CONFIG ---------------------->
#*# DO NOT EDIT THIS BLOCK OR BELOW. The contents are auto-generated.
#*#
#*# [extruder]
#*# pid_kp = 21.5
"""
PRINTER = """\
# My printer
[include mainsail.cfg]
[include extras/*.cfg]

[mcu]
serial: /dev/serial/by-id/usb-Klipper

[printer]
kinematics: corexy
"""
# As mainsail-config has it
MAINSAIL = """\
[virtual_sdcard]
path: ~/printer_data/gcodes
on_error_gcode: CANCEL_PRINT

[pause_resume]

[display_status]

[respond]
"""
MOONRAKER = """\
[server]
host: 0.0.0.0
port: 7125

[update_manager]
channel: dev

[update_manager mainsail-config]
type: git_repo
path: ~/mainsail-config
"""
# Of systemctl and sudo, for scripts that restart services
RECORDER = '#!/bin/sh\necho "$(basename "$0") $*" >>"$HOME/calls"\n'


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t",
               "-c", "init.defaultBranch=master", *arguments]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def repository(folder: Path, ignored: str = "*.pyc\n__pycache__/\n") -> None:
    (folder / ".gitignore").write_text(ignored)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "as it was cloned")


def klipper(folder: Path, tree: Path) -> None:
    """A checkout with the real extras of a tree."""
    shutil.copytree(tree / "klippy" / "extras", folder / "klippy" / "extras",
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    shutil.copyfile(tree / "klippy" / "klippy.py", folder / "klippy" / "klippy.py")
    ignored = "*.pyc\n__pycache__/\n"
    plugins = tree / "klippy" / "plugins"
    if plugins.is_dir():
        (folder / "klippy" / "plugins").mkdir()
        ignored += "klippy/plugins/*\n!klippy/plugins/__init__.py\n"
        (folder / "klippy" / "plugins" / "__init__.py").touch()
    repository(folder, ignored)


def moonraker_checkout(folder: Path) -> None:
    shutil.copytree(Path(str(moonraker.__file__)).parent, folder / "moonraker",
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    repository(folder)


def printer(folder: Path, home: Path, port: int = 7125) -> Path:
    """A printer_data, and the files that KIAUH keeps beside it."""
    config = folder / "config"
    for name in ("config/extras", "gcodes", "logs", "comms", "systemd"):
        (folder / name).mkdir(parents=True)
    (config / "printer.cfg").write_text(PRINTER + "\n" + SAVED)
    shared = home / "mainsail-config" / "mainsail.cfg"
    shared.parent.mkdir(exist_ok=True)
    shared.write_text(MAINSAIL)
    (config / "mainsail.cfg").symlink_to(shared)
    (config / "extras" / "fan.cfg").write_text("[fan]\npin: PA8\n")
    (config / "moonraker.conf").write_text(MOONRAKER.replace("7125", str(port)))
    for name, path, more in (
        ("klipper", "klippy/klippy.py", f"{config}/printer.cfg -I x -l y -a z"),
        ("moonraker", "moonraker/moonraker.py", f"-d {folder}"),
    ):
        text = f'{name.upper()}_ARGS="{home}/{name}/{path} {more}"\n'
        (folder / "systemd" / f"{name}.env").write_text(text)
    return folder


class Host:
    """A home, a PATH in which systemctl and sudo only write down that they were
    called, and systemd's folder."""

    def __init__(self, home: Path, tree: Path) -> None:
        self.home = home
        home.mkdir()
        klipper(home / "klipper", tree)
        moonraker_checkout(home / "moonraker")
        self.units = home.parent / "units"
        self.tools = home.parent / "tools"
        for folder in (self.units, self.tools):
            folder.mkdir()
        for name in ("sudo", "systemctl"):
            (self.tools / name).write_text(RECORDER)
            (self.tools / name).chmod(0o755)

    @property
    def klipper(self) -> Path:
        return self.home / "klipper"

    @property
    def moonraker(self) -> Path:
        return self.home / "moonraker"

    def add_printer(self, name: str = "printer_data", port: int = 7125) -> Path:
        data = printer(self.home / name, self.home, port)
        suffix = name.removeprefix("printer").removesuffix("data").strip("_")
        for program in ("klipper", "moonraker"):
            unit = f"{program}-{suffix}" if suffix else program
            (self.units / f"{unit}.service").write_text(
                f"[Service]\nEnvironmentFile={data}/systemd/{program}.env\n"
            )
        return data

    def run(
        self, script: str, *arguments: object, answers: str = "", user: str = "",
        repo: Path = REPO,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """answers: typed one after the other."""
        command: Sequence[str] = [str(repo / "scripts" / script),
                                  *map(str, arguments)]  # fmt: skip
        python = Path(shutil.which("python3") or "python3").parent
        return subprocess.run(
            command, input=answers, capture_output=True, text=True, timeout=120,
            env={"HOME": str(self.home), "PATH": f"{self.tools}:{python}:/usr/bin:/bin",
                 "PLR_UNITS": str(self.units), "LC_ALL": "C.UTF-8"},
        )  # fmt: skip

    def calls(self) -> str:
        path = self.home / "calls"
        return path.read_text() if path.exists() else ""


def snapshot(folder: Path, but: Sequence[str] = ()) -> dict[str, str]:
    """All files by name, with their content, or where they lead to; without git's."""
    found = {}
    for root, folders, files in os.walk(folder):
        folders[:] = [d for d in folders if d not in (".git", *but)]
        for name in [*files, *folders]:
            path = Path(root) / name
            if path.is_symlink():
                found[str(path.relative_to(folder))] = os.readlink(path)
            elif path.is_file():
                data = path.read_bytes().decode("latin1")
                found[str(path.relative_to(folder))] = data
    return found
