# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What Klipper's exclude_object does to motion: the move transform, as in
extras/exclude_object.py, names included.
"""
from __future__ import annotations

Position = list[float]


class Exclusion:
    """From the first EXCLUDE_OBJECT on.  Positions are x, y, z, e, mm."""

    def __init__(self, position: Position) -> None:
        # Extrusions that Klipper wants to see before it leaves anything out.
        self.initial_extrusion_moves = 5
        self.offsets: dict[str, Position] = {}
        self.last_position = list(position)
        self.last_extruded = list(position)
        self.last_excluded = list(position)
        self.max_extruded = self.max_excluded = self.adjust = 0.0
        self.in_region = False

    def clone(self) -> Exclusion:
        twin = Exclusion(self.last_position)
        twin.__dict__.update(self.__dict__)
        for name in ("last_position", "last_extruded", "last_excluded"):
            setattr(twin, name, list(getattr(self, name)))
        twin.offsets = {name: list(o) for name, o in self.offsets.items()}
        return twin

    def offset(self, extruder: str) -> Position:
        return self.offsets.setdefault(extruder, [0.0] * 4)

    def active(self, is_named: bool) -> bool:
        return is_named and not self.initial_extrusion_moves

    def move(self, target: Position, extruder: str, is_named: bool) -> Position | None:
        """Where the motors go, None for nowhere."""
        if self.active(is_named):
            self.in_region = True
            self._ignore(target, self.offset(extruder))
            return None
        if self.in_region:
            self.in_region = False
            self.adjust = (
                self.max_excluded - self.last_excluded[3]
                - (self.max_extruded - self.last_extruded[3])
            )  # fmt: skip
        return self._normal(target, self.offset(extruder))

    def _ignore(self, target: Position, offset: Position) -> None:
        for axis in range(3):
            offset[axis] = target[axis] - self.last_extruded[axis]
        offset[3] += target[3] - self.last_position[3]
        self.last_position = list(target)
        self.last_excluded = list(target)
        self.max_excluded = max(self.max_excluded, target[3])

    def _normal(self, target: Position, offset: Position) -> Position:
        if self.initial_extrusion_moves and self.last_position[3] != target[3]:
            self.initial_extrusion_moves -= 1
        self.last_position = list(target)
        self.last_extruded = list(target)
        self.max_extruded = max(self.max_extruded, target[3])
        moved = [a != b for a, b in zip(target, self.last_excluded, strict=True)]
        if (offset[0] or offset[1]) and (moved[0] or moved[1]):
            offset[:3] = [0.0] * 3
            offset[3] += self.adjust
            self.adjust = 0.0
        if offset[2] and moved[2]:
            offset[2] = 0.0
        if self.adjust and moved[3]:
            offset[3] += self.adjust
            self.adjust = 0.0
        return [t - o for t, o in zip(target, offset, strict=True)]
