# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The second copy of the Z calibration, for the day when klippy has lost its own."""
