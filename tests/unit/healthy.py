# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A machine with nothing wrong: the virtual printer's configuration, on a good host."""
from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from moonraker_components.power_loss_recovery.doctor.findings import (
    Clock,
    Disk,
    Evidence,
    Links,
)
from moonraker_components.power_loss_recovery.doctor.klipper_config import Files, load
from tests.virtual_printer.variants import VORON_24, Variant

REPO = Path(__file__).resolve().parents[2]
NOW = 1.8e9
OURS = "/home/pi/power-loss-recovery"
EXTRA = "/home/pi/klipper/klippy/extras/power_loss_recovery"
MOTORS = ("stepper_z", "stepper_z1", "stepper_z2", "stepper_z3")


def read(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError):
        return None


FILES = Files(read, lambda p: [os.path.abspath(found) for found in glob.glob(p)])


def printer_cfg(folder: Path, more: str = "", variant: Variant = VORON_24) -> Path:
    """The virtual printer's, as it is on its disk."""
    text = variant.printer_cfg() + more
    for key, value in (
        ("PORT", "/dev/serial"),
        ("SECOND_PORT", "/dev/serial2"),
        ("GCODES", "/home/pi/printer_data/gcodes"),
        ("MACROS", str(REPO / "macros" / "power_loss_recovery.cfg")),
        ("VARIABLES", "/home/pi/printer_data/config/variables.cfg"),
    ):
        text = text.replace("{" + key + "}", value)
    path = folder / "printer.cfg"
    path.write_text(text)
    return path


def evidence(folder: Path, more: str = "", variant: Variant = VORON_24) -> Evidence:
    """more: appended to printer.cfg."""
    config = load(str(printer_cfg(folder, more, variant)), FILES)
    return Evidence(
        config=config.sections,
        config_problems=config.problems,
        clock=Clock(NOW, synchronised=True, battery=False),
        klippy_state="ready",
        klippy_version="v0.13.0-120-gabcdef0",
        status={"power_loss_recovery": {
            "trouble": "", "approximate": False,
            "power_loss": {"available": False, "lost": False},
            "z_homing": {"available": True, "calibrated": True,
                         "calibration_problem": "", "calibration_time": NOW - 86400},
        }},
        endstops={"x": "open", "y": "open", "z": "open",
                  **{f"z_plus {name}": "open" for name in MOTORS}},
        moonraker_config={
            "server": {"port": "7125"}, "power_loss_recovery": {},
            "update_manager power_loss_recovery": {
                "path": "~/power-loss-recovery",
                "managed_services": "klipper moonraker",
            },
            "power lamp": {"type": "gpio"}, "job_queue": {"load_on_startup": "False"},
        },
        moonraker={
            "moonraker_version": "v0.11.0-0-g1234567", "warnings": [],
            "components": ["server", "power_loss_recovery"], "failed_components": [],
        },
        plr={"enabled": True, "trouble": "", "last_error": "",
             "calibration": {"second_copy": True}},
        disk=Disk("/home/pi/printer_data/plr/journal", "ext4",
                  options=frozenset({"rw", "noatime"}), free=9 << 30, latency=0.004),
        variables_disk=Disk("/home/pi/printer_data/config/variables.cfg", "ext4"),
        gcodes_free=9 << 30,
        roots={"gcodes": "/home/pi/printer_data/gcodes",
               "virtual_sdcard": "/home/pi/printer_data/gcodes",
               "update_manager power_loss_recovery": OURS},
        links=Links(
            klipper="/home/pi/klipper", moonraker="/home/pi/moonraker",
            extras={EXTRA: OURS + "/klippy_extras/power_loss_recovery"},
            component="/home/pi/moonraker/moonraker/components/power_loss_recovery",
            component_to=OURS + "/moonraker_components/power_loss_recovery",
            ours=OURS,
        ),
    )  # fmt: skip


def without(e: Evidence, *sections: str) -> Evidence:
    """printer.cfg without some sections."""
    kept = {name: o for name, o in e.config.items() if name not in sections}
    assert len(kept) == len(e.config) - len(sections)
    return replace(e, config=kept)


def with_options(e: Evidence, section: str, **options: str) -> Evidence:
    """With a section of printer.cfg, or other options of one."""
    changed = {**e.config.get(section, {}), **options}
    return replace(e, config={**e.config, section: changed})


def with_moonraker(e: Evidence, section: str, **options: str) -> Evidence:
    changed = {**e.moonraker_config.get(section, {}), **options}
    return replace(e, moonraker_config={**e.moonraker_config, section: changed})


def with_extra(e: Evidence, **values: Any) -> Evidence:
    """With another status of our part of Klipper."""
    return replace(e, status={"power_loss_recovery": {**e.extra, **values}})


def with_z_homing(e: Evidence, **values: Any) -> Evidence:
    return with_extra(e, z_homing={**e.extra["z_homing"], **values})


def with_plr(e: Evidence, **values: Any) -> Evidence:
    told: Mapping[str, Any] = e.plr or {}
    return replace(e, plr={**told, **values})


def with_server(e: Evidence, **values: Any) -> Evidence:
    told: Mapping[str, Any] = e.moonraker or {}
    return replace(e, moonraker={**told, **values})


def with_disk(e: Evidence, **values: Any) -> Evidence:
    assert e.disk is not None
    return replace(e, disk=replace(e.disk, **values))


def with_links(e: Evidence, **values: Any) -> Evidence:
    return replace(e, links=replace(e.links, **values))
