# What a print sets seldom, and mostly what no status of klippy shows
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# Each reader below finds its object once and returns a function that gives its
# value as plain data, or None where the machine has no such thing.  READERS are
# read between two lines, with the line's snapshot.  What klippy sets when the
# motors come near (pins, LEDs, servos, fans: LATE) still has its old value
# then, so that is read when a mark is published.
import logging

from . import carriages as dual_carriages

SERVO_PERIOD = .020
PINS = ('output_pin', 'pwm_tool', 'pwm_cycle_time')
LEDS = ('led', 'neopixel', 'dotstar', 'pca9533', 'pca9632')
SENSORS = ('filament_switch_sensor', 'filament_motion_sensor')
# More, and only the profile's name is kept
MAX_MESH_POINTS = 2500
CARRIAGES = '_plr'
# What says which current a driver has
CURRENT_REGISTERS = ('IHOLD_IRUN', 'GLOBALSCALER', 'CHOPCONF', 'SGCSCONF',
                     'DRVCONF', 'DRV_CONF')
# On all trees, then those of Kalico
RETRACTION = ('retract_length', 'retract_speed', 'unretract_extra_length',
              'unretract_speed', 'z_hop_height')

def short(name):
    return name.split()[-1]

def objects_of(printer, modules):
    return [(short(name), obj) for module in modules
            for name, obj in printer.lookup_objects(module)]

def retraction(printer):
    obj = printer.lookup_object('firmware_retraction', None)
    if obj is None:
        return None
    names = [name for name in RETRACTION if hasattr(obj, name)]
    return lambda: {name: getattr(obj, name) for name in names}

def shaper(printer):
    """What differs from the config: {axis: [type, frequency, damping]}"""
    obj = printer.lookup_object('input_shaper', None)
    if obj is None:
        return None
    # Custom ones have no frequency
    axes = [(axis.params.axis.upper(), axis.params)
            for axis in obj.get_shapers() if hasattr(axis.params, 'axis')]
    def look(params):
        return [params.shaper_type, params.shaper_freq, params.damping_ratio]
    configured = {axis: look(params) for axis, params in axes}
    return lambda: {axis: look(params) for axis, params in axes
                    if look(params) != configured[axis]}

def skew(printer):
    obj = printer.lookup_object('skew_correction', None)
    if obj is None:
        return None
    return lambda: {
        'factors': [obj.xy_factor, obj.xz_factor, obj.yz_factor],
        'name': getattr(obj, 'current_profile_name', '')}

def mesh(printer):
    obj = printer.lookup_object('bed_mesh', None)
    if obj is None:
        return None
    kept = {}
    def read():
        current = obj.get_mesh()
        if current is None:
            return {}
        if kept.get('mesh') is not current:
            points = [[round(z, 6) for z in row]
                      for row in current.get_probed_matrix()]
            kept.update(mesh=current, values={
                'name': obj.get_status(0.)['profile_name'] or 'default',
                'points': points if sum([len(row) for row in points])
                <= MAX_MESH_POINTS else [],
                'params': dict(current.get_mesh_params())})
        return dict(kept['values'], offsets=list(current.mesh_offsets),
                    tool_offset=getattr(obj, 'tool_offset', 0.))
    return read

def extruders(printer):
    """What differs from the config: {name: [motion queue, rotation dist.]}"""
    found = []
    for name, obj in printer.lookup_objects():
        stepper = getattr(obj, 'extruder_stepper', None)
        if hasattr(stepper, 'motion_queue') and hasattr(stepper, 'stepper'):
            found.append((short(name), stepper))
    if not found:
        return None
    def look(stepper):
        distance = stepper.stepper.get_rotation_distance()[0]
        inverted, as_configured = stepper.stepper.get_dir_inverted()
        return [stepper.motion_queue,
                distance if inverted == as_configured else -distance]
    configured = {name: look(stepper) for name, stepper in found}
    def read():
        now = {name: look(stepper) for name, stepper in found}
        return {name: now[name] for name in now
                if now[name] != configured[name]}
    return read

def idle_timeout(printer):
    obj = printer.lookup_object('idle_timeout', None)
    return None if obj is None else lambda: obj.idle_timeout

def sensors(printer):
    found = [(name, obj.runout_helper)
             for name, obj in objects_of(printer, SENSORS)]
    return found and (lambda: {
        name: bool(helper.sensor_enabled) for name, helper in found})

def spools(printer):
    """Which sensors have seen filament in this print: one that has not watches
    a tool that the print does not use."""
    found = [(name, obj.runout_helper)
             for name, obj in objects_of(printer, SENSORS)
             if hasattr(obj.runout_helper, 'filament_present')]
    sd = printer.lookup_object('virtual_sdcard', None)
    if not found or not hasattr(sd, 'current_file'):
        return None
    seen, kept = set(), {'file': None}
    def read():
        if sd.current_file is not kept['file']:
            kept['file'] = sd.current_file
            seen.clear()
        seen.update([name for name, helper in found
                     if helper.filament_present])
        return {name: name in seen for name, helper in found}
    return read

def temperature_fans(printer):
    found = objects_of(printer, ('temperature_fan',))
    return found and (lambda: {
        name: [obj.target_temp, obj.min_speed, obj.max_speed]
        for name, obj in found})

def tmc(printer):
    """What differs from the config: {stepper: [run current, hold current]}"""
    found = []
    for name, obj in printer.lookup_objects():
        helper = getattr(getattr(obj, 'get_status', None), '__self__', None)
        if name.startswith('tmc') and hasattr(helper, 'current_helper'):
            found.append((short(name), helper.fields.registers,
                          helper.current_helper))
    if not found:
        return None
    def register(registers):
        return [registers.get(name) for name in CURRENT_REGISTERS]
    def look(helper):
        # With the hold current that was asked for
        current = helper.get_current()
        return [current[0], current[2]]
    configured = {name: look(helper) for name, _r, helper in found}
    seen, last = {}, {}
    def read():
        for name, registers, helper in found:
            values = register(registers)
            if seen.get(name) != values:
                seen[name], last[name] = values, look(helper)
        return {name: last[name] for name in last
                if last[name] != configured[name]}
    return read

def carriages(printer):
    """As SAVE_DUAL_CARRIAGE_STATE has it: for RESTORE_DUAL_CARRIAGE_STATE."""
    obj = dual_carriages.find(printer)
    if obj is None:
        return None
    gcode = printer.lookup_object('gcode')
    kept = {}
    def read():
        places = dual_carriages.places(obj)
        if kept.get('places') != places:
            gcmd = gcode.create_gcode_command(
                'SAVE_DUAL_CARRIAGE_STATE', 'SAVE_DUAL_CARRIAGE_STATE',
                {'NAME': CARRIAGES})
            obj.cmd_SAVE_DUAL_CARRIAGE_STATE(gcmd)
            kept.update(places=places, values=obj.saved_states.pop(CARRIAGES))
        return kept['values']
    return read

def pins(printer):
    commands = printer.lookup_object('gcode').mux_commands.get('SET_PIN')
    # Without static ones, which nothing can set
    known = commands[1] if commands else {}
    found = [(name, obj) for name, obj in objects_of(printer, PINS)
             if name in known]
    return found and (lambda: {
        name: obj.last_value * getattr(obj, 'scale', 1.)
        for name, obj in found})

def servos(printer):
    found = objects_of(printer, ('servo',))
    return found and (lambda: {
        name: obj.last_value * SERVO_PERIOD for name, obj in found})

def leds(printer):
    found = [(name, obj) for name, obj in objects_of(printer, LEDS)
             if hasattr(obj, 'get_status')]
    last, kept = {}, {}
    def read():
        for name, obj in found:
            colors = [list(color)
                      for color in obj.get_status(0.)['color_data']]
            # What an effect changes all the time is not written all the time
            if name not in kept or last[name] == colors:
                kept[name] = colors
            last[name] = colors
        return dict(kept)
    return found and read

READERS = (('retraction', retraction), ('shaper', shaper), ('skew', skew),
           ('mesh', mesh), ('extruders', extruders),
           ('idle_timeout', idle_timeout), ('sensors', sensors),
           ('spools', spools), ('temperature_fans', temperature_fans),
           ('tmc', tmc), ('carriages', carriages))
LATE = (('pins', pins), ('servos', servos), ('leds', leds))

class Rare:
    def __init__(self, printer, readers):
        self.values = {}
        self._readers = []
        for name, find in readers:
            read = self._guarded(name, find, printer)
            if read:
                self._readers.append((name, read))
    def _guarded(self, name, function, *args):
        try:
            return function(*args)
        except Exception:
            # One thing less comes back; the print is saved all the same
            logging.exception("power_loss_recovery: %s is not saved", name)
            return None
    def read(self):
        """Plain values, the same object while nothing has changed."""
        values = {}
        for name, read in list(self._readers):
            value = self._guarded(name, read)
            if value is None:
                self._readers.remove((name, read))
            else:
                values[name] = value
        if values != self.values:
            self.values = values
        return self.values
