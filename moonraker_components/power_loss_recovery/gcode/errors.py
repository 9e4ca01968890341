# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What this package raises: the message says what was found, in plain words."""
from __future__ import annotations


class GcodeError(ValueError):
    """Base of all errors of this package."""


class LexError(GcodeError):
    """A line on which Klipper would stop; `line` is the line."""

    def __init__(self, message: str, line: bytes) -> None:
        super().__init__(f"{message}: {line[:80]!r}")
        self.line = line


class ScanError(GcodeError):
    """The file, or the offset asked for, cannot be resumed."""


class RewriteError(GcodeError):
    """The resume file cannot be written as asked."""
