# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""printer.cfg and moonraker.conf as their programs read them, without the programs.

Format: Klipper's klippy/configfile.py; Moonraker's is the same as far as sections,
options and includes go.
"""
from __future__ import annotations

import configparser
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Sections = dict[str, dict[str, str]]
SAVE_CONFIG = "#*# <---------------------- SAVE_CONFIG ---------------------->"
_HEADER = re.compile(r"\[(?P<header>.+)\]")
_SAVED = "#*#"


@dataclass(frozen=True)
class Files:
    """read: the text of a file, None if it cannot be read.  find: what a pattern
    names, as absolute paths without "..".  Both take paths."""

    read: Callable[[str], str | None]
    find: Callable[[str], Sequence[str]]


@dataclass
class Config:
    """sections: by name, with options in lower case; of an option that is given twice
    the later one.  files: that were read.  problems: in words."""

    sections: Sections = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def load(path: str, files: Files) -> Config:
    """The file and all that it includes."""
    config = Config()
    text = "\n".join(_lines(path, files, config, ()))
    parser = configparser.RawConfigParser(
        strict=False, inline_comment_prefixes=(";", "#")
    )
    try:
        parser.read_string(text, path)
    except configparser.Error as e:
        config.problems.append(" ".join(str(e).split()))
    for name in parser.sections():
        config.sections[name] = dict(parser.items(name))
    return config


def _lines(
    path: str, files: Files, config: Config, inside: tuple[str, ...]
) -> list[str]:
    text = files.read(path)
    if text is None:
        config.problems.append(f"{path} cannot be read")
        return []
    config.files.append(path)
    plain, _, saved = text.partition(SAVE_CONFIG)
    # Klipper's own words come before its first section.
    saved = "".join(saved.partition(f"\n{_SAVED} [")[1:])
    found: list[str] = []
    for line in plain.split("\n"):
        line = line.split("#", 1)[0].rstrip("\r")
        match = _HEADER.match(line)
        if match is None or not match["header"].startswith("include "):
            found.append(line)
            continue
        wanted = match["header"][8:].strip()
        folder = path.rpartition("/")[0]
        pattern = wanted if wanted.startswith("/") else f"{folder}/{wanted}"
        some = sorted(files.find(pattern))
        if not some and not re.search(r"[*?\[]", wanted):
            config.problems.append(f"{path} includes {wanted}, which is not there")
        for one in some:
            if one in inside or one == path:
                config.problems.append(f"{path} includes itself")
                continue
            found += _lines(one, files, config, (*inside, path))
    found += [
        line[len(_SAVED):].removeprefix(" ").rstrip("\r")
        for line in saved.split("\n") if line.startswith(_SAVED)
    ]  # fmt: skip
    return found
