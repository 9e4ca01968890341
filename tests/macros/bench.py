# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Macros rendered by klippy's own gcode_macro.py, and run down to plain commands."""
from __future__ import annotations

import ast
import configparser
import importlib.util
import os
import shlex
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

MACROS = Path(__file__).resolve().parents[2] / "macros"
PREFIX = "gcode_macro "
MAX_DEPTH = 10


class MacroError(Exception):
    """klippy's gcode.error and config_error."""


def klippys_own(name: str = "extras/gcode_macro.py") -> ModuleType:
    """A file of the klippy under test that can be loaded alone."""
    tree = os.environ.get("PLR_KLIPPER_PATH")
    if not tree:
        pytest.skip("needs a Klipper: run scripts/test")
    path = Path(tree) / "klippy" / name
    spec = importlib.util.spec_from_file_location("klippys_own", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as e:
        pytest.skip(f"{path} cannot be loaded alone: {e}")
    return module


def sections(*paths: Path) -> dict[str, dict[str, str]]:
    """As klippy reads its files: later options replace earlier ones."""
    found = configparser.RawConfigParser(
        strict=False, inline_comment_prefixes=(";", "#")
    )
    for path in paths:
        found.read_string(path.read_text())
    return {name: dict(found[name]) for name in found.sections()}


class Macros:
    """All macros of some files; `status` is what printer[...] gives them."""

    config_error = MacroError

    def __init__(self, *paths: Path, status: dict[str, Any] | None = None) -> None:
        self.module = klippys_own()
        self.sections = {
            name[len(PREFIX) :].upper(): options
            for name, options in sections(*paths).items() if name.startswith(PREFIX)
        }  # fmt: skip
        self.status = dict(status or {})
        for name, options in self.sections.items():
            self.status[PREFIX + name] = {
                key[len("variable_") :]: ast.literal_eval(value)
                for key, value in options.items() if key.startswith("variable_")
            }  # fmt: skip
        self.gcode = SimpleNamespace(error=MacroError)
        made = self.module.PrinterGCodeMacro.__new__(self.module.PrinterGCodeMacro)
        made.printer = self
        self.macro = made
        config = SimpleNamespace(get_printer=lambda: self)
        self.module.PrinterGCodeMacro.__init__(made, config)

    def lookup_object(self, name: str, *default: Any) -> Any:
        if name in ("gcode", "gcode_macro"):
            return self.gcode if name == "gcode" else self.macro
        if name not in self.status:
            return default[0] if default else None
        return SimpleNamespace(get_status=lambda eventtime: self.status[name])

    def get_reactor(self) -> Any:
        return SimpleNamespace(monotonic=lambda: 0.0, assert_no_pause=nullcontext)

    def render(self, name: str, **params: str) -> str:
        """As klippy does for a macro that is called."""
        options = self.sections[name]
        template = self.module.TemplateWrapper(
            self, self.macro.env, f"{PREFIX}{name}:gcode", options["gcode"]
        )
        context = dict(self.status[PREFIX + name])
        context.update(self.macro.create_template_context())
        context["params"], context["rawparams"] = params, ""
        return template.render(context)

    def run(self, name: str, depth: int = 0, **params: str) -> list[str]:
        """The commands that klippy executes; macros in macros are run as well."""
        assert depth < MAX_DEPTH
        done: list[str] = []
        for line in self.render(name, **params).split("\n"):
            words = shlex.split(line.split(";")[0])
            if not words:
                continue
            if words[0].upper() in self.sections:
                given = dict(word.split("=", 1) for word in words[1:])
                done += self.run(words[0].upper(), depth + 1, **given)
            else:
                done.append(" ".join(words))
        return done
