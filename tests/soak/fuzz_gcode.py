# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Damaged and hostile G-code against lexer, scanner and rewriter.

    python -m tests.soak.fuzz_gcode [--inputs 200000] [--seed 1] [--workers 2]

Each input is a few lines of real slicers with bytes turned, cut, doubled and
replaced by what breaks parsers.  Nothing but the errors of gcode/errors.py may come
out, the time must be in proportion to the size, and where both the scanner and the
model of Klipper read all of an input they must agree on what it does.  A seed and
a number name an input: --seed S --only N runs that one and prints it.
"""
from __future__ import annotations

import argparse
import math
import random
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from moonraker_components.power_loss_recovery.gcode import lexer
from moonraker_components.power_loss_recovery.gcode.errors import GcodeError
from moonraker_components.power_loss_recovery.gcode.rewriter import Point4, remainder
from moonraker_components.power_loss_recovery.gcode.scan import Head, scan
from tests.corpus.klipper_gcode import Stopped
from tests.corpus.klipper_model import Klipper

DATA = Path(__file__).resolve().parents[1] / "data"
# Seconds for any input, and for each of its bytes on top; thread time, on a slow
# machine.  Quadratic time passes that with a few tens of kilobytes.
FIXED_TIME, BYTE_TIME = 0.05, 40e-6
SLOW = "slow: "
BATCH = 2000
FAR = 1e6  # mm; no machine goes there, and sums of such numbers are rounded

LINES = [
    b"G1 X10 Y20 E.5 F1800", b"G1 Z.4", b"G0 F9000 X1.5 Y-2", b"G1 E-.8 F1800",
    b"G92 E0", b"G92", b"G92 X0 Z1.5", b"G90", b"G91", b"M82", b"M83", b"G28 X Y",
    b"G2 X5 Y5 I2 J1 E.1", b"G3 I3 J0", b"G17", b"G18", b"G10", b"G11", b"M204 P1 T2",
    b"M104 S200 T1", b"M109 S215", b"M140 S60", b"M141 S40", b"M106 S127.5",
    b"M106 P2 S255", b"M107", b"M220 S80", b"M221 S95", b"T0", b"T1", b"M73 P5 R10",
    b"SET_VELOCITY_LIMIT ACCEL=3000 ACCEL_TO_DECEL=1500", b"M486 S1", b"M486 AName",
    b"SET_FAN_SPEED FAN=nevermore SPEED=.4", b"SET_GCODE_OFFSET Z_ADJUST=.05 MOVE=1",
    b"SAVE_GCODE_STATE NAME=a", b"RESTORE_GCODE_STATE NAME=a MOVE=1",
    b"EXCLUDE_OBJECT_DEFINE NAME=a CENTER=1,2 POLYGON=[[1,2],[3,4]]",
    b"EXCLUDE_OBJECT_START NAME='a b'", b"EXCLUDE_OBJECT_END",
    b"SET_PRESSURE_ADVANCE EXTRUDER=extruder1 ADVANCE=.03", b"M117 20 % done * 3",
    b"SET_PRINT_STATS_INFO TOTAL_LAYER=9 CURRENT_LAYER=2", b"SET_RETRACTION X=1",
    b"SET_GCODE_VARIABLE MACRO=a VARIABLE=b VALUE='{1: \"x\"}'", b"N12 G1 X4*71",
    b"; thumbnail begin 32x32 100", b";LAYER_CHANGE", b";Z:0.4", b";LAYER:7",
    b"; layer 3, Z = 0.9", b";TYPE:Outer wall", b"; PLR_RESUME - PRINT GCODE STARTS",
    b"ACTIVATE_EXTRUDER EXTRUDER=extruder1",
    b"SET_HEATER_TEMPERATURE HEATER=a TARGET=5",
]  # fmt: skip
TOKENS = [
    b"\n", b"\r\n", b"\r", b"\0", b"\xff", b"\xc3", b"\xe2\x80\xa8", b"\x85", b"\x1c",
    b"\v\f", b"\xd9\xa1", b" ", b"\t", b";", b"#", b"*", b"***", b"*12", b"N5 ", b"NN",
    b"N", b"'", b'"', b"\\", b"=", b"A=", b"X", b"E", b"F0", b"F-1", b"nan", b"inf",
    b"-inf", b"1e999", b"1_0", b"+5", b"--1", b"1.2.3", b".", b"-", b"0x10", b"G1",
    b"G 1", b"g01", b"G1.0", b"G1X1Y2", b"/G1", b"%", b"(x)", b"G20", b"M112", b"T-1",
    b"T99999999", b"S", b"P", b"R5", b"1" * 40, b"9" * 400, b"." * 50, b"_", b"__A",
    b"LAYER", b"RESET=1", b"NAME=", b"[[", b"{", b"%s", b"\xef\xbb\xbf", b"\xc4\xb0",
    b"\xc3\x9f", b"\xef\xac\x81",
]  # fmt: skip


def pool() -> list[bytes]:
    lines = list(LINES)
    for path in sorted(DATA.glob("*.gcode")):
        found = path.read_bytes().split(b"\n")
        lines += found[40 : len(found) : max(len(found) // 60, 1)]
    return lines


def mutated(source: random.Random, lines: list[bytes]) -> bytes:
    count = source.randrange(1, 14)
    data = bytearray(b"\n".join(source.choice(lines) for _ in range(count)) + b"\n")
    for _ in range(source.randrange(0, 6)):
        at = source.randrange(len(data) + 1)
        span = min(source.randrange(1, 20), len(data) - at)
        kind = source.randrange(6)
        if kind == 0 and at < len(data):
            data[at] = source.randrange(256)
        elif kind in (1, 2):
            data[at:at] = source.choice(TOKENS)
        elif kind == 3:
            del data[at : at + span]
        elif kind == 4:
            data[at:at] = data[at : at + span] * source.choice((1, 2, 30))
        else:
            data[at : at + span] = source.choice(TOKENS)
    return bytes(data)


def hostile(source: random.Random) -> bytes:
    """Long, of one idea: what makes a careless pattern or parser quadratic."""
    unit = source.choice(TOKENS + [b" X1", b";x", b"G1 ", b" =", b"A='b' ", b"G1 X1\n"])
    size = source.choice((1000, 8000, 64000))
    start = source.choice((b"", b"G1 X", b"M117 ", b"SET_X A=", b"N", b";", b"G92 "))
    return start + unit * (size // len(unit)) + source.choice((b"", b"'", b"G1 X1\n"))


def exercise(data: bytes, source: random.Random) -> str | None:
    """What is wrong, None when all is well.  Raises what ought not to be raised."""
    begin = time.thread_time()
    head = None
    end = len(data) if data.endswith(b"\n") else data.rfind(b"\n") + 1
    try:
        head = scan(data, end)
    except GcodeError:
        pass
    for line in data.split(b"\n"):
        try:
            command = lexer.parse(line)
            command.number(source.choice("XYZEFSP"), 0.0)
        except GcodeError:
            pass
        if len(line) <= 4096:
            rest(line, source)
    spent = time.thread_time() - begin
    if spent > FIXED_TIME + BYTE_TIME * len(data):
        return f"{SLOW}{spent:.3f} s for {len(data)} bytes"
    return disagreement(head, data[:end]) if head is not None else None


def rest(line: bytes, source: random.Random) -> None:
    start = [source.choice((None, 0.0, 5.25, -1e4)) for _ in range(4)]
    fraction = source.choice((0.0, 0.3, 1.0, 1e-9))
    try:
        remainder(
            line, Point4(*start), fraction,
            source.random() < 0.5, source.random() < 0.5,
        )  # fmt: skip
    except GcodeError:
        pass


def disagreement(head: Head, data: bytes) -> str | None:
    machine = Klipper(tools=0)
    try:
        machine.run(data)
    except (Stopped, KeyError, ValueError, OverflowError):
        return None  # an undisturbed print would have stopped, or worse
    state = machine.state()
    if not all(abs(value) < FAR for value in (*machine.position, *machine.base)):
        return None  # a move out of range
    pairs = [*zip(head.position[:3], state["gcode_position"], strict=True)]
    pairs.append((head.feedrate, state["f"]))
    for found, wanted in pairs:
        if found is not None and not math.isclose(
            found, wanted, rel_tol=1e-9, abs_tol=1e-6
        ):
            return f"scanner {head.position} F{head.feedrate}, Klipper {pairs}"
    modes = (head.absolute_coordinates, head.absolute_extrude)
    if modes != (machine.absolute, machine.absolute_e):
        return f"scanner {modes}, Klipper {machine.absolute, machine.absolute_e}"
    return None


def one(seed: int, number: int, lines: list[bytes]) -> tuple[bytes, str | None]:
    source = random.Random(f"{seed}/{number}")
    data = hostile(source) if number % 200 == 0 else mutated(source, lines)
    try:
        return data, exercise(data, source)
    except Exception:
        return data, traceback.format_exc(limit=-3)


def batch(seed: int, first: int, count: int) -> list[str]:
    lines = pool()
    failures = []
    for number in range(first, first + count):
        data, problem = one(seed, number, lines)
        if problem is not None and problem.startswith(SLOW):
            # The garbage collector can pause anything once.
            data, problem = one(seed, number, lines)
        if problem is not None:
            failures.append(f"--seed {seed} --only {number}: {data[:300]!r}\n{problem}")
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    if options.only is not None:
        data, problem = one(options.seed, options.only, pool())
        print(data, problem or "nothing wrong", sep="\n")
        return int(problem is not None)
    begin = time.monotonic()
    starts = range(0, options.inputs, BATCH)
    failures: list[str] = []
    with ProcessPoolExecutor(options.workers) as workers:
        sizes = [min(BATCH, options.inputs - start) for start in starts]
        seeds = [options.seed] * len(sizes)
        for found in workers.map(batch, seeds, starts, sizes):
            failures += found
    for failure in failures[:20]:
        print(failure)
    seconds = time.monotonic() - begin
    print(f"{options.inputs} inputs, {len(failures)} failures, {seconds:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
