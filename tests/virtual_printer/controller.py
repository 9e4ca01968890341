# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A micro-controller, and the pty that is its USB cable or its UART."""
from __future__ import annotations

import os
import pty
import tty
from collections.abc import Callable

from .mcu import Firmware
from .protocol import CLOCK_FREQ
from .world import World

# With two micro-controllers the host extends a homing move every 25 ms, or it
# ends: on a busy machine klippy and this process are granted a second.  Klippy
# plans no further than 0.2 s ahead meanwhile, so no motor runs on for longer.
PATIENCE = CLOCK_FREQ


class Controller:
    """Plugged in at once, and running until it is unplugged."""

    def __init__(self, world: World, port: str, alone: bool = True) -> None:
        self.world = world
        self.patience = 0 if alone else PATIENCE
        self.port = port
        self.fd, self.slave = pty.openpty()
        tty.setraw(self.fd)
        tty.setraw(self.slave)
        os.set_blocking(self.fd, False)
        self._unlink()
        os.symlink(os.ttyname(self.slave), port)
        self.boot()

    def boot(self) -> None:
        self.firmware = Firmware(self.world, self.fd, self.patience)

    def listen(self, ends: Callable[[], int | None]) -> None:
        """Everything the host has sent; a pty holds 4 KiB at a time.

        ends: asked before each portion; the clock after which nothing counts.
        """
        while True:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                return
            clock = ends()
            if clock is not None:
                self.firmware.ends = clock
            self.firmware.reader.feed(data)

    def unplug(self) -> None:
        os.close(self.fd)
        os.close(self.slave)
        self._unlink()

    def _unlink(self) -> None:
        if os.path.islink(self.port):
            os.unlink(self.port)
