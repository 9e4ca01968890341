# PLR_Z_HOME: make the gantry level and Z true on the Z+ switches
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# CALIBRATE learns at which Z each switch closes while the machine is level.
# RESUME finds the switches again and puts each motor at its place below them.
import logging

from . import hooks, z_calibration, z_measure, z_motors, z_phase

STEPPERS = ('stepper_z', 'stepper_z1', 'stepper_z2', 'stepper_z3')
# A wrong height would be in every later resume, so it is measured better
CALIBRATE_SAMPLES = 3
# Rotors stand less than one electrical cycle apart: 0.16 mm on a usual machine
MAX_BELOW = 2.

class ZHoming:
    def __init__(self, config, owner_hooks):
        self.printer = config.get_printer()
        self.hooks = owner_hooks
        self.gcode = self.printer.lookup_object('gcode')
        self.motors = z_motors.ZMotors(self.printer)
        self.measure = z_measure.ZMeasure(config, self.motors)
        self.calibration = z_calibration.ZCalibration(self.printer)
        self.kinematics = config.getsection('printer').get('kinematics', '')
        self._read_options(config)
        self._setup_pins(config)
        handler = self.printer.register_event_handler
        handler('klippy:mcu_identify', self._handle_mcu_identify)
        if self.motors.endstops:
            handler('klippy:connect', self._handle_connect)
            handler('klippy:ready', self._handle_ready)
            handler('homing:home_rails_end', self._handle_home_rails_end)
    def _read_options(self, config):
        self.adjust = {
            name: config.getfloat(name + '_adjust_offset', 0.,
                                  minval=-5., maxval=5.)
            for name in STEPPERS}
        self.z_height_offset = config.getfloat(
            'z_height_offset', 0., minval=-5., maxval=5.)
        self.fast_travel_z = config.getfloat(
            'fast_travel_upto_z_height', 0., minval=0.)
        self.z_position = config.getfloat('z_position', None, above=0.)
    def _setup_pins(self, config):
        ppins = self.printer.lookup_object('pins')
        others = self._pins_of_others(config)
        for name in STEPPERS:
            option = 'pin_' + name
            pin = config.get(option, None)
            if pin is None:
                continue
            other = others.get(bare_pin(pin))
            if other is not None:
                raise config.error(
                    "power_loss_recovery: %s: %s is also %s. A Z+ switch needs"
                    " a pin of its own." % (option, pin, other))
            others[bare_pin(pin)] = option
            endstop = ppins.setup_pin('endstop', pin)
            self.motors.endstops.append((endstop, name))
            # QUERY_ENDSTOPS shows it, so an owner can try it by hand
            query_endstops = self.printer.load_object(config, 'query_endstops')
            query_endstops.register_endstop(endstop, 'z_plus ' + name)
    def _pins_of_others(self, config):
        pins = {}
        for section in config.get_prefix_sections(''):
            if section.get_name() == config.get_name():
                continue
            for option in section.get_prefix_options(''):
                if option == 'pin' or option.endswith('_pin'):
                    pin = section.get(option, '', note_valid=False)
                    pins[bare_pin(pin)] = "%s of [%s]" % (
                        option, section.get_name())
        return pins
    def _handle_mcu_identify(self):
        toolhead = self.printer.lookup_object('toolhead')
        kin = toolhead.get_kinematics()
        z_steppers = z_phase.pure_z_steppers(kin)
        self.motors.attach(toolhead, z_steppers)
        if not self.motors.endstops:
            return
        error = self.printer.config_error
        for s in kin.get_steppers():
            if s.is_active_axis('z') and s not in z_steppers:
                raise error(
                    "power_loss_recovery: with kinematics: %s, %s moves X or Y"
                    " as well as Z, so it cannot be homed alone on a Z+"
                    " switch. Remove the pin_stepper_z options."
                    % (self.kinematics, s.get_name()))
        names = self.motors.names()
        given = sorted([name for _es, name in self.motors.endstops])
        if names != given:
            raise error(
                "power_loss_recovery: each Z motor needs its own Z+ switch, and"
                " each switch its motor. Motors: %s. Pins are given for: %s."
                % (', '.join(names) or 'none', ', '.join(given)))
        self.motors.attach_endstops()
        if self.z_position is None:
            self.z_position = kin.get_status(0)['axis_maximum'][2]
        if self.fast_travel_z >= self.z_position:
            raise error(
                "power_loss_recovery: fast_travel_upto_z_height (%.1f) must be"
                " below z_position (%.1f), where the switches are"
                % (self.fast_travel_z, self.z_position))
    def _handle_connect(self):
        self.calibration.set_fingerprint(self.motors.names(), self.z_position)
    def _handle_ready(self):
        heights, problem = self.load_calibration()
        if problem and self.calibration.time() is not None:
            # The owner can still repeat it; after a power loss it is too late
            self.gcode.respond_info("power_loss_recovery: " + problem)
    def _handle_home_rails_end(self, homing_state, rails):
        if 2 in homing_state.get_axes():
            self.motors.note_reference()
    def load_calibration(self):
        return self.calibration.load(self.motors.names())
    # Commands
    def calibrate(self, gcmd):
        """Learn where each switch is.  The machine must be homed and level.

        Returns {stepper: mm} or, in a printing file, None: nothing was done.
        """
        self._check_available(gcmd)
        if not self._check_not_printing(gcmd, 'PLR_Z_HOME MODE=CALIBRATE'):
            return None
        self.hooks.run('before_calibrate_gcode')
        if not self.motors.is_homed():
            raise gcmd.error(
                "PLR_Z_HOME MODE=CALIBRATE: Z is not homed. Home the printer"
                " and level the gantry first (G28, QUAD_GANTRY_LEVEL or"
                " Z_TILT_ADJUST), then calibrate again.")
        heights = self._guarded(gcmd, self._calibrate)
        if not self.calibration.save(heights, self.motors.names()):
            gcmd.respond_info(
                "power_loss_recovery: Moonraker is not connected. Until it is,"
                " there is no second copy of the calibration, and a power loss"
                " can take it.")
        self.hooks.run('after_calibrate_gcode')
        return heights
    def _calibrate(self):
        motors = self.motors
        start = motors.positions()
        z_start = motors.toolhead.get_position()[2]
        found = self._find_switches(CALIBRATE_SAMPLES)
        heights = {name: z_start + motors.mm(name, found[name] - start[name])
                   for name in found}
        for name in sorted(heights):
            wrong = heights[name] - self.z_position
            if abs(wrong) > self.measure.max_adjustment:
                raise z_measure.ZHomingError(
                    "the Z+ switch of %s closed at Z %.2f, it should within"
                    " %.2f mm (max_adjustment) of z_position, %.2f. Check that"
                    " nothing else pressed it, or correct z_position."
                    % (name, heights[name], self.measure.max_adjustment,
                       self.z_position))
        # As level as it was found, the adjust offsets are for RESUME
        self._level(found, heights, {})
        return heights
    def resume(self, gcmd):
        """Make the gantry level and Z true from the stored heights."""
        self._check_available(gcmd)
        heights, problem = self.load_calibration()
        if heights is None:
            raise gcmd.error("PLR_Z_HOME MODE=RESUME: " + problem)
        part, interrupt = hooks.part_of(gcmd), self.hooks.interrupt
        with interrupt.command(), self.hooks.protected(part):
            self.hooks.run('before_resume_gcode')
            self._guarded(gcmd, self._resume, heights)
            self.hooks.run('after_resume_gcode')
        return heights
    def _resume(self, heights):
        found = self._find_switches(1)
        z = self._level(found, heights, self.adjust)
        self.motors.set_z(z + self.z_height_offset)
    def restore_calibration(self, gcmd):
        """Take the calibration that Moonraker has kept, if it is needed."""
        self._check_available(gcmd)
        if not self._check_not_printing(gcmd, gcmd.get_command()):
            return
        try:
            stored = z_calibration.decode(gcmd.get('DATA', ''))
        except ValueError as e:
            raise gcmd.error("_PLR_RESTORE_CALIBRATION: DATA: %s" % (e,))
        done = self.calibration.restore(stored, self.motors.names())
        if done:
            gcmd.respond_info("power_loss_recovery: " + done)
    def assume_z(self, gcmd, z, below):
        """Tell klippy that the nozzle is at this Z, and level the motors.

        below: {stepper: mm that it stands below z}.  X and Y stay as known.
        """
        motors = self.motors
        for name in sorted(below):
            if name not in motors.names() or not 0. <= below[name] <= MAX_BELOW:
                raise gcmd.error(
                    "_PLR_ASSUME_Z: BELOW: %s: %s is no Z motor that stands 0"
                    " to %.1f mm lower" % (name, below[name], MAX_BELOW))
        if any(below.values()):
            # A motor that is moved alone is not switched on by klippy, and all
            # of them must hold
            self.gcode.run_script_from_command("\n".join(
                ["SET_STEPPER_ENABLE STEPPER=%s ENABLE=1" % (name,)
                 for name in motors.names()]))
        motors.set_z(z)
        for name in sorted(below):
            motors.move_one(name, below[name], self.measure.fast_speed)
        motors.set_z(z)
        motors.note_reference()
    def get_status(self):
        heights, problem = None, ""
        # Front ends ask as soon as klippy listens: before it has found motors
        if self.motors.endstops and self.motors.names():
            heights, problem = self.load_calibration()
        return {'available': bool(self.motors.endstops),
                'calibrated': heights is not None,
                'calibration_problem': problem,
                'calibration_time': self.calibration.time(),
                'heights': heights,
                'z_position': self.z_position,
                'last_result': self.measure.last_result}
    # Phases
    def _find_switches(self, samples):
        """Measure from wherever Z is; {stepper: steps at its switch}."""
        motors, measure = self.motors, self.measure
        measure.check_released()
        travel = self.z_position + measure.max_adjustment
        fast = 0.
        drift = motors.drift()
        if drift is not None and drift <= measure.max_adjustment:
            # Else Z may be any number: SET_KINEMATIC_POSITION Z=0 in a macro
            z = motors.toolhead.get_position()[2]
            below = self.z_position - measure.max_adjustment
            fast = max(min(self.fast_travel_z, below) - z, 0.)
            travel = max(self.z_position - z, 0.) + measure.max_adjustment
        return measure.measure(travel, fast, samples * measure.sample_size)
    def _level(self, found, heights, adjust):
        """Bring all motors to one Z below their switches; returns that Z.

        found: {stepper: steps at its switch}; heights: {stepper: Z of that
        switch in a level machine}; adjust: {stepper: mm it goes higher}.
        """
        motors, speed = self.motors, self.measure.fast_speed
        def above(name):
            # Klippy's motors stand on whole steps, the means do not
            steps = motors.positions()[name] - found[name]
            return heights[name] + motors.mm(name, steps) - adjust.get(name, 0.)
        # A motor that goes higher must stay below its switch as well
        target = min([heights[name] - max(adjust.get(name, 0.), 0.)
                      for name in heights]) - self.measure.retract_dist
        deltas = {name: target - above(name) for name in heights}
        common = max(deltas.values())
        motors.move(common, speed)
        for name in motors.names():
            motors.move_one(name, target - above(name), speed)
        z = sum([above(name) for name in heights]) / len(heights)
        motors.set_z(z)
        motors.note_reference()
        return z
    def _guarded(self, gcmd, action, *args):
        """Run action; if it fails, Z is unknown and no motor is left behind."""
        start = self.motors.positions()
        guard, done = self.hooks.guard, False
        guard.stand_by()
        try:
            result = action(*args)
            done = True
            return result
        except z_measure.ZHomingError as e:
            self._give_up(start)
            raise gcmd.error("PLR_Z_HOME: " + str(e))
        except self.printer.command_error:
            self._give_up(start)
            raise
        finally:
            guard.go_on(done)
    def _give_up(self, start):
        """Undo what bent the machine: as level or sagged as it was found."""
        motors, measure = self.motors, self.measure
        try:
            if not self.printer.is_shutdown():
                travel = motors.travel(start)
                if not any(travel.values()):
                    return
                stay = min(travel.values())
                if measure.reached:
                    # Off the switches, or the next try finds them pressed
                    stay = max(stay - measure.retract_dist, min(stay, 0.))
                for name in motors.names():
                    motors.move_one(name, stay - travel[name],
                                    measure.fast_speed)
                motors.toolhead.wait_moves()
        except self.printer.command_error:
            logging.exception("power_loss_recovery: after a failure")
        motors.forget_z()
    # Helpers
    def _check_available(self, gcmd):
        if not self.motors.endstops:
            raise gcmd.error(
                "PLR_Z_HOME: no Z+ switches are configured. Set pin_stepper_z"
                " (and pin_stepper_z1...) in [power_loss_recovery].")
        if self.printer.lookup_object('save_variables', None) is None:
            raise gcmd.error(
                "PLR_Z_HOME: add a [save_variables] section to printer.cfg;"
                " the calibration is stored there.")
    def _check_not_printing(self, gcmd, what):
        message = ("%s is not done during a print: the stored calibration is"
                   " kept. Run it before a print." % (what,))
        sd = self.printer.lookup_object('virtual_sdcard', None)
        if sd is not None and sd.is_cmd_from_sd():
            # A line of a printing file must not stop the print
            gcmd.respond_info(message)
            return False
        stats = self.printer.lookup_object('print_stats', None)
        curtime = self.printer.get_reactor().monotonic()
        if (stats is not None
            and stats.get_status(curtime)['state'] in ('printing', 'paused')):
            raise gcmd.error(message)
        return True

def bare_pin(pin):
    """A pin's name without what klippy lets one write around it."""
    pin = ''.join(pin.split()).lstrip('^~!')
    return pin[4:] if pin.startswith('mcu:') else pin
