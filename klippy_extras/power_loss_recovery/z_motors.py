# The Z motors and their Z+ switches: moved together or one at a time
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# Klippy moves all Z motors as one and believes them to be at one height.  The
# step count of each motor is the only thing that stays true while they are
# moved apart, so all positions here are step counts, and klippy's own Z is a
# number that leaves room for the next move.
import sys

# A board answers within some milliseconds
ANSWER_TIME = 5.
NO_ANSWER = "the board does not answer"

class ZMotors:
    def __init__(self, printer):
        self.printer = printer
        self.toolhead = None
        self.endstops = []      # (mcu_endstop, stepper name)
        self.steppers = {}
        self.overrun = 0.
        # Klippy's Z where the first motor has step count zero; None: unknown
        self.reference = None
    def attach(self, toolhead, steppers):
        self.toolhead = toolhead
        self.steppers = {s.get_name(): s for s in steppers}
    def attach_endstops(self):
        for es, name in self.endstops:
            es.add_stepper(self.steppers[name])
    def names(self):
        return sorted(self.steppers)
    # Where they are
    def positions(self):
        """Step count of each motor, {stepper: steps}."""
        self.toolhead.flush_step_generation()
        return {name: s.get_mcu_position()
                for name, s in self.steppers.items()}
    def mm(self, name, steps):
        return steps * self.steppers[name].get_step_dist()
    def travel(self, since):
        """How far each motor is above the step counts `since`, in mm."""
        return {name: self.mm(name, steps - since[name])
                for name, steps in self.positions().items()}
    def pressed(self):
        """Names of the motors whose switch is pressed now.

        A board that is lost never answers, and klippy would wait for it for
        ever, with every command after it, FIRMWARE_RESTART included.
        """
        if not self.endstops:
            return []
        error = self.printer.command_error
        if self.printer.is_shutdown():
            raise error("Klipper was shut down")
        print_time = self.toolhead.get_last_move_time()
        def ask(eventtime):
            # What raises here would end klippy
            try:
                return [name for es, name in self.endstops
                        if es.query_endstop(print_time)]
            except Exception as e:
                return e
        reactor = self.printer.get_reactor()
        eventtime = reactor.monotonic()
        mcu = self.printer.lookup_object('mcu')
        ahead = max(print_time - mcu.estimated_print_time(eventtime), 0.)
        found = reactor.register_callback(ask).wait(
            eventtime + ahead + ANSWER_TIME, NO_ANSWER)
        if not isinstance(found, list):
            raise error("the Z+ switches cannot be read: %s" % (found,))
        return found
    # What klippy believes
    def status(self):
        curtime = self.printer.get_reactor().monotonic()
        return self.toolhead.get_status(curtime)
    def is_homed(self):
        return 'z' in self.status()['homed_axes']
    def set_z(self, z):
        """Tell klippy that all motors are at this Z."""
        self.toolhead.flush_step_generation()
        position = list(self.toolhead.get_position())
        position[2] = z
        self.toolhead.set_position(position, homing_axes=self._axes('z'))
    def note_reference(self):
        """Klippy's Z is now known from a switch, or from a record."""
        if self.steppers:
            self.reference = self._zero()
    def drift(self):
        """How far klippy's Z has left the noted one, in mm; None: unknown."""
        if self.reference is None or not self.is_homed():
            return None
        return abs(self._zero() - self.reference)
    def _zero(self):
        name = self.names()[0]
        steps = self.positions()[name]
        return self.toolhead.get_position()[2] - self.mm(name, steps)
    def forget_z(self):
        """Klippy must home Z before it is moved again."""
        self.reference = None
        if self.printer.is_shutdown():
            return
        # Also tells gcode_move where the toolhead is
        self.toolhead.set_position(list(self.toolhead.get_position()))
        kin = self.toolhead.get_kinematics()
        if hasattr(kin, 'clear_homing_state'):
            kin.clear_homing_state('z')
        elif hasattr(kin, 'note_z_not_homed'):
            kin.note_z_not_homed()
    def _axes(self, axes):
        # Up to v0.12 homing_axes are numbers, later a string
        kin = self.toolhead.get_kinematics()
        if hasattr(kin, 'clear_homing_state'):
            return axes
        return tuple(['xyz'.index(a) for a in axes])
    def _make_room(self, distance):
        """Give klippy a Z from which it accepts a move by `distance`."""
        status = self.status()
        low, high = status['axis_minimum'][2], status['axis_maximum'][2]
        z = self.toolhead.get_position()[2]
        # A travel longer than the axis starts below it: only ends are checked
        room = max(min(z, high - distance), low - min(distance, 0.))
        if room + distance > high:
            room = high - distance
        if room != z or not self.is_homed():
            self.set_z(room)
    # Moving
    def move(self, distance, speed):
        """Move all motors by `distance` mm, and wait for the steps."""
        self._make_room(distance)
        position = list(self.toolhead.get_position())
        position[2] += distance
        self.toolhead.move(position, speed)
        self.toolhead.flush_step_generation()
    def move_one(self, name, distance, speed):
        if abs(distance) > .5 * self.mm(name, 1):
            self._alone(name, distance, self.move, distance, speed)
    def home(self, distance, speed):
        """Up by at most `distance`; each motor is stopped by its own switch.

        Returns {stepper: steps at its trigger} and {stepper: steps moved}; a
        motor that has moved all of the distance was not stopped.
        """
        self._make_room(distance)
        return self._homing_move(self.endstops, distance, speed)
    def home_one(self, name, distance, speed):
        """As home(), for one motor while the others stand still."""
        endstops = [(es, n) for es, n in self.endstops if n == name]
        return self._alone(name, distance, self._homing_move,
                           endstops, distance, speed)
    def was_stopped(self, name, steps, distance):
        return self.mm(name, steps) < distance - 1.5 * self.mm(name, 1)
    def _homing_move(self, endstops, distance, speed):
        homing = self.printer.lookup_object('homing')
        homing_move = sys.modules[homing.__class__.__module__].HomingMove
        target = list(self.toolhead.get_position())
        target[2] += distance
        hmove = homing_move(self.printer, endstops, self.toolhead)
        # Klippy would name only the first of the switches that stay open
        hmove.homing_move(target, speed, probe_pos=True,
                          check_triggered=False)
        found = {}
        moved = {}
        for sp in hmove.stepper_positions:
            name = sp.stepper.get_name()
            found[name] = sp.trig_pos
            moved[name] = sp.trig_pos - sp.start_pos
            self.overrun = max(self.overrun,
                               self.mm(name, sp.halt_pos - sp.trig_pos))
        return found, moved
    def _alone(self, name, distance, action, *args):
        """Run a move with only this motor on the toolhead's queue."""
        toolhead = self.toolhead
        self._make_room(distance)
        toolhead.flush_step_generation()
        position = list(toolhead.get_position())
        for s in self.steppers.values():
            s.set_trapq(None)
        try:
            self.steppers[name].set_trapq(toolhead.get_trapq())
            result = action(*args)
            toolhead.flush_step_generation()
        finally:
            for s in self.steppers.values():
                s.set_trapq(toolhead.get_trapq())
            # A motor put back without this wants at one instant all the
            # steps that it missed
            if not self.printer.is_shutdown():
                toolhead.set_position(position)
        return result
