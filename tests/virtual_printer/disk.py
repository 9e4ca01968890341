# A disk that forgets what was never synced
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

from pathlib import Path


class Disk:
    def __init__(self, root: Path, data: Path) -> None:
        self.root = root
        self.data = data

    def environment(self) -> dict[str, str]:
        return {}

    def power_on(self) -> None:
        pass

    def power_lost(self, seed: int) -> None:
        pass

    def settle(self, path: Path) -> None:
        pass
