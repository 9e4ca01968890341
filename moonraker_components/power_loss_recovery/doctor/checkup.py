# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Asks Moonraker, Klipper and the host what the doctor wants to know."""
from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import answers
from . import checkup_host, diagnosis
from .findings import BAD, SECTION, Disk, Evidence, Finding

# A JSON-RPC method of Moonraker, and its parameters.  Raises NoAnswer.
Ask = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
OBJECTS = {SECTION: None, "print_stats": ["state"], "configfile": ["config"]}


class NoAnswer(Exception):
    """Nobody is there, or does not know it."""


@dataclass(frozen=True)
class Place:
    """data: the printer_data folder.  klipper, moonraker: their folders, empty if
    they are not known; Klipper's is asked for."""

    data: Path
    klipper: str = ""
    moonraker: str = ""


async def examine(ask: Ask, place: Place) -> list[Finding]:
    return diagnosis.examine(await gather(ask, place))


def answer(findings: list[Finding]) -> answers.Check:
    return {
        "ok": not any(finding.state == BAD for finding in findings),
        "summary": diagnosis.summary(findings),
        "findings": [
            {"name": f.name, "state": f.state, "found": f.found, "mend": f.mend}
            for f in findings
        ],
    }


async def gather(ask: Ask, place: Place) -> Evidence:
    async def maybe(method: str, **parameters: Any) -> Any:
        try:
            return await ask(method, parameters)
        except NoAnswer:
            return None

    server = await maybe("server.info")
    written = await maybe("server.config")
    info = await maybe("printer.info") or {}
    status = (await maybe("printer.objects.query", objects=OBJECTS) or {}).get(
        "status", {}
    )
    state = str(info.get("state", ""))
    idle = status.get("print_stats", {}).get("state") not in ("printing", "paused")
    endstops = None
    if state == "ready" and idle:
        # In a print the question would flush the queue of moves.
        endstops = await maybe("printer.query_endstops.status")
    plr = await maybe("server.plr.status")
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(
        None, _complete, place, server, written, info, status, endstops, plr
    )


def _complete(
    place: Place, server: Any, written: Any, info: Mapping[str, Any],
    status: Mapping[str, Any], endstops: Any, plr: Any,
) -> Evidence:  # fmt: skip
    """With what the host knows; blocks."""
    data = place.data
    sections, problems = _printer_cfg(data, info, status)
    moonraker_config, moonraker_problems = (written or {}).get("orig"), []
    if not moonraker_config:
        found = checkup_host.config(data / "config" / "moonraker.conf")
        moonraker_config, moonraker_problems = found.sections, found.problems
    variables = sections.get("save_variables", {}).get("filename", "")
    variables = variables and checkup_host.expand(variables)
    return Evidence(
        config=sections,
        config_problems=problems,
        clock=checkup_host.clock(),
        moonraker_config=moonraker_config,
        moonraker_problems=moonraker_problems,
        klippy_state=str(info.get("state", "")),
        klippy_message=" ".join(str(info.get("state_message", "")).split()),
        klippy_version=str(info.get("software_version", "")),
        status=status,
        endstops=endstops or {},
        moonraker=server,
        plr=plr,
        variables_problem=checkup_host.variables_problem(variables)
        if variables else "",
        disk=_journal(data, moonraker_config),
        variables_disk=checkup_host.where(variables) if variables else None,
        gcodes_free=checkup_host.free(str(data / "gcodes")),
        roots=_roots(data, sections, moonraker_config),
        links=checkup_host.links(
            str(info.get("klipper_path") or place.klipper), place.moonraker
        ),
    )  # fmt: skip


def _printer_cfg(
    data: Path, info: Mapping[str, Any], status: Mapping[str, Any]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """As klippy has it, or as it is in the file; and what is wrong with the file."""
    config, problems = status.get("configfile", {}).get("config"), []
    if not config:
        path = info.get("config_file") or data / "config" / "printer.cfg"
        found = checkup_host.config(Path(path))
        config, problems = found.sections, found.problems
    return {
        name: {str(option).lower(): str(value) for option, value in options.items()}
        for name, options in config.items()
    }, problems


def journal_path(data: Path, moonraker_config: Mapping[str, Any]) -> str:
    given = moonraker_config.get(SECTION, {}).get("journal_path", "")
    return checkup_host.expand(given.strip()) or str(data / "plr" / "journal")


def _journal(data: Path, moonraker_config: Mapping[str, Any]) -> Disk | None:
    path = journal_path(data, moonraker_config)
    if not os.path.isdir(os.path.dirname(path)):
        # Made when our part of Moonraker is loaded for the first time
        return None
    return checkup_host.journal_disk(path)


def _roots(
    data: Path, sections: Mapping[str, Mapping[str, str]],
    moonraker_config: Mapping[str, Mapping[str, str]],
) -> dict[str, str]:  # fmt: skip
    """Real paths of what should be the same place."""
    found = {"gcodes": checkup_host.real(str(data / "gcodes"))}
    card = sections.get("virtual_sdcard", {}).get("path")
    if card:
        found["virtual_sdcard"] = checkup_host.real(card)
    for section, options in moonraker_config.items():
        if section.startswith("update_manager ") and options.get("path"):
            found[section] = checkup_host.real(options["path"])
    return found
