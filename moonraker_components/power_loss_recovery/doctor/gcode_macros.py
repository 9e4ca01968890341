# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a macro would do, read from its text: which commands, under which conditions.

Nothing is rendered.  A command inside {% if %} has the texts of all conditions around
it; what stands in expressions stays as it is written.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .findings import Sections

MAX_DEPTH = 6
_TAG = re.compile(r"\{%[-+]?\s*(\w+)(.*?)[-+]?%\}|\{#.*?#\}", re.DOTALL)
_WORD = re.compile(r"^\s*([A-Za-z_][\w.]*)")
_CLASSIC = re.compile(r"^\s*([GMT])\s*(\d+(?:\.\d+)?)", re.IGNORECASE)


@dataclass(frozen=True)
class Command:
    """name: in capitals.  line: as written.  conditions: around it, outermost first.
    via: the macro that it stands in, empty for the text itself."""

    name: str
    line: str
    conditions: tuple[str, ...] = ()
    via: str = ""

    @property
    def arguments(self) -> str:
        return self.line.strip()[len(self.name):].strip()  # fmt: skip

    def parameter(self, name: str) -> str | None:
        """As `Z5` or `Z=5`; an empty text for a bare `Z`."""
        found = re.search(
            rf"(?:^|\s){name}(?:=(\S*)|(-?[\d.]*|\{{.*?\}}))(?=\s|$)", self.arguments,
            re.IGNORECASE,
        )  # fmt: skip
        return None if found is None else found[1] or found[2] or ""


def commands(text: str) -> Iterator[Command]:
    """Of one text, in order."""
    stack: list[str] = []
    done = 0
    plain: list[tuple[str, tuple[str, ...]]] = []
    for tag in _TAG.finditer(text):
        plain.append((text[done : tag.start()], tuple(stack)))
        done = tag.end()
        word, rest = tag[1], (tag[2] or "").strip()
        if word in ("if", "for"):
            stack.append(rest)
        elif word in ("elif", "else") and stack:
            # What was asked before counts for the other branch as well.
            stack[-1] = f"{stack[-1]} {word} {rest}".strip()
        elif word in ("endif", "endfor") and stack:
            stack.pop()
    plain.append((text[done:], tuple(stack)))
    yield from _joined(plain)


def _joined(parts: list[tuple[str, tuple[str, ...]]]) -> Iterator[Command]:
    """A line may be made of several parts: its conditions are those at its start."""
    line = ""
    conditions: tuple[str, ...] = ()
    for text, around in parts:
        for i, piece in enumerate(text.split("\n")):
            if i:
                yield from _command(line, conditions)
                line = ""
            if not line.strip():
                conditions = around
            line += piece
    yield from _command(line, conditions)


def _command(line: str, conditions: tuple[str, ...]) -> Iterator[Command]:
    plain = line.split(";", 1)[0].split("#", 1)[0].strip()
    classic = _CLASSIC.match(plain)
    if classic is not None:
        name = (classic[1] + classic[2]).upper()
        yield Command(name, name + plain[classic.end():], conditions)  # fmt: skip
        return
    word = _WORD.match(plain)
    if word is not None:
        yield Command(word[1].upper(), plain, conditions)


def text_of(name: str, sections: Sections) -> str | None:
    """The G-code of the macro of that name; None if there is none."""
    wanted = f"gcode_macro {name}".lower()
    for section, options in sections.items():
        if " ".join(section.split()).lower() == wanted:
            return options.get("gcode", "")
    return None


def expanded(
    text: str, sections: Sections, via: str = "", inside: tuple[str, ...] = ()
) -> Iterator[Command]:
    """The commands of a text, with those of the macros that it calls in their place.
    A macro's own call is given before them."""
    for command in commands(text):
        yield replace(command, via=via)
        called = text_of(command.name, sections)
        known = command.name in inside or len(inside) >= MAX_DEPTH
        if called is None or known:
            continue
        deeper = expanded(called, sections, command.name, (*inside, command.name))
        for one in deeper:
            yield replace(one, conditions=(*command.conditions, *one.conditions))
