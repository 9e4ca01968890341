# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""klippy's variables file as it was when klippy last started well.

SAVE_VARIABLE empties the file before it writes, and the kernel writes it out seconds
later.  Our resume saves one variable, for the owner's macros, just when the mains may
fail again: without a copy klippy would not start, or start without the owner's own.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .mending import CalibrationError, parse


@dataclass(frozen=True)
class VariablesCopy:
    """data: the file's bytes.  boot_id: of the host when they were read."""

    path: str
    boot_id: str
    data: bytes

    @cached_property
    def variables(self) -> Mapping[str, Any]:
        return parse(self.data)

    def to_bytes(self) -> bytes:
        """One line of JSON, with the SHA-256 of the data that follow it."""
        head = {"path": self.path, "boot_id": self.boot_id,
                "sha256": hashlib.sha256(self.data).hexdigest()}  # fmt: skip
        return json.dumps(head).encode() + b"\n" + self.data

    @staticmethod
    def from_bytes(content: bytes) -> VariablesCopy:
        """Raises CalibrationError."""
        line, _, data = content.partition(b"\n")
        try:
            head = json.loads(line)
            path, boot_id = head["path"], head["boot_id"]
            same = head["sha256"] == hashlib.sha256(data).hexdigest()
            found = VariablesCopy(path, boot_id, data)
            usable = same and path[0] == "/" and path.isprintable() and found.variables
        except (ValueError, RecursionError, LookupError, TypeError,
                AttributeError) as e:  # fmt: skip
            raise CalibrationError("it is damaged") from e
        if not usable or not isinstance(boot_id, str):
            raise CalibrationError("it is damaged")
        return found
