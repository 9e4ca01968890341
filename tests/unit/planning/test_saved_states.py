# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""States that a file has kept with SAVE_GCODE_STATE, when only the file is known."""
from __future__ import annotations

import pytest

from moonraker_components.power_loss_recovery.gcode.ends import next_extrusion
from moonraker_components.power_loss_recovery.planning.reconstruct import record
from moonraker_components.power_loss_recovery.planning.saved_states import (
    saved_states,
)
from tests.unit.samples import head

PLACE = b"M104 S215\nM140 S60\nG90\nM82\nG92 E0\nG1 X10 Y20 Z.2 E2 F3000\n"


def kept(text: bytes) -> dict[str, dict[str, object]]:
    return saved_states(head(text, len(text)))


def test_it_is_as_klippy_would_have_it() -> None:
    state = kept(
        PLACE + b"M220 S50\nM221 S200\nG92 X0\nSET_GCODE_OFFSET Z=.1\n"
        b'SAVE_GCODE_STATE NAME="a b"\nM220 S100\nM83\nG1 X9 F99\n'
    )["a b"]
    assert (state["absolute_coord"], state["absolute_extrude"]) == (True, True)
    assert state["base_position"] == pytest.approx([10, 0, 0.1, 0])
    assert state["last_position"] == pytest.approx([10, 20, 0.2, 4])
    assert state["homing_position"] == pytest.approx([0, 0, 0.1, 0])
    assert state["speed"] == pytest.approx(3000 / 60 * 0.5)
    assert state["speed_factor"] == pytest.approx(0.5 / 60)
    assert state["extrude_factor"] == 2.0


def test_a_place_that_nobody_knows_is_not_gone_to() -> None:
    assert kept(b"START_PRINT\nSAVE_GCODE_STATE NAME=early\n" + PLACE) == {}


def test_a_resume_gives_it_to_klippy() -> None:
    text = PLACE + b"SAVE_GCODE_STATE\n"
    made = record(head(text, len(text)), b"G1 X20 E3")
    assert made.gcode["states"] == kept(text) and list(kept(text)) == ["default"]


RELATIVE = b"SAVE_GCODE_STATE NAME=a\nM82\nG92 E0\nG1 X5\n"
REST = b"RESTORE_GCODE_STATE NAME=a\nG1 X1 E.5\nG1 X9 E.5\nG1 X1 E.5\n"


@pytest.mark.parametrize("start", [RELATIVE, RELATIVE.split(b"\n", 1)[1]])
def test_what_is_printed_after_it_is_restored_is_not_overlooked(start: bytes) -> None:
    # "The print is complete there" would be the end of it; nobody can tell where
    # the state was saved by a macro.
    text = PLACE + b"M83\n" + start
    assert next_extrusion(text + REST, head(text + REST, len(text))) is not None


@pytest.mark.parametrize(("objects", "flow"), [
    (("extruder",), 0.95), (("extruder", "extruder1"), 1.0),
])  # fmt: skip
def test_another_extruder_ends_the_flow_factor(
    objects: tuple[str, ...], flow: float
) -> None:
    # With one nozzle for all filaments, T is a macro that leaves it alone.
    text = PLACE + b"M104 T1 S200\nM221 S95\nT1\nG92 E0\nG1 X11 E1\n"
    names = frozenset((*objects, "heater_bed"))

    def factor(text: bytes) -> float:
        made = record(head(text, len(text)), b"G1 X20 E3", objects=names)
        return made.state["coordinates"]["extrude_factor"]

    assert factor(text) == flow and factor(text + b"M221 S90\n") == 0.9
    assert factor(PLACE + b"M221 S95\nT0\n") == 0.95
