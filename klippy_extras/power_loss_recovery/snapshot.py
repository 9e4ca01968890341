# What a print can change, read in one piece between two lines
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# A snapshot is a dict of parts.  Parts are replaced, never changed, so a mark
# can keep the snapshot of its line.  Commands that come with every feature of
# a sliced file refresh only the part that they can change.
from . import hooks, rare, tools, variables

# In the toolhead's status, and as it calls them itself
LIMITS = (('max_velocity', 'max_velocity'), ('max_accel', 'max_accel'),
          ('square_corner_velocity', 'square_corner_velocity'),
          ('minimum_cruise_ratio', 'min_cruise_ratio'),
          ('max_accel_to_decel', 'requested_accel_to_decel'))
ALL_PARTS = ('coordinates', 'heaters', 'fans', 'limits', 'tool', 'mesh',
             'objects', 'progress', 'gcode', 'rare')
# Saved anew at each G10 and around each hook, for themselves
OWN_STATES = ('_retract_state', hooks.STATE)
# Those of commands that come so often that they have a way of their own
ORIGIN = ('coordinates',)
LAYERS = ('progress',)
PARTS_OF_COMMAND = {
    'M204': ('limits',), 'SET_VELOCITY_LIMIT': ('limits',),
    'M106': ('fans',), 'M107': ('fans',), 'SET_FAN_SPEED': ('fans',),
    'M104': ('heaters',), 'M140': ('heaters',),
    'M73': ('progress',), 'M117': ('progress',),
    'SET_PRINT_STATS_INFO': LAYERS,
    'PLR_SAVE_PRINT_STATE_WITH_LAYER': ('progress',),
    'PLR_SAVE_PRINT_STATE': (),
    'G2': (), 'G3': (), 'G4': (), 'M400': (),
    'G90': ORIGIN, 'G91': ORIGIN, 'M82': ORIGIN,
    'M83': ORIGIN, 'G92': ORIGIN, 'M220': ORIGIN,
    'M221': ORIGIN, 'SET_GCODE_OFFSET': ORIGIN,
    'EXCLUDE_OBJECT_START': ('objects',), 'EXCLUDE_OBJECT_END': ('objects',),
    'SET_PRESSURE_ADVANCE': ('tool',),
}

def parts_of(word):
    """Parts that a command can change; None and unknown words: all."""
    return PARTS_OF_COMMAND.get(word, ALL_PARTS)

class Snapshot:
    def __init__(self, printer, patterns=()):
        """patterns: of the variables of macros; see variables.py."""
        self.printer = printer
        lookup = printer.lookup_object
        self.gcode_move = lookup('gcode_move')
        self.toolhead = lookup('toolhead')
        self.kinematics = self.toolhead.get_kinematics()
        heaters = lookup('heaters', None)
        self.heaters = [] if heaters is None else [
            (name, heaters.lookup_heater(name.split()[-1]))
            for name in heaters.get_status(0.)['available_heaters']]
        self.fans = [(name, obj) for module in ('fan', 'fan_generic')
                     for name, obj in printer.lookup_objects(module)]
        self.extruders = [(name, obj) for name, obj
                          in printer.lookup_objects('extruder')]
        i = 1
        while lookup('extruder%d' % (i,), None) is not None:
            name = 'extruder%d' % (i,)
            self.extruders.append((name, lookup(name)))
            i += 1
        self.changer = tools.find(printer)
        self.mesh = lookup('bed_mesh', None)
        self.exclude = lookup('exclude_object', None)
        self.print_stats = lookup('print_stats', None)
        self.display = lookup('display_status', None)
        self.firmware_retraction = lookup('firmware_retraction', None)
        self.arcs = lookup('gcode_arcs', None)
        self.rare = rare.Rare(printer, rare.READERS + (
            ('variables', variables.reader(patterns)),))
        self.late = rare.Rare(printer, rare.LATE)
        # What PLR_SAVE_PRINT_STATE_WITH_LAYER has told, and print_stats then
        self.told, self.layer_then = {}, None
        self.has_layers = all([hasattr(self.print_stats, name) for name in (
            'info_current_layer', 'info_total_layer')])
        self.has_limits = self._has_limits()
        self.state = {}
        self._origin_then = None
        self.refresh(ALL_PARTS, printer.get_reactor().monotonic())
    def refresh(self, parts, eventtime):
        if not parts or (parts is ORIGIN
                         and self._origin() == self._origin_then):
            return
        state = dict(self.state)
        if parts is LAYERS and self.has_layers:
            state['progress'] = self._layers(state['progress'])
        else:
            for part in parts:
                state[part] = getattr(self, '_' + part)(eventtime)
        self.state = state
    def note_layer(self, layer, layer_height):
        told = {'layer': layer, 'layer_height': layer_height}
        self.told = {k: told[k] for k in told if told[k] is not None}
        self.layer_then = self._info().get('current_layer')
    def forget_layer(self):
        self.told = {}
    def _info(self):
        if self.print_stats is None:
            return {}
        eventtime = self.printer.get_reactor().monotonic()
        return self.print_stats.get_status(eventtime).get('info') or {}
    def _origin(self):
        # A slicer's G92 E0 changes none of this
        gm = self.gcode_move
        return (gm.base_position[:3], gm.homing_position[:3],
                gm.absolute_coord, gm.absolute_extrude, gm.speed_factor,
                gm.extrude_factor)
    def _coordinates(self, eventtime):
        # As gcode_move.get_status() has it, which costs four times as much
        gm = self.gcode_move
        self._origin_then = self._origin()
        return {
            'absolute_coordinates': gm.absolute_coord,
            'absolute_extrude': gm.absolute_extrude,
            'speed_factor': gm.speed_factor * 60.,
            'extrude_factor': gm.extrude_factor,
            'homing_origin': gm.homing_position[:3],
            'homed_axes': self.kinematics.get_status(eventtime)['homed_axes'],
            # What G92 has set for X, Y and Z
            'g92': [gm.base_position[i] - gm.homing_position[i]
                    for i in (0, 1, 2)],
        }
    def _heaters(self, eventtime):
        return {name: heater.target_temp for name, heater in self.heaters}
    def _fans(self, eventtime):
        return {name: obj.get_status(eventtime)['speed']
                for name, obj in self.fans}
    def _has_limits(self):
        st = self.toolhead.get_status(self.printer.get_reactor().monotonic())
        return all([st.get(name) == getattr(self.toolhead, own, None)
                    for name, own in LIMITS])
    def _limits(self, eventtime):
        # Asked for at each M204, and most of the status is something else
        toolhead = self.toolhead
        if self.has_limits:
            return {name: getattr(toolhead, own) for name, own in LIMITS
                    if hasattr(toolhead, own)}
        st = toolhead.get_status(eventtime)
        return {name: st[name] for name, _own in LIMITS if name in st}
    def _tool(self, eventtime):
        advance = {}
        for name, obj in self.extruders:
            st = obj.get_status(eventtime)
            if 'pressure_advance' in st:
                advance[name] = [st['pressure_advance'], st['smooth_time']]
        res = {'active': self.toolhead.get_extruder().get_name(),
               'pressure_advance': advance}
        if self.changer is not None:
            st = self.changer.get_status(eventtime)
            res['changer'] = {'number': st['number'], 'name': st['name']}
        return res
    def _mesh(self, eventtime):
        if self.mesh is None:
            return {}
        return {'profile': self.mesh.get_status(eventtime)['profile_name']}
    def _objects(self, eventtime):
        if self.exclude is None:
            return {}
        st = self.exclude.get_status(eventtime)
        return {'current': st['current_object'],
                'excluded': list(st['excluded_objects'])}
    def _progress(self, eventtime):
        res = {}
        if self.print_stats is not None:
            st = self.print_stats.get_status(eventtime)
            info = st.get('info') or {}
            res = {'layer': info.get('current_layer'),
                   'layers': info.get('total_layer'),
                   'duration': st['print_duration'],
                   'filament': st['filament_used']}
        self._add_told(res)
        if self.display is not None:
            st = self.display.get_status(eventtime)
            res['message'] = st['message']
            res['percent'] = st['progress']
            # None where nobody uses M73
            res['m73'] = getattr(self.display, 'progress', None)
        return res
    def _layers(self, progress):
        # print_stats.get_status() counts filament, too
        res = dict(progress, layer=self.print_stats.info_current_layer,
                   layers=self.print_stats.info_total_layer)
        self._add_told(res)
        return res
    def _add_told(self, res):
        if self.told:
            if res.get('layer') != self.layer_then:
                # The later one is right
                self.told = {k: self.told[k] for k in self.told
                             if k != 'layer'}
            res.update(self.told)
    def _gcode(self, eventtime):
        saved = self.gcode_move.saved_states
        return {'states': {name: saved[name] for name in saved
                           if name not in OWN_STATES},
                'retracted': getattr(
                    self.firmware_retraction, 'is_retracted', None),
                'plane': getattr(self.arcs, 'plane', None)}
    def _rare(self, eventtime):
        return self.rare.read()
    def with_late(self, state, eventtime, at_rest=False):
        """The state of a mark, with what klippy sets late as it is now.

        at_rest: no line is to be executed any more.  What a person excludes in
        a pause no line tells.
        """
        objects = state['objects']
        if at_rest and self.exclude is not None:
            now = self.exclude.get_status(eventtime)
            objects = dict(objects, excluded=list(now['excluded_objects']))
        return dict(state, fans=self._fans(eventtime), objects=objects,
                    rare=dict(state['rare'], **self.late.read()))
