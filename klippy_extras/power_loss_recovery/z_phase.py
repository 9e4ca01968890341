# Where in its electrical cycle the rotor of each Z motor stands
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# A driver that was without power starts again at phase zero, and the rotor of
# its motor snaps to the nearest place that has that phase: up to two full
# steps from where it stood.  Who knows the phase before the cut knows where
# the rotor is after it.
#
# The phase is the driver's own where klippy can read it (a TMC with a UART or
# SPI).  Else it is the count of steps, if the board that counts and the driver
# were surely switched on together: both start at zero then.
#   phase = (mcu_position + offset) % cycle, as klippy/extras/tmc.py has it

FULL_STEPS_PER_CYCLE = 4
DRIVERS = ('tmc2130', 'tmc2208', 'tmc2209', 'tmc2240', 'tmc2660', 'tmc5160')

class ZPhase:
    def __init__(self, printer):
        self.printer = printer
        # (stepper, TMC driver or None, microsteps per electrical cycle)
        self.motors = []
        self.start = {}
        self.counts_from_zero = False
    def attach(self):
        """To be called before anything moves.  Raises if klippy differs."""
        toolhead = self.printer.lookup_object('toolhead')
        settings = self.printer.lookup_object('configfile').get_status(
            0)['settings']
        for s in pure_z_steppers(toolhead.get_kinematics()):
            name = s.get_name()
            microsteps = settings[name.lower()]['microsteps']
            self.motors.append(
                (s, self._driver(name), FULL_STEPS_PER_CYCLE * microsteps))
            self.start[name] = s.get_mcu_position()
        # After a firmware restart the count starts anew and the driver's phase
        # does not
        reason = self.printer.get_start_args().get('start_reason')
        self.counts_from_zero = (reason == 'startup'
                                 and not any(self.start.values()))
    def _driver(self, name):
        for kind in DRIVERS:
            driver = self.printer.lookup_object(kind + ' ' + name, None)
            if driver is not None and hasattr(driver, 'get_phase_offset'):
                return driver
        return None
    def _phase(self, driver, cycle, position):
        offset = None
        if driver is not None:
            offset, phases = driver.get_phase_offset()
            if phases != cycle:
                return None
        elif self.counts_from_zero:
            offset = 0
        return None if offset is None else (position + offset) % cycle
    def at(self, print_time):
        """{stepper: [phase or None, cycle]}, in microsteps, at a past time."""
        return {s.get_name(): [
                    self._phase(driver, cycle,
                                s.get_past_mcu_position(print_time)), cycle]
                for s, driver, cycle in self.motors}
    def get_status(self):
        """{stepper: what tells where its rotor stands now}.

        step_dist in mm; phase and cycle in microsteps; moved: steps since
        klippy has started.
        """
        res = {}
        for s, driver, cycle in self.motors:
            position = s.get_mcu_position()
            res[s.get_name()] = {
                'step_dist': s.get_step_dist(),
                'cycle': cycle,
                'phase': self._phase(driver, cycle, position),
                'moved': position - self.start[s.get_name()]}
        return res

def pure_z_steppers(kin):
    """The steppers that move Z and nothing else."""
    return [s for s in kin.get_steppers()
            if s.is_active_axis('z') and not s.is_active_axis('x')
            and not s.is_active_axis('y')]
