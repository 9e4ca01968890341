# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""From a printer that has never heard of us to the offer after its first outage.

A home as MainsailOS has it, below the virtual printer: one command, the pins of the
switches, one calibration. Then back to the printer that it was.
"""
from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import moonraker
import pytest

from tests.bench.batch_klippy import without_extra
from tests.virtual_printer import outage, parts
from tests.virtual_printer.klippy_tree import REPO
from tests.virtual_printer.printer import VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

OWN = "power_loss_recovery"
# As the virtual printer starts Moonraker, but from the home's checkout and with
# nothing but the installer's link to find us by
START = (
    "import pathlib, sys; sys.path.insert(0, sys.argv.pop(1)); "
    f"from moonraker.components.{OWN} import component; "
    "component.BOOT_ID = pathlib.Path(sys.argv.pop(1)); "
    "from moonraker.server import main; main()"
)
LACKING = ("virtual_sdcard", "save_variables", "pause_resume", "respond")
PINS = "".join(f"pin_stepper_z{i or ''}: ^ZP{i}\n" for i in range(4))
# What belongs to the computer that the tests run on, and not to the printer
HOST = ("journal", "clock", "gcodes")


class Home(VirtualPrinter):
    """Its folder is a home with klipper, moonraker and printer_data."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        klipper = self.root / "klipper"
        shutil.copytree(self.tree.root, klipper, symlinks=True)
        for folder in ("extras", "plugins"):
            (klipper / "klippy" / folder / OWN).unlink(missing_ok=True)
        self.tree = replace(self.tree, root=klipper)
        shutil.copytree(Path(str(moonraker.__file__)).parent,
                        self.root / "moonraker" / "moonraker")  # fmt: skip
        self.path = self.data / "config" / "printer.cfg"
        text = without_extra(self.path.read_text())
        for name in LACKING:
            text = re.sub(rf"(?ms)^\[{name}\]\n.*?(?=^\[)", "", text)
        self.path.write_text(text)
        conf = self.path.with_name("moonraker.conf")
        conf.write_text(without_extra(conf.read_text()))

    def start_moonraker(self) -> None:
        self.moonraker = self._spawn(
            [self.moonraker_python, "-c", START, str(self.root / "moonraker"),
             str(self.boot_id), "-d", str(self.data)],
            "moonraker.out",
        )  # fmt: skip

    def script(self, name: str) -> str:
        command = [str(REPO / "scripts" / name), "--yes", "--no-restart"]
        env = dict(os.environ, HOME=str(self.root))
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def alarms(self) -> set[str]:
        found = self.get("/server/plr/check")["findings"]
        return {f["name"] for f in found if f["state"] in ("bad", "doubt")} - set(HOST)


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with Home(seed=81) as printer:
        yield printer


def test_one_command_and_one_calibration_lead_to_an_offer(
    home: Home, tmp_path: Path
) -> None:
    before = home.path.read_bytes()
    home.script("install.sh")
    text = home.path.read_text()
    assert text.count("\n#pin_stepper_z: ") == 1
    home.path.write_text(text.replace("#pin_stepper_z: ", PINS + "#", 1))
    home.power_on()
    assert home.alarms() == {"calibration"}
    home.gcode("G28")
    outage.calibrate(home)
    assert home.alarms() == set()
    home.print_file(parts.write(tmp_path / "p.gcode", parts.Part(size=20, layers=3)))
    home.wait("a save", lambda: home.get("/server/plr/status")["record"], 120)
    outage.cut_and_boot(home, 6.0)
    assert home.get("/server/plr/status")["state"] == "interrupted"
    home.cut_power()
    home.script("uninstall.sh")
    assert home.path.read_bytes() == before


def test_what_is_left_is_the_printer_that_it_was(home: Home) -> None:
    home.disk.power_on()
    home.machine("on", ports=home.serials())
    home.start_klippy()
    VirtualPrinter.start_moonraker(home)
    home.wait_ready()
    assert OWN not in home.get("/printer/objects/list")["objects"]
