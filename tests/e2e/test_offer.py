# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The question after an outage, on a real Moonraker, as front ends see it.

One print is interrupted once; the tests run in the order they are written.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.virtual_printer import outage, parts
from tests.virtual_printer.front_end import FrontEnd
from tests.virtual_printer.printer import PrinterError, VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 31
SOON = 1.0  # seconds from klippy ready to the offer
RESTARTS = 5
TITLE = "Print interrupted"
PART = parts.Part(size=20, layers=3)
OTHER = parts.Part(size=12, layers=2, long_line=0)
NASTY = "<b>part</b> [x](y).gcode"


@dataclass
class Scene:
    printer: VirtualPrinter
    mainsail: FrontEnd
    folder: Path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("parts")
    part = parts.write(folder / NASTY.replace("/", "-"), PART)
    with VirtualPrinter(seed=SEED) as printer, FrontEnd(printer.port) as mainsail:
        printer.power_on()
        printer.print_file(part)
        printer.arm_cut(5.0)
        outage.wait_cut(printer, 5.0)
        printer.power_on(wait=False)
        yield Scene(printer, mainsail, folder)


def status(scene: Scene) -> dict[str, Any]:
    return scene.printer.get("/server/plr/status")


def announced(scene: Scene) -> list[str]:
    entries = scene.printer.get("/server/announcements/list")["entries"]
    return [e["description"] for e in entries if e["feed"] == "power_loss_recovery"]


def test_it_is_there_within_a_second_of_klippy(scene: Scene) -> None:
    seen = []
    for restart in range(RESTARTS + 1):
        if restart:
            scene.printer.post("/printer/restart")
            scene.mainsail.wait(None, 20)
        dialog = scene.mainsail.wait(TITLE, 60)
        assert dialog is not None
        seen.append(dialog.shown - scene.mainsail.when("notify_klippy_ready"))
    told = ", ".join(f"{1000 * s:.0f}" for s in seen)
    print(f"\nklippy ready to offer visible: {told} ms, slowest {max(seen):.3f} s")
    assert max(seen) <= SOON


def test_it_says_why_and_what_to_look_at(scene: Scene) -> None:
    dialog = scene.mainsail.wait(TITLE)
    assert dialog is not None
    assert dialog.text.startswith("Power loss: <b>part<-b> [x](y).gcode, layer ")
    assert list(dialog.buttons) == ["Resume", "Resume from...", "Discard", "Later"]
    told = status(scene)
    assert told["interruption"]["kind"] == "power_loss"
    assert any("not measured" in text for text in told["warnings"])
    assert all(text in dialog.text for text in told["warnings"] if "Z is" in text)


def test_the_announcement_has_no_mark_up(scene: Scene) -> None:
    (text,) = announced(scene)
    assert "&#60;b&#62;part" in text and "<" not in text and "[" not in text


def test_a_screen_that_comes_late_sees_it_too(scene: Scene) -> None:
    with FrontEnd(
        scene.printer.port, "KlipperScreen", "display", reads_back=False
    ) as screen:
        late = screen.wait(TITLE, 5)
        now = scene.mainsail.dialog
        assert late is not None and now is not None and late.buttons == now.buttons


def test_the_last_layers_are_offered_on_another_dialog(scene: Scene) -> None:
    with FrontEnd(scene.printer.port, "fluidd") as fluidd:
        fluidd.wait(TITLE)
        scene.mainsail.press("Resume from...")
        for front_end in (scene.mainsail, fluidd):
            dialog = front_end.wait("from where")
            assert dialog is not None
            assert dialog.buttons["Layer 1, Z 0.20"] == "PLR_RESUME_PRINT LAYER=1"
        fluidd.press("Back")
        for front_end in (scene.mainsail, fluidd):
            dialog = front_end.wait(TITLE)
            assert dialog is not None and "Resume" in dialog.buttons


def test_a_dialog_of_another_macro_does_not_swallow_it(scene: Scene) -> None:
    scene.printer.gcode(
        'RESPOND TYPE=command MSG="action:prompt_begin Maintenance"\n'
        'RESPOND TYPE=command MSG="action:prompt_text Oil it"\n'
        'RESPOND TYPE=command MSG="action:prompt_show"'
    )
    scene.mainsail.wait("Maintenance")
    scene.printer.gcode("RESPOND TYPE=command MSG=action:prompt_end")
    scene.mainsail.wait(TITLE)


def test_later_closes_it_everywhere(scene: Scene) -> None:
    scene.mainsail.press("Later")
    scene.mainsail.wait(None)
    with FrontEnd(scene.printer.port, "KlipperScreen", "display", False) as screen:
        screen.connected.wait(5)
        time.sleep(0.5)
        assert screen.dialogs == []
    with FrontEnd(scene.printer.port, "mainsail") as reloaded:
        reloaded.connected.wait(5)
        time.sleep(0.5)
        assert reloaded.dialog is None
    assert status(scene)["state"] == "interrupted" and announced(scene)


def test_another_print_is_warned_about_and_not_stopped(scene: Scene) -> None:
    scene.printer.print_file(parts.write(scene.folder / "other.gcode", OTHER))
    dialog = scene.mainsail.wait("another one begins", 20)
    assert dialog is not None and "other.gcode is being printed" in dialog.text
    assert dialog.buttons["Cancel this print"] == "CANCEL_PRINT"

    def saved() -> bool:
        record = status(scene)["record"]
        return record is not None and record["file"] == "other.gcode"

    scene.printer.wait("the other print in the journal", saved, 180)
    assert len(status(scene)["waiting"]) == 1
    scene.mainsail.press("Cancel this print")
    dialog = scene.mainsail.wait(TITLE, 20)
    assert dialog is not None and "<b>part" in dialog.text
    assert "Another print has run since" in dialog.text


def test_where_it_was_set_aside_it_survives_a_cut(scene: Scene) -> None:
    scene.printer.cut_power()
    scene.printer.power_on()
    dialog = scene.mainsail.wait(TITLE, 20)
    assert dialog is not None and "Another print has run since" in dialog.text
    with pytest.raises(PrinterError, match="Let Klipper know Z first"):
        scene.printer.post("/server/plr/resume", dry_run=True)
    scene.printer.gcode("G28")
    assert scene.printer.post("/server/plr/resume", dry_run=True)["steps"]


def test_discarded_it_is_gone_everywhere(scene: Scene) -> None:
    with FrontEnd(scene.printer.port, "KlipperScreen", "display", False) as screen:
        screen.wait(TITLE)
        scene.mainsail.press("Discard")
        for front_end in (scene.mainsail, screen):
            front_end.wait(None)
    scene.printer.wait(
        "the announcement to go", lambda: announced(scene) == [], 5
    )
    assert status(scene)["state"] == "idle" and status(scene)["waiting"] == []
    assert list((scene.printer.data / "plr" / "kept").iterdir()) == []
