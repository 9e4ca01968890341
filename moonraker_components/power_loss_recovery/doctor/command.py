# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""plr doctor and plr bundle: Moonraker over HTTP if it runs, the files if not."""
from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import re
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import bundle, checkup, checkup_host, diagnosis
from .findings import BAD, Finding

PORT = 7125
TIMEOUT = 10.0
FAULTS = 1  # exit status: something is to be mended
# Those that have parameters are asked with a body.
POSTED = ("printer.objects.query",)


class Problem(Exception):
    """It cannot be asked or written; the text says why."""


class Http:
    """Moonraker's methods by HTTP.  refused: it wants to know who asks."""

    def __init__(self, url: str, key: str = "") -> None:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            raise Problem(f"{url}: expected http://HOST:PORT")
        self.host, self.port = parts.hostname, parts.port or PORT
        self.headers = {"Content-Type": "application/json"}
        if key:
            self.headers["X-Api-Key"] = key
        self.refused = False

    async def ask(self, method: str, parameters: Mapping[str, Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(
            None, self._ask, method, parameters
        )

    def _ask(self, method: str, parameters: Mapping[str, Any]) -> Any:
        path = "/" + method.replace(".", "/")
        post = method in POSTED
        link = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT)
        try:
            body = json.dumps(parameters) if post else None
            link.request("POST" if post else "GET", path, body, self.headers)
            response = link.getresponse()
            answer = json.loads(response.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise checkup.NoAnswer(str(e)) from e
        finally:
            link.close()
        if response.status in (401, 403):
            self.refused = True
        if response.status != 200 or not isinstance(answer, dict):
            raise checkup.NoAnswer(f"{path}: {response.status}")
        return answer.get("result")


def add(commands: Any) -> None:
    """The two commands, to the parser of plr."""
    for name, run, text in (
        ("doctor", _doctor, "look for what would spoil a resume"),
        ("bundle", _bundle, "collect what a bug report needs, without secrets"),
    ):
        parser = commands.add_parser(name, help=text, description=(
            f"{text.capitalize()}. Asks Moonraker on this host if it runs; reads the"
            " files if not."))  # fmt: skip
        parser.add_argument("--printer-data", type=Path, metavar="PATH",
                            help="default: printer_data in your home")  # fmt: skip
        parser.add_argument("--url", metavar="URL",
                            help="default: this host, the port of moonraker.conf")
        parser.add_argument("--api-key", default="", metavar="KEY",
                            help="if Moonraker asks who you are")  # fmt: skip
        parser.add_argument("--klipper", default="", metavar="PATH")
        parser.add_argument("--moonraker", default="", metavar="PATH")
        if name == "bundle":
            parser.add_argument("-o", "--output", type=Path, metavar="OUT",
                                help="default: plr-bundle-DATE.zip here")  # fmt: skip
        else:
            parser.add_argument("--json", action="store_true", help="for programs")
        parser.set_defaults(run=run)


def _place(asked: argparse.Namespace) -> checkup.Place:
    data = asked.printer_data or Path.home() / "printer_data"
    if not (data / "config").is_dir():
        raise Problem(
            f"{data} has no folder config: name the printer's with --printer-data"
        )
    return checkup.Place(
        data.resolve(),
        asked.klipper or _program(data, "klipper", r"(\S+)/klippy/klippy\.py"),
        asked.moonraker
        or _program(data, "moonraker", r"(\S+)/moonraker/moonraker\.py"),
    )


def _program(data: Path, name: str, pattern: str) -> str:
    """Where KIAUH or MainsailOS has put it, else in the home."""
    try:
        text = (data / "systemd" / f"{name}.env").read_text()
        found = re.search(rf'="?{pattern}', text)
    except OSError:
        found = None
    path = Path(found[1]) if found else Path.home() / name
    return str(path) if path.is_dir() else ""


def _http(asked: argparse.Namespace, data: Path) -> Http:
    if asked.url:
        return Http(asked.url, asked.api_key)
    server = checkup_host.config(data / "config" / "moonraker.conf").sections
    port = server.get("server", {}).get("port", "").strip()
    port = port if port.isdigit() else str(PORT)
    return Http(f"http://127.0.0.1:{port}", asked.api_key)


def _examined(asked: argparse.Namespace) -> tuple[checkup.Place, Http, list[Finding]]:
    place = _place(asked)
    link = _http(asked, place.data)
    found = asyncio.run(checkup.examine(link.ask, place))
    return place, link, found


def _said(link: Http, found: list[Finding]) -> list[str]:
    lines = diagnosis.lines(found)
    if link.refused:
        text = (
            "Moonraker wants to know who asks: give --api-key, or type PLR_CHECK on the"
            " console. What follows is from the files."
        )
        return [text, *lines]
    return lines


def _doctor(asked: argparse.Namespace) -> int:
    _, link, found = _examined(asked)
    if asked.json:
        print(json.dumps(checkup.answer(found), indent=1))
    else:
        print("\n".join(_said(link, found)))
    return FAULTS if any(finding.state == BAD for finding in found) else 0


def _bundle(asked: argparse.Namespace) -> int:
    place, link, found = _examined(asked)
    out = asked.output or Path(time.strftime("plr-bundle-%Y%m%d-%H%M%S.zip"))
    told = asyncio.run(_told(link))
    config = checkup_host.config(place.data / "config" / "moonraker.conf").sections
    journal = Path(checkup.journal_path(place.data, config))
    names = bundle.write(out, place.data, journal, _said(link, found), told)
    print(f"{out}: {len(names)} files, passwords and keys taken out. Look through it"
          " before you give it to others.")  # fmt: skip
    return 0


async def _told(link: Http) -> dict[str, Any]:
    told = {}
    for method in ("server.info", "printer.info", "server.plr.status",
                   "server.plr.history"):  # fmt: skip
        try:
            told[method] = await link.ask(method, {})
        except checkup.NoAnswer as e:
            told[method] = f"no answer: {e}"
    return told
