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
import binascii, json, time

REMOTE_METHOD = 'plr_calibrated'
INFO = 'z_calibration_info'
HEIGHT = 'z_endstop_position_'
OFFSET = 'z_offset_'
CALIBRATE = "Home and level the machine, then run PLR_Z_HOME MODE=CALIBRATE."
# Height and offset of a motor are rounded, each to 6 places
SAME = .00001

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
    def time(self):
        """Unix time of the stored calibration, None if there is none."""
        return time_of(self._variables())
    def load(self, names):
        """Heights {stepper: mm} and "", or None and why there are none."""
        return self.judge(self._variables(), names)
    def judge(self, stored, names):
        """The same for other variables than the stored ones."""
        reference = stored.get(HEIGHT + names[0])
        offsets = [stored.get(OFFSET + name) for name in names]
        if reference is None and offsets == [None] * len(names):
            return None, "no calibration is stored. " + CALIBRATE
        places = [stored.get(HEIGHT + name) for name in names]
        if not all([is_length(value) for value in places + offsets]) or [
                True for place, offset in zip(places, offsets)
                if abs(reference - offset - place) > SAME]:
            # A file that was cut short can end in half a number
            return None, ("the stored calibration is incomplete or damaged"
                          " (%s or %s of a Z motor). %s"
                          % (HEIGHT, OFFSET, CALIBRATE))
        config = info_of(stored).get('config')
        if not isinstance(config, dict):
            return None, ("the stored offsets are not from this plugin's"
                          " calibration. " + CALIBRATE)
        now = self.fingerprint
        changed = sorted([key for key in set(now) | set(config)
                          if now.get(key) != config.get(key)], key=str)
        if changed:
            return None, ("the calibration is older than a change of the"
                          " config: %s. %s"
                          % (', '.join(["%s was '%s', is '%s'" % (
                              key, config.get(key, ''), now.get(key, ''))
                              for key in changed]), CALIBRATE))
        return {name: reference - offset
                for name, offset in zip(names, offsets)}, ""
    def save(self, heights, names):
        """Write all of it at once.  Never while printing: this blocks.

        Returns whether Moonraker is there to keep a second copy.
        """
        reference = heights[names[0]]
        variables = {}
        for name in names:
            height = heights[name]
            variables[HEIGHT + name] = round(height, 6)
            variables[OFFSET + name] = round(reference - height, 6)
        # With a clock that was set back, it is still the later one
        when = max(int(time.time()), (self.time() or 0) + 1)
        variables[INFO] = self._write(variables, when)
        webhooks = self.printer.lookup_object('webhooks')
        try:
            webhooks.call_remote_method(REMOTE_METHOD, variables=variables)
        except self.printer.command_error:
            return False
        return True
    def restore(self, stored, names):
        """Save variables that were kept elsewhere, unless ours are better.

        Returns what was done, in words; "": nothing, for a reason told before.
        """
        heights, problem = self.load(names)
        when = time_of(stored)
        if heights is not None and (when is None or when <= self.time()):
            return ""
        found, refusal = self.judge(stored, names)
        if found is None or when is None:
            if refusal == problem:
                return ""
            return ("the second copy of the Z calibration is not used: %s"
                    % (refusal or "its time is missing. " + CALIBRATE,))
        keys = [prefix + name for prefix in (HEIGHT, OFFSET) for name in names]
        self._write({key: stored[key] for key in keys}, when)
        return ("the Z calibration is restored from its second copy. What"
                " [save_variables] had: %s"
                % (problem or "an older calibration.",))
    def _write(self, variables, when):
        save_variables = self.printer.lookup_object('save_variables')
        save_variables.allVariables.update(variables)
        info = {'time': when, 'config': self.fingerprint}
        # The command empties the file before it writes all variables, so it
        # is run once and not once for each variable
        gcode = self.printer.lookup_object('gcode')
        gcmd = gcode.create_gcode_command(
            'SAVE_VARIABLE', 'SAVE_VARIABLE',
            {'VARIABLE': INFO, 'VALUE': repr(info)})
        save_variables.cmd_SAVE_VARIABLE(gcmd)
        return info

def decode(text):
    """{variable: value} from hex of JSON.  Raises ValueError."""
    # Klippy up to v0.12 cuts a command at the first '#', '*' or ';'
    try:
        stored = json.loads(binascii.unhexlify(text).decode('utf-8'))
    except (TypeError, RuntimeError) as e:
        # Not hex, in Python 2; and too deep
        raise ValueError(str(e))
    if not isinstance(stored, dict):
        raise ValueError("not a table of variables")
    return stored

def info_of(stored):
    info = stored.get(INFO)
    return info if isinstance(info, dict) else {}

def time_of(stored):
    when = info_of(stored).get('time')
    return int(when) if is_number(when) and 0. < when < 1e11 else None

def is_number(value):
    return (isinstance(value, (int, float)) and not isinstance(value, bool))

def is_length(value):
    # False for NaN as well
    return is_number(value) and abs(value) <= 5000.
