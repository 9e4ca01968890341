# What may be done after an outage before a person has said yes
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# Moonraker reads these through klippy's configfile object: here they are
# checked, so that a bad value is refused with its range.

def check(config):
    config.getchoice('auto_resume', {
        'never': 'never', 'if_bed_warm': 'if_bed_warm', 'always': 'always'},
        'never')
    config.getfloat('auto_resume_bed_drop', 10., minval=1., maxval=50.)
    config.getfloat('auto_resume_max_off', 10., above=0., maxval=1440.)
    config.getfloat('auto_resume_countdown', 60., minval=10., maxval=3600.)
    config.getint('auto_resume_attempts', 2, minval=1, maxval=10)
    config.getfloat('hold_bed', 0., minval=0., maxval=480.)
