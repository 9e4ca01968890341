# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What is saved of a print: the job (which file), and the mark (where, and how).

Nothing read back is trusted: a value of the wrong type, out of bounds or not finite
makes the whole record invalid.  The bytes are those of payloads.py.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from . import tools
from .saving import machine_state
from .saving.interruption import NOTHING, Cause
from .store import checks
from .store.checks import MAX_MM
from .store.payloads import RecordError, join, split

MAX_POSITION = 10**15
MAX_TIME = 1e10  # s, of the MCU's clock
MAX_TEMPERATURE = 500.0
MAX_LINE_TEXT = 120
MAX_ATTEMPTS = 1000
MAX_PURGED = 100
MAX_CYCLE = 4096  # four full steps of 1024 microsteps
PARTS = ("coordinates", "heaters", "fans", "limits", "tool", "mesh", "objects",
         "progress")  # fmt: skip

# By Z stepper: (phase or None, microsteps per electrical cycle) of its driver.
Phases = Mapping[str, tuple[int | None, int]]


@dataclass(frozen=True)
class Job:
    """A print: `name` is the file's path below the gcodes root.

    size in bytes, mtime in seconds, fingerprint as gcode.rewriter makes it,
    started in seconds since the epoch.
    """

    name: str
    size: int
    mtime: float
    fingerprint: str
    started: float

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Job:
        return Job(
            name=checks.text(raw, "name", 4096),
            size=checks.integer(raw, "size", 0, MAX_POSITION),
            mtime=checks.real(raw, "mtime", 0, 1e12),
            fingerprint=checks.text(raw, "fingerprint", 200),
            started=checks.real(raw, "started", 0, 1e12),
        )


@dataclass(frozen=True)
class Queued:
    """What klippy had read: the motion of all lines before `file_position` ends at
    `print_time` (s)."""

    file_position: int
    print_time: float


@dataclass(frozen=True)
class Record:
    """Everything before byte `file_position` of the file is in plastic.

    fraction: share of the line at `file_position` that is laid too (0 up to 1).
    line: text of that line, to recognise the file.  position: x, y, z, e in the
    file's own coordinates, where that line starts (mm).  toolhead_z: Z of the
    motors (mm).  speed: last F, mm/min.  retracted: mm that the filament is pulled
    back.  state: what the print had set, in parts; see the extra's snapshot.py.
    saved_at: seconds since the epoch; boot_id: of the host's kernel.
    z_range: lowest and highest Z that the motors had and were about to have (mm).
    z_phases: of the Z motors at toolhead_z; see rotor.py.
    from_file: nothing was saved; made of what the file says, see reconstruct.py.
    print_time: of the motors when this was so (s, klippy's clock).  queued: where
    klippy was ahead of them; nothing after it can have moved.  live_position: x, y, z
    of the motors at print_time (mm).  These three may be unknown.
    cause: what was seen of the end.  attempts: how often heaters were turned on for
    this print without a person's yes.  paused: it was, and the place is where it goes
    on from there.  cancelling: somebody had asked for its end, which was not done yet.
    purged: x, y, end x, end y (mm) of the strips of bed that resumes of this print have
    purged on.
    """

    file_position: int
    fraction: float
    line: str
    position: tuple[float, float, float, float]
    toolhead_z: float
    speed: float
    retracted: float
    state: Mapping[str, Any]
    saved_at: float
    boot_id: str
    z_range: tuple[float, float] | None = None
    z_phases: Phases = field(default_factory=dict)
    from_file: bool = False
    print_time: float | None = None
    queued: Queued | None = None
    live_position: tuple[float, ...] | None = None
    cause: Cause = NOTHING
    attempts: int = 0
    paused: bool = False
    cancelling: bool = False
    purged: tuple[tuple[float, float, float, float], ...] = ()

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Record:
        position = raw.get("position")
        if not isinstance(position, (list, tuple)) or len(position) != 4:
            raise RecordError(f"position is {position!r}, expected four numbers")
        x, y, z, e = (
            checks.finite(value, f"position[{i}]", -MAX_MM, 1e9)
            for i, value in enumerate(position)
        )
        return Record(
            file_position=checks.integer(raw, "file_position", 0, MAX_POSITION),
            fraction=checks.real(raw, "fraction", 0, 1),
            line=checks.text(raw, "line", MAX_LINE_TEXT),
            position=(x, y, z, e),
            toolhead_z=checks.real(raw, "toolhead_z", -MAX_MM, MAX_MM),
            speed=checks.real(raw, "speed", 0, 1e7),
            retracted=checks.real(raw, "retracted", 0, 1e4),
            state=_state(raw.get("state")),
            saved_at=checks.real(raw, "saved_at", 0, 1e12),
            boot_id=checks.text(raw, "boot_id", 100),
            z_range=_z_range(raw.get("z_range")),
            z_phases=_z_phases(raw.get("z_phases") or {}),
            from_file=raw.get("from_file") is True,
            print_time=_print_time(raw),
            queued=_queued(raw.get("queued")),
            live_position=_live_position(raw.get("live_position")),
            cause=Cause.from_dict(raw.get("cause")),
            attempts=checks.integer(
                {"attempts": 0, **raw}, "attempts", 0, MAX_ATTEMPTS
            ),
            paused=raw.get("paused") is True,
            cancelling=raw.get("cancelling") is True,
            purged=_purged(raw.get("purged") or ()),
        )

    @property
    def prints(self) -> bool:
        """False while the machine is still being prepared: nothing is laid yet."""
        return self.hotend_target > 0 and self.homed

    @property
    def homed(self) -> bool:
        homed = str(self.state["coordinates"].get("homed_axes") or "")
        return set("xyz") <= set(homed)

    def motor_position(self, axis: int) -> float:
        """Where the saved line starts, free of G92 and offsets, mm."""
        coordinates = self.state["coordinates"]
        return (
            self.position[axis] + coordinates["g92"][axis]
            + coordinates["homing_origin"][axis]
        )  # fmt: skip

    @property
    def heaters(self) -> Mapping[str, float]:
        return self.state["heaters"]

    @property
    def extruder(self) -> str:
        return self.state["tool"].get("active") or "extruder"

    @property
    def rare(self) -> Mapping[str, Any]:
        """What is set seldom; see machine_state.py.  Empty in older records."""
        return self.state.get("rare", {})

    @property
    def gcode(self) -> Mapping[str, Any]:
        """Saved G-code states, and modes that no status shows; likewise."""
        return self.state.get("gcode", {})

    @property
    def hotend_target(self) -> float:
        return self.heaters.get(self.extruder, 0.0)

    @property
    def bed_target(self) -> float:
        return self.heaters.get("heater_bed", 0.0)

    @property
    def other_heaters(self) -> list[tuple[str, float]]:
        """Names and targets of those that were on beside the bed and the tool."""
        return [
            (name, target)
            for name, target in self.heaters.items()
            if target > 0 and name not in (self.extruder, "heater_bed")
        ]


def _z_range(raw: Any) -> tuple[float, float] | None:
    if raw is None:
        return None
    checks.numbers(raw, "z_range", 2)
    return min(raw), max(raw)


def _z_phases(raw: Any) -> dict[str, tuple[int | None, int]]:
    if not isinstance(raw, Mapping):
        raise RecordError(f"z_phases is {raw!r:.80}, expected a table")
    phases: dict[str, tuple[int | None, int]] = {}
    for name, value in raw.items():
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise RecordError(f"phase of {name} is {value!r:.80}, expected two numbers")
        both = {"phase": value[0], "cycle": value[1]}
        cycle = checks.integer(both, "cycle", 1, MAX_CYCLE)
        phase = None
        if value[0] is not None:
            phase = checks.integer(both, "phase", 0, cycle - 1)
        phases[checks.key(name)] = phase, cycle
    return phases


def to_payloads(job: Job, record: Record) -> tuple[bytes, bytes]:
    """The payloads of a job and its mark.  Raises RecordError."""
    return split(asdict(job), asdict(record))


def from_payloads(job_payload: bytes, mark_payload: bytes) -> tuple[Job, Record]:
    """Raises RecordError."""
    job, mark = join(job_payload, mark_payload)
    return Job.from_dict(job), Record.from_dict(mark)


def _print_time(raw: Mapping[str, Any]) -> float | None:
    # It starts with the MCU, and the margin for shaped motion is taken off.
    unknown = raw.get("print_time") is None
    return None if unknown else checks.real(raw, "print_time", -MAX_TIME, MAX_TIME)


def _queued(raw: Any) -> Queued | None:
    if raw is None:
        return None
    if not isinstance(raw, Mapping):
        raise RecordError(f"queued is {raw!r:.80}, expected a place and a time")
    return Queued(
        file_position=checks.integer(raw, "file_position", 0, MAX_POSITION),
        print_time=checks.real(raw, "print_time", -MAX_TIME, MAX_TIME),
    )


def _purged(raw: Any) -> tuple[tuple[float, float, float, float], ...]:
    if not isinstance(raw, (list, tuple)) or len(raw) > MAX_PURGED:
        raise RecordError(f"purged is {raw!r:.80}, expected strips")
    for strip in raw:
        checks.numbers(strip, "purged", 4)
    return tuple((strip[0], strip[1], strip[2], strip[3]) for strip in raw)


def _live_position(raw: Any) -> tuple[float, ...] | None:
    if raw is None:
        return None
    checks.numbers(raw, "live_position", 3, 1e9)
    return tuple(float(value) for value in raw)


def _state(raw: Any) -> dict[str, Any]:
    """Checks what later becomes G-code; keeps the rest as it is."""
    if not isinstance(raw, Mapping):
        raise RecordError(f"state is {type(raw).__name__}, expected parts")
    state: dict[str, Any] = {}
    for part in PARTS:
        value = raw.get(part, {})
        if not isinstance(value, Mapping):
            raise RecordError(f"state: {part} is {type(value).__name__}")
        state[part] = dict(value)
    coordinates = state["coordinates"]
    for key in ("absolute_coordinates", "absolute_extrude"):
        if not isinstance(coordinates.get(key), bool):
            raise RecordError(f"state: {key} is {coordinates.get(key)!r}")
    for key in ("speed_factor", "extrude_factor"):
        checks.real(coordinates, key, 0.001, 100)
    for key in ("homing_origin", "g92"):
        checks.numbers(coordinates.get(key), key, 3)
    for name, target in state["heaters"].items():
        checks.key(name)
        checks.finite(target, f"target of {name}", 0, MAX_TEMPERATURE)
    for name, speed in state["fans"].items():
        checks.key(name)
        checks.finite(speed, f"speed of {name}", 0, 1)
    for name, value in state["limits"].items():
        checks.finite(value, name, 0, 1e7)
    advance = state["tool"].get("pressure_advance", {})
    if not isinstance(advance, Mapping):
        raise RecordError("state: pressure_advance is no table")
    for name, values in advance.items():
        checks.key(name)
        checks.numbers(values, f"pressure advance of {name}", 2)
    tools.selected(state)
    objects = state["objects"]
    excluded = objects.get("excluded")
    if not isinstance(excluded, (list, tuple, type(None))):
        raise RecordError(f"state: excluded is {excluded!r:.80}, expected names")
    for name in excluded or ():
        checks.key(name)
    for part, key in (("objects", "current"), ("tool", "active"), ("mesh", "profile")):
        if state[part].get(key) is not None:
            checks.name(state[part][key])
    # Older records have none of these.
    state |= machine_state.checked(raw)
    return state
