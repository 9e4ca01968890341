# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What the endpoints answer, key by key.  Times are seconds since the epoch, heights
mm, temperatures degrees C; what is not known is None."""
from __future__ import annotations

from typing import Any, TypedDict

STATES = {
    "idle": "Nothing is printed, and nothing waits to be resumed.",
    "printing": "A print is running; it is saved as it goes.",
    "ending": "The print is over, but that is not on the disk yet.",
    "interrupted": "A print was interrupted and can be resumed or discarded.",
    "resuming": "The machine is being prepared to go on with the print.",
}


class Error(TypedDict):
    at: float
    text: str


class Step(TypedDict):
    """number: from 1 to `of`.  name: for programs, "stopping" once the resume was
    cancelled; title: for people."""

    number: int
    of: int
    name: str
    title: str


class Place(TypedDict):
    """What is saved: of the running print, or of the interrupted one.

    fraction: share of the line at file_position that is laid.  percent: of the file's
    bytes.  extruder: the active one.  hotend: its target then; bed: likewise.
    bed_now: its temperature, if klippy tells.  same_boot: the host has not been off
    since.
    """

    file: str
    file_position: int
    file_size: int
    fraction: float
    percent: float
    position: list[float]
    z: float
    layer: int | None
    layers: int | None
    extruder: str
    hotend: float
    bed: float
    bed_now: float | None
    saved_at: float
    ago: str
    same_boot: bool
    summary: str


class Calibration(TypedDict):
    """Of the Z+ switches; heights by motor."""

    calibrated: bool
    calibrated_at: float | None
    problem: str
    heights: dict[str, float]
    reference_height: float | None
    z_position: float | None
    second_copy: bool
    summary: str


class Saving(TypedDict):
    """interval: seconds between saves now, None for saves at events only, and the
    reason for it.  held: the event that waits for the limit of writes."""

    interval: float | None
    reason: str
    latency_ms: float
    writes_this_hour: int
    held: str | None


class Interruption(TypedDict):
    """kind: "power_loss", "reboot", "restart", "klippy_crash", "klippy_shutdown",
    "print_error" or "unknown"; words: the same for people.  thermal: a heater or its
    sensor was the reason."""

    kind: str
    words: str
    thermal: bool


class AutoResume(TypedDict):
    """seconds_left: of the countdown, None if there is none.  why_not: why the print
    was not resumed by itself, if auto_resume is on."""

    seconds_left: float | None
    why_not: str


class HoldBed(TypedDict):
    """The bed is kept warm for the answer."""

    target: float
    seconds_left: float


class Waiting(TypedDict):
    """interruption: of the first of `waiting`, the summaries of all interrupted prints
    but the one that is resumed.  warnings: to be read before a yes."""

    interruption: Interruption | None
    waiting: list[str]
    warnings: list[str]
    auto_resume: AutoResume
    hold_bed: HoldBed | None


class Status(Waiting):
    """state: of STATES; meaning: the same in words.  trouble: what is wrong with
    saving now, or nothing.  last_errors: the newest first; last_error is cleared when
    klippy comes back or a resume begins."""

    state: str
    meaning: str
    enabled: bool
    record: Place | None
    calibration: Calibration | None
    step: Step | None
    last_save_reason: str
    saving: Saving
    trouble: str
    last_error: str
    last_errors: list[Error]


class Purge(TypedDict):
    """Where the nozzle will be purged, mm.  on_bed: False if in the air."""

    x: float
    y: float
    end_x: float
    end_y: float
    on_bed: bool


class Resume(TypedDict):
    """steps: titles, in order.  z: "measured"; "estimate" and "bound" in mm, where the
    nozzle is believed to stand and how wrong that can be (None: nobody knows), and
    "apart", as in rotor.Rest.  warnings may be fewer than a dry run's: the file is
    read while the machine heats.  purge: likewise, None until it is read."""

    steps: list[str]
    warnings: list[str]
    z: dict[str, Any]
    purge: Purge | None
    dry_run: bool


class Point(TypedDict):
    """A layer.  share: of the print that is done there."""

    layer: int
    z: float | None
    file_position: int
    share: float


class Points(TypedDict):
    """saved: the byte at which a resume without a place goes on."""

    file: str
    saved: int
    points: list[Point]


class Layer(TypedDict):
    """As plastic is laid, mm, where the motors are; each path is x, y, x, y...

    printed: what comes before the saved place, rest: what comes after it.  begin: of
    the layer.  seam: where the saved place is, if it is in this layer.  whole: False
    if something is left out.
    """

    layer: int
    z: float | None
    file_position: int
    printed: list[list[float]]
    rest: list[list[float]]
    begin: list[float] | None
    seam: list[float] | None
    whole: bool


class Outage(TypedDict):
    """A print that was interrupted.

    job: the same for all outages of one print.  number: its how many-th outage.
    history_job: what Moonraker's job history calls the print, or nothing.
    interruption: what happened, as far as known.  off_s: from the last save until it
    was found.  lost_s: at most so much motion was not saved, and is laid again.
    ended: "" while it waits; "resumed", and when that print is over "complete",
    "cancelled" or "interrupted"; or "discarded", "replaced" by another print.
    """

    job: str
    number: int
    file: str
    history_job: str
    saved_at: float
    found_at: float
    off_s: float
    lost_s: float | None
    layer: int | None
    layers: int | None
    z: float
    percent: float
    interruption: Interruption | None
    ended: str
    ended_at: float | None


class History(TypedDict):
    outages: list[Outage]


class Finding(TypedDict):
    """state: "good", "doubt" (worth a look), "bad" (a resume will fail, or worse) or
    "unknown" (could not be looked at).  mend: what to do, empty if all is well."""

    name: str
    state: str
    found: str
    mend: str


class Check(TypedDict):
    """ok: nothing is bad.  findings: the gravest first."""

    ok: bool
    summary: str
    findings: list[Finding]


class Rehearsal(TypedDict):
    """steps: titles of those that will be run; warnings: of the whole plan."""

    file: str
    steps: list[str]
    warnings: list[str]
