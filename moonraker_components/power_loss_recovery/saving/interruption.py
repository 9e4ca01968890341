# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Why a print was interrupted: what was seen then, and what it means after the boot.

Who lives on writes a cause into the record.  A record without one, found by another
boot of the host, is a power loss: nobody had the time to write anything.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import answers
from ..store.payloads import RecordError

MAX_TEXT = 300
# klippy ends some seconds before Moonraker when the host is shut down properly.
LEFT_TOGETHER = 60.0
_THERMAL = re.compile(r"heat(er|ing)|thermal|thermistor|temperature|ADC out of range",
                      re.IGNORECASE)  # fmt: skip


@dataclass(frozen=True)
class Cause:
    """What was seen of the end.  kind: one of SEEN, or "" for nothing; text: klippy's
    own words, if it said something."""

    kind: str = ""
    text: str = ""

    @staticmethod
    def from_dict(raw: Any) -> Cause:
        """Raises RecordError."""
        if raw is None:
            return NOTHING
        if not isinstance(raw, Mapping):
            raise RecordError(f"cause is {raw!r:.80}, expected a kind and a text")
        kind, text = raw.get("kind"), raw.get("text")
        if not isinstance(kind, str) or not isinstance(text, str):
            raise RecordError(f"cause is {raw!r:.80}, expected two texts")
        return Cause(kind[:20], text[:MAX_TEXT])


NOTHING = Cause()
POWER = Cause("power")  # power_loss_pin said so
LEFT = Cause("left")  # klippy's connection ended; it is not known yet why
RESTARTED = Cause("restarted")  # by RESTART: the same process came back
REPLACED = Cause("replaced")  # another process of klippy came back
EXIT = Cause("exit")  # Moonraker was told to end
SHUTDOWN, ERROR = "shutdown", "error"  # of klippy, of the print; with a text
SEEN = ("power", "left", "restarted", "replaced", "exit", SHUTDOWN, ERROR)


def shutdown(message: str) -> Cause:
    """message: klippy's state_message; its first line says what happened."""
    return Cause(SHUTDOWN, _first_line(message))


def error(message: str) -> Cause:
    return Cause(ERROR, _first_line(message))


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:MAX_TEXT] if lines else ""


def after_exit(cause: Cause, age: float) -> Cause:
    """Moonraker is told to end too, `age` seconds after `cause` was written."""
    if cause == NOTHING or (cause == LEFT and age < LEFT_TOGETHER):
        return EXIT
    return cause


@dataclass(frozen=True)
class Interruption:
    """kind: power_loss, reboot, restart, klippy_crash, klippy_shutdown, print_error,
    or unknown; words: the same for a person.  thermal: heaters are not to be trusted.
    """

    kind: str
    words: str
    thermal: bool = False

    @property
    def told(self) -> answers.Interruption:
        return {"kind": self.kind, "words": self.words, "thermal": self.thermal}


def classify(cause: Cause, saved_boot: str, boot: str) -> Interruption:
    """saved_boot, boot: ids of the host's boots, then and now; "" is not known."""
    said = f": {cause.text}" if cause.text else ""
    if cause.kind == SHUTDOWN:
        return Interruption(
            "klippy_shutdown", f"Klipper shut down{said}",
            _THERMAL.search(cause.text) is not None,
        )  # fmt: skip
    if cause.kind == ERROR:
        return Interruption("print_error", f"A command of the print failed{said}")
    if cause == RESTARTED:
        return Interruption("restart", "Klipper was restarted")
    if cause == REPLACED:
        return Interruption(
            "klippy_crash", "Klipper ended (a crash, or its service was restarted)"
        )
    known = bool(saved_boot and boot)
    if cause == EXIT:
        if known and saved_boot != boot:
            return Interruption("reboot", "The host was shut down or restarted")
        return Interruption("restart", "Moonraker and Klipper were restarted")
    if cause == LEFT:
        return Interruption("klippy_crash", "Klipper ended, and nobody knows why")
    if cause == POWER or (cause == NOTHING and known and saved_boot != boot):
        return Interruption("power_loss", "Power loss")
    return Interruption("unknown", "Everything ended without a word (killed?)")
