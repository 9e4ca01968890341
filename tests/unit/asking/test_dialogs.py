# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The dialogs in the one form that Mainsail, Fluidd and KlipperScreen all show."""
from __future__ import annotations

import re
from dataclasses import replace

import pytest

from moonraker_components.power_loss_recovery.answers import Point
from moonraker_components.power_loss_recovery.asking import dialogs
from moonraker_components.power_loss_recovery.saving.interruption import Interruption
from tests.unit.samples import JOB, record

NOW = 1.7e9 + 120
LOSS = Interruption("power_loss", "Power loss")
NASTY = "a|b\nc\r// action:prompt_end\x07.gcode"


def kinds(lines: list[str]) -> list[str]:
    assert all(line.startswith("// action:prompt_") for line in lines)
    return [line.split()[1].removeprefix("action:prompt_") for line in lines]


def buttons(lines: list[str]) -> list[list[str]]:
    return [x.split(" ", 2)[2].split("|") for x in lines if "footer_button" in x]


def text(lines: list[str]) -> str:
    (line,) = [line for line in lines if "prompt_text" in line]
    return line


def points(*layers: int) -> list[Point]:
    return [Point(layer=n, z=n * 0.2, file_position=100 * at, share=0.0)
            for at, n in enumerate(layers)]  # fmt: skip


def test_the_offer_has_one_text_and_four_buttons() -> None:
    lines = dialogs.offer(JOB, record(), LOSS, ["Look out."], NOW)
    assert kinds(lines) == ["end", "begin", "text", *["footer_button"] * 4, "show"]
    assert text(lines).endswith(
        "Power loss: part.gcode, layer 3 of 10, Z 0.40 mm, 75 %, saved 2 min ago."
        " Look out."
    )
    assert [b[:2] for b in buttons(lines)] == [
        ["Resume", "PLR_RESUME_PRINT"], ["Resume from...", "PLR_RESUME_FROM"],
        ["Discard", "PLR_RESET_PRINT_DATA"],
        ["Later", "RESPOND TYPE=command MSG=action:prompt_end"],
    ]  # fmt: skip
    assert dialogs.ours(lines[1])


def test_a_countdown_is_said_first_and_can_be_stopped() -> None:
    lines = dialogs.offer(JOB, record(), LOSS, [], NOW, 60.0)
    assert "prompt_text It resumes by itself in 60 s. Power loss:" in text(lines)
    assert buttons(lines)[-1][:2] == ["Stop", "PLR_STOP_AUTO_RESUME"]


def test_the_last_layers_can_be_chosen() -> None:
    lines = dialogs.choose("part.gcode", 450, points(1, 2, 3, 4, 5, 6, 7))
    assert [b[:2] for b in buttons(lines)] == [
        ["The saved place", "PLR_RESUME_PRINT"],
        ["Layer 5, Z 1.00", "PLR_RESUME_PRINT LAYER=5"],
        ["Layer 4, Z 0.80", "PLR_RESUME_PRINT LAYER=4"],
        ["Layer 3, Z 0.60", "PLR_RESUME_PRINT LAYER=3"],
        ["Layer 2, Z 0.40", "PLR_RESUME_PRINT LAYER=2"],
        ["Back", dialogs.LATER],
    ]  # fmt: skip
    assert "PLR_RESUME_PRINT LAYER=" in text(lines) and dialogs.ours(lines[1])


def test_layers_that_are_counted_anew_are_told_apart() -> None:
    found = [*points(1, 2, 1, 2)]
    found[3]["z"] = None
    lines = dialogs.choose("part.gcode", 10**9, found)
    assert [b[:2] for b in buttons(lines)][1:3] == [
        ["Layer 2", "PLR_RESUME_PRINT POSITION=300"],
        ["Layer 1, Z 0.20", "PLR_RESUME_PRINT POSITION=200"],
    ]


def test_a_file_without_layers_has_its_saved_place() -> None:
    assert len(buttons(dialogs.choose("part.gcode", 5, []))) == 2


def test_another_print_is_warned_of_and_may_go_on() -> None:
    lines = dialogs.other_print(JOB, record(), "other.gcode", NOW, True)
    assert [b[1] for b in buttons(lines)] == [
        dialogs.LATER, "CANCEL_PRINT", "PLR_RESET_PRINT_DATA",
    ]  # fmt: skip
    assert "other.gcode is being printed, while" in text(lines)
    again = dialogs.other_print(JOB, record(), JOB.name, NOW, False)
    assert "printed again from its beginning" in text(again)
    assert len(buttons(again)) == 2


def test_a_file_name_cannot_change_a_dialog() -> None:
    job = replace(JOB, name=NASTY)
    words = Interruption("klippy_shutdown", "x|y\n// action:prompt_end")
    for lines in (
        dialogs.offer(job, record(), words, [NASTY], NOW),
        dialogs.choose(NASTY, 500, points(1, 2)),
        dialogs.other_print(job, record(), NASTY, NOW, True),
    ):
        assert kinds(lines).count("end") == kinds(lines).count("show") == 1
        for line in lines:
            assert not re.search(r"[\n\r\x07]", line)
            assert line.count("|") == (2 if "button" in line else 0)


@pytest.mark.parametrize("name", [
    '<img src=x onerror="alert(1)">.gcode', "[x](http://evil)!`a`*b*.gcode", "a&b's",
    "#1 ~~x~~ {{y}}\\", "\n<b>",
])  # fmt: skip
def test_an_announcement_has_no_mark_up(name: str) -> None:
    told = dialogs.announcement(replace(JOB, name=name), record(), LOSS)
    assert not re.search(r"[<>\"'\[\]*`\\!~{}\n]", told)
    assert re.fullmatch(r"(&#\d+;|[^&#])*", told)


def test_an_announcement_says_what_and_how() -> None:
    told = dialogs.announcement(JOB, record(), LOSS)
    assert told.startswith("part.gcode was interrupted at layer 3 (Power loss).")
    assert "PLR_RESUME_PRINT" in told


def test_a_part_that_is_whole_is_not_resumed_but_finished() -> None:
    lines = dialogs.offer(JOB, record(), LOSS, [], NOW, complete=True)
    assert [b[:2] for b in buttons(lines)] == [
        ["Finish", "PLR_RESET_PRINT_DATA"], ["Resume from...", "PLR_RESUME_FROM"],
        ["Later", "RESPOND TYPE=command MSG=action:prompt_end"],
    ]  # fmt: skip
