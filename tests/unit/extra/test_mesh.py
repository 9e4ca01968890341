# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from klippy_extras.power_loss_recovery.commands import Commands
from klippy_extras.power_loss_recovery.mesh import Mesh
from tests.unit.extra.fake_printer import CommandError, Config, Printer

POINTS = [[0.1, 0.2, 0.3], [0.4, 0.5, -0.123456]]
PARAMS = {
    "min_x": 10.0, "max_x": 240.0, "min_y": 10.0, "max_y": 240.0, "x_count": 3,
    "y_count": 2, "mesh_x_pps": 2, "mesh_y_pps": 2, "algo": "lagrange", "tension": 0.2,
}  # fmt: skip
KEPT = {"name": "adaptive", "points": POINTS, "params": PARAMS}


class Bench(Printer):
    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.mesh: Any = SimpleNamespace(
            get_probed_matrix=lambda: POINTS, get_mesh_params=lambda: dict(PARAMS)
        )
        self.profiles = SimpleNamespace(
            profiles={}, get_current_profile=lambda: "adaptive",
            load_profile=self.loaded.append,
        )  # fmt: skip
        self.objects["bed_mesh"] = SimpleNamespace(
            get_mesh=lambda: self.mesh, pmgr=self.profiles, update_status=lambda: None
        )
        config = Config(self)
        Mesh(config, Commands(config, lambda *told: None))

    def give(self, kept: Any) -> list[str]:
        return self.run(f"_PLR_GIVE_MESH DATA={json.dumps(kept).encode().hex()}")


def test_the_mesh_goes_to_moonraker_with_its_points() -> None:
    bench = Bench()
    bench.run("PLR_SAVE_MESH")
    assert bench.remote == [("plr_save_mesh", {"mesh": KEPT})]
    assert json.loads(json.dumps(bench.remote[0][1]["mesh"])) == KEPT


def test_without_a_mesh_there_is_nothing_to_keep() -> None:
    bench = Bench()
    bench.mesh = None
    with pytest.raises(CommandError, match="no bed mesh is in use"):
        bench.run("PLR_SAVE_MESH")
    bench.from_file = True
    assert "no bed mesh is in use" in bench.run("PLR_SAVE_MESH")[0]
    assert bench.remote == []


@pytest.mark.parametrize("name", ["PLR_SAVE_MESH", "PLR_LOAD_MESH"])
def test_without_bed_mesh_it_is_said(name: str) -> None:
    bench = Bench()
    del bench.objects["bed_mesh"]
    with pytest.raises(CommandError, match=rf"{name}: there is no \[bed_mesh\]"):
        bench.run(name)


@pytest.mark.parametrize("name", ["PLR_SAVE_MESH", "PLR_LOAD_MESH"])
def test_without_moonraker_it_is_said(name: str) -> None:
    bench = Bench()
    bench.moonraker = False
    with pytest.raises(CommandError, match="Moonraker is not connected"):
        bench.run(name)


def test_a_mesh_that_was_never_stored_comes_from_its_points() -> None:
    bench = Bench()
    assert "adaptive is in use again" in bench.give(KEPT)[0]
    made = bench.profiles.profiles["adaptive"]
    assert made["points"] == POINTS and dict(made["mesh_params"]) == PARAMS
    assert bench.loaded == ["adaptive"]


def test_a_stored_profile_with_these_points_is_used_as_it_is() -> None:
    bench = Bench()
    stored = {"points": tuple(map(tuple, POINTS)), "mesh_params": PARAMS}
    bench.profiles.profiles = {"adaptive": stored}
    bench.give(KEPT)
    assert bench.profiles.profiles["adaptive"] is stored
    assert bench.loaded == ["adaptive"]


def test_a_stored_profile_with_other_points_is_not() -> None:
    bench = Bench()
    other = {"points": ((0.0,) * 3,) * 2, "mesh_params": PARAMS}
    bench.profiles.profiles = first = {"adaptive": other}
    bench.give(KEPT)
    assert bench.profiles.profiles["adaptive"]["points"] == POINTS
    # klippy publishes this one, and compares
    assert first["adaptive"] is other


@pytest.mark.parametrize("change", [
    {"points": None}, {"points": POINTS[:1]}, {"points": [[1, 2], [3, 4]]},
    {"points": [["a"] * 3] * 2}, {"points": [[float("nan")] * 3] * 2},
    {"params": None}, {"params": {**PARAMS, "x_count": 1e9}},
    {"params": {**PARAMS, "min_x": "1\nM112"}}, {"params": {**PARAMS, "algo": "x"}},
    {"params": {k: v for k, v in PARAMS.items() if k != "tension"}},
])  # fmt: skip
def test_what_is_no_mesh_is_refused(change: dict[str, Any]) -> None:
    bench = Bench()
    with pytest.raises(CommandError, match="cannot be used"):
        bench.give({**KEPT, **change})
    assert bench.profiles.profiles == {} and bench.loaded == []


@pytest.mark.parametrize("data", ["", "zz", "5b5d"])
def test_what_is_no_data_is_refused(data: str) -> None:
    bench = Bench()
    with pytest.raises(CommandError):
        bench.run(f"_PLR_GIVE_MESH DATA={data}")
