# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A soak goes on when the computer was too busy, and stops at everything else."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.soak import one_print, situations, ten_cuts
from tests.soak.one_print import Cut, OnePrint
from tests.virtual_printer.printer import PrinterError
from tests.virtual_printer.verdict import CutReport, Verdict

BUSY = "400: Communication timeout during homing z"


class Printer:
    """Boots at once; `log` is what klippy.log has."""

    def __init__(self, folder: Path) -> None:
        self.data = folder
        (folder / "logs").mkdir()
        self.log = folder / "logs" / "klippy.log"
        self.log.write_text("Timer too close, long ago\n")
        self.cuts = 0
        self.boots: list[str] = []  # errors of the boots to come
        self.sent: list[str] = []
        self.warnings: list[str] = []
        self.disk = SimpleNamespace(unavailable="")

    def cut_power(self) -> float:
        self.cuts += 1
        return float(self.cuts)

    def power_on(self) -> None:
        if self.boots and (error := self.boots.pop(0)):
            raise PrinterError(error)

    def gcode(self, script: str) -> None:
        self.sent.append(script)

    def get(self, path: str) -> dict[str, Any]:
        return {"warnings": self.warnings, "record": {"summary": "a part"}}

    def objects(self, *names: str) -> dict[str, Any]:
        stats = {"state": "paused"}
        return {"print_stats": stats, "webhooks": {"state": "ready"}}

    def state(self) -> str:
        return "paused"


@pytest.fixture
def printer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Printer:
    made = Printer(tmp_path)
    monkeypatch.setattr(one_print.outage, "wait_offer", lambda p: 1.5)
    monkeypatch.setattr(one_print.outage, "resume", lambda p, say: p.sent.append("yes"))
    return made


def story(printer: Any, repeats: int = 4) -> tuple[OnePrint, list[str]]:
    said: list[str] = []
    made = OnePrint(printer, Path("part.gcode"), said.append, repeats)
    # What the log has from before is no excuse.
    made._log_read = printer.log.stat().st_size
    return made, said


def failing(*errors: str) -> Callable[[Any], None]:
    left = list(errors)

    def until(printer: Any) -> None:
        if left:
            raise PrinterError(left.pop(0))

    return until


def test_a_busy_computer_costs_a_cut_more_with_its_reason(printer: Printer) -> None:
    made, said = story(printer)
    made.cut("in a layer", failing(BUSY))
    assert [(cut.name, bool(cut.busy)) for cut in made.cuts] == [
        ("in a layer", True), ("in a layer", False)
    ]  # fmt: skip
    assert any("too busy" in text and BUSY in text for text in said)
    assert printer.sent == ["yes"], "what failed was resumed before it was tried again"


def test_what_only_the_log_says_counts_too_but_not_what_is_old(
    printer: Printer,
) -> None:
    made, _ = story(printer)
    with pytest.raises(PrinterError, match="the print was error"):
        made.cut("in a layer", failing("not the moment: the print was error "))
    with open(printer.log, "a") as f:
        f.write("MCU 'mcu' shutdown: Timer too close\n")
    made.cut("in a layer", failing("not the moment: the print was error "))
    assert len(made.cuts) == 2 and made.cuts[0].busy == "Timer too close"


def test_a_failure_of_ours_is_one_at_once(printer: Printer) -> None:
    made, _ = story(printer)
    with pytest.raises(PrinterError, match="Cannot resume"):
        made.cut("in a layer", failing("Cannot resume: no"))
    assert printer.cuts == 0


def test_repeats_are_bounded(printer: Printer) -> None:
    made, _ = story(printer, repeats=2)
    with pytest.raises(PrinterError, match="stays too busy"):
        made.cut("in a layer", failing(*[BUSY] * 9))
    assert printer.cuts == 2


def test_a_boot_that_starves_is_a_cut_as_well(printer: Printer) -> None:
    made, _ = story(printer)
    printer.boots = [BUSY]
    made.cut("in a layer", failing())
    assert len(made.cuts) == printer.cuts == 2
    assert made.cuts[0].offer_s != made.cuts[0].offer_s, "nan: never offered"


def test_a_paused_print_is_let_go_on(printer: Printer) -> None:
    made, _ = story(printer)
    printer.warnings = ["It was paused, and will be paused again: then press Resume."]
    made.by_hand = "MOUNT_BY_HAND T=1"
    made.cut("in M600", failing())
    made.go_on()
    assert printer.sent == ["MOUNT_BY_HAND T=1", "yes", "RESUME"]


def test_a_print_that_starves_before_its_plastic_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Made(Printer):
        def __init__(self, boots: list[str]) -> None:
            folder = tmp_path / str(len(made))
            folder.mkdir()
            super().__init__(folder)
            self.boots, self.gcodes, self.closed = boots, folder, False
            made.append(self)
            self.log.write_text("")

        def print_file(self, part: Path) -> str:
            (self.gcodes / part.name).write_text("G28")
            return part.name

        def close(self) -> None:
            self.closed = True

        def __enter__(self) -> Made:
            return self

        def __exit__(self, *exc: object) -> None:
            self.close()

    made: list[Made] = []
    errors = [[BUSY], []]
    monkeypatch.setattr(one_print.outage, "calibrate", lambda p: None)
    monkeypatch.setattr(one_print, "after_plastic", lambda s: lambda p: None)

    def make() -> Any:
        return Made(errors.pop(0))

    with one_print.printing(make, Path("part.gcode"), lambda text: None) as begun:
        assert [p.closed for p in made] == [True, False] and begun.cuts == []
    assert made[-1].closed
    errors.append(["klippy is not ready: bad config"])
    with pytest.raises(PrinterError, match="bad config"):
        with one_print.printing(make, Path("part.gcode"), lambda text: None):
            pass
    assert len(made) == 3 and made[-1].closed


# What is printed in the end


def verdict(**changes: Any) -> Verdict:
    plain: dict[str, Any] = dict.fromkeys(Verdict.__dataclass_fields__, 0.0)
    per_cut = tuple(
        CutReport(n, 0.0, True, 0.0, 0.0, 0.5, 0.0, 3.0, None, 0.0, 0.1, 0.0)
        for n in range(2)
    )
    empty = dict.fromkeys(("missing", "doubled", "astray", "collided"), ())
    plain |= empty | {"per_cut": per_cut, "doubled_s": 1.0, "collisions": 0}
    return Verdict(**(plain | changes))


CUTS = [Cut("in a layer", 1.0, 1.5), Cut("in a layer", 2.0, 1.5, "Timer too close")]


def test_the_figures_are_met_or_missed() -> None:
    text, is_met = ten_cuts.figures(verdict(), 2)
    assert is_met and "2 x 1.6 = 3.2 at most | 1.00 (6.0 mm)" in text
    for change in (
        {"missing_mm": 0.3}, {"doubled_s": 3.3}, {"collisions": 1}, {"z_error_mm": 0.1}
    ):  # fmt: skip
        text, is_met = ten_cuts.figures(verdict(**change), 2)
        assert not is_met and text.count("MISSED") == 1
    assert not ten_cuts.figures(verdict(), 3)[1], "a cut too few"
    assert "once more: Timer too close" in ten_cuts.table(CUTS, verdict())


def test_a_scene_that_failed_or_took_the_wrong_tool_is_missed() -> None:
    def played(**changes: Any) -> situations.Played:
        made = situations.Played("a scene", 0, [CUTS[0]], verdict=verdict())
        for name, value in changes.items():
            setattr(made, name, value)
        return made

    assert situations.summary([played()], 1)[1]
    assert not situations.summary([played(verdict=None)], 1)[1]
    assert not situations.summary([played(tools=[("T1", "T0")])], 1)[1]
    assert not situations.summary([played(verdict=verdict(missing_mm=0.3))], 1)[1]
    assert played(wrong=["failed: no"]).reasons() == ["failed: no"]
