# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A print made up at random that now and then leaves where it has been: what a
measure that does not read every move has to notice."""
from __future__ import annotations

import random

ODD = (
    "T0", "T1", "M106 S3", ";TYPE:External X500 perimeter", "TIMELAPSE", "M82", "M83",
    ";LAYER_CHANGE", "g1 x5", "M117 X9 Z900", "G92 X5", "G92 Z1", "G92 Y0 E0",
    "G91\nG1 X3 Z1\nG90", "G18\nG2 X1 Z1 I3 E1\nG17",
)  # fmt: skip


def random_print(source: random.Random, lines: int) -> bytes:
    centre, size = source.choice((100, 0, -50)), source.choice((3, 20, 80))
    absolute, e, z = source.random() < 0.5, 0.0, 0.2
    made = ["M82" if absolute else "M83", "G92 E0", "G1 X100 Y100 Z.2 F900"]

    def fed(length: float) -> str:
        nonlocal e
        e += length
        return f"E{e if absolute else length:.5f}"

    for _ in range(lines):
        digits = source.choice((3, 3, 1, 0))
        x, y = (f"{source.gauss(centre, size / 3):.{digits}f}" for _ in "XY")
        far = f"{source.uniform(-200, 300):.3f}"
        i, j = (f"{source.gauss(0, size / 5):.3f}" for _ in "IJ")
        kind = source.random()
        if kind < 0.80:
            made.append(f"G1 X{x} Y{y} {fed(source.uniform(0.01, 0.5))}")
        elif kind < 0.84:
            made.append(f"G0 F9000 X{x} Y{y}\nG1 X{x} {fed(0.1)}")
        elif kind < 0.86:
            made += [f"G1 {fed(-0.8)}", f"G1 X{far} Y{y}"]
            made += [f"G1 X{x} Y{y}"] * source.randrange(2) + [f"G1 {fed(0.8)}"]
        elif kind < 0.87:
            made.append(f"G1 X{x} Y{far} {fed(source.choice((0.8, -0.3)))}")
        elif kind < 0.92:
            made.append(f"G{source.choice('23')} X{x} Y{y} I{i} J{j} {fed(0.2)}")
        elif kind < 0.96:
            hop = source.choice((f"G17\nG3 Z{z + 2:.2f} I3 J3 P1", f"G1 Z{z + 2:.2f}"))
            made += [hop, f"G1 X{x} Y{y}", f"G1 Z{z:.2f}"]
        elif kind < 0.985:
            z += source.choice((0.2, 0.2, -0.1, 1.0))
            made.append(f"G1 Z{z:.3f}")
        elif kind < 0.995:
            e = 0.0
            made.append("G92 E0")
        else:
            made.append(source.choice(ODD))
    return ("\n".join(made) + "\n").encode()
