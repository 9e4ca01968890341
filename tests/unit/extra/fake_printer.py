# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""As much of klippy as the extra's commands ask for, and what they ask of it."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any


class CommandError(Exception):
    """klippy's printer.command_error."""


class Template:
    def __init__(self, text: str) -> None:
        self.text = text

    def render(self) -> str:
        return self.text


class Config:
    """A [power_loss_recovery] section; `read` are the options that were asked for.

    other: names of the other sections of printer.cfg.
    """

    error = CommandError

    def __init__(
        self, printer: Printer, values: Mapping[str, str] | None = None,
        other: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:  # fmt: skip
        self.printer = printer
        self.values = dict(values or {})
        self.other = other or {}
        self.name = "power_loss_recovery"
        self.read: set[str] = set()

    def get_printer(self) -> Printer:
        return self.printer

    def get_name(self) -> str:
        return self.name

    def get(
        self, option: str, default: Any = None, note_valid: bool = True, **bounds: Any
    ) -> Any:
        self.read.add(option)
        return self.values.get(option, default)

    getfloat = getint = getboolean = get

    def getchoice(self, option: str, choices: Any, default: Any = None) -> Any:
        return self.get(option, default)

    def getsection(self, name: str) -> Config:
        section = Config(self.printer, self.other.get(name, {}))
        section.name = name
        return section

    def get_prefix_sections(self, prefix: str) -> list[Config]:
        return [self.getsection(name) for name in self.other if name.startswith(prefix)]

    def get_prefix_options(self, prefix: str) -> list[str]:
        return [name for name in self.values if name.startswith(prefix)]


class Command:
    """A gcmd: params are texts, as klippy's own."""

    error = CommandError

    def __init__(self, name: str, params: Mapping[str, str]) -> None:
        self.name = name
        self.params = params
        self.answers: list[str] = []

    def get_command(self) -> str:
        return self.name

    def get_command_parameters(self) -> Mapping[str, str]:
        return self.params

    def get(self, name: str, default: Any = None) -> Any:
        return self.params.get(name, default)

    def _number(
        self, name: str, parser: Any, default: Any, minval: Any, maxval: Any
    ) -> Any:
        if name not in self.params:
            return default
        try:
            value = parser(self.params[name])
        except ValueError:
            raise CommandError(f"unable to parse {self.params[name]}") from None
        if minval is not None and value < minval:
            raise CommandError(f"{name} must have minimum of {minval}")
        if maxval is not None and value > maxval:
            raise CommandError(f"{name} must have maximum of {maxval}")
        return value

    def get_int(
        self, name: str, default: Any = None, minval: Any = None, maxval: Any = None
    ) -> Any:
        return self._number(name, int, default, minval, maxval)

    def get_float(
        self, name: str, default: Any = None, minval: Any = None, maxval: Any = None
    ) -> Any:
        return self._number(name, float, default, minval, maxval)

    def respond_info(self, text: str) -> None:
        self.answers.append(text)


class Printer:
    command_error = CommandError

    def __init__(self) -> None:
        self.commands: dict[str, Callable[[Command], None]] = {}
        self.help: dict[str, str] = {}
        self.remote: list[tuple[str, dict[str, Any]]] = []
        self.endpoints: dict[str, Callable[[Any], None]] = {}
        self.moonraker = True
        self.from_file = False
        self.shut_down = False
        self.scripts: list[str] = []
        self.queried: list[str] = []  # what QUERY_ENDSTOPS shows
        self.at: dict[str, Callable[[], None]] = {}
        self.objects: dict[str, Any] = {
            "gcode": SimpleNamespace(
                register_command=self._register,
                run_script_from_command=self.run_script,
                respond_info=lambda text: None,
                ready_gcode_handlers=self.commands,
            ),
            "webhooks": SimpleNamespace(
                call_remote_method=self._call_remote,
                register_endpoint=self.endpoints.__setitem__,
            ),
            "virtual_sdcard": SimpleNamespace(is_cmd_from_sd=lambda: self.from_file),
            "query_endstops": SimpleNamespace(
                register_endstop=lambda endstop, name: self.queried.append(name)
            ),
            "gcode_macro": SimpleNamespace(load_template=self._load_template),
        }

    def lookup_object(self, name: str, default: Any = None) -> Any:
        return self.objects.get(name, default)

    def lookup_objects(self, module: str | None = None) -> list[tuple[str, Any]]:
        found = self.objects.items()
        return [(n, o) for n, o in found if module in (None, n.split()[0])]

    def load_object(self, config: Config, name: str) -> Any:
        return self.objects[name]

    def get_reactor(self) -> Any:
        return SimpleNamespace(monotonic=lambda: 0.0, NEVER=1e30)

    def register_event_handler(self, event: str, handler: Any) -> None:
        pass

    def is_shutdown(self) -> bool:
        return self.shut_down

    def _register(self, name: str, handler: Any, desc: str = "") -> Any:
        if handler is None:
            return self.commands.pop(name, None)
        assert name not in self.commands
        self.commands[name], self.help[name] = handler, desc
        return None

    def _call_remote(self, method: str, **params: Any) -> None:
        if not self.moonraker:
            raise CommandError(f"Remote method '{method}' not registered")
        self.remote.append((method, params))

    def _load_template(self, config: Config, name: str, default: str = "") -> Template:
        return Template(config.get(name, default))

    def run_script(self, script: str) -> None:
        for line in script.split("\n"):
            self.scripts.append(line)
            if line in self.at:
                self.at[line]()

    def run(self, line: str) -> list[str]:
        """Run one command, give its answers."""
        name, *words = line.split()
        gcmd = Command(name, dict(word.split("=", 1) for word in words))
        self.commands[name](gcmd)
        return gcmd.answers
