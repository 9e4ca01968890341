# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Whether an answer is what its TypedDict says."""
from __future__ import annotations

import types
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict


def problems(value: Any, kind: Any, where: str = "answer") -> list[str]:
    """What is wrong with `value`, in words; nothing if it is a `kind`."""
    origin = get_origin(kind)
    if kind is Any:
        return []
    if is_typeddict(kind):
        return _of_table(value, kind, where)
    if origin in (Union, types.UnionType):
        some = [problems(value, one, where) for one in get_args(kind)]
        return [] if any(not one for one in some) else min(some, key=len)
    if origin is list and isinstance(value, list):
        (item,) = get_args(kind)
        return [p for n, one in enumerate(value)
                for p in problems(one, item, f"{where}[{n}]")]  # fmt: skip
    if origin is dict and isinstance(value, dict):
        item = get_args(kind)[1]
        return [p for key, one in value.items()
                for p in problems(one, item, f"{where}.{key}")]  # fmt: skip
    wanted = (int, float) if kind is float else (origin or kind)
    if isinstance(value, wanted) and (kind is bool or not isinstance(value, bool)):
        return []
    return [f"{where} is {value!r:.60}, not {kind}"]


def _of_table(value: Any, kind: Any, where: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where} is {value!r:.60}, not {kind.__name__}"]
    hints = get_type_hints(kind)
    found = [f"{where} has no {key}" for key in kind.__required_keys__ - set(value)]
    found += [f"{where}.{key} is not documented" for key in set(value) - set(hints)]
    for key in set(value) & set(hints):
        found += problems(value[key], hints[key], f"{where}.{key}")
    return found
