# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Power loss recovery, the part that lives in Moonraker.

The installer links this one file into a real folder among Moonraker's
components, which survives pip and git updates; the other modules are found next
to the file that the link points to.
"""
from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moonraker.confighelper import ConfigHelper

    from .component import PowerLossRecovery

__path__ = [str(pathlib.Path(__file__).resolve().parent)]


def load_component(config: ConfigHelper) -> PowerLossRecovery:
    """Moonraker's entry.  A bad option is shown as a warning, with its reason."""
    from .component import PowerLossRecovery

    server = config.get_server()
    try:
        return PowerLossRecovery(config)
    except config.error as e:
        server.add_warning(f"[power_loss_recovery]: {e}")
        raise
