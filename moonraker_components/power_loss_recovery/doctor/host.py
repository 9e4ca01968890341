# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What the host has to have: the two programs, the links, a disk and a clock."""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .findings import SECTION, Disk, Evidence, Finding, bad, doubt, good, unknown

MIB = 1 << 20
LEAST_FREE = 4 * MIB  # the journal, and what lies beside it
LITTLE_FREE = 64 * MIB
LITTLE_GCODES = 256 * MIB  # a resume file is nearly as long as its original
SLOW, TOO_SLOW = 0.25, 2.0  # seconds for one synced block
FIRST_YEAR = 1735689600.0  # 2025: no host was set up before
# First and last that our tests run on
KLIPPER = ((0, 12), (0, 13))
MOONRAKER = ((0, 9, 3), (0, 11))
FOREIGN = ("vfat", "exfat", "msdos", "ntfs", "ntfs3", "fuseblk", "hfsplus")
REMOTE = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p")
NO_BARRIER = {"nobarrier", "barrier=0"}
TRUE = ("true", "yes", "1", "on")
_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")


def version(text: str) -> tuple[int, ...] | None:
    """Of "v0.13.0-120-gabcdef0"; None if it is written in another way."""
    found = _VERSION.match(text.strip())
    if found is None:
        return None
    return tuple(int(part or 0) for part in found.groups())


def versions(e: Evidence) -> Iterator[Finding]:
    yield from _version("Klipper", e.klippy_version, KLIPPER, e.ready)
    told = str((e.moonraker or {}).get("moonraker_version", ""))
    yield from _version("Moonraker", told, MOONRAKER, e.moonraker is not None)


def _version(
    name: str, text: str, known: tuple[tuple[int, ...], tuple[int, ...]], asked: bool
) -> Iterator[Finding]:
    found = version(text)
    if found is None or found[0] > 1000:
        # A commit alone, a vendor's, or Kalico's year
        if asked:
            yield unknown(f"{name} version", f"{name} calls itself {text or '?'}.")
        return
    first, last = known
    if found < first:
        oldest = ".".join(map(str, first))
        yield bad(
            f"{name} version", f"{name} is {text}: older than {oldest}.",
            f"Update {name}.",
        )  # fmt: skip
    elif found[: len(last)] > last:
        newest = ".".join(map(str, last))
        yield doubt(
            f"{name} version", f"{name} is {text}: newer than what we are tested with"
            f" ({newest}).",
            "Update this plugin. Try it with a small print before a long one.",
        )  # fmt: skip
    else:
        yield good(f"{name} version", f"{name} is {text}, which is tested.")


def moonraker(e: Evidence) -> Iterator[Finding]:
    name = "Moonraker"
    for problem in e.moonraker_problems:
        yield bad("moonraker.conf", problem, "Correct moonraker.conf.")
    configured = SECTION in e.moonraker_config
    if e.moonraker_config and not configured:
        yield bad(
            "moonraker.conf", "moonraker.conf has no [power_loss_recovery]: nothing is"
            " saved.",
            "Run scripts/install.sh, or add the section.",
        )  # fmt: skip
    if e.moonraker is None:
        yield unknown(name, "Moonraker does not answer.")
        return
    if SECTION in e.moonraker.get("failed_components", ()):
        warnings = [w for w in e.moonraker.get("warnings", ()) if SECTION in str(w)]
        yield bad(
            name, f"Our part of Moonraker did not load. {' '.join(map(str, warnings))}",
            "See moonraker.log; scripts/install.sh makes the links again.",
        )  # fmt: skip
    elif SECTION in e.moonraker.get("components", ()):
        yield good(name, "Our part of Moonraker runs.")
    elif configured:
        yield bad(
            name, "moonraker.conf names our part of Moonraker, which is not loaded.",
            "Restart Moonraker; scripts/install.sh makes the links again.",
        )  # fmt: skip


def saving(e: Evidence) -> Iterator[Finding]:
    """What our part of Moonraker says of itself."""
    if e.plr is None:
        return
    if e.plr.get("enabled") is False:
        yield bad("saving", "Saving is off.", "PLR_ENABLE turns it on.")
        return
    trouble = str(e.plr.get("trouble") or e.plr.get("last_error") or "")
    if trouble:
        yield bad("saving", trouble, "It heals by itself once the reason is gone.")
    else:
        yield good("saving", "Saving is on.")


def links(e: Evidence) -> Iterator[Finding]:
    name, all_ours = "links", e.links
    again = "Run scripts/install.sh again."
    if all_ours.klipper and not all_ours.extras:
        yield bad(name, f"{all_ours.klipper} has no link to our part.", again)
    for path, target in all_ours.extras.items():
        if not target:
            yield bad(name, f"{path} leads nowhere.", again)
        elif all_ours.ours and not _inside(target, all_ours.ours):
            yield doubt(
                name, f"{path} leads to {target}, not to {all_ours.ours}: the two"
                " halves may not fit.", again,
            )  # fmt: skip
    if len(all_ours.extras) > 1:
        yield bad(
            name, f"There are two of us: {' and '.join(all_ours.extras)}.",
            "Remove one. Kalico needs that in klippy/plugins, Klipper that in extras.",
        )  # fmt: skip
    if all_ours.older:
        yield bad(
            "klipper-plr", f"{all_ours.older} is another plugin of the same name.",
            "Run scripts/install.sh, which moves it aside.",
        )  # fmt: skip
    yield from _component(e)
    if all_ours.dirty:
        yield doubt(
            "updates", f"git shows {', '.join(all_ours.dirty)} as untracked: the update"
            " manager may call the repository dirty.",
            "Run scripts/install.sh, which adds it to .git/info/exclude.",
        )  # fmt: skip


def _component(e: Evidence) -> Iterator[Finding]:
    found, again = e.links, "Run scripts/install.sh again."
    if found.folder_link:
        yield doubt(
            "links", f"{found.component} is a link to a folder: an update of Moonraker"
            " with pip would delete what it leads to.", again,
        )  # fmt: skip
    elif found.component and not found.component_to:
        yield bad("links", f"{found.component} leads nowhere.", again)
    elif found.moonraker and not found.component and e.moonraker is None:
        yield bad("links", f"{found.moonraker} has no link to our part.", again)
    elif found.extras and all(found.extras.values()):
        yield good("links", "Klipper and Moonraker find us.")


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def journal(e: Evidence) -> Iterator[Finding]:
    disk, name = e.disk, "journal"
    if disk is None:
        return
    place = "Set journal_path in moonraker.conf to a place on another disk."
    if disk.volatile:
        yield bad(name, f"{disk.path} is in memory ({disk.volatile}): a power loss"
                  " takes it along.", place)  # fmt: skip
    elif "ro" in disk.options:
        yield bad(
            name, f"{disk.path} is on a disk that is read-only.",
            "Mount it for writing. A worn SD card turns read-only by itself.",
        )  # fmt: skip
    elif disk.error:
        yield bad(name, f"{disk.path} cannot be written: {disk.error}.", place)
    elif disk.free is not None and disk.free < LEAST_FREE:
        yield bad(name, f"{disk.path}: {disk.free // MIB} MiB are free.",
                  "Delete what is not needed.")  # fmt: skip
    else:
        yield from _quality(disk, name, place)
    if e.gcodes_free is not None and e.gcodes_free < LITTLE_GCODES:
        yield doubt(
            "gcodes", f"{e.gcodes_free // MIB} MiB are free for G-code files: a resume"
            " needs as much as the file it resumes.",
            "Delete old files.",
        )  # fmt: skip
    where = e.variables_disk
    if where is not None and where.volatile:
        yield bad(
            "save_variables", f"{where.path} is in memory ({where.volatile}): the"
            " calibration is lost with the power.",
            "Give [save_variables] a filename on a disk.",
        )  # fmt: skip


def _quality(disk: Disk, name: str, place: str) -> Iterator[Finding]:
    clean = True
    for wrong, text in (
        (disk.kind == "overlay", "an overlay, whose upper layer is often in memory"),
        (disk.kind in FOREIGN, f"{disk.kind}, which can lose files at a power loss"),
        (disk.kind in REMOTE, f"{disk.kind}: another computer has to be on as well"),
        (bool(disk.options & NO_BARRIER), "mounted without barriers: what is synced may"
         " not be on the disk"),
    ):  # fmt: skip
        if wrong:
            clean = False
            yield doubt(name, f"{disk.path} is on {text}.", place)
    if disk.free is not None and disk.free < LITTLE_FREE:
        clean = False
        yield doubt(name, f"{disk.path}: only {disk.free // MIB} MiB are free.",
                    "Delete what is not needed.")  # fmt: skip
    if disk.latency is not None and disk.latency > SLOW:
        clean = False
        grade = bad if disk.latency > TOO_SLOW else doubt
        yield grade(
            name, f"One save takes {disk.latency:.2f} s on {disk.path}: so much more is"
            " laid twice after a power loss.",
            "Use a better SD card, an SSD or a USB stick for journal_path.",
        )  # fmt: skip
    if clean:
        took = f" in {disk.latency * 1000:.1f} ms" if disk.latency is not None else ""
        yield good(name, f"{disk.path} takes a save{took}.")


def clock(e: Evidence) -> Iterator[Finding]:
    name = "clock"
    if e.clock.now < FIRST_YEAR:
        yield bad(name, "The host's clock is not set.",
                  "Give the host network time (timedatectl set-ntp true).")  # fmt: skip
    elif e.clock.synchronised is False and not e.clock.battery:
        yield doubt(
            name, "The host has no clock of its own and no network time: how long the"
            " power was off is not known, so auto_resume: if_bed_warm does nothing.",
            "Connect it to a network, or fit a clock module (RTC).",
        )  # fmt: skip
    else:
        yield good(name, "The host's clock is set.")


def by_itself(e: Evidence) -> Iterator[Finding]:
    """What Moonraker would do on its own after a boot, or in a print."""
    sections = e.moonraker_config
    queue = sections.get("job_queue", {})
    if _on(queue, "load_on_startup"):
        yield bad(
            "job queue", "load_on_startup starts the next print after a boot, onto the"
            " interrupted one.",
            "Remove load_on_startup from [job_queue] in moonraker.conf.",
        )  # fmt: skip
    elif sections:
        yield good("job queue", "Nothing is printed by itself after a boot.")
    for section, options in sections.items():
        if section.startswith("power "):
            yield from _power(section, options)
    yield from _updates(e)
    gcodes = e.roots.get("gcodes")
    card = e.roots.get("virtual_sdcard")
    if gcodes and card and gcodes != card:
        yield bad(
            "gcodes", f"[virtual_sdcard] prints from {card}, Moonraker's files are in"
            f" {gcodes}: prints are not found again.",
            "Set path in [virtual_sdcard] to Moonraker's folder.",
        )  # fmt: skip


def _power(section: str, options: Mapping[str, str]) -> Iterator[Finding]:
    bound = options.get("bound_services", options.get("bound_service", ""))
    feeds = "klipper" in bound or _on(options, "restart_klipper_when_powered")
    if _on(options, "off_when_shutdown"):
        yield bad(
            "power", f"[{section}] cuts the power when Klipper shuts down: Z sinks, and"
            " where the motors stopped cannot be used.",
            "Remove off_when_shutdown, unless it is for safety; then give it a long"
            " off_when_shutdown_delay.",
        )  # fmt: skip
    if feeds and not _on(options, "locked_while_printing"):
        yield doubt(
            "power", f"[{section}] feeds the printer, and can be switched off in a"
            " print.",
            "Add locked_while_printing: True.",
        )  # fmt: skip


def _updates(e: Evidence) -> Iterator[Finding]:
    for section, options in e.moonraker_config.items():
        if not section.startswith("update_manager ") or not e.links.ours:
            continue
        own = section.split()[1] == SECTION
        path = e.roots.get(section, "")
        if path != e.links.ours and not own:
            continue
        if path != e.links.ours:
            yield doubt(
                "updates", f"[{section}] updates {options.get('path', 'nothing')}, we"
                f" run from {e.links.ours}.", f"Set path: {e.links.ours}",
            )  # fmt: skip
        managed = options.get("managed_services", "").split()
        if not {"klipper", "moonraker"} <= set(managed):
            yield doubt(
                "updates", f"After an update, [{section}] does not restart both"
                " programs: the two halves of us may not fit.",
                "Add managed_services: klipper moonraker",
            )  # fmt: skip


def _on(options: Mapping[str, Any], name: str) -> bool:
    return str(options.get(name, "")).strip().lower() in TRUE
