# Whether this host has sent in time what the boards were to do
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# A host that stands still for a moment sends its steps too late.  The motors
# stop when they have none left; the board shuts down when the late ones come
# ("Timer too close"), or when it has heard nothing for too long.  klippy's
# history has the late steps as well, but no motor has made them.
import collections

PERIOD = .1
# Beats further apart than this are a standstill of klippy
STANDSTILL = .2
# A board takes late steps amiss as soon as they come
RECENT = .25
REMEMBERED = 4
# What a board says that was sent something too late, or nothing for too long;
# the link may have stood still instead of the host
LATE_REASONS = ('Timer too close', 'too far in past', 'No next step',
                'Missed scheduling')

def is_late(reason):
    """Whether a board has shut down because its host was late."""
    return any([words in reason for words in LATE_REASONS])

class Pulse:
    def __init__(self, reactor):
        self.reactor = reactor
        self._beaten = None
        # (last beat before, first beat after), host times
        self._standstills = collections.deque(maxlen=REMEMBERED)
        self._is_over = False
    def start(self):
        self.reactor.register_timer(self._beat, self.reactor.NOW)
    def _beat(self, eventtime):
        self.note(eventtime)
        return self.reactor.NEVER if self._is_over else eventtime + PERIOD
    def note(self, eventtime):
        if self._is_over:
            return
        if self._beaten is not None and eventtime - self._beaten > STANDSTILL:
            self._standstills.append((self._beaten, eventtime))
        self._beaten = eventtime
    def note_shutdown(self, eventtime):
        """klippy writes long logs now, and stands still doing it."""
        self.note(eventtime)
        self._is_over = True
    def sent_until(self, mcu, print_time):
        """Until when the board surely had all of its steps, if it stopped at
        'print_time' and klippy stood still before; else None."""
        found = [mcu.estimated_print_time(began)
                 for began, ended in self._standstills
                 if (mcu.estimated_print_time(began) <= print_time
                     <= mcu.estimated_print_time(ended) + RECENT)]
        return min(found) if found else None
