# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""When a real print is saved, as its status tells it: one print, at events only.

The tests run in the order they are written.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.journal import Journal
from moonraker_components.power_loss_recovery.record import from_payloads
from tests.virtual_printer import parts
from tests.virtual_printer.printer import VirtualPrinter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LIMIT = 40
OPTIONS = f"""
[power_loss_recovery]
save_interval: 0
max_writes_per_hour: {LIMIT}
"""


@pytest.fixture(scope="module")
def printer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualPrinter]:
    folder = tmp_path_factory.mktemp("part")
    part = parts.write(folder / "part.gcode", parts.Part(size=20, layers=3))
    with VirtualPrinter(seed=8, config=OPTIONS) as printer:
        printer.power_on()
        printer.print_file(part)
        yield printer


def status(printer: VirtualPrinter) -> dict[str, Any]:
    return printer.get("/server/plr/status")


def test_layers_are_saved_and_nothing_between_them(printer: VirtualPrinter) -> None:
    def second_layer() -> bool:
        record = status(printer)["record"]
        return record is not None and record["layer"] == 2

    printer.wait("the second layer in the record", second_layer, 180)
    told = status(printer)
    assert told["last_save_reason"] == "layer"
    assert told["saving"]["interval"] is None
    assert "events only" in told["saving"]["reason"]
    assert told["saving"]["writes_this_hour"] < 12
    assert told["saving"]["held"] is None and told["saving"]["latency_ms"] > 0
    assert told["warnings"] == [] or "in memory" in told["warnings"][0]


def test_a_pause_is_saved_where_the_head_stands(printer: VirtualPrinter) -> None:
    printer.gcode("PAUSE")
    printer.gcode("G91\nG1 Z5 F600\nG90\nM400")
    z = printer.objects("toolhead")["toolhead"]["position"][2]

    def parked() -> bool:
        found = Journal(str(printer.data / "plr" / "journal")).read()
        assert found is not None
        _, record = from_payloads(found.job_payload, found.mark_payload)
        return abs(record.toolhead_z - z) < 0.02

    printer.wait("the lifted head in the journal", parked, 10)
    assert status(printer)["last_save_reason"] in ("pause", "parked")
    before = status(printer)["saving"]["writes_this_hour"]
    assert before < LIMIT


def test_once_it_is_said_to_be_over_it_is_over_in_the_journal(
    printer: VirtualPrinter,
) -> None:
    printer.gcode("CANCEL_PRINT")
    printer.wait("the end", lambda: status(printer)["state"] == "idle", 20)
    found = Journal(str(printer.data / "plr" / "journal")).read()
    assert found is not None and found.closed is not None
    assert status(printer)["record"] is None


def test_a_limit_that_makes_no_sense_is_refused_with_its_range() -> None:
    options = "\n[power_loss_recovery]\nmax_writes_per_hour: -1\n"
    with VirtualPrinter(seed=9, config=options) as printer:
        printer.power_on(wait=False)
        path = printer.data / "logs" / "klippy.log"
        refusal = "Option 'max_writes_per_hour' in section 'power_loss_recovery' must"
        printer.wait(
            "the refusal", lambda: path.exists() and refusal in path.read_text(), 30
        )
        assert "minimum of 0" in path.read_text()
