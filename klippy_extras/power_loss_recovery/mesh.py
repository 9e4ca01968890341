# PLR_SAVE_MESH, PLR_LOAD_MESH: the bed mesh of a print outlives klippy
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# A profile's name alone is not enough: a mesh that was probed and never stored
# with SAVE_CONFIG, as every adaptive one, is gone with klippy.  So its points
# are kept with it, by Moonraker, and given back from there.
import collections, logging

from . import z_calibration

SAVE_METHOD = 'plr_save_mesh'
LOAD_METHOD = 'plr_load_mesh'
# How far points may be apart that are the same, printed and read again
SAME = .000002
INTEGERS = ('x_count', 'y_count', 'mesh_x_pps', 'mesh_y_pps')
NUMBERS = ('min_x', 'max_x', 'min_y', 'max_y', 'tension')
MAX_POINTS = 200

class Mesh:
    def __init__(self, config, commands):
        self.printer = config.get_printer()
        self.commands = commands
        register = self.printer.lookup_object('gcode').register_command
        register('PLR_SAVE_MESH', self.cmd_PLR_SAVE_MESH,
                 desc=self.cmd_PLR_SAVE_MESH_help)
        register('PLR_LOAD_MESH', self.cmd_PLR_LOAD_MESH,
                 desc=self.cmd_PLR_LOAD_MESH_help)
        register('_PLR_GIVE_MESH', self.cmd_PLR_GIVE_MESH)
    def _bed_mesh(self, gcmd):
        bed_mesh = self.printer.lookup_object('bed_mesh', None)
        if bed_mesh is None:
            self.commands.complain(gcmd, "%s: there is no [bed_mesh] in"
                                   " printer.cfg." % (gcmd.get_command(),))
        return bed_mesh
    cmd_PLR_SAVE_MESH_help = "Keep the bed mesh that is in use, with its points"
    def cmd_PLR_SAVE_MESH(self, gcmd):
        bed_mesh = self._bed_mesh(gcmd)
        if bed_mesh is None:
            return
        mesh = bed_mesh.get_mesh()
        if mesh is None:
            self.commands.complain(gcmd, (
                "PLR_SAVE_MESH: no bed mesh is in use. Run BED_MESH_CALIBRATE"
                " or BED_MESH_PROFILE LOAD= first."))
            return
        self.commands.call(gcmd, SAVE_METHOD, mesh={
            'name': bed_mesh.pmgr.get_current_profile() or 'default',
            'points': [[round(z, 6) for z in row]
                       for row in mesh.get_probed_matrix()],
            'params': dict(mesh.get_mesh_params())})
    cmd_PLR_LOAD_MESH_help = "Use the bed mesh that PLR_SAVE_MESH has kept"
    def cmd_PLR_LOAD_MESH(self, gcmd):
        if self._bed_mesh(gcmd) is not None:
            self.commands.call(gcmd, LOAD_METHOD)
    def cmd_PLR_GIVE_MESH(self, gcmd):
        # Used by Moonraker, which keeps the mesh
        bed_mesh = self._bed_mesh(gcmd)
        if bed_mesh is None:
            return
        try:
            name, points, params = check(
                z_calibration.decode(gcmd.get('DATA', '')))
        except ValueError as e:
            raise gcmd.error("PLR_LOAD_MESH: the mesh that was kept cannot be"
                             " used: %s" % (e,))
        use(bed_mesh, name, points, params)
        gcmd.respond_info("Bed mesh %s is in use again, as PLR_SAVE_MESH has"
                          " kept it." % (name,))

def use(bed_mesh, name, points, params):
    """Load a mesh, from the stored profile of this name if it is the same."""
    profiles = bed_mesh.pmgr.profiles
    stored = profiles.get(name)
    if stored is None or not is_same(stored['points'], points):
        profiles = dict(profiles)
        profiles[name] = {'points': points, 'mesh_params': params}
        bed_mesh.pmgr.profiles = profiles
        logging.info("power_loss_recovery: mesh %s from its points", name)
    bed_mesh.pmgr.load_profile(name)
    bed_mesh.update_status()

def is_same(points, others):
    flat = [z for row in points for z in row]
    other = [z for row in others for z in row]
    return (len(points) == len(others) and len(flat) == len(other)
            and all([abs(a - b) < SAME for a, b in zip(flat, other)]))

def check(kept):
    """Name, points and parameters of a mesh.  Raises ValueError."""
    name, points, given = [kept.get(k) for k in ('name', 'points', 'params')]
    if not isinstance(given, dict) or not isinstance(points, list):
        raise ValueError("it has no points")
    params = collections.OrderedDict()
    for key, value in given.items():
        is_int = key in INTEGERS
        if is_int or key in NUMBERS:
            if not z_calibration.is_length(value):
                raise ValueError("%s is %r" % (key, value))
            params[key] = int(value) if is_int else float(value)
        elif key == 'algo' and value in ('lagrange', 'bicubic', 'direct'):
            params[key] = value
    missing = [key for key in INTEGERS + NUMBERS + ('algo',)
               if key not in params]
    if missing:
        raise ValueError("%s is missing" % (missing[0],))
    rows, columns = params['y_count'], params['x_count']
    if not (0 < rows <= MAX_POINTS and 0 < columns <= MAX_POINTS
            and len(points) == rows
            and all([isinstance(row, list) and len(row) == columns
                     and all([z_calibration.is_length(z) for z in row])
                     for row in points])):
        raise ValueError("its points are not %s times %s numbers"
                         % (columns, rows))
    return str(name or 'default'), points, params
