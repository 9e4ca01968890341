# A print that is paused goes on where it was before the pause
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# PAUSE in a macro of the file, as M600, ends its line with the head parked:
# that is where the motors are then, but RESUME goes back to the position that
# PAUSE has saved.  What such a macro has set before its PAUSE (M83, filament
# pulled back) it undoes after RESUME, and so does the owner's PAUSE when the
# resumed print is paused again: the file has to find things as they were when
# its line began.
#
# moonraker-timelapse parks like that for each of its frames, with a delayed
# G-code that ends the pause: nobody would come and press Resume.
STATE = 'PAUSE_STATE'
TIMELAPSE = 'gcode_macro TIMELAPSE_TAKE_FRAME'

class Pause:
    def __init__(self, printer, marks):
        self.printer = printer
        self.marks = marks
        marks.watch = self
        # Left by an earlier print: some front ends never clear it
        self.stale = None
        # How things stood when the last slow line began
        self.began = None
        # The place that a pause came at, what PAUSE has saved then, and how
        # the file had left things
        self.place = self.saved = self.left = None
    def note_reset(self):
        self.stale = self._saved()
        self.began = None
    def note_start(self, mark, e):
        """A line begins.  e: of the motor, mm."""
        self.began = ({'state': mark.state, 'speed': mark.speed,
                       'e': mark.position[3], 'motor_e': e}, self._saved())
    def note_line(self, job, file_position):
        """It has ended.  A pause in it may be over before anybody asks."""
        if self.began is None:
            return
        left, before = self.began
        saved = self._saved()
        if saved is before or saved is None:
            return
        pause_resume = self.printer.lookup_object('pause_resume', None)
        if getattr(pause_resume, 'is_paused', False):
            self.place, self.saved = (job, file_position), saved
            self.left = left
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
            is_paused = not self._is_frame()
            if place != self.place:
                self.place, self.left = place, self._left_by_file(mark)
            self.saved = self._saved()
        elif place != self.place:
            return mark
        return self._rewound(mark, self.saved, self.left, is_paused)
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
    def _is_frame(self):
        macro = self.printer.lookup_object(TIMELAPSE, None)
        return bool(getattr(macro, 'variables', {}).get('is_paused'))
    def _saved(self):
        gcode_move = self.printer.lookup_object('gcode_move', None)
        return getattr(gcode_move, 'saved_states', {}).get(STATE)
    def _left_by_file(self, mark):
        """Between two lines, for a pause that came from elsewhere: nothing was
        run since.  None: not known."""
        if self.began is None:
            return None
        return {'state': mark['state'], 'speed': mark['speed'],
                'e': mark['position'][3], 'motor_e': None}
    def _rewound(self, mark, saved, left, is_paused):
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
        state = dict(mark['state'], coordinates=coordinates)
        place = [last[i] - base[i] for i in (0, 1, 2)]
        if left is None:
            return dict(
                mark, paused=is_paused, speed=saved['speed'] / speed,
                position=place + [(last[3] - base[3]) / factor],
                retracted=self._retracted(mark, last[3]), state=state)
        for name in ('absolute_coordinates', 'absolute_extrude'):
            coordinates[name] = left['state']['coordinates'][name]
        state['gcode'] = dict(
            state['gcode'], retracted=left['state']['gcode']['retracted'])
        retracted = mark['retracted']
        if left['motor_e'] is not None:
            retracted = self._retracted(mark, left['motor_e'])
        return dict(
            mark, paused=is_paused, speed=left['speed'],
            position=place + [left['e']], retracted=retracted,
            state=state)
    def _retracted(self, mark, e):
        """What a macro has pushed or pulled since is the owner's to know: they
        load the filament before the print goes on."""
        name = mark['state']['tool'].get('active')
        high = self.marks.high_water.get(name, e)
        return 0. if high - mark['retracted'] > e else max(high - e, 0.)
