# Z+ homing: every Z motor up to its own switch, then level and true
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
#      ==[s1]==============[s2]==   switches at the top of travel, uneven
#         |                  |
#         z1 ---- gantry --- z2     after a power loss each corner has sagged
#         |                  |      by its own amount
#         z ---------------- z3
#
# All motors move up in ONE homing move and each is stopped by its own
# switch.  A motor without a switch in that move would run on for 0.1-0.2 s.
# Heights are taken from the step counts at the triggers: klippy's own Z is
# right for the first motor of a rail only.
import logging, sys

STEPPERS = ('stepper_z', 'stepper_z1', 'stepper_z2', 'stepper_z3')

class ZHomingError(Exception):
    pass

class ZHoming:
    def __init__(self, config):
        self.printer = config.get_printer()
        self.gcode = self.printer.lookup_object('gcode')
        self.toolhead = None
        self._read_options(config)
        ppins = self.printer.lookup_object('pins')
        self.endstops = []
        for name in STEPPERS:
            pin = config.get('pin_' + name, None)
            if pin is not None:
                self.endstops.append((ppins.setup_pin('endstop', pin), name))
        self.steppers = {}
        self.last_result = None
        if self.endstops:
            self.printer.register_event_handler(
                'klippy:mcu_identify', self._handle_mcu_identify)
    def _read_options(self, config):
        gcode_macro = self.printer.load_object(config, 'gcode_macro')
        self.adjust = {
            name: config.getfloat(name + '_adjust_offset', 0.,
                                  minval=-5., maxval=5.)
            for name in STEPPERS}
        self.z_height_offset = config.getfloat(
            'z_height_offset', 0., minval=-5., maxval=5.)
        self.iterations = config.getint(
            'probe_iteration_count', 1, minval=1, maxval=10)
        self.fast_travel_z = config.getfloat(
            'fast_travel_upto_z_height', 0., minval=0.)
        self.fast_travel_speed = config.getfloat(
            'fast_travel_speed', 25., above=0.)
        self.z_position = config.getfloat('z_position', None, above=0.)
        self.fast_speed = config.getfloat('fast_move_speed', 5., above=0.)
        self.slow_speed = config.getfloat('slow_homing_speed', 1., above=0.)
        self.max_adjustment = config.getfloat(
            'max_adjustment', 5., above=0., maxval=50.)
        self.sample_size = config.getint(
            'sample_size', 3, minval=1, maxval=20)
        self.sample_retract = config.getfloat(
            'sample_retract_dist', 1., above=0., maxval=20.)
        self.tolerance = config.getfloat(
            'samples_tolerance', .05, above=0., maxval=1.)
        self.probe_retries = config.getint(
            'samples_retry_count', 3, minval=0, maxval=20)
        self.tolerance_retries = config.getint(
            'samples_tolerance_retries', 3, minval=0, maxval=20)
        self.samples_range = config.getfloat(
            'probe_samples_range', .07, above=0., maxval=1.)
        self.retract_dist = config.getfloat(
            'retract_dist', 1., above=0., maxval=20.)
        self.templates = {
            name: gcode_macro.load_template(config, name, '')
            for name in ('before_calibrate_gcode', 'after_calibrate_gcode',
                         'before_resume_gcode', 'after_resume_gcode')}
    def _handle_mcu_identify(self):
        error = self.printer.config_error
        self.toolhead = self.printer.lookup_object('toolhead')
        kin = self.toolhead.get_kinematics()
        z_steppers = [s for s in kin.get_steppers() if s.is_active_axis('z')]
        for s in z_steppers:
            if s.is_active_axis('x') or s.is_active_axis('y'):
                raise error(
                    "power_loss_recovery: %s moves X or Y as well as Z on this"
                    " kinematics, so it cannot be homed alone. Remove the"
                    " pin_stepper_z options." % (s.get_name(),))
        names = [s.get_name() for s in z_steppers]
        pins = [name for _es, name in self.endstops]
        if sorted(names) != sorted(pins):
            raise error(
                "power_loss_recovery: each Z motor needs its own Z+ switch."
                " Motors: %s. Pins given for: %s."
                % (', '.join(names), ', '.join(pins)))
        self.steppers = {s.get_name(): s for s in z_steppers}
        for es, name in self.endstops:
            es.add_stepper(self.steppers[name])
        if self.z_position is None:
            self.z_position = kin.get_status(0)['axis_maximum'][2]
    # Commands
    def calibrate(self, gcmd):
        """Learn where each switch is.  The machine must be homed and level."""
        self._check_available(gcmd)
        self._run_template('before_calibrate_gcode')
        if 'z' not in self._homed_axes():
            raise gcmd.error(
                "PLR_Z_HOME MODE=CALIBRATE: Z is not homed. Home the printer"
                " and level the gantry first (G28, QUAD_GANTRY_LEVEL or"
                " Z_TILT_ADJUST), then calibrate again.")
        self._travel_up()
        self.toolhead.flush_step_generation()
        z_start = self.toolhead.get_position()[2]
        start = self._mcu_positions()
        found = self._guarded(gcmd, self._measure)
        heights = {name: z_start + self._mm(name, found[name] - start[name])
                   for name in found}
        self._guarded(gcmd, self._level, found, heights)
        reference = heights[STEPPERS[0]]
        for name in sorted(heights):
            self._save('z_endstop_position_' + name, heights[name])
            self._save('z_offset_' + name, heights[name] - reference)
        self._run_template('after_calibrate_gcode')
        return heights
    def resume(self, gcmd):
        """Make the gantry level and Z true from the stored heights."""
        self._check_available(gcmd)
        heights = self.calibration()
        if heights is None:
            raise gcmd.error(
                "PLR_Z_HOME MODE=RESUME: there is no calibration stored for"
                " these Z motors. With a level machine run PLR_Z_HOME"
                " MODE=CALIBRATE once.")
        self._run_template('before_resume_gcode')
        if 'z' not in self._homed_axes():
            # Nothing is known: assume the lowest place it can be
            self.assume_z(0.)
        else:
            self._travel_up()
        found = self._guarded(gcmd, self._measure)
        self._guarded(gcmd, self._level, found, heights)
        self._run_template('after_resume_gcode')
        return heights
    def calibration(self):
        """Stored trigger heights {stepper: mm}, or None if incomplete."""
        save_variables = self.printer.lookup_object('save_variables', None)
        if save_variables is None:
            return None
        stored = save_variables.allVariables
        heights = {}
        for _es, name in self.endstops:
            value = stored.get('z_endstop_position_' + name)
            if not isinstance(value, (int, float)):
                return None
            heights[name] = float(value)
        return heights
    def assume_z(self, z):
        """Tell klippy that the nozzle is at this Z; X and Y stay as known."""
        self.toolhead = self.printer.lookup_object('toolhead')
        self.toolhead.flush_step_generation()
        position = list(self.toolhead.get_position())
        position[2] = z
        self.toolhead.set_position(position, homing_axes=self._axes('z'))
    def get_status(self):
        return {'available': bool(self.endstops),
                'calibrated': bool(self.endstops)
                and self.calibration() is not None,
                'z_position': self.z_position,
                'last_result': self.last_result}
    # Measuring
    def _measure(self):
        """Step counts of each motor at its switch, {stepper: steps}."""
        start = self._mcu_positions()
        self._home_all(self.fast_speed, None)
        self._check_spread(start)
        for _attempt in range(self.tolerance_retries + 1):
            samples = [self._sample() for i in
                       range(self.sample_size * self.iterations)]
            worst = self._worst(samples)
            if worst[0] <= self.tolerance:
                break
        else:
            raise ZHomingError(
                "the switch of %s is not repeatable: its samples differ by"
                " %.3f mm, %.3f mm is allowed (samples_tolerance). Check that"
                " the switch is tight, clean and well wired."
                % (worst[1], worst[0], self.tolerance))
        found = {name: sum([s[name] for s in samples]) / float(len(samples))
                 for name in samples[0]}
        self.last_result = {'samples_range': worst[0]}
        return found
    def _sample(self):
        self._move_z(-self.sample_retract, self.fast_speed)
        return self._home_all(self.slow_speed, 2. * self.sample_retract)
    def _home_all(self, speed, distance):
        """One homing move up; returns {stepper: steps at its trigger}."""
        homing = self.printer.lookup_object('homing')
        homing_move = sys.modules[homing.__class__.__module__].HomingMove
        position = list(self.toolhead.get_position())
        limit = self._z_maximum()
        if distance is None:
            distance = max(self.z_position - position[2], 0.)
            distance += self.max_adjustment
        # The known Z may be wrong by the sag; the travel counts, not the Z
        position[2] = min(position[2], limit - distance)
        self.toolhead.set_position(position, homing_axes=self._axes('z'))
        target = list(position)
        target[2] += distance
        hmove = homing_move(self.printer, self.endstops, self.toolhead)
        hmove.homing_move(target, speed, probe_pos=True)
        found = {}
        for sp in hmove.stepper_positions:
            name = sp.stepper.get_name()
            if sp.trig_pos == sp.start_pos:
                raise ZHomingError(
                    "the switch of %s is pressed before the motor moved. Check"
                    " that it is not stuck, not wired the other way round"
                    " (add or remove '!'), and that the gantry is not at its"
                    " very top." % (name,))
            found[name] = sp.trig_pos
        return found
    def _check_spread(self, start):
        """Refuse a machine that is bent further than max_adjustment."""
        moved = {name: self._mm(name, steps - start[name])
                 for name, steps in self._mcu_positions().items()}
        low, high = min(moved.values()), max(moved.values())
        if high - low > self.max_adjustment:
            worst = [n for n in moved if moved[n] == high][0]
            raise ZHomingError(
                "%s had to move %.2f mm further than the others to reach its"
                " switch, %.2f mm is allowed (max_adjustment). Check the"
                " belts and that no corner is blocked."
                % (worst, high - low, self.max_adjustment))
    def _worst(self, samples):
        ranges = []
        for name in samples[0]:
            values = [s[name] for s in samples]
            ranges.append((self._mm(name, max(values) - min(values)), name))
        return max(ranges)
    # Moving
    def _level(self, found, heights):
        """Bring all motors to one height below the lowest switch.

        found: {stepper: steps at its switch}; heights: {stepper: mm of that
        switch in a level machine}.
        """
        target = min(heights.values()) - self.retract_dist
        now = self._mcu_positions()
        deltas = {}
        for name in heights:
            at = heights[name] + self._mm(name, now[name] - found[name])
            deltas[name] = target + self.adjust[name] - at
        common = max(deltas.values())
        self._move_z(common, self.fast_speed)
        for name in sorted(deltas):
            self._move_one(name, deltas[name] - common)
        self._set_z(target + self.z_height_offset)
    def _move_z(self, distance, speed):
        position = list(self.toolhead.get_position())
        position[2] += distance
        self.toolhead.move(position, speed)
        self.toolhead.flush_step_generation()
    def _move_one(self, name, distance):
        """Move one Z motor; the others stay where they are."""
        toolhead = self.toolhead
        toolhead.flush_step_generation()
        position = list(toolhead.get_position())
        moving = self.steppers[name]
        for s in self.steppers.values():
            s.set_trapq(None)
        try:
            moving.set_trapq(toolhead.get_trapq())
            target = list(position)
            target[2] += distance
            toolhead.move(target, self.slow_speed)
            toolhead.flush_step_generation()
        finally:
            # A stepper put back without a set_position wants all the steps
            # that it missed at one instant
            for s in self.steppers.values():
                s.set_trapq(toolhead.get_trapq())
            toolhead.set_position(position)
    def _travel_up(self):
        """Fast travel to below the switches, where Z is known well enough."""
        position = self.toolhead.get_position()
        if position[2] < self.fast_travel_z:
            self._move_z(self.fast_travel_z - position[2],
                         self.fast_travel_speed)
    def _set_z(self, z):
        position = list(self.toolhead.get_position())
        position[2] = z
        self.toolhead.set_position(position, homing_axes=self._axes('z'))
    # Helpers
    def _guarded(self, gcmd, action, *args):
        """Run one phase; on any failure Z is unknown afterwards, and said."""
        try:
            return action(*args)
        except ZHomingError as e:
            self._forget_z()
            raise gcmd.error("PLR_Z_HOME: " + str(e))
        except self.printer.command_error:
            self._forget_z()
            raise
    def _forget_z(self):
        if self.printer.is_shutdown():
            return
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
    def _homed_axes(self):
        curtime = self.printer.get_reactor().monotonic()
        return self.toolhead.get_status(curtime)['homed_axes']
    def _z_maximum(self):
        curtime = self.printer.get_reactor().monotonic()
        return self.toolhead.get_status(curtime)['axis_maximum'][2]
    def _mcu_positions(self):
        self.toolhead.flush_step_generation()
        return {name: s.get_mcu_position()
                for name, s in self.steppers.items()}
    def _mm(self, name, steps):
        return steps * self.steppers[name].get_step_dist()
    def _save(self, name, value):
        self.gcode.run_script_from_command(
            "SAVE_VARIABLE VARIABLE=%s VALUE=%.6f" % (name, value))
    def _run_template(self, name):
        script = self.templates[name].render().strip()
        if script:
            logging.info("power_loss_recovery: running %s", name)
            self.gcode.run_script_from_command(script)
    def _check_available(self, gcmd):
        if not self.endstops:
            raise gcmd.error(
                "PLR_Z_HOME: no Z+ switches are configured. Set pin_stepper_z"
                " (and pin_stepper_z1...) in [power_loss_recovery].")
        if self.printer.lookup_object('save_variables', None) is None:
            raise gcmd.error(
                "PLR_Z_HOME: add a [save_variables] section to printer.cfg;"
                " the calibration is stored there.")
