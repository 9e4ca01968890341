# While a hook of the owner runs, the nozzle stays out of what is printed
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# A hook may tell klippy another position than the true one, as the guide's
# macros do (SET_KINEMATIC_POSITION Z=0).  Step counts stay true, so each move
# is judged, and the position put right in the end, by how far klippy's
# position has been shifted against them since the hook began.
import logging

from . import carriages

# Below the top of the part: rounding, and a nozzle put down on the last layer
TOLERANCE = .02

class Guard:
    def __init__(self, printer, debug):
        self.printer = printer
        self.debug = debug
        self.kin = self.toolhead = self.original = None
        self.dual_carriage = None
        self.is_paused = self.motors_off = False
        handler = printer.register_event_handler
        handler('homing:home_rails_end', self._handle_home_rails_end)
        handler('stepper_enable:motor_off', self._handle_motor_off)
    def is_armed(self):
        return self.original is not None
    def arm(self, top, box):
        """Refuse moves below Z `top` over `box`, x_min, y_min, x_max, y_max."""
        self.toolhead = self.printer.lookup_object('toolhead')
        self.kin = self.toolhead.get_kinematics()
        self.toolhead.flush_step_generation()
        self.low = top - TOLERANCE + self._mesh_low()
        self.top, self.box = top, box
        self.homed_axes = self._homed_axes()
        self.is_paused = self.motors_off = False
        self.dual_carriage = carriages.find(self.printer)
        # {(axis, which of two carriages): mm}
        self.known = {}
        self.began = self._counts()
        self.original = self.kin.check_move
        self.kin.check_move = self._check_move
        self.homing = self._replace_homing(self._home)
    def release(self):
        """The same as correct(), and all moves are allowed again."""
        self.kin.check_move = self.original
        self.original = None
        self._replace_homing(self.homing)
        return self.correct()
    def correct(self):
        """Make klippy's position the true one; returns why it cannot be."""
        if self.printer.is_shutdown():
            return "klippy was shut down"
        self.toolhead.flush_step_generation()
        if self.motors_off:
            # Also if it was told some position since
            if hasattr(self.kin, 'clear_homing_state'):
                self.kin.clear_homing_state('xyz')
            elif hasattr(self.kin, 'note_z_not_homed'):
                self.kin.note_z_not_homed()
            return "the motors were switched off: nobody knows where they are"
        shift = self._shift()
        noise = 1.5 * max([s.get_step_dist() for s in self.kin.get_steppers()])
        if (max([abs(d) for d in shift]) <= noise
            and set(self.homed_axes) <= set(self._homed_axes())):
            return ""
        position = list(self.toolhead.get_position())
        position[:3] = [position[i] + shift[i] for i in range(3)]
        axes = self.homed_axes
        if not hasattr(self.kin, 'clear_homing_state'):
            # Up to v0.12
            axes = tuple(['xyz'.index(a) for a in axes])
        self.toolhead.set_position(position, homing_axes=axes)
        self.debug("a hook has shifted klippy's position by %s: put right"
                   % (', '.join(['%.3f' % (d,) for d in shift]),))
        return ""
    # Homing Z downwards would be refused as a move, too, but then klippy
    # switches the motors off
    def _replace_homing(self, handler):
        gcode = self.printer.lookup_object('gcode')
        before = gcode.register_command('G28', None)
        if handler is not None:
            gcode.register_command('G28', handler)
        return before
    def _home(self, gcmd):
        axes = [a for a in 'XYZ' if gcmd.get(a, None) is not None]
        if 'Z' in (axes or 'XYZ') and not self._homes_up():
            raise gcmd.error(
                "G28 would home Z, down into the part or the bed beside it. Z"
                " is known: home with G28 X Y.")
        self.homing(gcmd)
    def _homes_up(self):
        rails = getattr(self.kin, 'rails', [])
        return len(rails) > 2 and rails[2].get_homing_info().positive_dir
    # What changes what is known
    def stand_by(self):
        """Z is being measured, upwards."""
        self.is_paused = True
    def go_on(self, measured):
        self.is_paused = False
        if measured and self.is_armed():
            self._take_for_true((2,))
    def _handle_home_rails_end(self, homing_state, rails):
        if self.is_armed() and not self.is_paused:
            self._take_for_true(homing_state.get_axes())
    def _handle_motor_off(self, print_time=None):
        self.motors_off = True
    def _take_for_true(self, axes):
        shift = self._shift()
        for axis in axes:
            self.known[self._key(axis)] = self._known(axis) + shift[axis]
    def _key(self, axis):
        # Each carriage is homed for itself
        return axis, carriages.moving(self.dual_carriage, axis)
    def _known(self, axis):
        return self.known.get(self._key(axis), 0.)
    # Where the motors are
    def _homed_axes(self):
        curtime = self.printer.get_reactor().monotonic()
        return self.toolhead.get_status(curtime)['homed_axes']
    def _mesh_low(self):
        """How far a bed mesh may take the motors below the G-code's Z."""
        bed_mesh = self.printer.lookup_object('bed_mesh', None)
        mesh = None if bed_mesh is None else bed_mesh.get_mesh()
        return 0. if mesh is None else min(mesh.get_z_range()[0], 0.)
    def _counts(self):
        """{stepper: mm that its step count is ahead of klippy's position}."""
        return {s.get_name(): s.get_mcu_position() * s.get_step_dist()
                - s.get_commanded_position() for s in self.kin.get_steppers()}
    def _shift(self):
        """How far the motors are from where klippy believes them, x, y, z."""
        now = self._counts()
        believed = {s.get_name(): s.get_commanded_position()
                    for s in self.kin.get_steppers()}
        true = {name: believed[name] + now[name] - self.began[name]
                for name in now}
        before, after = [
            self.kin.calc_position(carriages.put_right(
                self.dual_carriage, self.kin, place))
            for place in (believed, true)]
        return [after[i] - before[i] - self._known(i) for i in range(3)]
    # Moves
    def _check_move(self, move):
        if not self.is_paused:
            try:
                place = self._hits(move)
            except Exception:
                logging.exception("power_loss_recovery: guard")
                raise self.printer.command_error(
                    "power_loss_recovery: internal error, see klippy.log")
            if place is not None:
                raise self.printer.command_error(
                    "the nozzle would go to X%.1f Y%.1f Z%.2f, into the part,"
                    " which is %.2f high" % (tuple(place) + (self.top,)))
        self.original(move)
    def _hits(self, move):
        """The end of a move that goes into the part, else None."""
        shift = self._shift()
        start = [move.start_pos[i] + shift[i] for i in range(3)]
        end = [move.end_pos[i] + shift[i] for i in range(3)]
        z_start, z_end = start[2], end[2]
        if min(z_start, z_end) >= self.low:
            return None
        if start[:2] == end[:2] and z_end > z_start:
            return None
        # The part of the way that is below the top
        first, last = 0., 1.
        if z_start >= self.low:
            first = (self.low - z_start) / (z_end - z_start)
        elif z_end >= self.low:
            last = (self.low - z_start) / (z_end - z_start)
        for axis in (0, 1):
            way = end[axis] - start[axis]
            places = (start[axis] + first * way, start[axis] + last * way)
            if (max(places) < self.box[axis]
                or min(places) > self.box[axis + 2]):
                return None
        return end
