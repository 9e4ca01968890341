# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The last executed states, the one to save, and what of it cannot wait."""
from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

PARKED = 0.01  # mm
# What a mark says of the motors, and not of its place in the file
MOTORS = ("toolhead_z", "z_range", "z_phases")
NOT_DELAYED = (*MOTORS, "cancelling")
TOOL = ("active", "changer")


class History:
    """Keeps the last `size` states and gives the `delay`-th newest.

    A delay of 1 gives the newest executed state.  Machines that want a mechanical
    margin use more.  While fewer states are known, the oldest of them is given.
    """

    def __init__(self, size: int, delay: int) -> None:
        self._states: deque[Mapping[str, Any]] = deque(maxlen=size)
        self._delay = delay

    def add(self, mark: Mapping[str, Any]) -> None:
        """A mark that is there already does not count twice."""
        if self.newest() is not mark:
            self._states.append(mark)

    def clear(self) -> None:
        self._states.clear()

    def select(self) -> Mapping[str, Any] | None:
        """Where the motors are, and what a person wants, is never delayed: that is no
        matter of plastic."""
        if not self._states:
            return None
        chosen = self._states[-min(self._delay, len(self._states))]
        newest = self._states[-1]
        return {**chosen, **{key: newest[key] for key in NOT_DELAYED if key in newest}}

    def newest(self) -> Mapping[str, Any] | None:
        return self._states[-1] if self._states else None


def urgent(
    last: Mapping[str, Any] | None,
    mark: Mapping[str, Any],
    on_layer: bool,
    z_counts: bool = False,
) -> str | None:
    """Why `mark` should be saved at once, compared with the one saved last.

    z_counts: Z will be taken from the record, not measured.
    """
    if last is None:
        return "first state"
    if is_cancelled(last) != is_cancelled(mark):
        return "cancel"
    before, after = last["state"], mark["state"]
    if any(before["tool"].get(k) != after["tool"].get(k) for k in TOOL):
        return "tool change"
    if last.get("paused") and not mark.get("paused"):
        return "resumed"
    if before["heaters"] != after["heaters"]:
        return "temperature"
    if before["objects"] != after["objects"]:
        return "object"
    if before["coordinates"].get("homed_axes") != after["coordinates"].get(
        "homed_axes"
    ):
        return "homing"
    if z_counts and outgrown(last.get("z_range"), mark.get("z_range")):
        return "z move"
    if on_layer and before["progress"].get("layer") != after["progress"].get("layer"):
        return "layer"
    return None


def is_cancelled(mark: Mapping[str, Any]) -> bool:
    """Whether somebody has asked for its end, and klippy has not done it yet."""
    return mark.get("cancelling") is True


def outgrown(
    before: Sequence[float] | None, after: Sequence[float] | None
) -> bool:
    """Whether Z is about to leave the range that was saved for it."""
    if not before or not after:
        return False
    return after[0] < before[0] - PARKED or after[1] > before[1] + PARKED


def paused(
    last: Mapping[str, Any], mark: Mapping[str, Any], was_paused: bool, at_rest: bool
) -> str | None:
    """The same for a paused print.

    was_paused: already when `last` was saved.  at_rest: the lines before the pause
    are laid.
    """
    if not was_paused:
        return "pause"
    if abs(mark["toolhead_z"] - last["toolhead_z"]) > PARKED:
        # Z was moved by something else than the file.
        return "parked"
    place = ("file_position", "fraction", "paused")
    moved = any(mark.get(key) != last.get(key) for key in place)
    return "pause" if at_rest and moved else None


def changed(last: Mapping[str, Any], mark: Mapping[str, Any]) -> bool:
    """Whether `mark` says something that `last` does not."""
    keys = ("file_position", "fraction", "toolhead_z", "state")
    return any(mark[key] != last[key] for key in keys)
