# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The layer that is asked for, as the page draws it."""
from __future__ import annotations

import asyncio
from typing import Any

import pytest
from moonraker.common import KlippyState
from moonraker.utils import ServerError

from moonraker_components.power_loss_recovery import answers
from moonraker_components.power_loss_recovery.faces import layer_view
from tests.unit.samples import POSITION, record, state
from tests.unit.test_component import Bench, bench  # noqa: F401
from tests.unit.typed import problems

pytestmark = pytest.mark.asyncio
FIRST = [[100, 100, 150, 100, 150, 150]]
SECOND = [[150, 150, 100, 150, 100, 100]]


async def ask(bench: Bench, **where: int) -> Any:  # noqa: F811
    found = await bench.plr.api.layers.get(**where)
    assert problems(found, answers.Layer) == []
    return found


async def test_without_a_place_it_is_that_of_the_saved_one(bench: Bench) -> None:  # noqa: F811
    found = await ask(bench)
    assert found["layer"] == 2 and found["z"] == 0.4
    assert found["printed"] == [] and found["rest"] == SECOND
    assert found["seam"] == found["begin"] == [150, 150] and found["whole"]


async def test_by_its_number_or_by_any_byte_of_it(bench: Bench) -> None:  # noqa: F811
    found = await ask(bench, layer=1)
    assert found["printed"] == FIRST and found["rest"] == []
    assert found["seam"] is None and found["begin"] == [100, 100]
    points = (await bench.plr.resumer.points())["points"]
    for byte in (0, points[1]["file_position"] - 1):
        assert await ask(bench, position=byte) == found
    for byte in (points[1]["file_position"], 10**12):
        assert (await ask(bench, position=byte))["layer"] == 2


async def test_a_number_that_is_not_there_is_refused(bench: Bench) -> None:  # noqa: F811
    with pytest.raises(ServerError, match="no layer with the number 3") as e:
        await ask(bench, layer=3)
    assert e.value.status_code == 409


async def test_without_an_interrupted_print_there_is_no_layer(bench: Bench) -> None:  # noqa: F811
    await bench.plr.resumer.discard()
    with pytest.raises(ServerError) as e:
        await ask(bench)
    assert e.value.status_code == 404


async def test_a_file_that_is_gone_is_said(bench: Bench) -> None:  # noqa: F811
    (bench.plr.resumer.gcodes / "part.gcode").unlink()
    with pytest.raises(ServerError, match="No layers") as e:
        await ask(bench)
    assert e.value.status_code == 409


async def test_klippy_that_is_away_is_said(bench: Bench) -> None:  # noqa: F811
    bench.server.connection.state = KlippyState.DISCONNECTED
    with pytest.raises(ServerError, match="not ready"):
        await ask(bench)


async def test_a_print_that_is_discarded_meanwhile_is_not_drawn(
    bench: Bench, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:  # fmt: skip
    points = bench.plr.resumer.points

    async def slow() -> Any:
        found = await points()
        await bench.plr.resumer.discard()
        return found

    monkeypatch.setattr(bench.plr.resumer, "points", slow)
    with pytest.raises(ServerError, match="any more"):
        await ask(bench)


async def test_a_slider_takes_one_thread(
    bench: Bench, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:  # fmt: skip
    at_once, most, view = 0, 0, layer_view.view

    def counted(*args: Any) -> Any:
        nonlocal most
        most = max(most, at_once)
        return view(*args)

    async def in_thread(call: Any, *args: Any) -> Any:
        nonlocal at_once
        at_once += 1
        try:
            return await asyncio.to_thread(call, *args)
        finally:
            at_once -= 1

    monkeypatch.setattr(layer_view, "view", counted)
    bench.plr.eventloop.run_in_thread = in_thread
    found = await asyncio.gather(*(ask(bench, layer=1) for _ in range(12)))
    assert most == 1 and all(one == found[0] for one in found)


async def test_what_was_moved_on_the_bed_is_drawn_there(bench: Bench) -> None:  # noqa: F811
    path = bench.plr.resumer.gcodes / "part.gcode"
    points = (await bench.plr.resumer.points())["points"]
    moved = record(
        fraction=0.5, state=state(coordinates={"homing_origin": [1.0, -2.0, 0.1]})
    )
    found = layer_view.view(path, points, None, POSITION, moved)
    assert found["printed"] == [[151, 148, 126, 148]]
    assert found["rest"] == [[126, 148, 101, 148, 101, 98]]
    assert found["seam"] == [126, 148]


async def test_a_dry_run_says_where_it_purges(bench: Bench) -> None:  # noqa: F811
    answer = await bench.plr.resumer.resume(dry_run=True)
    assert problems(answer, answers.Resume) == []
    purge = answer["purge"]
    assert purge["on_bed"] and purge["end_x"] - purge["x"] == 60.0
    answer = await bench.plr.resumer.resume()
    assert problems(answer, answers.Resume) == [] and answer["purge"] is None
    await bench.ended()


async def test_nobody_waits_for_a_dry_run(bench: Bench) -> None:  # noqa: F811
    """A page that looks at the steps, while somebody else presses Resume."""
    looking = asyncio.ensure_future(bench.plr.resumer.resume(dry_run=True))
    await asyncio.sleep(0)
    assert (await bench.plr.resumer.resume())["dry_run"] is False
    assert (await looking)["dry_run"] is True
    with pytest.raises(ServerError, match="under way"):
        await bench.plr.resumer.resume(dry_run=True)
    await bench.ended()
    assert len(bench.klippy.started) == 1
