# A print that is paused goes on where it was before the pause
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# PAUSE in a macro of the file, as M600, ends its line with the head parked:
# that is where the motors are then, but RESUME goes back to the position that
# PAUSE has saved, and sets klippy's modes as they were.
STATE = 'PAUSE_STATE'

class Pause:
    def __init__(self, printer, marks):
        self.printer = printer
        self.marks = marks
        # Left by an earlier print: some front ends never clear it
        self.stale = None
        # The mark that a pause came after, and what PAUSE has saved then
        self.place = self.saved = None
    def note_reset(self):
        self.stale = self._saved()
    def get_status(self, eventtime):
        """As the marks have it, but for a print that stands paused."""
        return self.before(self.marks.get_status(eventtime))
    def complete(self, mark):
        return self.marks.complete(mark)
    def before(self, mark):
        """The place before the pause, if the print stands in one.

        Also after RESUME, as long as the motors are on the way back.
        """
        if mark is None:
            return None
        place, is_paused = (mark['job'], mark['file_position']), False
        if self._is_paused(mark):
            self.place, self.saved, is_paused = place, self._saved(), True
        elif place != self.place:
            return mark
        return self._rewound(mark, self.saved, is_paused)
    def _is_paused(self, mark):
        saved = self._saved()
        if saved is None or saved is self.stale:
            return False
        if mark['queued']['file_position'] != mark['file_position']:
            # What comes before it is still being laid
            return False
        lookup = self.printer.lookup_object
        state = lookup('print_stats').get_status(
            self.printer.get_reactor().monotonic())['state']
        return state == 'paused' and lookup('pause_resume').is_paused
    def _saved(self):
        gcode_move = self.printer.lookup_object('gcode_move', None)
        return getattr(gcode_move, 'saved_states', {}).get(STATE)
    def _rewound(self, mark, saved, is_paused):
        base, last = saved['base_position'], saved['last_position']
        factor, speed = saved['extrude_factor'], saved['speed_factor']
        homing = saved['homing_position']
        coordinates = dict(
            mark['state']['coordinates'],
            absolute_coordinates=saved['absolute_coord'],
            absolute_extrude=saved['absolute_extrude'],
            speed_factor=speed * 60., extrude_factor=factor,
            homing_origin=list(homing[:3]),
            g92=[base[i] - homing[i] for i in (0, 1, 2)])
        return dict(
            mark, paused=is_paused, speed=saved['speed'] / speed,
            position=[last[i] - base[i] for i in (0, 1, 2)]
            + [(last[3] - base[3]) / factor],
            retracted=self._retracted(mark, last[3]),
            state=dict(mark['state'], coordinates=coordinates))
    def _retracted(self, mark, e):
        """What a macro has pushed or pulled since is the owner's to know: they
        load the filament before the print goes on."""
        name = mark['state']['tool'].get('active')
        high = self.marks.high_water.get(name, e)
        return 0. if high - mark['retracted'] > e else max(high - e, 0.)
