# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What is saved comes back as it was, and nothing else is believed."""
from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonraker_components.power_loss_recovery.record import (
    Job,
    Queued,
    Record,
    RecordError,
    from_payloads,
    to_payloads,
)
from tests.unit.samples import JOB, mark, record, state

mm = st.floats(-1000, 1000)
names = st.text(
    st.characters(exclude_characters='\r\n\0;"'), min_size=1, max_size=60
).filter(str.strip)
records = st.builds(
    record,
    file_position=st.integers(0, 10**12),
    fraction=st.floats(0, 1),
    line=st.text(max_size=120),
    position=st.tuples(mm, mm, mm, mm),
    toolhead_z=mm,
    speed=st.floats(0, 1e5),
    retracted=st.floats(0, 100),
    saved_at=st.floats(0, 1e11),
    boot_id=st.text(max_size=100),
    z_range=st.none() | st.tuples(mm, mm).map(lambda pair: (min(pair), max(pair))),
    z_phases=st.dictionaries(
        names, st.tuples(st.none() | st.integers(0, 63), st.just(64)), max_size=4
    ),
    print_time=st.none() | st.floats(-1e9, 1e9),
    queued=st.none() | st.builds(Queued, st.integers(0, 10**15), st.floats(-1e9, 1e9)),
    live_position=st.none() | st.tuples(mm, mm, mm),
    state=st.builds(
        state,
        heaters=st.dictionaries(names, st.floats(0, 500), max_size=4),
        fans=st.dictionaries(names, st.floats(0, 1), max_size=4),
        objects=st.fixed_dictionaries({"excluded": st.lists(names, max_size=90)}),
        progress=st.dictionaries(st.text(), st.integers() | st.text(), max_size=3),
    ),
)


@given(records)
def test_a_record_comes_back_as_it_was(made: Record) -> None:
    assert from_payloads(*to_payloads(JOB, made)) == (JOB, made)


@given(st.text(max_size=4096), st.integers(0, 10**12), st.floats(0, 1e12))
def test_a_job_comes_back_as_it_was(name: str, size: int, mtime: float) -> None:
    made = Job(name, size, mtime, "f" * 64, 1.0)
    assert from_payloads(*to_payloads(made, record()))[0] == made


NUMBERS: list[tuple[str, float, float]] = [
    ("file_position", 0, 10**15), ("fraction", 0, 1), ("toolhead_z", -1e5, 1e5),
    ("speed", 0, 1e7), ("retracted", 0, 1e4), ("saved_at", 0, 1e12),
]  # fmt: skip
NO_NUMBERS = [None, "1", True, [], {}, float("nan"), float("inf"), 10**400, -(10**400)]


@pytest.mark.parametrize("bad", NO_NUMBERS)
@pytest.mark.parametrize("key", [key for key, _, _ in NUMBERS])
def test_no_number_is_refused_with_the_name_of_the_field(key: str, bad: Any) -> None:
    raw = {**asdict(record()), key: bad}
    with pytest.raises(RecordError, match=key):
        Record.from_dict(raw)


@pytest.mark.parametrize(("key", "low", "high"), NUMBERS)
def test_out_of_bounds_is_refused(key: str, low: float, high: float) -> None:
    step = 1 if key == "file_position" else 0.001
    for bad in (low - step, high + step):
        with pytest.raises(RecordError, match=key):
            Record.from_dict({**asdict(record()), key: bad})
    for good in (low, high):
        Record.from_dict({**asdict(record()), key: good})


@pytest.mark.parametrize("bad", [None, "abcd", [1, 2, 3], [1, 2, 3, None], [1] * 5,
                                 [1, 2, float("nan"), 4], [1, 2, 3, 1e10]])  # fmt: skip
def test_a_position_is_four_numbers(bad: Any) -> None:
    with pytest.raises(RecordError, match="position"):
        Record.from_dict({**asdict(record()), "position": bad})


OPTIONAL: list[tuple[str, Any]] = [
    ("print_time", "1"), ("print_time", float("nan")), ("print_time", 1e11),
    ("queued", 7), ("queued", []), ("queued", {"file_position": 1}),
    ("queued", {"file_position": -1, "print_time": 1.0}),
    ("queued", {"file_position": 1.5, "print_time": 1.0}),
    ("queued", {"file_position": 1, "print_time": float("inf")}),
    ("live_position", [1, 2]), ("live_position", [1, 2, None]),
    ("live_position", [1, 2, 1e10]), ("live_position", "here"),
    ("z_range", [1, 2, 3]), ("z_range", [1, float("nan")]), ("z_range", 5),
]  # fmt: skip


@pytest.mark.parametrize(("key", "bad"), OPTIONAL)
def test_what_may_be_unknown_is_still_checked(key: str, bad: Any) -> None:
    with pytest.raises(RecordError):
        Record.from_dict({**asdict(record()), key: bad})


@pytest.mark.parametrize("bad", [
    5, "here", [1], [[1, 2, 3]], [[1, 2, 3, float("nan")]], [[1, 2, 3, None]],
    [[1, 2, 3, 4]] * 101,
])  # fmt: skip
def test_strips_that_are_none_are_refused(bad: Any) -> None:
    with pytest.raises(RecordError):
        Record.from_dict({**asdict(record()), "purged": bad})


def test_a_record_without_strips_is_an_older_one() -> None:
    raw = asdict(record())
    del raw["purged"]
    assert Record.from_dict(raw).purged == ()
    job, mark = to_payloads(JOB, record(purged=((6.0, 6.0, 66.0, 6.0),)))
    assert from_payloads(job, mark)[1].purged == ((6.0, 6.0, 66.0, 6.0),)


@pytest.mark.parametrize("bad", [
    [1], {"stepper_z": 5}, {"a\nb": [0, 64]}, {"stepper_z": [64, 64]},
    {"stepper_z": [0.5, 64]}, {"stepper_z": [0, 0]},
])  # fmt: skip
def test_phases_that_are_none_are_refused(bad: Any) -> None:
    with pytest.raises(RecordError):
        Record.from_dict({**asdict(record()), "z_phases": bad})


def test_a_record_without_phases_is_an_older_one() -> None:
    raw = asdict(record())
    del raw["z_phases"]
    assert Record.from_dict(raw).z_phases == {}


@pytest.mark.parametrize("key", sorted({key for key, _ in OPTIONAL}))
def test_what_older_records_do_not_have_is_unknown(key: str) -> None:
    raw = asdict(record())
    raw.pop(key)
    assert getattr(Record.from_dict(raw), key) is None
    assert getattr(Record.from_dict({**raw, key: None}), key) is None


@pytest.mark.parametrize("key", ["line", "boot_id"])
@pytest.mark.parametrize("bad", [None, 5, "x" * 5000])
def test_a_text_that_is_none_or_too_long_is_refused(key: str, bad: Any) -> None:
    with pytest.raises(RecordError, match=key):
        Record.from_dict({**asdict(record()), key: bad})


BAD_PARTS: list[tuple[str, dict[str, Any], str]] = [
    ("coordinates", {"absolute_coordinates": 1}, "absolute_coordinates"),
    ("coordinates", {"absolute_extrude": None}, "absolute_extrude"),
    ("coordinates", {"speed_factor": 0}, "speed_factor"),
    ("coordinates", {"extrude_factor": float("nan")}, "extrude_factor"),
    ("coordinates", {"homing_origin": [1, 2]}, "homing_origin"),
    ("coordinates", {"g92": [0, 0, float("inf")]}, "g92"),
    ("heaters", {"extruder": 501}, "target of extruder"),
    ("heaters", {"extruder": -1}, "target of extruder"),
    ("heaters", {"extruder": "hot"}, "target of extruder"),
    ("fans", {"fan": 1.5}, "speed of fan"),
    ("limits", {"max_accel": -1}, "max_accel"),
    ("tool", {"pressure_advance": [1]}, "pressure_advance"),
    ("tool", {"pressure_advance": {"extruder": [1]}}, "pressure advance of extruder"),
    ("objects", {"excluded": "ABC"}, "excluded"),
    ("objects", {"excluded": 7}, "excluded"),
    ("objects", {"excluded": [""]}, "empty name"),
    ("heaters", {"": 20}, "empty name"),
]


@pytest.mark.parametrize(("part", "values", "said"), BAD_PARTS)
def test_a_state_that_would_become_bad_gcode_is_refused(
    part: str, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecordError, match=said):
        Record.from_dict(mark() | asdict(record(state=state(**{part: values}))))


@pytest.mark.parametrize("part", sorted(state()))
def test_a_part_that_is_no_table_is_refused(part: str) -> None:
    with pytest.raises(RecordError, match=part):
        Record.from_dict({**asdict(record()), "state": {**state(), part: [1]}})


INJECTED = ["A\nM112", "A\rM112", "A;M112", 'A" M112', "A\0", "x" * 301, 5, ["A"]]


@pytest.mark.parametrize("bad", INJECTED)
@pytest.mark.parametrize(("part", "key"), [
    ("objects", "current"), ("tool", "active"), ("mesh", "profile"),
])  # fmt: skip
def test_a_name_cannot_bring_another_command_along(
    part: str, key: str, bad: Any
) -> None:
    with pytest.raises(RecordError):
        Record.from_dict(asdict(record(state=state(**{part: {key: bad}}))))


@pytest.mark.parametrize("bad", [b for b in INJECTED if isinstance(b, str)])
@pytest.mark.parametrize(("part", "value"), [("heaters", 20.0), ("fans", 0.5)])
def test_nor_can_the_name_of_a_heater_or_fan(
    part: str, value: float, bad: str
) -> None:
    with pytest.raises(RecordError):
        Record.from_dict(asdict(record(state=state(**{part: {bad: value}}))))
    with pytest.raises(RecordError):
        Record.from_dict(asdict(record(state=state(objects={"excluded": [bad]}))))


def test_a_record_keeps_only_known_parts() -> None:
    made = Record.from_dict(asdict(record()) | {"state": {**state(), "new": {"a": 1}}})
    assert "new" not in made.state


def test_targets_are_those_of_the_active_tool() -> None:
    made = record(state=state(
        tool={"active": "extruder1"}, heaters={"extruder1": 250.0},
    ))  # fmt: skip
    assert (made.extruder, made.hotend_target, made.bed_target) == (
        "extruder1", 250.0, 60.0,
    )  # fmt: skip
    assert record(state=state(tool={"active": None})).extruder == "extruder"


@pytest.mark.parametrize(("homed", "target", "prints"), [
    ("xyz", 215.0, True), ("xy", 215.0, False), ("", 215.0, False),
    (None, 215.0, False), ("xyz", 0.0, False),
])  # fmt: skip
def test_before_homing_and_heating_nothing_is_printed(
    homed: Any, target: float, prints: bool
) -> None:
    made = record(state=state(
        coordinates={"homed_axes": homed}, heaters={"extruder": target},
    ))  # fmt: skip
    assert made.prints is prints


def test_the_motors_are_where_g92_and_offsets_put_them() -> None:
    made = record(
        position=(10.0, 20.0, 0.2, 0.0),
        state=state(coordinates={"g92": [1.0, 2.0, 3.0], "homing_origin": [5, 6, 7]}),
    )
    assert [made.motor_position(i) for i in range(3)] == [16.0, 28.0, 10.2]
