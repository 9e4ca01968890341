# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Whatever a print has set is saved whole: the mark in one slot, the rest beside it."""
from __future__ import annotations

import json
import random
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.journal import PAYLOAD_MAX, Journal
from moonraker_components.power_loss_recovery.record import (
    Job,
    Queued,
    Record,
    RecordError,
    from_payloads,
    to_payloads,
)
from moonraker_components.power_loss_recovery.store import payloads
from moonraker_components.power_loss_recovery.store.payloads import PLAIN_MAX
from tests.unit.samples import JOB, record, state

DICE = random.Random(1)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_."
JOB_MAX = 16 * PAYLOAD_MAX  # an area of the default journal


def noise(length: int, letters: str = LETTERS) -> str:
    """Text that hardly gets shorter by compressing it."""
    return "".join(DICE.choice(letters) for _ in range(length))


def number() -> float:
    return DICE.uniform(100, 200)


def big_machine(objects: int, message: str = "") -> Record:
    """8 extruders, 16 heaters and 16 fans with long names, every field at its limit."""
    tools = ["extruder", *(f"extruder{i}" for i in range(1, 8))]
    heaters = [*tools, *(f"heater_generic {noise(40)}" for _ in range(8))]
    names = [noise(60) for _ in range(objects)]
    return Record(
        file_position=10**15, fraction=DICE.random(),
        line=noise(120, "äöü测试🖨\x01"), position=(1e9 / 3, 1e9 / 3, 1e4 / 3, 1e9 / 3),
        toolhead_z=number(), speed=1e7 / 3, retracted=number(),
        saved_at=1.7e9 + 1 / 3, boot_id=noise(100), print_time=1e10 / 3,
        queued=Queued(10**15, 1e10 / 3),
        live_position=(number(), number(), 1e9 / 3),
        state={
            "coordinates": {
                "absolute_coordinates": True, "absolute_extrude": False,
                "speed_factor": DICE.random() + 1, "extrude_factor": DICE.random() + 1,
                "homing_origin": [number() for _ in range(3)], "homed_axes": "xyz",
                "g92": [number() for _ in range(3)],
            },
            "heaters": {name: number() for name in heaters},
            "fans": {f"fan_generic {noise(40)}": DICE.random() for _ in range(16)},
            "limits": {n: number() for n in (
                "max_velocity", "max_accel", "square_corner_velocity",
                "minimum_cruise_ratio")},
            "tool": {"active": "extruder7",
                     "pressure_advance": {n: [DICE.random(), DICE.random()]
                                          for n in tools}},
            "mesh": {"profile": noise(60)},
            "objects": {"current": names[-1] if names else None, "excluded": names},
            "progress": {"layer": 12345, "layers": 45678, "duration": number(),
                         "filament": number(), "percent": DICE.random(),
                         "message": message},
        },
    )  # fmt: skip


def big_job() -> Job:
    name = noise(1000, "测试äöß🖨")
    return replace(JOB, name=name, size=10**15, fingerprint="f" * 200)


def test_a_big_machine_needs_nothing_beside_its_mark() -> None:
    job_payload, mark_payload = to_payloads(big_job(), big_machine(0, noise(250)))
    assert len(mark_payload) <= PAYLOAD_MAX
    assert "state" not in payloads.unpack(job_payload)


@pytest.mark.parametrize("objects", [1, 30, 400, 1000])
@pytest.mark.parametrize("message", [0, 250, 6000])
def test_the_largest_print_is_saved_whole(
    tmp_path: Path, objects: int, message: int
) -> None:
    job, made = big_job(), big_machine(objects, noise(message))
    job_payload, mark_payload = to_payloads(job, made)
    assert len(mark_payload) <= PAYLOAD_MAX and len(job_payload) <= JOB_MAX
    journal = Journal(str(tmp_path / "journal"))
    journal.write_job(b"A" * 16, job_payload)
    journal.write_mark(b"A" * 16, mark_payload)
    found = journal.read()
    assert found is not None
    assert from_payloads(found.job_payload, found.mark_payload) == (job, made)


def test_excluded_objects_are_in_the_job_which_they_change() -> None:
    few = record(state=state(objects={"current": "B", "excluded": ["A"]}))
    job_payload, mark_payload = to_payloads(JOB, few)
    assert json.loads(job_payload)["state"] == {"objects": {"excluded": ["A"]}}
    assert json.loads(mark_payload)["state"]["objects"] == {"current": "B"}
    assert to_payloads(JOB, record())[0] != job_payload
    assert from_payloads(job_payload, mark_payload) == (JOB, few)


def test_what_changes_with_every_mark_is_not_in_the_job() -> None:
    before = to_payloads(JOB, big_machine(0, noise(250)))[0]
    assert before == to_payloads(JOB, big_machine(0, noise(250)))[0]


text = st.text(max_size=300)
values = st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | text


@given(st.fixed_dictionaries({
    "mesh": st.dictionaries(text, values, max_size=30),
    "progress": st.dictionaries(text, values | st.lists(text), max_size=30),
    "objects": st.fixed_dictionaries({"excluded": st.lists(text)}),
}))  # fmt: skip
def test_any_state_comes_back_and_its_mark_fits(parts: dict[str, Any]) -> None:
    mark = {"state": {**state(), **parts}, "line": "x"}
    job_payload, mark_payload = payloads.split({"name": "a"}, mark)
    assert len(mark_payload) <= PAYLOAD_MAX
    job, again = payloads.join(job_payload, mark_payload)
    assert job == {"name": "a"}
    without_empty = {k: v for k, v in again["state"].items() if v}
    expected = {k: v for k, v in mark["state"].items() if v}
    assert {**without_empty} == {**expected}


def test_a_mark_too_large_by_itself_is_refused_and_not_cut() -> None:
    with pytest.raises(RecordError, match="a mark of"):
        payloads.split({}, {"state": {}, "line": noise(9000)})


def test_what_could_not_be_read_back_is_not_written() -> None:
    with pytest.raises(RecordError, match="too long"):
        to_payloads(JOB, record(state=state(progress={"message": "x" * (2 << 20)})))


def test_what_is_cut_off_is_refused() -> None:
    job_payload, mark_payload = to_payloads(JOB, big_machine(80, noise(500)))
    for cut in (job_payload, mark_payload):
        assert not cut.startswith(b"{")
    with pytest.raises(RecordError, match="cut off"):
        from_payloads(job_payload, mark_payload[:-1])
    with pytest.raises(RecordError, match="cut off"):
        from_payloads(job_payload[:-1], mark_payload)


def test_a_bomb_is_not_unpacked() -> None:
    with pytest.raises(RecordError, match="far too long"):
        payloads.unpack(b"Z" + zlib.compress(b'{"schema":2,"a":"' + b"x" * (2 << 20)))


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_refuse(data: bytes) -> None:
    job_payload, mark_payload = to_payloads(JOB, record())
    with pytest.raises(RecordError):
        from_payloads(data, mark_payload)
    with pytest.raises(RecordError):
        from_payloads(job_payload, data)


@pytest.mark.parametrize("shared", [7, ["objects"], {"objects": 7}, {"objects": [1]}])
def test_a_rest_that_is_no_table_is_refused(shared: Any) -> None:
    mark_payload = to_payloads(JOB, record())[1]
    with pytest.raises(RecordError, match="state"):
        payloads.join(payloads.pack({"state": shared}), mark_payload)


@pytest.mark.parametrize("own", [7, None, ["objects"]])
def test_a_mark_without_a_state_is_refused(own: Any) -> None:
    job_payload = to_payloads(JOB, record())[0]
    with pytest.raises(RecordError, match="state"):
        payloads.join(job_payload, payloads.pack({"state": own}))


@pytest.mark.parametrize("schema", [None, 0, -1, 3, 99, "1", 1.5, True, [1]])
def test_another_schema_is_refused_by_its_number(schema: Any) -> None:
    raw = json.dumps({"schema": schema}).encode()
    with pytest.raises(RecordError, match="another version") as caught:
        payloads.unpack(raw)
    assert repr(schema) in str(caught.value) and "update" in str(caught.value)


@pytest.mark.parametrize("schema", [1, 2])
def test_older_schemas_are_read(schema: int) -> None:
    assert payloads.unpack(b'{"schema":%d,"a":1}' % schema) == {"a": 1}


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_know_are_refused_anywhere(word: str) -> None:
    job_payload, mark_payload = to_payloads(JOB, record())
    bad = mark_payload.replace(b'"layer":3', b'"layer":' + word.encode())
    with pytest.raises(RecordError, match="no number"):
        from_payloads(job_payload, bad)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}])
def test_what_json_cannot_hold_is_refused_when_saving(value: Any) -> None:
    with pytest.raises(RecordError, match="cannot be saved"):
        to_payloads(JOB, record(state=state(progress={"percent": value})))


def test_most_records_stay_readable() -> None:
    assert PLAIN_MAX <= PAYLOAD_MAX
    assert all(payload.startswith(b"{") for payload in to_payloads(JOB, record()))


def test_a_chinese_name_costs_its_utf8_and_no_escapes() -> None:
    name = "测试" * 100
    job_payload, _ = to_payloads(Job(name, 1, 1.0, "", 1.0), record())
    assert len(job_payload) < 3 * len(name) + 100
