# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What the journal file holds, and how it is read: pure, no I/O.

A preallocated file of 4096-byte slots. One slot (integers little-endian; magic,
version and CRC stay in their places in every future version):

====== ==== =====================================================================
offset size field
====== ==== =====================================================================
0      8    magic ``PLRJOURN``
8      2    format version (1)
10     1    kind: 1 FORMAT, 2 JOB, 3 MARK, 4 CLOSED
11     1    zero
12     4    payload length in this slot (at most 4028)
16     8    sequence: strictly increasing over all writes; 0 only in FORMAT
24     16   job id (the lineage)
40     8    job version: the sequence of the job write it belongs to or names
48     4    length of the whole job payload
52     4    CRC32 of the whole job payload
56     2    part index (JOB only)
58     2    part count of the job
60     2    slots in the file
62     2    slots in the job region
64     n    payload, then the CRC32 of header and payload, over and over: were it
            zeros, a torn write over a torn slot could make the older one whole
4092   4    CRC32 (zlib) of bytes 0 to 4091
====== ==== =====================================================================

Slot 0 is FORMAT, written once before the file gets its name. Then the job region:
three areas of ``job_slots // 3`` slots. A new version goes to an area that holds
neither the current version nor the one named by the newest durable mark, and is
synced before a mark may name it. It is stored twice where the area has room, since
one bad job slot would take all its marks along. The other slots take MARK and
CLOSED in turn, neighbours in time far apart in the file; CLOSED goes to two slots,
so that one bad slot cannot bring a finished print back.

Reading: a job is whole if all parts of one version are valid. Among the MARK and
CLOSED slots with a whole job, the lineage with the newest job version wins, in it
the highest sequence; any CLOSED of that lineage closes it for good.
"""
from __future__ import annotations

import struct
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

SLOT_SIZE = 4096
FORMAT_VERSION = 1
MAX_SLOTS = 4096
_MAGIC = b"PLRJOURN"
_HEADER = struct.Struct("<8sHBxIQ16sQIIHHHH")
_CRC_AT = SLOT_SIZE - 4
PAYLOAD_MAX = _CRC_AT - _HEADER.size
AREAS = 3


class JournalError(Exception):
    """Not done; the journal stays usable. `errno` is None if no disk was at fault."""

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.errno = number


class JournalTooNew(JournalError):
    """A newer version of this plugin wrote the file."""


class Kind(IntEnum):
    FORMAT = 1
    JOB = 2
    MARK = 3
    CLOSED = 4


class Geometry(NamedTuple):
    slots: int
    job_slots: int

    @property
    def sound(self) -> bool:
        spare = self.slots - 1 - self.job_slots
        return self.slots <= MAX_SLOTS and self.job_slots >= AREAS and spare >= 8

    @property
    def area(self) -> int:
        """Slots that one version of a job may take."""
        return self.job_slots // AREAS

    def mark_order(self) -> list[int]:
        """Slot indices in the order of use: the two halves by turns."""
        first = 1 + self.job_slots
        count = self.slots - first
        half = (count + 1) // 2
        return [first + i // 2 + (i % 2) * half for i in range(count)]

    def region_of(self, kind: Kind) -> range:
        if kind is Kind.FORMAT:
            return range(1)
        if kind is Kind.JOB:
            return range(1, 1 + self.job_slots)
        return range(1 + self.job_slots, self.slots)


class JobName(NamedTuple):
    """One version of one job; what its parts carry and its marks name."""

    job_id: bytes
    version: int = 0
    length: int = 0
    crc: int = 0
    parts: int = 0


@dataclass(frozen=True)
class Slot:
    """A valid slot. `index` is its place in the file, in slots."""

    index: int
    kind: Kind
    sequence: int
    job: JobName
    geometry: Geometry
    payload: bytes = b""
    part: int = 0

    def encode(self) -> bytes:
        head = _HEADER.pack(
            _MAGIC, FORMAT_VERSION, self.kind, len(self.payload), self.sequence,
            *self.job[:4], self.part, self.job.parts, *self.geometry,
        )
        content = head + self.payload
        crc = zlib.crc32(content)
        room = _CRC_AT - len(content)
        padding = (crc.to_bytes(4, "little") * (room // 4 + 1))[:room]
        whole = zlib.crc32(padding, crc).to_bytes(4, "little")
        return b"".join((content, padding, whole))


@dataclass(frozen=True)
class State:
    """What a reader may rely on. `closed` is the reason, or None for an open print.

    `mark_payload` is empty only for a job closed before its first mark.
    `mark_seq` is the sequence of the slot that decided (mark, or close).
    """

    job_id: bytes
    job_payload: bytes
    mark_payload: bytes
    mark_seq: int
    closed: str | None


def decode(data: bytes, index: int) -> Slot | None:
    """The slot in `data`, or None for anything torn, foreign or out of bounds."""
    if len(data) != SLOT_SIZE or not data.startswith(_MAGIC):
        return None
    if zlib.crc32(data[:_CRC_AT]).to_bytes(4, "little") != data[_CRC_AT:]:
        return None
    (_, version, kind, length, sequence, job_id, job_version, job_length, job_crc,
     part, parts, slots, job_slots) = _HEADER.unpack_from(data)
    if version > FORMAT_VERSION:
        raise JournalTooNew(
            f"it has format {version}, but this plugin knows formats up to"
            f" {FORMAT_VERSION}; update the plugin, or move the file away")
    geometry = Geometry(slots, job_slots)
    if version < 1 or kind not in Kind._value2member_map_ or not geometry.sound:
        return None
    kind = Kind(kind)
    if (length > PAYLOAD_MAX or index not in geometry.region_of(kind)
            or not (sequence == 0 if kind is Kind.FORMAT else 0 < sequence < 1 << 63)
            or kind is Kind.JOB and not (part < parts and sequence == job_version)):
        return None
    job = JobName(job_id, job_version, job_length, job_crc, parts)
    payload = data[_HEADER.size:_HEADER.size + length]
    return Slot(index, kind, sequence, job, geometry, payload, part)


def whole_jobs(slots: Sequence[Slot]) -> dict[JobName, bytes]:
    """The payloads of all jobs of which no part is missing."""
    parts: defaultdict[JobName, dict[int, bytes]] = defaultdict(dict)
    for slot in slots:
        if slot.kind is Kind.JOB:
            parts[slot.job][slot.part] = slot.payload
    whole = {}
    for job, pieces in parts.items():
        payload = b"".join(pieces[part] for part in sorted(pieces))
        complete = len(pieces) == job.parts and len(payload) == job.length
        if complete and zlib.crc32(payload) == job.crc:
            whole[job] = payload
    return whole


def deciding(slots: Sequence[Slot]) -> tuple[list[Slot], bytes]:
    """The usable records of the newest lineage, newest first, and its job payload."""
    jobs = whole_jobs(slots)
    usable = [slot for slot in slots
              if slot.kind in (Kind.MARK, Kind.CLOSED) and slot.job in jobs]
    if not usable:
        return [], b""
    newest_id = max(usable, key=lambda slot: slot.job.version).job.job_id
    records = [slot for slot in usable if slot.job.job_id == newest_id]
    records.sort(key=lambda slot: slot.sequence, reverse=True)
    return records, jobs[records[0].job]


def newest(slots: Sequence[Slot]) -> State | None:
    """The state that these slots hold, or None."""
    records, job_payload = deciding(slots)
    if not records:
        return None
    job_id = records[0].job.job_id
    marks = [slot.payload for slot in records if slot.kind is Kind.MARK]
    reasons = [slot.payload.decode("utf-8", "replace") for slot in slots
               if slot.kind is Kind.CLOSED and slot.job.job_id == job_id]
    return State(job_id, job_payload, marks[0] if marks else b"",
                 records[0].sequence, reasons[0] if reasons else None)
