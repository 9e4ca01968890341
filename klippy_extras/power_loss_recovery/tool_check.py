# VERIFY_TOOLCHANGE_DURING_PRINT: is the tool still on, while the print goes on?
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# A timer compares the tool that the sensors see with the selected one.  The
# command is read ahead of the motors: what it watches begins when they have
# come to it, without a flush.
import logging

from . import tools

COMMAND = 'VERIFY_TOOLCHANGE_DURING_PRINT'
PERIOD = .25
# A sensor that flickers is no lost tool
CONFIRM = .5

class ToolCheck:
    def __init__(self, config):
        self.printer = config.get_printer()
        self.reactor = self.printer.get_reactor()
        self.gcode = self.printer.lookup_object('gcode')
        self.toolhead = self.changer = self.timer = None
        self.calls = self.force = 0
        self.has_told = False
        self.ends = self.watch_from = 0.
        self.expected = self.wrong_since = None
        self.gcode.register_command(
            COMMAND, self.cmd_VERIFY_TOOLCHANGE_DURING_PRINT,
            desc=self.cmd_VERIFY_TOOLCHANGE_DURING_PRINT_help)
        self.gcode.register_command(
            '_PLR_CHECK_TOOL', self.cmd_PLR_CHECK_TOOL)
        self.gcode.register_command(
            '_PLR_TAKE_POSITION', self.cmd_PLR_TAKE_POSITION)
    cmd_VERIFY_TOOLCHANGE_DURING_PRINT_help = (
        "Watch for DURATION seconds of the print that the selected tool is"
        " mounted; else pause it (FORCE=0) or cancel it (FORCE=1)")
    def cmd_VERIFY_TOOLCHANGE_DURING_PRINT(self, gcmd):
        duration = gcmd.get_float('DURATION', 30., minval=.1, maxval=3600.)
        force = gcmd.get_int('FORCE', 0, minval=0, maxval=1)
        if not self._is_printing():
            return
        missing = self._missing()
        if missing:
            if not self.has_told:
                self.has_told = True
                gcmd.respond_info("%s does nothing here: %s."
                                  % (COMMAND, missing))
            return
        self.toolhead = self.printer.lookup_object('toolhead')
        self.calls += 1
        call = self.calls
        def begin(print_time):
            if call == self.calls:
                self.force = force
                self._begin(print_time, duration)
        self._when_reached(begin)
    def cmd_PLR_CHECK_TOOL(self, gcmd):
        # Used by the resume sequence, before anything moves
        wanted = gcmd.get('NAME')
        changer = tools.find(self.printer)
        st = {} if changer is None else changer.get_status(
            self.reactor.monotonic())
        if st.get('can_detect') and st['mounted'] != wanted:
            raise gcmd.error(
                "[%s] must be mounted, and the sensors see %s: mount it, then"
                " resume" % (wanted, described(st['mounted'])))
    def cmd_PLR_TAKE_POSITION(self, gcmd):
        # Used by the resume sequence: a changer that has just learned of its
        # tool has moved the origin, and the next move would make up for it
        self.printer.lookup_object('gcode_move').reset_last_position()
    def _missing(self):
        self.changer = tools.find(self.printer)
        if self.changer is None:
            return "there is no [toolchanger]"
        st = self.changer.get_status(self.reactor.monotonic())
        if not st['can_detect']:
            return "the tools have no detection_pin"
        if self.printer.lookup_object('pause_resume', None) is None:
            return "it needs [pause_resume]"
        return ""
    def _is_printing(self):
        print_stats = self.printer.lookup_object('print_stats', None)
        if print_stats is None:
            return False
        eventtime = self.reactor.monotonic()
        return print_stats.get_status(eventtime)['state'] == 'printing'
    def _when_reached(self, note):
        """note(print_time) of the end of all motion that is queued now."""
        print_time, est, is_empty = self.toolhead.check_busy(
            self.reactor.monotonic())
        if is_empty:
            note(max(print_time, est))
        else:
            self.toolhead.register_lookahead_callback(note)
    def _eventtime_of(self, print_time):
        eventtime = self.reactor.monotonic()
        est = self.toolhead.check_busy(eventtime)[1]
        return eventtime + max(print_time - est, 0.)
    def _begin(self, print_time, duration):
        self.watch_from = self._eventtime_of(print_time)
        self.ends = self.watch_from + duration
        self.expected = self.wrong_since = None
        if self.timer is None:
            self.timer = self.reactor.register_timer(
                self._look, self.watch_from)
        else:
            self.reactor.update_timer(self.timer, self.watch_from)
    # While the print goes on
    def _look(self, eventtime):
        try:
            wrong = self._wrong(eventtime)
        except Exception:
            logging.exception("power_loss_recovery: %s", COMMAND)
            return self.reactor.NEVER
        if wrong is None:
            self.wrong_since = None
            if eventtime >= self.ends or not self._is_printing():
                return self.reactor.NEVER
        elif self.wrong_since is None:
            self.wrong_since = eventtime
        elif eventtime >= self.wrong_since + CONFIRM:
            expected, force = self.expected, self.force
            self.reactor.register_callback(
                lambda e: self._fail(expected, wrong, force))
            return self.reactor.NEVER
        return eventtime + PERIOD
    def _wrong(self, eventtime):
        """What is mounted instead of the expected tool; None if all is well
        or nobody can say."""
        st = self.changer.get_status(eventtime)
        if st['is_changing'] or not self._is_printing():
            return None
        if st['is_ready'] and st['name'] != self.expected:
            self._expect(st['name'])
        if eventtime < self.watch_from or self.expected is None:
            return None
        if st['mounted'] == self.expected:
            return None
        return described(st['mounted'])
    def _expect(self, name):
        """From when the motors have done what is queued: klippy selects a tool
        when it reads the command."""
        is_first, self.expected = self.expected is None, name
        if is_first:
            return
        self.watch_from = self.reactor.NEVER
        def watch(print_time):
            if self.expected == name:
                self.watch_from = self._eventtime_of(print_time)
        self._when_reached(watch)
    def _fail(self, expected, mounted, force):
        if not self._is_printing():
            return
        todo, script = "paused: mount it, then RESUME", "PAUSE"
        if force:
            todo, script = "cancelled", "CANCEL_PRINT"
        self.gcode.respond_raw(
            "!! %s: [%s] is selected, and the sensors see %s. The print is %s."
            % (COMMAND, expected, mounted, todo))
        try:
            self.gcode.run_script(script)
        except self.printer.command_error as e:
            self.gcode.respond_raw("!! %s: %s failed: %s"
                                   % (COMMAND, script, e))

def described(mounted):
    return "no single tool" if mounted is None else "[%s]" % (mounted,)
