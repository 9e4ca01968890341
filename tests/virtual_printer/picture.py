# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The part that was, the part at the cut, the part that came back: one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from .plastic import Deposit, deposit
from .trace import FloatArray, Geometry, Session
from .verdict import CutReport, Stretch, Verdict

SIZE_INCHES, DPI = (15.0, 6.0), 100
PAPER, INK, QUIET = "#fbfbf8", "#22302f", "#7c8a88"
ASTRAY, SEAM, MISSING = "#b9a9c9", "#d7263d", "#ff8c1a"
LAYERS = LinearSegmentedColormap.from_list(
    "layers", ["#12355b", "#1f6f8b", "#35a79c", "#a3d9a5"]
)
# Seen from the front right, from above; Z is stretched, or thin parts look flat.
TURN, TILT = np.radians(-35.0), np.radians(33.0)
BEAD_MM = 0.42
MOST_SEGMENTS = 60_000
MARGIN_MM = 6.0

Segments = tuple[FloatArray, NDArray[np.bool_]]


def draw(
    path_png: Path | str,
    reference: Sequence[Session],
    test: Sequence[Session],
    geometry: Geometry,
    verdict: Verdict,
) -> None:
    """Three panels (undisturbed, at the first cut, after the last resume) with the
    seams marked; 1500 x 600 pixels."""
    whole = _beads([deposit(one, geometry) for one in reference], ())
    laid = [deposit(one, geometry) for one in test]
    parts = [_beads([one], _of(verdict.astray, n)) for n, one in enumerate(laid)]
    cut = parts[0] if parts else whole
    after = _join(parts) if parts else whole
    box = _box(whole)
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, facecolor=PAPER)
    panels = (
        ("Undisturbed print", whole, ()),
        ("When the power failed", cut, verdict.per_cut[:1]),
        ("After the resume", after, verdict.per_cut),
    )
    frame = _frame(_project(_near(after, box), box))
    for number, (title, beads, cuts) in enumerate(panels):
        axes = figure.add_axes((0.01 + number * 0.33, 0.13, 0.32, 0.71))
        _panel(axes, title, beads, box, frame)
        if number == 2:
            _mark_missing(axes, verdict.missing, box)
        _mark_seams(axes, cuts, box)
    _title(figure, verdict)
    purge = len(_near((after[0][after[1]], after[1]), box)) > 8
    _legend(figure, verdict, purge)
    figure.savefig(path_png, facecolor=PAPER)


def _beads(deposits: Sequence[Deposit], astray: Sequence[Stretch]) -> Segments:
    """Segments (n, 2, 3) of beads, straight ones joined, and which are astray."""
    pieces: list[FloatArray] = []
    flags: list[NDArray[np.bool_]] = []
    for laid in deposits:
        if len(laid.t) < 2:
            continue
        keep = _corners(laid)
        points, stroke, t = laid.xyz[keep], laid.stroke[keep], laid.t[keep]
        same = (stroke[1:] == stroke[:-1]) & laid.solid[keep][1:]
        pieces.append(np.stack([points[:-1], points[1:]], axis=1)[same])
        middle = (t[:-1] + t[1:])[same] / 2
        off = np.zeros(len(middle), dtype=bool)
        for one in astray:
            off |= (middle >= one.t - 1e-6) & (middle <= one.t_end + 1e-6)
        flags.append(off)
    if not pieces:
        return np.zeros((0, 2, 3)), np.zeros(0, dtype=bool)
    segments, off = np.concatenate(pieces), np.concatenate(flags)
    every = max(1, -(-len(segments) // MOST_SEGMENTS))
    return segments[::every], off[::every]


def _corners(laid: Deposit) -> NDArray[np.intp]:
    """Samples where a bead turns, starts, ends, or has run for 4 mm."""
    step = np.diff(laid.xyz, axis=0)
    angle = np.arctan2(step[:, 1], step[:, 0])
    bend = np.zeros(len(laid.t), dtype=bool)
    bend[1:-1] = np.abs(np.angle(np.exp(1j * np.diff(angle)))) > 0.2
    edge = np.diff(laid.stroke) != 0
    edge |= laid.solid[1:] != laid.solid[:-1]
    bend[1:] |= edge
    bend[:-1] |= edge
    bend[1:] |= np.diff(np.floor(laid.s / 4.0)) != 0
    bend[0] = bend[-1] = True
    return np.flatnonzero(bend)


def _join(parts: Sequence[Segments]) -> Segments:
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _of(stretches: Sequence[Stretch], session: int) -> list[Stretch]:
    return [one for one in stretches if one.session == session]


def _box(whole: Segments) -> FloatArray:
    """Lowest and highest x, y, z of the part: of what stands on the first layer."""
    segments = whole[0]
    z = segments[:, :, 2].max(axis=1)
    low = float(z.min())
    upper = segments[z > 1.6 * low]
    points = (upper if len(upper) else segments).reshape(-1, 3)
    box = np.stack([points.min(axis=0), points.max(axis=0)])
    box[0, 2] = low
    return box


def _near(beads: Segments, box: FloatArray) -> FloatArray:
    """Corners of the part, and plastic that lies beside it, (n, 3)."""
    (x0, y0, z0), (x1, y1, z1) = box
    corners = [(x, y, z) for x in (x0, x1) for y in (y0, y1) for z in (z0, z1)]
    rim = 0.35 * max(x1 - x0, y1 - y0)
    points = beads[0].reshape(-1, 3)
    beside = (points[:, :2] > (x0 - rim, y0 - rim)).all(axis=1)
    beside &= (points[:, :2] < (x1 + rim, y1 + rim)).all(axis=1)
    return np.concatenate([np.array(corners), points[beside]])


def _project(points: FloatArray, box: FloatArray) -> FloatArray:
    """x, y, z (..., 3) to the picture's plane, with depth: (..., 3)."""
    centre = box.mean(axis=0)
    x, y = points[..., 0] - centre[0], points[..., 1] - centre[1]
    z = (points[..., 2] - box[0, 2]) * _z_stretch(box)
    across = x * np.cos(TURN) - y * np.sin(TURN)
    away = x * np.sin(TURN) + y * np.cos(TURN)
    up = away * np.sin(TILT) + z * np.cos(TILT)
    return np.stack([across, up, away], axis=-1)


def _z_stretch(box: FloatArray) -> float:
    """Thin parts are drawn taller, but never so that layers come apart."""
    tall = max(box[1, 2] - box[0, 2], 0.2)
    wide = float(np.max(box[1, :2] - box[0, :2]))
    closed = BEAD_MM / max(float(box[0, 2]), 0.1) / np.cos(TILT)
    return float(np.clip(0.35 * wide / tall, 1.0, max(1.0, closed)))


def _frame(points: FloatArray) -> tuple[float, float, float, float]:
    flat = points.reshape(-1, 3)
    (x0, y0), (x1, y1) = flat[:, :2].min(axis=0), flat[:, :2].max(axis=0)
    rim = max(MARGIN_MM / 4, 0.06 * float(max(x1 - x0, y1 - y0)))
    return x0 - rim, x1 + rim, y0 - rim, y1 + rim


def _panel(
    axes: Axes,
    title: str,
    beads: Segments,
    box: FloatArray,
    frame: tuple[float, float, float, float],
) -> None:
    segments, off = beads
    axes.set_xlim(frame[0], frame[1])
    axes.set_ylim(frame[2], frame[3])
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(title, color=INK, fontsize=13, pad=4)
    if not len(segments):
        return
    view = _project(segments, box)
    z = segments[:, :, 2].mean(axis=1)
    order = np.lexsort((-view[:, :, 2].mean(axis=1), np.round(z, 2), ~off))
    share = (z - box[0, 2]) / max(box[1, 2] - box[0, 2], 1e-6)
    colours = LAYERS(np.clip(share, 0.0, 1.0))
    # Light from the left: beads that run towards the eye are darker.
    lean = view[:, 1, :2] - view[:, 0, :2]
    slope = np.abs(lean[:, 1]) / np.maximum(np.hypot(lean[:, 0], lean[:, 1]), 1e-9)
    colours[:, :3] *= (1.0 - 0.15 * slope)[:, None]
    colours[off] = to_rgba(ASTRAY)
    pixels = min(
        SIZE_INCHES[0] * DPI * 0.32 / (frame[1] - frame[0]),
        SIZE_INCHES[1] * DPI * 0.71 / (frame[3] - frame[2]),
    )
    width = float(np.clip(BEAD_MM * pixels * 72 / DPI, 0.5, 14.0))
    height = np.round(z[order], 2)
    # Each layer as a dark bed of wide beads, and the lit tops of them above it.
    rank = np.concatenate([height, height + 0.001])
    shade = np.concatenate([colours[order] * (0.8, 0.8, 0.8, 1.0), colours[order]])
    wide = np.repeat([width, 0.72 * width], len(order))
    flat = np.concatenate([view[order], view[order]])[:, :, :2]
    pile = np.argsort(rank, kind="stable")
    lines = LineCollection(
        list(flat[pile]),
        colors=list(shade[pile]),
        linewidths=wide[pile],
        capstyle="round",
    )
    axes.add_collection(lines)


def _mark_seams(axes: Axes, cuts: Sequence[CutReport], box: FloatArray) -> None:
    for cut in cuts:
        if cut.seam is None:
            continue
        x, y, _ = _project(np.array(cut.seam), box)
        axes.plot(
            x, y, "o", ms=15, mfc="none", mec="white", mew=4.5, zorder=9, clip_on=False
        )
        axes.plot(
            x, y, "o", ms=15, mfc="none", mec=SEAM, mew=2.2, zorder=10, clip_on=False
        )
        axes.plot(x, y, "+", ms=9, mec=SEAM, mew=1.6, zorder=10, clip_on=False)


def _mark_missing(axes: Axes, missing: Sequence[Stretch], box: FloatArray) -> None:
    for one in missing[:200]:
        x, y, _ = _project(np.array([one.x, one.y, one.z]), box)
        axes.plot(x, y, "x", ms=9, mec=MISSING, mew=2.2, zorder=8)


def _title(figure: Figure, verdict: Verdict) -> None:
    good = verdict.whole()
    cuts = len(verdict.per_cut)
    head = f"{cuts} power cut{'s' if cuts != 1 else ''}: the part is "
    head += "whole" if good else "NOT whole"
    figure.text(
        0.5, 0.945, head, ha="center", fontsize=17, weight="bold",
        color=INK if good else SEAM,
    )  # fmt: skip
    facts = (
        f"missing {verdict.missing_mm:.2f} mm of {verdict.reference_mm:.0f}",
        f"printed twice {verdict.doubled_s:.2f} s ({verdict.doubled_mm:.1f} mm)",
        f"Z error {1000 * verdict.z_error_mm:.0f} \N{MICRO SIGN}m",
        f"corners {1000 * verdict.z_corner_error_mm:.0f} \N{MICRO SIGN}m",
        f"XY error {1000 * verdict.xy_error_mm:.0f} \N{MICRO SIGN}m",
        f"collisions {verdict.collisions}",
        f"hot on the part {sum(verdict.hot_dwell_s):.1f} s",
    )
    figure.text(
        0.5, 0.905, "   \N{MIDDLE DOT}   ".join(facts), ha="center", fontsize=10.5,
        color=QUIET,
    )  # fmt: skip


def _legend(figure: Figure, verdict: Verdict, purge: bool) -> None:
    def line(colour: str | tuple[float, float, float, float], label: str) -> Line2D:
        return Line2D([], [], color=colour, lw=4, label=label, solid_capstyle="round")

    def dot(style: str, colour: str, label: str) -> Line2D:
        return Line2D(
            [], [], ls="", marker=style, mfc="none", mec=colour, ms=10, mew=2.2,
            label=label,
        )  # fmt: skip

    handles = [line(LAYERS(0.0), "first layer"), line(LAYERS(1.0), "last layer")]
    if purge:
        handles.append(line(ASTRAY, "purge line of the resume"))
    handles.append(dot("o", SEAM, "where the print was resumed"))
    if verdict.missing:
        handles.append(dot("x", MISSING, "missing from here"))
    figure.legend(
        handles=handles, loc="lower center", ncols=len(handles), frameon=False,
        fontsize=10.5, labelcolor=INK, bbox_to_anchor=(0.5, 0.015),
        handletextpad=0.6, columnspacing=2.4,
    )  # fmt: skip
