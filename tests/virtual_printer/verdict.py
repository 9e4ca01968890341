# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What the oracle says, and when that makes a part whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .surface import Collision


@dataclass(frozen=True)
class Stretch:
    """A length of bead.  t: seconds in its own print; x, y, z: where it starts.

    session: index of the test session it is in, -1 for the reference's plastic.
    """

    t: float
    t_end: float
    x: float
    y: float
    z: float
    length: float
    session: int = -1


@dataclass(frozen=True)
class CutReport:
    """One power cut and what became of it.

    session: index of the session that it ended.  resumed: the next session laid
    plastic on the path.  ref_t_*: reference time of the last plastic before the cut
    and of the first one after it, None when there is none.  doubled_s: how much of
    the reference's time was done twice; skipped_s: the time that lies between when
    it was not.  seam: where plastic goes on.  seam_filament_mm_error: filament fed
    for the first mm after it, standing priming included, minus the reference's.
    """

    session: int
    t_cut: float
    resumed: bool
    ref_t_cut: float | None
    ref_t_resume: float | None
    doubled_s: float
    skipped_s: float
    doubled_mm: float
    seam: tuple[float, float, float] | None
    seam_filament_mm_error: float
    hot_dwell_s: float
    astray_mm: float


@dataclass(frozen=True)
class Limits:
    """The most that a whole part may have of each; mm and s."""

    missing_mm: float = 0.2
    z_error_mm: float = 0.02
    z_corner_error_mm: float = 0.02
    xy_error_mm: float = 0.02
    collisions: int = 0
    doubled_s_per_cut: float = 1.6
    stray_doubled_mm: float = 0.2
    astray_on_part_mm: float = 1.0
    filament_error: float = 0.1
    filament_total_error: float = 0.03


@dataclass(frozen=True)
class Verdict:
    """Interrupted print against undisturbed print; mm, s, and ratios.

    missing_mm: reference plastic never laid.  doubled_mm: laid more than once;
    stray_doubled_mm: the part of it that is not the overlap of a cut.  noise_mm:
    differences shorter than resolution_mm, the bead of one extruder step, left out
    of both.  astray_mm: plastic that is nowhere in the reference, and how much of it
    lies on the part.  *_before: the same measure before the first cut.
    filament_error: worst 5 mm of bead after the first cut, relative;
    filament_total_error: all of it.
    """

    reference_mm: float
    test_mm: float
    resolution_mm: float
    missing_mm: float
    missing: tuple[Stretch, ...]
    doubled_mm: float
    doubled: tuple[Stretch, ...]
    stray_doubled_mm: float
    noise_mm: float
    astray_mm: float
    astray_on_part_mm: float
    astray: tuple[Stretch, ...]
    doubled_s: float
    z_error_mm: float
    z_error_before_mm: float
    z_corner_error_mm: float
    xy_error_mm: float
    xy_error_before_mm: float
    filament_error: float
    filament_error_before: float
    filament_total_error: float
    collisions: int
    collided: tuple[Collision, ...]
    hot_dwell_s: tuple[float, ...]
    per_cut: tuple[CutReport, ...]

    @property
    def lost_s(self) -> tuple[float, ...]:
        """Seconds of the reference's motion done twice, per cut."""
        return tuple(cut.doubled_s for cut in self.per_cut)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain types."""
        return asdict(self) | {"lost_s": list(self.lost_s)}

    def whole(self, limits: Limits | None = None) -> bool:
        """True when a person could not tell the part from the undisturbed one."""
        return not self.reasons(limits)

    def reasons(self, limits: Limits | None = None) -> list[str]:
        """Each limit that is exceeded, in words."""
        limits = limits or Limits()
        out = []
        for name, limit, unit in _COMPARED:
            value, most = getattr(self, name), getattr(limits, limit)
            if not value <= most:
                out.append(f"{name} is {value:.4g}{unit}, at most {most:g} is whole")
        for cut in self.per_cut:
            if cut.doubled_s > limits.doubled_s_per_cut:
                out.append(
                    f"cut {cut.session} was resumed {cut.doubled_s:.2f} s back, at "
                    f"most {limits.doubled_s_per_cut:g} is whole"
                )
        for stretch in self.missing[:3]:
            if self.missing_mm > limits.missing_mm:
                out.append("missing " + _where(stretch))
        if self.collisions > limits.collisions:
            out += [
                f"collision at x{hit.x:.2f} y{hit.y:.2f} z{hit.z:.3f} in session "
                f"{hit.session}: {hit.depth:.3f} mm deep, dragged {hit.dragged:.2f} mm"
                for hit in self.collided[:3]
            ]
        return out


# (measure, its limit, unit).  What differs before the first cut proves nothing about
# a recovery, but makes every other figure meaningless.
_COMPARED = (
    ("missing_mm", "missing_mm", " mm"),
    ("z_error_mm", "z_error_mm", " mm"),
    ("z_error_before_mm", "z_error_mm", " mm"),
    ("z_corner_error_mm", "z_corner_error_mm", " mm"),
    ("xy_error_mm", "xy_error_mm", " mm"),
    ("xy_error_before_mm", "xy_error_mm", " mm"),
    ("collisions", "collisions", ""),
    ("stray_doubled_mm", "stray_doubled_mm", " mm"),
    ("astray_on_part_mm", "astray_on_part_mm", " mm"),
    ("filament_error", "filament_error", ""),
    ("filament_total_error", "filament_total_error", ""),
)


def _where(stretch: Stretch) -> str:
    return (
        f"{stretch.length:.2f} mm from x{stretch.x:.2f} y{stretch.y:.2f} "
        f"z{stretch.z:.3f} (t {stretch.t:.2f} s)"
    )
