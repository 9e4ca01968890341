# The owner's G-code around a resume: before_resume_gcode, restart_gcode, ...
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
import contextlib

from . import guard, interrupt

TEMPLATES = ('before_calibrate_gcode', 'after_calibrate_gcode',
             'before_resume_gcode', 'after_resume_gcode', 'restart_gcode')
STATE = '_PLR_HOOK'

class Hooks:
    def __init__(self, config, debug):
        """debug(text): for who looks for a fault."""
        self.debug = debug
        self.printer = config.get_printer()
        self.gcode = self.printer.lookup_object('gcode')
        gcode_macro = self.printer.load_object(config, 'gcode_macro')
        self.templates = {name: gcode_macro.load_template(config, name, '')
                          for name in TEMPLATES}
        self.guard = guard.Guard(self.printer, debug)
        self.interrupt = interrupt.Interrupt(self.printer)
        self.gcode.register_command('_PLR_RUN_HOOK', self.cmd_PLR_RUN_HOOK)
    def cmd_PLR_RUN_HOOK(self, gcmd):
        # Used by the resume sequence
        name = gcmd.get('NAME')
        if name not in self.templates:
            raise gcmd.error("_PLR_RUN_HOOK: there is no option %s" % (name,))
        with self.interrupt.command(), self.protected(part_of(gcmd)):
            self.run(name)
    def run(self, name):
        """Errors name the option."""
        error = self.printer.command_error
        try:
            script = self.templates[name].render().strip()
            if not script:
                return
            self.debug("%s: %s" % (name, script))
            self._check_known(script)
            with self.interrupt.allowed():
                self.gcode.run_script_from_command(script)
            problem = self.guard.is_armed() and self.guard.correct()
            if problem:
                raise error(problem)
        except error as e:
            raise error("%s: %s" % (name, e))
    def _check_known(self, script):
        """Klippy passes over a command that it doesn't know."""
        handlers = getattr(self.gcode, 'ready_gcode_handlers', None)
        for line in script.split('\n'):
            word = (line.split(';')[0].split() or [''])[0].upper()
            if handlers and '_' in word and word not in handlers:
                raise self.printer.command_error(
                    "there is no command or macro %s" % (word,))
    @contextlib.contextmanager
    def protected(self, part):
        """Hooks run in here cannot hit the part nor drop filament onto it, and
        leave klippy's position and G-code state as they were.

        part: None: what is printed is unknown, nothing is protected.
        """
        if part is None or self.guard.is_armed():
            yield
            return
        run_script = self.gcode.run_script_from_command
        run_script("SAVE_GCODE_STATE NAME=" + STATE)
        self.guard.arm(*part)
        held = self._hold_filament()
        try:
            yield
        finally:
            problem = self.guard.release()
            if not self.printer.is_shutdown():
                self._let_go(held)
                run_script("RESTORE_GCODE_STATE NAME=" + STATE)
        if problem:
            raise self.printer.command_error(problem)

    def _hold_filament(self):
        """Until they are let go again the extruders stand still.

        Returns [(stepper, extruder that it moves with, what klippy calls it)].
        """
        held = []
        for name, obj in self.printer.lookup_objects():
            stepper = getattr(obj, 'extruder_stepper', None)
            if stepper is None or stepper.stepper.get_trapq() is None:
                continue
            # Klippy has None for an extruder that moves with itself
            was = stepper.motion_queue
            stepper.sync_to_extruder('')
            held.append((stepper, was or name, was))
        return held
    def _let_go(self, held):
        for stepper, extruder, was in held:
            stepper.sync_to_extruder(extruder)
            stepper.motion_queue = was

def part_of(gcmd):
    """PART_Z and PART: (top of what is printed, its box in X and Y), of the
    motors, mm; None if not given."""
    top = gcmd.get_float('PART_Z', None)
    if top is None:
        return None
    try:
        box = [float(v) for v in gcmd.get('PART').split(',')]
        _x_min, _y_min, _x_max, _y_max = box
    except ValueError:
        raise gcmd.error("PART: expected x_min,y_min,x_max,y_max")
    return top, box
