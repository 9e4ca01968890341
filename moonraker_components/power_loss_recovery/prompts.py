# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a person sees: words for the console, the dialogs and the status."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from . import answers
from .record import Job, Record


def span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def ago(seconds: float) -> str:
    return "at an unknown time" if seconds < 0 else f"{span(seconds)} ago"


def summary(job: Job, record: Record, now: float) -> str:
    """One line: what was interrupted, where, when.  `now`: seconds since epoch."""
    progress = record.state["progress"]
    parts = [plain(job.name)]
    layer, layers = progress.get("layer"), progress.get("layers")
    if isinstance(layer, int):
        known = isinstance(layers, int) and layers > 0
        parts.append(f"layer {layer}" + (f" of {layers}" if known else ""))
    parts.append(f"Z {record.position[2]:.2f} mm")
    if job.size:
        parts.append(f"{percent(job, record):.0f} %")
    return f"{', '.join(parts)}, saved {ago(now - record.saved_at)}"


def percent(job: Job, record: Record) -> float:
    """Of the file's bytes."""
    return min(100 * record.file_position / max(job.size, 1), 100.0)


def details(
    job: Job, record: Record, now: float, boot_id: str, bed_now: float | None = None
) -> answers.Place:
    """The same for a program.  `boot_id`: of the host as it runs now."""
    progress = record.state["progress"]
    return {
        "file": job.name,
        "file_position": record.file_position,
        "file_size": job.size,
        "fraction": record.fraction,
        "percent": percent(job, record),
        "position": list(record.position),
        "z": record.position[2],
        "layer": progress.get("layer"),
        "layers": progress.get("layers"),
        "extruder": record.extruder,
        "hotend": record.hotend_target,
        "bed": record.bed_target,
        "bed_now": bed_now,
        "saved_at": record.saved_at,
        "ago": ago(now - record.saved_at),
        "same_boot": record.boot_id == boot_id,
        "summary": summary(job, record, now),
    }


def saved_state(status: Mapping[str, Any]) -> str:
    """Answers PLR_QUERY_SAVED_STATE.  `status`: as server.plr.status gives it."""
    texts = ["Saving is on."]
    if not status["enabled"]:
        texts = ["Saving is off (PLR_ENABLE turns it on)."]
    if status["record"] is None:
        texts.append("There is no interrupted print.")
    else:
        what = "Saved" if status["state"] == "printing" else "Interrupted"
        texts.append(f"{what}: {status['record']['summary']}.")
    if status["calibration"] is not None:
        texts.append(status["calibration"]["summary"])
    return " ".join(texts)


def calibration(
    z_homing: Mapping[str, Any], now: float, copied: bool
) -> answers.Calibration | None:
    """The stored heights of the Z+ switches; None on a machine without switches.

    z_homing: status of klippy's extra.  copied: there is a second copy of them.
    """
    if not z_homing.get("available"):
        return None
    heights = z_homing.get("heights") or {}
    when = z_homing.get("calibration_time")
    problem = z_homing.get("calibration_problem")
    if problem or not heights:
        summary = plain(f"Z calibration: {problem or 'none.'}")
    else:
        (first, reference), *others = heights.items()
        places = [f"{first} {reference:.3f} mm (the reference)"] + [
            f"{name} {height:.3f} mm ({height - reference:+.3f})"
            for name, height in others
        ]
        age = ago(now - when) if isinstance(when, (int, float)) else ago(-1)
        kept = "" if copied else " There is no second copy of it."
        summary = f"Z calibrated {age}, switches at: {', '.join(places)}.{kept}"
    return {
        "calibrated": bool(heights) and not problem,
        "calibrated_at": when,
        "problem": problem or "",
        "heights": heights,
        "reference_height": next(iter(heights.values()), None),
        "z_position": z_homing.get("z_position"),
        "second_copy": copied,
        "summary": summary,
    }


def console(lines: Sequence[str]) -> str:
    return "\n".join("// " + plain(line) for line in lines)


def plain(text: str) -> str:
    """No line breaks, control characters or `|`, which end or split a prompt."""
    return re.sub(r"[\x00-\x1f\x7f|]", " ", text)
