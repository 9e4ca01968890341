# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
from __future__ import annotations

import hypothesis

# How long an example takes says more about the machine than about us.
hypothesis.settings.register_profile("steady", deadline=None)
hypothesis.settings.load_profile("steady")
