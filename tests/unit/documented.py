# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What the code offers to people, and what README.md says that it does.

A face is a set of names: as_coded() and as_documented() give it from both sides, and
test_readme.py compares them. To add one, add a function to each of the two tables.
"""
from __future__ import annotations

import ast
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

from klippy_extras.power_loss_recovery import PowerLossRecovery
from moonraker_components.power_loss_recovery.answers import STATES, Status
from moonraker_components.power_loss_recovery.faces.endpoints import (
    ENDPOINTS,
    NOTIFICATIONS,
)
from tests.unit.extra.fake_printer import Config, Printer

REPO = Path(__file__).resolve().parents[2]
COMPONENT = REPO / "moonraker_components" / "power_loss_recovery"
README = REPO / "README.md"


def as_coded(face: str) -> set[str]:
    return CODED[face]()


def as_documented(face: str) -> set[str]:
    return DOCUMENTED[face](README.read_text())


# In code


def _loaded() -> tuple[Printer, Config]:
    """The extra, as klippy loads it with an empty section."""
    printer = Printer()
    config = Config(printer)
    PowerLossRecovery(config)
    return printer, config


def _commands() -> set[str]:
    """Those with a help text; the others are between klippy and Moonraker."""
    printer, _ = _loaded()
    return {name for name, text in printer.help.items() if text}


def _klippy_options() -> set[str]:
    return _loaded()[1].read


def _moonraker_options() -> set[str]:
    """Of `config.get...("option"` in the component."""
    return {
        call.args[0].value
        for path in COMPONENT.rglob("*.py")
        for call in _calls(ast.parse(path.read_text()))
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in ("get", "getint", "getfloat", "getboolean", "getchoice")
        and isinstance(call.func.value, ast.Name) and call.func.value.id == "config"
        and call.args and isinstance(call.args[0], ast.Constant)
    }  # fmt: skip


def _endpoints() -> set[str]:
    return {f"{e.method} {e.path}" for e in ENDPOINTS}


def _parameters() -> set[str]:
    return {f"`{p.name}`: {p.allowed}" for e in ENDPOINTS for p in e.parameters}


def _notifications() -> set[str]:
    return {f"notify_{name}" for name in NOTIFICATIONS}


def _status_of_klippy() -> set[str]:
    printer = Printer()
    return set(PowerLossRecovery(Config(printer)).get_status(0.0))


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


# In the README


def section(text: str, heading: str) -> str:
    """From a heading of the second level to the next."""
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found is not None, f"README.md has no section {heading}"
    return found[1]


def tables(text: str) -> Iterator[str]:
    """First cells of all rows."""
    for row in re.finditer(r"^\| (?!-)(.+?) \|", text, re.MULTILINE):
        yield row[1]


def _documented_commands(text: str) -> set[str]:
    cells = "\n".join(tables(section(text, "Commands")))
    return set(re.findall(r"`([A-Z][A-Z_]+)[` ]", cells))


def _documented_options(file: str) -> Callable[[str], set[str]]:
    def find(text: str) -> set[str]:
        """In the blocks that follow the word that names the file."""
        _, _, after = section(text, "Options").partition(f"In `{file}`")
        block = after.split("\nIn `")[0]
        return set(re.findall(r"^#?(\w+):", block, re.MULTILINE))

    return find


def _in_api(pattern: str) -> Callable[[str], set[str]]:
    def find(text: str) -> set[str]:
        return set(re.findall(pattern, section(text, "API"), re.MULTILINE))

    return find


def _documented_states(text: str) -> set[str]:
    sentence = re.search(r"The states are (.*?);", section(text, "API"), re.DOTALL)
    assert sentence is not None, "README.md does not list the states"
    return set(re.findall(r"`(\w+)`", sentence[1]))


def _documented_status(of_klippy: bool) -> Callable[[str], set[str]]:
    """All names in the first cells of one of the two tables."""

    def find(text: str) -> set[str]:
        both = section(text, "Status").partition("In macros and dashboards")
        cells = "\n".join(tables(both[2 if of_klippy else 0]))
        return set(re.findall(r"`(\w+)`", cells))

    return find


def rows(text: str, heading: str) -> Iterator[str]:
    yield from re.findall(r"^\| `.*$", section(text, heading), re.MULTILINE)


CODED: dict[str, Callable[[], set[str]]] = {
    "commands": _commands,
    "options of printer.cfg": _klippy_options,
    "options of moonraker.conf": _moonraker_options,
    "endpoints": _endpoints,
    "parameters of endpoints": _parameters,
    "notifications": _notifications,
    "states": lambda: set(STATES),
    "fields of the status": lambda: set(typing.get_type_hints(Status)),
    "fields of klippy's status": _status_of_klippy,
}
DOCUMENTED: dict[str, Callable[[str], set[str]]] = {
    "commands": _documented_commands,
    "options of printer.cfg": _documented_options("printer.cfg"),
    "options of moonraker.conf": _documented_options("moonraker.conf"),
    "endpoints": _in_api(r"^\| `((?:GET|POST) \S+)`"),
    "parameters of endpoints": _in_api(r"`\w+`: (?:[\d]+ to \d+|[a-z, ]+ or [a-z]+)"),
    "notifications": _in_api(r"^\| `(notify_\w+)`"),
    "states": _documented_states,
    "fields of the status": _documented_status(of_klippy=False),
    "fields of klippy's status": _documented_status(of_klippy=True),
}
