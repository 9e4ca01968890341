# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The dialogs, as Mainsail, Fluidd and KlipperScreen show them.

Prompt protocol: lines `// action:prompt_...` on the console.  What all three can do:
one line of text (KlipperScreen shows the last one only) and footer buttons.  A dialog
begins with the end of the one before, which KlipperScreen would leave open.
"""
from __future__ import annotations

import re
from collections.abc import Sequence

from ..answers import Point
from ..prompts import plain, summary
from ..record import Job, Record
from ..saving.interruption import Interruption

END = "// action:prompt_end"
BEGIN = "// action:prompt_begin "
LATER = "RESPOND TYPE=command MSG=action:prompt_end"
TITLE = "Print interrupted"
CHOICES = 4


Button = tuple[str, str, str]  # label, G-code, colour


def _dialog(title: str, text: str, buttons: Sequence[Button]) -> list[str]:
    return [
        END,
        f"{BEGIN}{title}",
        f"// action:prompt_text {plain(text)}",
        *(f"// action:prompt_footer_button {'|'.join(map(plain, button))}"
          for button in buttons),
        "// action:prompt_show",
    ]  # fmt: skip


def ours(line: str) -> bool:
    """Whether a line begins one of these dialogs."""
    return line.startswith(BEGIN + TITLE)


def offer(
    job: Job, record: Record, interruption: Interruption, warnings: Sequence[str],
    now: float, countdown: float = 0.0, complete: bool = False,
) -> list[str]:  # fmt: skip
    """now: seconds since epoch.  countdown: seconds until it resumes by itself.
    complete: all plastic is laid."""
    said = [f"{interruption.words}: {summary(job, record, now)}.", *warnings]
    resume = ("Resume", "PLR_RESUME_PRINT", "primary")
    others = [
        ("Resume from...", "PLR_RESUME_FROM", "info"),
        ("Discard", "PLR_RESET_PRINT_DATA", "error"),
        ("Later", LATER, "secondary"),
    ]
    if countdown:
        said.insert(0, f"It resumes by itself in {countdown:.0f} s.")
        others[-1] = ("Stop", "PLR_STOP_AUTO_RESUME", "warning")
    if complete:
        resume, others[1:2] = ("Finish", "PLR_RESET_PRINT_DATA", "primary"), []
    return _dialog(TITLE, " ".join(said), [resume, *others])


def choose(name: str, saved: int, points: Sequence[Point]) -> list[str]:
    """name: of the file.  saved: byte of the saved place.  points: the file's layers,
    in its order."""
    numbers = [point["layer"] for point in points]
    before = [point for point in points if point["file_position"] <= saved]
    buttons = [("The saved place", "PLR_RESUME_PRINT", "primary")]
    for point in before[: -CHOICES - 1 : -1]:
        number, z = point["layer"], point["z"]
        # Objects that are printed one after another count their layers anew.
        where = f"LAYER={number}"
        if numbers.count(number) > 1:
            where = f"POSITION={point['file_position']}"
        label = f"Layer {number}" + ("" if z is None else f", Z {z:.2f}")
        buttons.append((label, f"PLR_RESUME_PRINT {where}", "info"))
    text = (
        f"Where shall {name} go on? A layer is printed from its start: choose an"
        " earlier one only if the part lacks what was printed since. Other places:"
        " PLR_RESUME_PRINT LAYER=, Z= or POSITION= on the console."
    )
    buttons.append(("Back", LATER, "secondary"))
    return _dialog(f"{TITLE}: from where", text, buttons)


def other_print(
    job: Job, record: Record, new: str, now: float, can_cancel: bool
) -> list[str]:
    """new: name of the file that is printed while this one waits."""
    buttons = [("Print on", LATER, "primary")]
    if can_cancel:
        buttons.append(("Cancel this print", "CANCEL_PRINT", "warning"))
    buttons.append(("Discard the old one", "PLR_RESET_PRINT_DATA", "error"))
    return _dialog(
        f"{TITLE}: another one begins", another(job, record, new, now), buttons
    )


def another(job: Job, record: Record, new: str, now: float) -> str:
    """The same for the console."""
    start = f"{new} is being printed"
    if new == job.name:
        start = f"{new} is being printed again from its beginning"
    return (
        f"{start}, while an interrupted print waits: {summary(job, record, now)}. Is"
        " its part still on the bed? What was saved of it is kept, and offered again"
        " when this print is over."
    )


def announcement(job: Job, record: Record, interruption: Interruption) -> str:
    """Shown as HTML or Markdown by some front ends.  Without an age: it stays."""
    layer = record.state["progress"].get("layer")
    where = f" at layer {layer}" if isinstance(layer, int) else ""
    return (
        f"{_escaped(job.name)} was interrupted{where}"
        f" ({_escaped(interruption.words)}). When Klipper is ready, resume it with"
        " PLR_RESUME_PRINT or discard it with PLR_RESET_PRINT_DATA."
    )


def _escaped(text: str) -> str:
    """No mark-up of HTML or Markdown."""
    return re.sub(
        r"[<>&\"'\[\]*`\\!#~{}]", lambda found: f"&#{ord(found[0])};", plain(text)
    )
