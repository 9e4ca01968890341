# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""G-code on bytes: how Klipper reads a line, what stands at an offset, and the
file that continues a print from there.  Standard library only."""
