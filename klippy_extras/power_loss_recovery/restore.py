# _PLR_RESTORE: what came with the record and no command of klippy can set
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# A resume file runs it before the first line of the print.  DATA is hex of
# JSON, made by Moonraker's side: nothing in it is trusted.
import math

from . import mesh, rare, variables, z_calibration

MAX_TEXT = 300
FLAGS = ('absolute_coord', 'absolute_extrude')
FACTORS = ('speed', 'speed_factor', 'extrude_factor')
POSITIONS = ('base_position', 'last_position', 'homing_position')
MAX_MM = 1e9

class Restore:
    def __init__(self, config):
        self.printer = config.get_printer()
        self.printer.lookup_object('gcode').register_command(
            '_PLR_RESTORE', self.cmd_PLR_RESTORE)
    def cmd_PLR_RESTORE(self, gcmd):
        try:
            given = z_calibration.decode(gcmd.get('DATA', ''))
            for name in sorted(given):
                handler = HANDLERS.get(name)
                if handler is None:
                    raise ValueError("%s is not known" % (name,))
                said = handler(self.printer, given[name])
                if said:
                    gcmd.respond_info("Power loss recovery: " + said)
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise gcmd.error(
                "Power loss recovery: what was saved cannot be set: %s" % (e,))

def states(printer, saved):
    """What SAVE_GCODE_STATE had kept, for RESTORE_GCODE_STATE."""
    gcode_move = printer.lookup_object('gcode_move')
    made = {text_of(name): state_of(saved[name], gcode_move) for name in saved}
    gcode_move.saved_states.update(made)

def state_of(raw, gcode_move):
    state = {key: bool(raw[key]) for key in FLAGS}
    state.update({key: number_of(raw[key], 1e6) for key in FACTORS})
    if state['speed_factor'] <= 0. or state['extrude_factor'] <= 0.:
        raise ValueError("a factor of a saved state is not above zero")
    for key in POSITIONS:
        values = [number_of(value, MAX_MM) for value in raw[key]]
        # This klippy may have more or less axes than the one that saved it
        now = list(getattr(gcode_move, key))
        if len(values) < 4 and len(values) != len(now):
            raise ValueError("%s has %d values" % (key, len(values)))
        state[key] = values[:len(now)] + now[len(values):]
    return state

def skew(printer, saved):
    """Its factors: SET_SKEW wants lengths, and a profile may not be stored."""
    factors = [number_of(value, 1.) for value in saved['factors']]
    if len(factors) != 3:
        raise ValueError("skew has %d factors" % (len(factors),))
    correction = printer.lookup_object('skew_correction', None)
    if correction is None:
        return "there is no [skew_correction] now: left out."
    correction._update_skew(*factors)
    if hasattr(correction, 'current_profile_name'):
        correction.current_profile_name = text_of(saved.get('name') or '')

def bed_mesh(printer, saved):
    """A mesh from its points: BED_MESH_PROFILE knows only stored ones."""
    loaded = printer.lookup_object('bed_mesh', None)
    if loaded is None:
        return "there is no [bed_mesh] now: left out."
    mesh.use(loaded, *mesh.check(saved))

def macro_variables(printer, saved):
    literals = {text_of(name): text_of(saved[name], variables.MAX_LENGTH)
                for name in saved}
    left_out = variables.restore(printer, literals)
    if left_out:
        return "variables that are not there now: %s." % (
            ', '.join(left_out),)

def carriages(printer, saved):
    """For RESTORE_DUAL_CARRIAGE_STATE, which moves them."""
    check_plain(saved)
    dual_carriage = printer.lookup_object('dual_carriage', None)
    if dual_carriage is None:
        raise ValueError("there is no [dual_carriage] now")
    dual_carriage.saved_states[rare.CARRIAGES] = saved

def message(printer, saved):
    """M117 would cut it at a semicolon."""
    display = printer.lookup_object('display_status', None)
    if display is not None:
        display.message = text_of(saved) or None

HANDLERS = {'states': states, 'skew': skew, 'mesh': bed_mesh,
            'variables': macro_variables, 'carriages': carriages,
            'message': message}

def check_plain(value):
    """Raises ValueError if there is anything but names and lengths."""
    if isinstance(value, dict):
        value = list(value.keys()) + list(value.values())
    if isinstance(value, list):
        for item in value:
            check_plain(item)
    elif z_calibration.is_number(value):
        number_of(value, MAX_MM)
    else:
        text_of(value)

def number_of(value, limit):
    if (not z_calibration.is_number(value) or math.isnan(value)
        or abs(value) > limit):
        raise ValueError("%r is no number up to %g" % (value, limit))
    return float(value)

def text_of(value, longest=MAX_TEXT):
    if not hasattr(value, 'upper') or len(value) > longest:
        raise ValueError("%.60r is no short text" % (value,))
    return str(value)
