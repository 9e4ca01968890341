# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What can go wrong with a printer, done to the virtual one.

What a loss of power does to motors is in world.py, to files in disk.py.
"""
from __future__ import annotations

from .printer import VirtualPrinter


def power_cut(printer: VirtualPrinter) -> float:
    """Host and micro-controller lose power at one instant; the gantry sags, and
    writes that were not synced are lost.  Returns the instant, in trace seconds."""
    return printer.cut_power()


def brown_out(printer: VirtualPrinter) -> None:
    """The micro-controller alone loses power for a moment; the host lives on."""
    printer.machine("brown_out")


def klippy_crash(printer: VirtualPrinter) -> None:
    """klippy dies; the micro-controller turns itself off when heaters time out."""
    printer.kill(printer.klippy)


def moonraker_crash(printer: VirtualPrinter) -> None:
    printer.kill(printer.moonraker)
