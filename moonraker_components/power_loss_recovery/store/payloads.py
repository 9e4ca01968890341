# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The bytes of what is saved: a job that changes rarely, a mark that is small.

Both are JSON, compressed where they are longer than PLAIN_MAX.  A mark always fits
one slot of the journal: what changes rarely or would not fit is kept in the job,
which is written again when it changes.  A mark names the one version of its job
that holds the rest of it.
"""
from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from .journal_format import PAYLOAD_MAX

# 2: parts of the state may be in the job.  1 is still read.
SCHEMA = 2
PLAIN_MAX = 4000
MAX_UNPACKED = 1 << 20
_COMPRESSED = b"Z"
# Grows without bounds, and changes a few times in a print.
RARE = (("objects", "excluded"),)
RARE_PARTS = ("rare",)
# Of a job: the journal has room for it twice.  What is beyond is left out.
MAX_JOB = 8 * PAYLOAD_MAX


class RecordError(Exception):
    """Something saved, or sent by klippy, is not what it should be."""


def split(job: Mapping[str, Any], mark: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The payloads of both.  `mark` has a `state` in parts.  Raises RecordError."""
    own = {part: dict(values) for part, values in mark["state"].items()}
    shared: dict[str, dict[str, Any]] = {}
    for part, key in RARE:
        if own.get(part, {}).get(key):
            shared.setdefault(part, {})[key] = own[part].pop(key)
    shared |= {part: own.pop(part) for part in RARE_PARTS if own.get(part)}
    while True:
        payload = pack({**mark, "state": own})
        if len(payload) <= PAYLOAD_MAX:
            return _pack_job(job, shared), payload
        if not any(own.values()):
            raise RecordError(f"cannot be saved: a mark of {len(payload)} bytes")
        part = max(own, key=lambda name: len(pack(own[name])))
        shared.setdefault(part, {}).update(own[part])
        own[part] = {}


def _pack_job(
    job: Mapping[str, Any], shared: Mapping[str, Mapping[str, Any]]
) -> bytes:
    """Something seldom set that is far too large must not keep a print unsaved."""
    rare = {part: dict(shared[part]) for part in RARE_PARTS if part in shared}
    while True:
        state = {part: values for part, values in {**shared, **rare}.items() if values}
        try:
            payload = pack({**job, "state": state} if state else job)
            if len(payload) <= MAX_JOB or not any(rare.values()):
                return payload
        except RecordError:
            if not any(rare.values()):
                raise
        part, key = max(
            ((part, key) for part in rare for key in rare[part]),
            key=lambda at: len(json.dumps(rare[at[0]][at[1]])),
        )
        del rare[part][key]


def join(
    job_payload: bytes, mark_payload: bytes
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The job and the mark of `split` again, unchecked.  Raises RecordError."""
    job, mark = unpack(job_payload), unpack(mark_payload)
    shared, own = job.pop("state", {}), mark.get("state")
    if not isinstance(shared, Mapping) or not isinstance(own, Mapping):
        raise RecordError("state is not in parts")
    whole = dict(own)
    for part, values in shared.items():
        mine = own.get(part, {})
        if not isinstance(values, Mapping) or not isinstance(mine, Mapping):
            raise RecordError(f"state: {part} is no table")
        whole[part] = {**values, **mine}
    return job, {**mark, "state": whole}


def pack(values: Mapping[str, Any]) -> bytes:
    body = {"schema": SCHEMA, **values}
    try:
        text = json.dumps(
            body, separators=(",", ":"), allow_nan=False, ensure_ascii=False
        )
    except (TypeError, ValueError, RecursionError) as e:
        raise RecordError(f"cannot be saved: {e}") from e
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > MAX_UNPACKED:
        raise RecordError(f"cannot be saved: {len(data)} bytes are far too long")
    return data if len(data) <= PLAIN_MAX else _COMPRESSED + zlib.compress(data, 9)


def unpack(data: bytes) -> dict[str, Any]:
    try:
        if data.startswith(_COMPRESSED):
            unpacking = zlib.decompressobj()
            data = unpacking.decompress(data[1:], MAX_UNPACKED)
            if not unpacking.eof:
                raise RecordError("not readable: cut off, or far too long")
        raw = json.loads(data, parse_constant=_no_constant)
    except zlib.error as e:
        raise RecordError(f"not readable: {e}") from e
    except (ValueError, RecursionError) as e:
        raise RecordError(f"not readable: {e}") from e
    if not isinstance(raw, dict):
        raise RecordError(f"a {type(raw).__name__} where a record was expected")
    schema = raw.pop("schema", None)
    if isinstance(schema, bool) or schema not in range(1, SCHEMA + 1):
        raise RecordError(
            f"written by another version (schema {schema!r}, this one reads 1 to"
            f" {SCHEMA}): update the plugin to resume, or discard"
        )
    return raw


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")
