# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A resume of a print of which nothing was saved: a place is named instead."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moonraker_components.power_loss_recovery import files
from moonraker_components.power_loss_recovery.files import FileProblem, Place
from moonraker_components.power_loss_recovery.plan import Refusal
from moonraker_components.power_loss_recovery.resuming import recovery
from tests.unit.resuming.test_recovery import Bench, in_thread
from tests.unit.samples import POSITION

pytestmark = pytest.mark.asyncio
HOT = {"extruder": 215.0, "heater_bed": 60.0}
LAYERS = b"""M104 S215
M140 S60
M83
;LAYER:0
G1 X10 Y10 Z.2 F6000
G1 X20 E1
;LAYER:1
G1 Z.4
G1 Y30 E1
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.klippy.toolhead["homed_axes"] = "z"
    made.klippy.toolhead["position"][2] = 100.0
    return made


async def prepare(bench: Bench, place: Place, name: str = "part.gcode", **more: Any):  # type: ignore[no-untyped-def]
    return await recovery.prepare_place(
        name, place, bench.root, bench.klippy.api, in_thread, HOT, **more
    )


async def test_a_byte_is_prepared_and_printed_on(bench: Bench) -> None:
    prepared = await prepare(bench, Place(position=POSITION))
    record = prepared.pending.record
    assert record.from_file and record.file_position == POSITION
    assert record.position == pytest.approx((150.0, 150.0, 0.4, 0.0))
    assert bench.klippy.sent == []
    name = await bench.run(prepared)
    data = (bench.root / "part.gcode").read_bytes()
    assert (bench.root / name).read_bytes().endswith(data[POSITION:])


async def test_layer_and_height_name_the_same_place(bench: Bench) -> None:
    (bench.root / "part.gcode").write_bytes(LAYERS)
    by_layer = await prepare(bench, Place(layer=2))
    by_z = await prepare(bench, Place(z=0.4))
    assert by_layer.pending.record == by_z.pending.record
    assert by_layer.pending.record.file_position == LAYERS.index(b";LAYER:1")
    assert by_layer.pending.job_id != by_z.pending.job_id


async def test_a_place_in_a_resume_file_is_one_of_its_original(bench: Bench) -> None:
    first = await bench.run(await prepare(bench, Place(position=POSITION)))
    bench.klippy.status["print_stats"]["state"] = "standby"
    data = (bench.root / first).read_bytes()
    later = data.rindex(b"G1 X100 Y100")
    prepared = await prepare(bench, Place(position=later), first)
    assert prepared.path.name == "part.gcode"
    original = (bench.root / "part.gcode").read_bytes()
    found = prepared.pending.record.file_position
    assert original[found:] == data[later:]
    inside = await prepare(bench, Place(position=5), first)
    assert inside.pending.record.file_position == POSITION


@pytest.mark.parametrize(("place", "said"), [
    (Place(position=0), "nothing is printed before"),
    (Place(position=10**6), "outside the file"), (Place(layer=99), "no layer 99"),
    (Place(z=50.0), "no Z 50"), (Place(), "name a byte position"),
])  # fmt: skip
async def test_a_place_that_is_none_is_refused(
    bench: Bench, place: Place, said: str
) -> None:
    with pytest.raises(FileProblem, match=said):
        await prepare(bench, place)
    assert bench.klippy.sent == []


async def test_a_nozzle_at_an_unknown_height_is_not_moved(bench: Bench) -> None:
    bench.klippy.toolhead["homed_axes"] = ""
    with pytest.raises(Refusal, match="home Z first"):
        await prepare(bench, Place(position=POSITION))


async def test_a_print_that_does_not_fit_is_refused(bench: Bench) -> None:
    far = LAYERS.replace(b"Y30", b"Y3000")
    (bench.root / "part.gcode").write_bytes(far)
    with pytest.raises(Refusal, match="goes in Y from 10.00 to 3000.00"):
        await prepare(bench, Place(layer=2))


@pytest.mark.parametrize("name", ["../part.gcode", "/etc/passwd", "a\nb", ""])
async def test_a_name_that_leads_elsewhere_is_refused(bench: Bench, name: str) -> None:
    with pytest.raises(FileProblem):
        await prepare(bench, Place(position=POSITION), name)


async def test_a_record_after_the_last_plastic_is_refused(bench: Bench) -> None:
    path = bench.root / "part.gcode"
    text = path.read_bytes() + b"M84\n"
    path.write_bytes(text)
    with pytest.raises(FileProblem, match="All plastic"):
        files.examine(path, text.index(b"M84"))
