# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What a print sets besides motion, and which commands bring it back."""
from __future__ import annotations

import pytest

from moonraker_components.power_loss_recovery.gcode.replay import MAX_ENTRIES
from moonraker_components.power_loss_recovery.gcode.scan import Head, ScanError, scan


def state(text: str) -> Head:
    data = text.encode()
    return scan(data, len(data))


def lines(text: str) -> list[str]:
    return [setting.line.decode() for setting in state(text).settings]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("M204 S500\nM204 S900\n", ["M204 S900"]),
        ("M204 P500 T900\nM204 S700\n", ["M204 P500 T900", "M204 S700"]),
        ("M205 X8 Y8\nM205 X8 Y8 ; again\n", ["M205 X8 Y8"]),
        (
            "SET_VELOCITY_LIMIT ACCEL=1\nSET_VELOCITY_LIMIT VELOCITY=2\nM204 S3\n",
            ["SET_VELOCITY_LIMIT ACCEL=1", "SET_VELOCITY_LIMIT VELOCITY=2", "M204 S3"],
        ),
        (
            "SET_VELOCITY_LIMIT ACCEL=1\nM204 S3\nset_velocity_limit accel=4\n",
            ["M204 S3", "set_velocity_limit accel=4"],
        ),
        (
            "SET_PRESSURE_ADVANCE ADVANCE=.1\n"
            "SET_PRESSURE_ADVANCE EXTRUDER=extruder1 ADVANCE=.2\n"
            "SET_PRESSURE_ADVANCE ADVANCE=.3\n",
            [
                "SET_PRESSURE_ADVANCE EXTRUDER=extruder1 ADVANCE=.2",
                "SET_PRESSURE_ADVANCE ADVANCE=.3",
            ],
        ),
        ("M900 K0.1\nM900 K0.2*33\n", ["M900 K0.2"]),
        ("M220 S90\nM220 B\nM221 S95\n", ["M221 S95", "M220 B"]),
        ("M73 P1 R9\nM73 Q1 S9\nM73 P2 R8\n", ["M73 Q1 S9", "M73 P2 R8"]),
        ("M117 one\nM117 Layer 2/9 : PLA\n", ["M117 Layer 2/9 : PLA"]),
        ("G18\nN4 G17*12\n", ["G17"]),
        (
            "SET_SKEW XY=100,100,70\nSKEW_PROFILE LOAD=a\nSKEW_PROFILE SAVE=b\n",
            ["SKEW_PROFILE LOAD=a"],
        ),
        ("SKEW_PROFILE LOAD=a\nSET_SKEW CLEAR=1\n", ["SET_SKEW CLEAR=1"]),
        (
            "BED_MESH_PROFILE LOAD=x\nBED_MESH_OFFSET X=1\n"
            "BED_MESH_PROFILE LOAD='y z'\n",
            ["BED_MESH_PROFILE LOAD='y z'"],
        ),
        ("BED_MESH_PROFILE LOAD=x\nBED_MESH_CALIBRATE\n", []),
        (
            "SET_GCODE_VARIABLE MACRO=a VARIABLE=v VALUE=1\n"
            "SET_GCODE_VARIABLE MACRO=a VARIABLE=w VALUE=2\n"
            "SET_GCODE_VARIABLE MACRO=a VARIABLE=v VALUE='\"a;b\"'\n",
            [
                "SET_GCODE_VARIABLE MACRO=a VARIABLE=w VALUE=2",
                "SET_GCODE_VARIABLE MACRO=a VARIABLE=v VALUE='\"a;b\"'",
            ],
        ),
        (
            "SYNC_EXTRUDER_MOTION EXTRUDER=extruder1 MOTION_QUEUE=extruder\n"
            "SYNC_EXTRUDER_MOTION EXTRUDER=extruder1 MOTION_QUEUE=\n",
            ["SYNC_EXTRUDER_MOTION EXTRUDER=extruder1 MOTION_QUEUE="],
        ),
        (
            "SET_PRINT_STATS_INFO TOTAL_LAYER=9\nSET_PRINT_STATS_INFO CURRENT_LAYER=1\n"
            "SET_PRINT_STATS_INFO CURRENT_LAYER=2\n",
            [
                "SET_PRINT_STATS_INFO TOTAL_LAYER=9",
                "SET_PRINT_STATS_INFO CURRENT_LAYER=2",
            ],
        ),
        (
            "SET_GCODE_OFFSET Z=.2 X=1\nSET_GCODE_OFFSET Z_ADJUST=.1\n",
            ["SET_GCODE_OFFSET X=1.000000 Z=0.300000"],
        ),
        ("SET_GCODE_OFFSET Z_ADJUST=.1\n", ["SET_GCODE_OFFSET Z_ADJUST=0.100000"]),
        (
            "M486 T2\nM486 S0\nM486 ACube (1)\nM486 S1\nM486 AB\nM486 S-1\nM486 S0\n",
            ["M486 T2", "M486 S0", "M486 ACube (1)", "M486 S1", "M486 AB", "M486 S0"],
        ),
        ("G28\nG1 X1 F600\nM400\nSAVE_CONFIG\nSET_KINEMATIC_POSITION Z=5\n", []),
    ],
)
def test_only_what_still_counts_is_left_in_its_order(text: str, left: list) -> None:
    assert lines(text) == left


def test_another_extruder_ends_the_flow_factor_and_zeroes_e() -> None:
    text = "G1 X1 Y1 Z1 E5\nM221 S95\nACTIVATE_EXTRUDER EXTRUDER="
    assert lines(text + "extruder\n")[1:] == ["M221 S95"]
    head = state(text + "extruder2\nM104 S200\n")
    assert [s.line for s in head.settings] == [b"ACTIVATE_EXTRUDER EXTRUDER=extruder2"]
    assert head.position.e == 0.0 and head.heaters == {"extruder2": 200.0}


def test_a_restored_state_has_its_factors_back() -> None:
    text = "M220 S90\nSAVE_GCODE_STATE NAME=a\nM220 S50\nM221 S80\n"
    assert lines(text + "RESTORE_GCODE_STATE NAME=a\n") == ["M220 S90"]
    assert lines(text + "RESTORE_GCODE_STATE NAME=b\n") == ["M221 S80", "M220 S50"]


def test_all_heaters_off() -> None:
    assert state("M104 S200\nM140 S60\nTURN_OFF_HEATERS\n").heaters == {
        "extruder": 0.0,
        "heater_bed": 0.0,
    }


def test_settings_are_bounded() -> None:
    text = "".join(f"SET_PIN PIN=p{i} VALUE=1\n" for i in range(MAX_ENTRIES + 1))
    with pytest.raises(ScanError, match="settings"):
        state(text)


def test_pressure_advance_is_kept_for_each_tool() -> None:
    text = (
        "SET_PRESSURE_ADVANCE ADVANCE=.03\nT1\nSET_PRESSURE_ADVANCE ADVANCE=.05\n"
        "SET_PRESSURE_ADVANCE ADVANCE=.06 ; T1 again\nT0\n"
        "SET_PRESSURE_ADVANCE EXTRUDER=extruder1 ADVANCE=.07\n"
    )
    found = [(s.line.split(b" ;")[0][-11:], s.tool) for s in state(text).settings]
    assert found == [(b"ADVANCE=.03", 0), (b"ADVANCE=.06", 1), (b"ADVANCE=.07", None)]


def test_a_tool_by_number_undoes_one_by_name() -> None:
    text = "ACTIVATE_EXTRUDER EXTRUDER=extruder1\nT0\n"
    assert state(text).settings == () and state(text).tool == 0


def test_the_first_change_of_tools_leaves_the_first_one_pulled_back() -> None:
    text = "M83\nG1 X1 Y1 E5\nG1 E-2\nT1\nG1 X2 E1\n"
    assert state(text).retracted == 0.0
    assert state(text + "T0\n").retracted == 2.0
