# Whether somebody wants this print to end
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# CANCEL_PRINT of many printers parks the head and cools down before it tells
# klippy that the print is over, and waits for the line that is being run.  If
# the power fails meanwhile, nobody wants the print to go on by itself.
import contextlib

COMMAND = 'CANCEL_PRINT'

class Cancel:
    def __init__(self, printer):
        self.printer = printer
        self._depth = 0
    def attach(self):
        """Hear of it as soon as it is asked for, and when it is done."""
        gcode = self.printer.lookup_object('gcode')
        handler = gcode.register_command(COMMAND, None)
        if handler is None:
            return
        def cancel(gcmd):
            with self._asked():
                handler(gcmd)
        gcode.register_command(COMMAND, cancel)
        run_script = gcode.run_script
        def run_others(script):
            if not is_cancel(script):
                run_script(script)
                return
            # It may wait for a heater before it is run
            with self._asked():
                run_script(script)
        gcode.run_script = run_others
    @contextlib.contextmanager
    def _asked(self):
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
    def is_under_way(self):
        return self._depth > 0

def is_cancel(script):
    words = [line.split(';')[0].split(None, 1)[:1]
             for line in script.split('\n')]
    return any([word and word[0].upper() == COMMAND for word in words])
