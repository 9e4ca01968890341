# The last mark of a klippy that is shut down while its host lives
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# M112, a thermal fault, a lost board: the motors stop at once, most of the
# queue is never run, and marks are no longer published.  Some moments later,
# when the boards have said when they stopped, one final mark is.
import logging

# A board answers within some milliseconds, or it has lost its power.
ANSWER_TIME = .25
MAX_TRIES = 4

class Stop:
    def __init__(self, printer, marks, motors):
        self.reactor = printer.get_reactor()
        self.marks = marks
        self.motors = motors
        self.mark = None
        self._tries = 0
    def note_shutdown(self):
        self.marks.note_shutdown()
        eventtime = self.reactor.monotonic()
        self.motors.pulse.note_shutdown(eventtime)
        self.reactor.register_callback(self._settle, eventtime + ANSWER_TIME)
    def _settle(self, eventtime):
        try:
            self._tries += 1
            if not self.motors.are_stopped() and self._tries < MAX_TRIES:
                self.reactor.register_callback(
                    self._settle, eventtime + ANSWER_TIME)
                return
            stops = self.motors.stops(eventtime)
            if not stops:
                # Shut down before it was ready: nothing has moved
                return
            self.mark = self.marks.complete(self.marks.stopped(
                min([low for low, _high in stops.values()]),
                min([high for _low, high in stops.values()]),
                self.motors.stopped_position(stops)))
        except Exception:
            logging.exception("power_loss_recovery: where the motors stopped")
