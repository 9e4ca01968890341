# Z+ homing: the stored heights of the switches, and whether they still hold
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# Kept in [save_variables]:
#   z_endstop_position_<stepper>  Z at which that motor's switch closes, in mm
#   z_offset_<stepper>            how far that motor goes from its own switch to
#                                 be level with the first motor at its switch
#   z_calibration_info            {'time': Unix time, 'config': what the
#                                 heights depend on in printer.cfg}
import time

INFO = 'z_calibration_info'
HEIGHT = 'z_endstop_position_'
OFFSET = 'z_offset_'
CALIBRATE = "Home and level the machine, then run PLR_Z_HOME MODE=CALIBRATE."

class ZCalibration:
    def __init__(self, printer):
        self.printer = printer
        self.fingerprint = {}
    def set_fingerprint(self, names, z_position):
        """Remember what the heights of these motors depend on."""
        configfile = self.printer.lookup_object('configfile')
        config = configfile.get_status(0)['config']
        facts = {'z_position': '%.3f' % (z_position,),
                 'Z motors': ' '.join(names)}
        for name in names:
            pin = 'pin_' + name
            facts[pin] = config['power_loss_recovery'].get(pin, '')
        wanted = {n: ('rotation_distance', 'gear_ratio') for n in names}
        wanted[names[0]] += ('position_endstop', 'endstop_pin')
        for section, options in config.items():
            # A probe's z_offset decides where Z is zero
            for option in wanted.get(section, ('z_offset',)):
                if option in options and section != 'power_loss_recovery':
                    facts['[%s] %s' % (section, option)] = options[option]
        # SAVE_VARIABLE shuts the printer down on a '%'
        self.fingerprint = {key: str(value).strip().replace('%', '')
                            for key, value in facts.items()}
    def _variables(self):
        save_variables = self.printer.lookup_object('save_variables', None)
        return {} if save_variables is None else save_variables.allVariables
    def info(self):
        info = self._variables().get(INFO)
        return info if isinstance(info, dict) else {}
    def load(self, names):
        """Heights {stepper: mm} and "", or None and why there are none."""
        stored = self._variables()
        reference = stored.get(HEIGHT + names[0])
        offsets = [stored.get(OFFSET + name) for name in names]
        if reference is None and offsets == [None] * len(names):
            return None, "no calibration is stored. " + CALIBRATE
        for value in [reference] + offsets:
            if (isinstance(value, bool) or not isinstance(value, (int, float))
                or not abs(value) <= 5000.):
                return None, ("the stored calibration is incomplete or damaged"
                              " (%s or %s of a Z motor). %s"
                              % (HEIGHT, OFFSET, CALIBRATE))
        config = self.info().get('config')
        if not isinstance(config, dict):
            return None, ("the stored offsets are not from this plugin's"
                          " calibration. " + CALIBRATE)
        now = self.fingerprint
        changed = sorted([key for key in set(now) | set(config)
                          if now.get(key) != config.get(key)])
        if changed:
            return None, ("the calibration is older than a change of the"
                          " config: %s. %s"
                          % (', '.join(["%s was '%s', is '%s'" % (
                              key, config.get(key, ''), now.get(key, ''))
                              for key in changed]), CALIBRATE))
        return {name: reference - offset
                for name, offset in zip(names, offsets)}, ""
    def save(self, heights, names):
        """Write all of it at once.  Never while printing: this blocks."""
        save_variables = self.printer.lookup_object('save_variables')
        reference = heights[names[0]]
        for name in names:
            height = heights[name]
            save_variables.allVariables[HEIGHT + name] = round(height, 6)
            save_variables.allVariables[OFFSET + name] = round(
                reference - height, 6)
        info = {'time': int(time.time()), 'config': self.fingerprint}
        # The command empties the file before it writes all variables, so it
        # is run once and not once for each variable
        gcode = self.printer.lookup_object('gcode')
        gcmd = gcode.create_gcode_command(
            'SAVE_VARIABLE', 'SAVE_VARIABLE',
            {'VARIABLE': INFO, 'VALUE': repr(info)})
        save_variables.cmd_SAVE_VARIABLE(gcmd)
