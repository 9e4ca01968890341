# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Real klippy in batch mode: G-code in, the steps of every motor out.

    klippy.py printer.cfg -i FILE -o STEPS -d DICTIONARY

It runs as fast as it can, with no micro-controller.  The machine has its motors at
zero and its heaters hot; what homes, heats or measures in a file does nothing.
"""
from __future__ import annotations

import os
import subprocess
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.virtual_printer.klippy_tree import KlippyTree
from tests.virtual_printer.mcu_core import DICTIONARY
from tests.virtual_printer.protocol import CLOCK_FREQ

STEP_PINS = {"a": "SA", "b": "SB", "z": "SZ0", "e": "SE"}
MARK_PIN = "AUX"
# Of the motors: XY are mixed by the belts, so that one config suits each klippy.
E_STEP = 8.0 / (200 * 16)
TIMEOUT = 120.0
QUIET = 0.6  # s; longer than klippy takes for any line
_STEPPER = """
[{section}]
step_pin: {pin}
dir_pin: {dir}
enable_pin: {enable}
rotation_distance: {distance}
microsteps: {microsteps}
"""
_RAIL = """endstop_pin: {endstop}
position_endstop: 0
position_min: -1000
position_max: 2000
homing_speed: 50
homing_positive_dir: False
"""
_REST = """
[mcu]
serial: /dev/null
[printer]
kinematics: corexy
max_velocity: 300
max_accel: 3000
max_z_velocity: 100
max_z_accel: 1000
[thermistor virtual]
temperature1: 25
resistance1: 100000
beta: 3950
[heater_bed]
heater_pin: HB
sensor_type: virtual
sensor_pin: TB
control: watermark
min_temp: 0
max_temp: 400
[heater_generic chamber]
heater_pin: DZ3
sensor_type: virtual
sensor_pin: DZ2
control: watermark
min_temp: 0
max_temp: 400
[fan]
pin: FAN0
[fan_generic nevermore]
pin: FAN1
[output_pin mark]
pin: AUX
[force_move]
enable_force_move: True
[exclude_object]
[display_status]
[respond]
[firmware_retraction]
retract_length: 0.7
retract_speed: 30
unretract_speed: 20
[gcode_arcs]
resolution: 1.0
[gcode_macro G28]
rename_existing: G9928
gcode: G4 P0
"""
_UNSEEN = (b"M117", b"M118", b"EXCLUDE_OBJECT", b"SET_PRESSURE_ADVANCE")
_MACROS = (
    "PRINT_START", "START_PRINT", "PRINT_END", "END_PRINT", "PLR_Z_HOME",
    "_PLR_ASSUME_Z", "_PLR_LIFT", "TIMELAPSE_TAKE_FRAME", "M600", "BED_MESH_CLEAR",
)  # fmt: skip
_EXTRUDER = """nozzle_diameter: 0.4
filament_diameter: 1.75
max_extrude_only_distance: 10000
max_extrude_cross_section: 100000
max_extrude_only_velocity: 120
max_extrude_only_accel: 5000
min_extrude_temp: 0
heater_pin: HE
sensor_type: virtual
sensor_pin: TE
control: watermark
min_temp: 0
max_temp: 400
"""


@dataclass(frozen=True)
class Motor:
    """clocks: of each step, ticks from the start.  directions: +1 or -1 each."""

    clocks: np.ndarray
    directions: np.ndarray

    def position(self, clocks: np.ndarray) -> np.ndarray:
        """In steps, at each of `clocks`, of which a step there counts."""
        travelled = np.concatenate([[0], np.cumsum(self.directions)])
        return travelled[np.searchsorted(self.clocks, clocks, side="right")]

    def between(self, start: int, end: int) -> Motor:
        chosen = (self.clocks > start) & (self.clocks <= end)
        return Motor(self.clocks[chosen], self.directions[chosen])


@dataclass(frozen=True)
class Steps:
    """motors: a and b (X+Y and X-Y), z, e.  marks: clocks of the MARKs."""

    motors: dict[str, Motor]
    marks: list[int]


def mark(number: int) -> tuple[bytes, ...]:
    """Stand still, and leave the time of it."""
    # klippy wants 0.1 s between two changes of a pin.
    return b"M400", b"SET_PIN PIN=mark VALUE=%d" % ((number + 1) % 2), b"G4 P200"


def config() -> str:
    parts = [_REST]
    for axis, pins in (("x", ("SA", "DA", "EA")), ("y", ("SB", "DB", "EB")),
                       ("z", ("SZ0", "DZ0", "EZ0"))):  # fmt: skip
        parts.append(_stepper(f"stepper_{axis}", pins, 40.0, 16))
        parts.append(_RAIL.format(endstop=f"L{axis.upper()}"))
    parts += [_stepper("extruder", ("SE", "DE", "EE"), 8.0, 16), _EXTRUDER]
    parts += [f"\n[gcode_macro {name}]\ngcode: G4 P0\n" for name in _MACROS]
    return "".join(parts)


def _stepper(
    section: str, pins: tuple[str, str, str], distance: float, microsteps: int
) -> str:
    pin, direction, enable = pins
    return _STEPPER.format(
        section=section, pin=pin, dir=direction, enable=enable,
        distance=distance, microsteps=microsteps,
    )  # fmt: skip


def command(line: bytes) -> bytes:
    """The line for klippy's batch input, empty for what no motor sees.

    That input wants no long lines, and no letter in two blocks of 4096 bytes.
    Pressure advance moves filament by the speed, which differs where one machine
    stands still and the other goes by.
    """
    code = line.partition(b";")[0].strip()
    return b"" if code.upper().startswith(_UNSEEN) else code


def run(tree: KlippyTree, folder: Path, name: str, lines: Iterable[bytes]) -> Steps:
    """`lines` from a machine at 0, 0, 0 on.  Raises AssertionError when klippy has
    stopped at one of them."""
    printer, source = folder / "printer.cfg", folder / f"{name}.gcode"
    output, log = folder / f"{name}.steps", folder / f"{name}.log"
    words = folder / "words.json"
    printer.write_text(config())
    words.write_bytes(zlib.decompress(DICTIONARY.blob))
    start = b"SET_KINEMATIC_POSITION X=0 Y=0 Z=0"
    # The last change of a pin is sent when something follows.
    text = b"\n".join((start, *lines, b"G91", b"G1 X1 F600", b"M400", b""))
    os.mkfifo(source)
    command = [*tree.command(), str(printer), "-i", str(source), "-o", str(output)]
    command += ["-d", str(words), "-l", str(log)]
    with subprocess.Popen(
        command, cwd=tree.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as klippy:
        # At the end of its input klippy leaves, and what it has not written yet is
        # lost.  Also open for reading: that waits for nobody.
        pipe = os.open(source, os.O_RDWR | os.O_NONBLOCK)
        try:
            _feed(pipe, text, klippy)
            _wait(output, klippy)
        finally:
            os.close(pipe)
        klippy.wait(TIMEOUT)
    told = log.read_text(errors="replace")
    # It leaves at the first line that is an error.
    assert "Exiting (print time" in told, f"klippy stopped: {told[-1500:]}"
    return read(output.read_bytes())


def _feed(pipe: int, text: bytes, klippy: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while text and time.monotonic() < deadline and klippy.poll() is None:
        try:
            text = text[os.write(pipe, text) :]
        except BlockingIOError:
            time.sleep(0.005)


def _wait(output: Path, klippy: subprocess.Popen[bytes]) -> None:
    """Until it grows no more."""
    deadline, size, since = time.monotonic() + TIMEOUT, 0, time.monotonic()
    while time.monotonic() < deadline and klippy.poll() is None:
        time.sleep(0.05)
        now = output.stat().st_size if output.exists() else 0
        if now != size or not now:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > QUIET:
            return


def read(data: bytes) -> Steps:
    """Frames as klippy wrote them, one after the other."""
    oids: dict[int, str] = {}
    queued: dict[int, list[tuple[int, int, int, int]]] = {}
    directions: dict[int, int] = {}
    mark_pin, mark_oid, marks, at = DICTIONARY.pins[MARK_PIN], -1, [], 0
    pins = {DICTIONARY.pins[pin]: name for name, pin in STEP_PINS.items()}
    while at < len(data):
        size = data[at]
        for name, values in DICTIONARY.decode(data[at + 2 : at + size - 3]):
            if name == "queue_step":
                oid, interval, count, add = values
                queued[oid].append((interval, count, add, directions[oid]))
            elif name == "set_next_step_dir":
                directions[values[0]] = 1 if values[1] else -1
            elif name == "reset_step_clock":
                queued[values[0]].append((-1, values[1], 0, 0))
            elif name == "config_stepper" and values[1] in pins:
                oids[values[0]] = pins[values[1]]
                queued[values[0]] = []
            elif name == "config_stepper":
                queued[values[0]] = []
            elif name == "config_digital_out" and values[1] == mark_pin:
                mark_oid = values[0]
            elif name == "queue_digital_out" and values[0] == mark_oid:
                marks.append(_unwrapped(values[1], marks[-1] if marks else 0))
        at += size
    return Steps({oids[oid]: _motor(queued[oid]) for oid in oids}, marks)


def _unwrapped(low: int, last: int) -> int:
    """A clock of which the wire has the low 32 bits, not before `last`."""
    clock = (last & ~0xFFFFFFFF) | low
    return clock if clock >= last - CLOCK_FREQ else clock + (1 << 32)


def _motor(queue: list[tuple[int, int, int, int]]) -> Motor:
    clocks, directions = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    last = 0
    for interval, count, add, direction in queue:
        if interval < 0:
            last = _unwrapped(count, last)
            continue
        steps = np.arange(count, dtype=np.int64)
        times = last + np.cumsum(interval + add * steps)
        last = int(times[-1])
        clocks.append(times)
        directions.append(np.full(count, direction))
    return Motor(np.concatenate(clocks), np.concatenate(directions))

