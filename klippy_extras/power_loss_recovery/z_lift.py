# The first way up of a resume, on a machine with Z+ switches
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# The power may have failed while Z was being measured, or on the way down from
# there: then the record is far too low, and a blind lift drives the machine
# into its top.
STEP = 1.
SPEED = 10.

class ZLift:
    def __init__(self, printer, z_homing):
        self.z_homing = z_homing
        gcode = printer.lookup_object('gcode')
        gcode.register_command('_PLR_LIFT', self.cmd_PLR_LIFT)
    def cmd_PLR_LIFT(self, gcmd):
        # Used by the resume sequence.  CLEAR: of the motors, above all that is
        # printed; without it that may reach up to where they are
        distance = gcmd.get_float('DISTANCE', minval=0., maxval=2000.)
        motors = self.z_homing.motors
        toolhead = motors.toolhead
        start = z = toolhead.get_position()[2]
        end = start + distance
        clear = gcmd.get_float('CLEAR', end)
        while not motors.pressed():
            if z >= end:
                return
            z = min(z + STEP, end)
            toolhead.manual_move([None, None, z], SPEED)
            toolhead.wait_moves()
        # Z is known here.  PLR_Z_HOME wants all switches to be open
        motors.set_z(self.z_homing.z_position)
        open_z = self.z_homing.z_position - self.z_homing.measure.max_adjustment
        if open_z < min(end, clear):
            raise gcmd.error(
                "The Z+ switches are pressed, and what is printed may reach"
                " up to Z %.2f: lower Z by hand until they are open, with room"
                " for the part below." % (min(start, clear),))
        gcmd.respond_info("The Z+ switches are pressed: Z goes down to %.2f to"
                          " open them." % (open_z,))
        toolhead.manual_move([None, None, open_z], SPEED)
        toolhead.wait_moves()
