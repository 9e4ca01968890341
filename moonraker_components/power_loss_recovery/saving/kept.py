# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Interrupted prints that wait while another one is printed: a file for each.

A file is whole or it does not exist; its name says how old it is among the others.
Blocking calls.
"""
from __future__ import annotations

import logging
import os
import re
import struct
import zlib
from pathlib import Path

from ..record import from_payloads, to_payloads
from ..store.journal_file import Disk, create, sync_folder
from ..store.journal_format import JournalError
from ..store.payloads import RecordError
from .lineage import Pending

MAGIC = b"PLRKEPT1"
MAX_FILE = 1 << 22
_HEAD = struct.Struct("<8sIII")  # magic, lengths of the job and of the mark, checksum
_NAME = re.compile(r"(\d{6})-([0-9a-f]{32})\.kept")


class Kept:
    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self.folder = folder
        self.disk = disk or Disk()

    def read(self) -> tuple[Pending, ...]:
        """All that can be read, the newest first."""
        found = []
        for _, job_id, path in sorted(self._files(), reverse=True):
            try:
                with open(path, "rb") as f:
                    found.append(_decode(job_id, f.read(MAX_FILE + 1)))
            except (OSError, RecordError) as e:
                logging.info(f"power_loss_recovery: {path}: {e}")
        return tuple(found)

    def add(self, pending: Pending) -> None:
        """Durable when this returns.  Raises JournalError, RecordError."""
        job, mark = to_payloads(pending.job, pending.record)
        head = _HEAD.pack(MAGIC, len(job), len(mark), zlib.crc32(job + mark))
        data = head + job + mark
        number = max((n for n, _, _ in self._files()), default=0) + 1
        path = self.folder / f"{number:06d}-{pending.job_id.hex()}.kept"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            sync_folder(self.disk, str(self.folder))
            create(self.disk, str(path), data, len(data))
            sync_folder(self.disk, str(path))
        except OSError as e:
            raise JournalError(
                f"the interrupted print of {pending.job.name} cannot be set aside:"
                f" {e.strerror}. Discard it (PLR_RESET_PRINT_DATA), or make room."
            ) from e

    def remove(self, job_id: bytes) -> None:
        """Durable when this returns.  Raises JournalError."""
        try:
            for _, found, path in self._files():
                if found == job_id:
                    self.disk.unlink(str(path))
                    sync_folder(self.disk, str(path))
        except OSError as e:
            raise JournalError(f"Cannot remove {path}: {e.strerror}") from e

    def _files(self) -> list[tuple[int, bytes, Path]]:
        try:
            names = os.listdir(self.folder)
        except OSError:
            return []
        matches = [match for match in map(_NAME.fullmatch, names) if match]
        return [
            (int(m[1]), bytes.fromhex(m[2]), self.folder / m[0]) for m in matches
        ]


def _decode(job_id: bytes, data: bytes) -> Pending:
    """Raises RecordError."""
    if len(data) < _HEAD.size:
        raise RecordError("cut off")
    magic, job_size, mark_size, checksum = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if magic != MAGIC or len(body) != job_size + mark_size:
        raise RecordError("not a record that was set aside")
    if zlib.crc32(body) != checksum:
        raise RecordError("damaged: the checksum is wrong")
    job, record = from_payloads(body[:job_size], body[job_size:])
    return Pending(job_id, job, record, aside=True)
