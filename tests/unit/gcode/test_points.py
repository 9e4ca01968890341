# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Layers, in every slicer's words and in none."""
from __future__ import annotations

from pathlib import Path

import pytest

from moonraker_components.power_loss_recovery.gcode.errors import ScanError
from moonraker_components.power_loss_recovery.gcode.points import (
    LayerPoint,
    by_number,
    by_z,
    points,
)

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "tests" / "data"
CORPUS = ROOT.parent / "shared" / "gcodes"
# file: layers, Z of the second and the last, time known
REAL = {
    "cura_14_octoprint_bp_case": (70, 0.4, 7.2, False),
    "cura_4.10.0_5obj_crlf": (25, 0.4, 5.0, True),
    "cura_master_duet_noE_mode": (418, 0.4, 42.0, True),
    "kisslicer_1.6.3_crlf": (18, 0.556, 5.0, False),
    "orca_2.3.1_orcacube_ad5m_2obj": (150, 0.4, 30.0, True),
    "prusaslicer_2.1.1_verbose_comments": (49, 0.3, 7.35, False),
    "prusaslicer_2.9.2_calicat_arcs_m486": (174, 0.4, 34.8, True),
    "simplify3d_5.1.2_absE_g92": (48, 0.4, 5.0, False),
    "slic3r_1.2.9_T0_relE": (77, 0.6, 23.1, False),
    "slic3r_1.3.1dev_absE_crlf": (16, 0.7, 4.9, False),
    "generated/cura413_fwretract_relE_zhop": (70, 0.5, 14.1, True),
    "generated/cura413_one_at_a_time_absE": (120, 0.5, 14.1, True),
    "generated/cura413_spiralize_absE": (125, 0.5, 25.21, True),
    "generated/ps250_raft_support_zhop_wipe_absE": (127, 0.55, 25.65, False),
    "generated/ps250_sequential_3obj_relE": (210, 0.45, 18.05, False),
    "generated/ps250_vase_absE": (125, 0.45, 25.05, False),
}


def seen(text: str) -> list[tuple[int, float | None, float | None, str]]:
    """(number, z, height, the first line still to be printed) of each layer."""
    data = text.encode()
    return [
        (p.number, p.z, p.height, text[p.file_position :].partition("\n")[0])
        for p in points(data)
    ]


@pytest.mark.parametrize("name", REAL)
def test_real_files(name: str) -> None:
    path = CORPUS / f"{name}.gcode"
    if not path.is_file():
        pytest.skip("no real slicer files: ../shared/gcodes is not here")
    data = path.read_bytes()
    found = points(data)
    count, second, last, timed = REAL[name]
    assert (len(found), found[1].z, found[-1].z) == (count, second, last)
    assert {p.timed for p in found} == {timed}
    shares = [p.share for p in found]
    assert shares == sorted(shares) and 0.0 <= shares[0] and shares[-1] < 1.0
    positions = [p.file_position for p in found]
    assert positions == sorted(set(positions))
    assert all(p == 0 or data[p - 1 : p] == b"\n" for p in positions)


@pytest.mark.parametrize(
    "path", sorted(DATA.glob("*.gcode")), ids=lambda path: path.name
)
def test_without_its_notes_a_file_has_the_same_layers(path: Path) -> None:
    data = path.read_bytes()
    bare = b"\n".join(
        b";" if line.startswith((b";", b"SET_PRINT", b"M73")) else line
        for line in data.split(b"\n")
    )
    noted, found = points(data), points(bare)
    assert [p.z for p in found] == pytest.approx([p.z for p in noted])


def test_notes_give_z_height_and_place() -> None:
    text = "M83\n;LAYER_CHANGE\n;Z:0.2\n;HEIGHT:0.2\nG1 X1 E1\n;HEIGHT:0.5\n"
    text += ";LAYER_CHANGE\n;Z:.5\n;HEIGHT:.3\n"
    assert seen(text) == [
        (1, 0.2, 0.2, ";LAYER_CHANGE"),
        (2, 0.5, 0.3, ";LAYER_CHANGE"),
    ]


def test_print_stats_number_noted_layers_or_make_them() -> None:
    notes = ";LAYER_CHANGE\n;Z:1\nSET_PRINT_STATS_INFO CURRENT_LAYER={}\n"
    assert [p[0] for p in seen(notes.format(5) + notes.format(6))] == [5, 6]
    alone = "SET_PRINT_STATS_INFO TOTAL_LAYER=2\n"
    for n in (1, 2):
        alone += f"SET_PRINT_STATS_INFO CURRENT_LAYER={n}\nG1 X{n} Y1 Z{n}\n"
        alone += f"M83\nG1 X9 E1\nSET_PRINT_STATS_INFO CURRENT_LAYER={n}\n"
    assert [p[:3] for p in seen(alone)] == [(1, 1.0, 1.0), (2, 2.0, 1.0)]


def test_hops_and_travels_are_no_layers() -> None:
    text = "M83\nG1 X1 Y1 Z.2\nG1 X9 E1\nG1 Z.6\nG1 X1\nG1 Z.2\nG1 X9 E1\n"
    text += "G1 E-1\nG1 Z.8\nG1 X1\nG1 Z.4\nG1 E1\nG1 X9 E1\n"
    assert seen(text) == [(1, 0.2, 0.2, "M83"), (2, 0.4, 0.2, "G1 E-1")]


def test_line_numbers_and_missing_blanks_hide_no_layer() -> None:
    text = "".join(
        f"N{z} G1 Z.{z}*9\nG1X{z}E1\ng1x9e1\nG1Z.{z}5\nG1X{z}E1\n"
        for z in range(2, 6)
    )
    found = points(("M83\nG1 X1 Y1\n" + text).encode())
    assert [p.z for p in found] == [0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55]


def test_one_object_after_another_starts_low_again() -> None:
    layer = "G1 X1 Y1 Z{}\nG1 X9 E1\n"
    text = "M83\n" + "".join(layer.format(z) for z in (0.2, 0.4, 0.2, 0.4))
    assert [p[1] for p in seen(text)] == [0.2, 0.4, 0.2, 0.4]
    found = points(text.encode())
    with pytest.raises(ScanError, match="2 times, at bytes"):
        by_z(found, 0.4)


def test_a_spiral_has_layers_of_the_last_height() -> None:
    text = "M83\n" + "".join(f"G1 X1 Y1 Z{z}\nG1 X9 E1\n" for z in (0.3, 0.6))
    text += "".join(f"G1 X{i % 9} Z{0.6 + i / 100:.2f} E1\n" for i in range(1, 91))
    assert [p[1] for p in seen(text)] == pytest.approx([0.3, 0.6, 0.9, 1.2, 1.5])


def test_a_layer_is_named_by_number_or_height() -> None:
    found = [
        LayerPoint(n, n / 5, 0.2, n * 10, n / 9, False) for n in (1, 2, 3, 4)
    ]  # fmt: skip
    assert by_number(found, 3).z == 0.6
    assert by_z(found, 0.6).number == 3 and by_z(found, 0.45).number == 3
    for wrong in (lambda: by_number(found, 5), lambda: by_z(found, 0.81)):
        with pytest.raises(ScanError, match="has no .* it has 4 layers, Z 0.2 to 0.8"):
            wrong()


def test_shares_are_of_time_where_the_file_tells_it() -> None:
    cura = ";LAYER:0\n;TIME_ELAPSED:30\n;LAYER:1\n;TIME_ELAPSED:120\n"
    found = points(cura.encode())
    assert [(p.share, p.timed) for p in found] == [(0.0, True), (0.25, True)]
    marlin = "M73 P0 R9\n;LAYER:0\nM73 P40 R5\n;LAYER:1\nM73 P100 R0\n"
    assert [p.share for p in points(marlin.encode())] == [0.0, 0.4]
    plain = points(b";LAYER:0\n" + b"G1 X1\n" * 3 + b";LAYER:1\n")
    assert [p.share for p in plain] == [0.0, 27 / 36] and not plain[0].timed


def test_a_file_that_is_none_is_refused() -> None:
    with pytest.raises(ScanError, match="bgcode"):
        points(b"GCDE\1\0")
