# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""To a front end, a resume file is the print that it continues: Moonraker's own
extractor finds the same in both."""
from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.gcode.rewriter import fingerprint, write
from moonraker_components.power_loss_recovery.gcode.scan import scan
from moonraker_components.power_loss_recovery.planning.prologue import build
from tests.unit.samples import OBJECTS, record

ROOT = Path(__file__).resolve().parents[3]
CORPUS = ROOT.parent / "shared" / "gcodes"
EXTRACTOR = "moonraker.components.file_manager.metadata"
KEYS = (
    "slicer", "slicer_version", "layer_height", "first_layer_height", "layer_count",
    "object_height", "filament_total", "filament_weight_total", "filament_type",
    "filament_name", "estimated_time", "nozzle_diameter", "first_layer_extr_temp",
    "first_layer_bed_temp",
)  # fmt: skip
# The first temperature that this one waits for stands in the middle of its layer 0.
LATER = {"cura413_um3_2extruders_absE.gcode": "first_layer_extr_temp"}
NO_PRINTS = ("cam_", "adversarial_", "klipper_sdcard_loop")


def files() -> list[Any]:
    found = sorted((ROOT / "tests" / "data").glob("*.gcode"))
    corpus = sorted([*CORPUS.glob("*.gcode"), *CORPUS.glob("generated/*.gcode")])
    found += [path for path in corpus if not path.name.startswith(NO_PRINTS)]
    made: list[Any] = [pytest.param(path, id=path.name) for path in found]
    if not corpus:
        away = pytest.mark.skip(reason=f"no corpus at {CORPUS}")
        made.append(pytest.param(CORPUS, marks=away, id="corpus"))
    return made


def extracted(path: Path) -> dict[str, Any]:
    spec = importlib.util.find_spec(EXTRACTOR)
    assert spec is not None and spec.origin is not None
    command = [sys.executable, spec.origin, "-p", str(path.parent), "-f", path.name]
    done = subprocess.run(command, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)["metadata"]
    return found


@pytest.mark.parametrize("source", files())
def test_moonraker_finds_the_same_in_both(source: Path, tmp_path: Path) -> None:
    data = source.read_bytes()
    whole = scan(data, data.rfind(b"\n") + 1)
    assert whole.first_extrusion is not None and whole.last_extrusion is not None
    share = whole.last_extrusion - whole.first_extrusion
    position = data.index(b"\n", whole.first_extrusion + share * 6 // 10) + 1
    head = scan(data, position)
    prologue = build(record(), 1234.5, head.object_definitions, OBJECTS, False)
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir(), after.mkdir()
    shutil.copyfile(source, before / "part.gcode")
    with open(source, "rb") as f:
        write(
            f, after / "part.gcode", original="part.gcode", original_size=len(data),
            original_fingerprint=fingerprint(f, len(data)), header_end=head.header_end,
            file_position=position, prologue=prologue,
        )  # fmt: skip
    one, other = (extracted(path / "part.gcode") for path in (before, after))
    known = [key for key in KEYS if one.get(key) is not None]
    known = [key for key in known if LATER.get(source.name) != key]
    assert {k: other.get(k) for k in known} == {k: one[k] for k in known}
    assert other.get("thumbnails") == one.get("thumbnails")
    pictures = [sorted(p.name for p in d.glob(".thumbs/*")) for d in (before, after)]
    assert pictures[0] == pictures[1]
