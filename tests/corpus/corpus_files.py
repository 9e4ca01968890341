# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Which files are cut: ours in tests/data, and those of real slicers where they are.

The slicers' files are not ours to copy; they stand beside the checkout, with a
MANIFEST.tsv that says what each of them is.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
DATA = REPO / "tests" / "data"
SHARED = REPO.parent / "shared" / "gcodes"
ABSENT = "no real slicer files: ../shared/gcodes is not here"
# No prints: another machine's dialect, noise, and a loop that lays nothing.
NO_PRINTS = ("cam_", "adversarial_", "klipper_sdcard_loop")
# Cut at every line.
EVERY_LINE = ("cura413_fwretract_relE_zhop.gcode", "ps250_cube_absE.gcode")
TOOLS = {"toolchange3": 3, "toolchange": 2, "2extruders": 2}


@dataclass(frozen=True)
class CorpusFile:
    path: Path

    @property
    def tools(self) -> int:
        """Extruders of the machine that the file was made for."""
        return next((n for word, n in TOOLS.items() if word in self.path.name), 1)

    def __str__(self) -> str:
        return self.path.name


def own() -> list[CorpusFile]:
    return [CorpusFile(path) for path in sorted(DATA.glob("*.gcode"))]


def real() -> list[CorpusFile]:
    """All that a slicer wrote, without those that tests/data has too."""
    ours = {file.path.name for file in own()}
    return [
        CorpusFile(path)
        for path in sorted(SHARED.rglob("*.gcode"))
        if not path.name.startswith(NO_PRINTS) and path.name not in ours
    ]
