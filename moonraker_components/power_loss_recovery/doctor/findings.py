# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a doctor looks at, and what it says: the shapes."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SECTION = "power_loss_recovery"
GOOD, DOUBT, BAD, UNKNOWN = "good", "doubt", "bad", "unknown"
STEPPERS = ("stepper_z", "stepper_z1", "stepper_z2", "stepper_z3")

Sections = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Finding:
    """state: "good"; "bad": saving or resuming will fail, or the machine may be
    harmed; "doubt": worth a look; "unknown": could not be looked at.  mend: what to
    do, empty where all is well."""

    name: str
    state: str
    found: str
    mend: str = ""


def good(name: str, found: str) -> Finding:
    return Finding(name, GOOD, found)


def doubt(name: str, found: str, mend: str) -> Finding:
    return Finding(name, DOUBT, found, mend)


def bad(name: str, found: str, mend: str) -> Finding:
    return Finding(name, BAD, found, mend)


def unknown(name: str, found: str) -> Finding:
    return Finding(name, UNKNOWN, found)


@dataclass(frozen=True)
class Disk:
    """Where a file is.  kind, options: of the mount.  volatile: what kind of memory it
    is, nothing for a disk.  free: bytes.  latency: seconds for one synced block, the
    median of some.  error: of the attempt to write."""

    path: str
    kind: str = ""
    volatile: str = ""
    options: frozenset[str] = frozenset()
    free: int | None = None
    latency: float | None = None
    error: str = ""


@dataclass(frozen=True)
class Clock:
    """now: seconds since the epoch.  synchronised: with the network, None if nobody
    knows.  battery: there is a clock that runs while the host is off."""

    now: float
    synchronised: bool | None = None
    battery: bool = True


@dataclass(frozen=True)
class Links:
    """Where the two programs find us.

    extras: our names in Klipper's folders, with what each leads to, empty if nowhere.
    older: another plugin's power_loss_recovery.py there.  component: our folder in
    Moonraker's, and what its __init__.py leads to.  folder_link: it is itself a link.
    ours: the folder of this code.  dirty: what git calls untracked of it.
    """

    klipper: str = ""
    moonraker: str = ""
    extras: Mapping[str, str] = field(default_factory=dict)
    older: str = ""
    component: str = ""
    component_to: str = ""
    folder_link: bool = False
    ours: str = ""
    dirty: Sequence[str] = ()


@dataclass(frozen=True)
class Evidence:
    """All that is known; what is not is empty, or None.

    config, moonraker_config: sections as written, with lower-case options; the texts
    of macros too.  config_problems: in reading them.  klippy_state: "" if klippy does
    not answer.  status: klippy's objects.  endstops: "open" or "TRIGGERED" by name.
    moonraker: the answer of server.info, None if it does not answer.
    plr: the answer of server.plr.status.  variables: the file of [save_variables],
    None if it is not there, and why klippy could not read it, or nothing.
    roots: real paths by name, as "gcodes".
    """

    config: Sections
    clock: Clock
    config_problems: Sequence[str] = ()
    moonraker_config: Sections = field(default_factory=dict)
    moonraker_problems: Sequence[str] = ()
    klippy_state: str = ""
    klippy_message: str = ""
    klippy_version: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)
    endstops: Mapping[str, str] = field(default_factory=dict)
    moonraker: Mapping[str, Any] | None = None
    plr: Mapping[str, Any] | None = None
    variables_problem: str = ""
    disk: Disk | None = None
    variables_disk: Disk | None = None
    gcodes_free: int | None = None
    roots: Mapping[str, str] = field(default_factory=dict)
    links: Links = field(default_factory=Links)

    @property
    def ready(self) -> bool:
        return self.klippy_state == "ready"

    @property
    def own(self) -> Mapping[str, str]:
        """The options of [power_loss_recovery] in printer.cfg."""
        return self.config.get(SECTION, {})

    @property
    def extra(self) -> Mapping[str, Any]:
        """Its status."""
        found = self.status.get(SECTION)
        return found if isinstance(found, Mapping) else {}

    def has(self, section: str) -> bool:
        return any(name.lower() == section for name in self.config)

    @property
    def z_motors(self) -> list[str]:
        return [name for name in STEPPERS if self.has(name)]

    @property
    def switches(self) -> dict[str, str]:
        """Pins by motor."""
        pins = {name: self.own.get(f"pin_{name}", "").strip() for name in STEPPERS}
        return {name: pin for name, pin in pins.items() if pin}
