# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""PLR_TEST_RESUME moves as a resume does, and heats, extrudes and lowers nothing."""
from __future__ import annotations

import re
from typing import Any

import pytest
import pytest_asyncio
from moonraker.utils import ServerError

from moonraker_components.power_loss_recovery import answers
from tests.unit.samples import GCODE
from tests.unit.test_component import Bench, bench  # noqa: F401
from tests.unit.typed import problems

pytestmark = pytest.mark.asyncio

LAYERS = 10
BODY = b"".join(
    b";LAYER_CHANGE\n;Z:%.1f\nG1 Z%.1f\nG1 X100 Y100 E5 F1800\nG1 X150 Y150 E5\n"
    % (n / 5, n / 5) for n in range(1, LAYERS + 1)
)  # fmt: skip
TOP = LAYERS / 2 / 5  # of what is printed when the middle layer begins


@pytest_asyncio.fixture
async def printer(bench: Bench) -> Bench:  # noqa: F811
    """Homed, with one print in its history and nothing that waits."""
    await bench.plr.resumer.discard()
    gcodes = bench.server.folder / "gcodes"
    (gcodes / "tall.gcode").write_bytes(b"G90\nM83\nG1 X100 Y100 Z0.2 F6000\n" + BODY)
    bench.server.jobs = [
        {"filename": "now.gcode", "exists": True, "status": "in_progress"},
        {"filename": ".plr/resume-1.gcode", "exists": False, "status": "completed"},
        {"filename": "tall.gcode", "exists": True, "status": "completed"},
        {"filename": "part.gcode", "exists": True, "status": "completed"},
    ]
    bench.klippy.toolhead.update(homed_axes="xyz", position=[9.0, 9.0, 20.0, 0.0])
    bench.klippy.sent.clear()
    return bench


def lines(printer: Bench) -> list[str]:
    return [line for script in printer.klippy.sent for line in script.split("\n")]


async def test_it_runs_what_moves_and_says_how_it_went(printer: Bench) -> None:
    answer = await printer.plr.rehearsal.start()
    assert problems(answer, answers.Rehearsal) == []
    assert answer["file"] == "tall.gcode"
    assert printer.plr.state() == "resuming"
    await printer.ended()
    assert [t for t in answer["steps"] if "Home X and Y" in t or "Z+" in t]
    assert "G28 X Y" in lines(printer) and "PLR_Z_HOME MODE=RESUME" in " ".join(
        printer.klippy.sent
    )
    assert any("went well" in text for text in printer.server.console())
    assert printer.plr.state() == "idle" and printer.klippy.started == []


async def test_nothing_is_heated_extruded_or_lowered_into_the_print(
    printer: Bench,
) -> None:
    printer.klippy.status["configfile"]["settings"]["power_loss_recovery"].update(
        restart_gcode="M109 S200\nG1 E5"
    )
    await printer.plr.rehearsal.start()
    await printer.ended()
    text = "\n".join(lines(printer))
    assert not re.search(r"M104|M109|M140|M190|SET_HEATER|restart_gcode", text)
    assert not re.search(r"(?m)^G[01] .*E", text)
    relative = False
    for line in lines(printer):
        relative = {"G91": True, "G90": False}.get(line, relative)
        height = re.match(r"G[01] .*?Z(-?[\d.]+)", line)
        if height:
            assert float(height[1]) >= (0.0 if relative else TOP + 4)
    # Whatever a hook has turned on
    assert lines(printer).count("TURN_OFF_HEATERS") >= 4


async def test_its_resume_file_is_not_left_for_anybody_to_print(printer: Bench) -> None:
    await printer.plr.rehearsal.start()
    await printer.ended()
    folder = printer.server.folder / "gcodes" / ".plr"
    assert folder.is_dir() and list(folder.iterdir()) == []


async def test_a_printer_that_does_not_know_z_is_not_moved(printer: Bench) -> None:
    printer.klippy.toolhead["homed_axes"] = ""
    with pytest.raises(ServerError, match="home the printer"):
        await printer.plr.rehearsal.start()
    assert printer.klippy.sent == [] and printer.plr.resumer.task is None


async def test_a_print_that_waits_is_not_driven_over(bench: Bench) -> None:  # noqa: F811
    bench.klippy.toolhead["homed_axes"] = "xyz"
    with pytest.raises(ServerError, match="waits to be resumed"):
        await bench.plr.rehearsal.start()
    assert bench.klippy.sent == []


@pytest.mark.parametrize("jobs", [[], [{"filename": "x", "exists": False}]])
async def test_without_an_earlier_print_it_says_so(printer: Bench, jobs: Any) -> None:
    printer.server.jobs = jobs
    (told,) = await printer.command("PLR_TEST_RESUME")
    assert "no earlier print" in told


@pytest.mark.parametrize("content", [b"", b"G28\n", GCODE[:60], b"\x00" * 500])
async def test_a_file_that_cannot_be_planned_is_named(
    printer: Bench, content: bytes
) -> None:
    path = printer.server.folder / "gcodes" / "tall.gcode"
    path.write_bytes(content)
    with pytest.raises(ServerError, match="^tall.gcode: "):
        await printer.plr.rehearsal.start()
    assert printer.klippy.sent == [] and not printer.plr.resumer.busy


async def test_a_print_that_begins_meanwhile_is_left_alone(printer: Bench) -> None:
    printer.klippy.at["G28 X Y"] = printer.klippy.another_print
    await printer.plr.rehearsal.start()
    await printer.ended()
    sent = lines(printer)
    assert "TURN_OFF_HEATERS" not in sent[sent.index("G28 X Y") :]
    assert any("rehearsal failed" in text for text in printer.server.console())


async def test_it_can_be_stopped(printer: Bench) -> None:
    await printer.plr.rehearsal.start()
    await printer.until("G28 X Y")
    printer.klippy.hangs = ""
    printer.plr.resumer.cancel_asked()
    await printer.ended()
    assert any("rehearsal was stopped" in text for text in printer.server.console())
    assert lines(printer)[-1] == "G90" and printer.plr.state() == "idle"


async def test_there_is_only_one_at_a_time(printer: Bench) -> None:
    await printer.plr.rehearsal.start()
    with pytest.raises(ServerError, match="already under way"):
        await printer.plr.rehearsal.start()
    await printer.ended()


async def test_on_an_idex_machine_the_carriage_of_the_tool_moves(
    printer: Bench,
) -> None:
    printer.klippy.become_idex()
    path = printer.server.folder / "gcodes" / "tall.gcode"
    path.write_bytes(b"G90\nM83\nT1\nG1 X100 Y100 Z0.2 F6000\n" + BODY)
    answer = await printer.plr.rehearsal.start()
    assert any("the second one alone" in text for text in answer["warnings"])
    await printer.ended()
    sent = lines(printer)
    chosen = sent.index("SET_DUAL_CARRIAGE CARRIAGE=1")
    assert sent.index("G28 X Y") < chosen
    travels = [i for i, line in enumerate(sent) if line.startswith("G1 X")]
    # Before it only the first one, to its endstop.
    assert sent[travels[0] - 1] == "SET_DUAL_CARRIAGE CARRIAGE=0"
    assert travels[0] < chosen < travels[1]
    assert not any("HEATER" in line for line in sent if line != "TURN_OFF_HEATERS")
