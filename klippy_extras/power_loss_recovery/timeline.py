# The lines that klippy has run, and when the motors come to their ends
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# A fast print runs hundreds of lines in a second.  So of a plain line only
# what lies at hand is kept, and of that as little as will do, in few objects:
# to fill and to free memory that is not used again at once is what costs most.
# What a mark of a line would say is worked out for the few that somebody asks
# for.
import bisect, collections, re

from . import counter, fraction

# How far back an executed mark can be found: a lost board is noticed late.
PAST_SECONDS = 20.
STRAIGHT = ('G1 ', 'G0 ')
FEED_WORD = re.compile(r'F\s*([-+]?[0-9.]+)')

# 'position' is the G-code position (x, y, z, e) at which the line starts,
# 'motors' that of the motors (x, y, z); 'retracted' is how far the filament
# is pulled back, in mm; 'speed' is the last F, in mm/min; 'shape' is that of
# the line before.
Mark = collections.namedtuple('Mark', (
    'file_position', 'position', 'motors', 'speed', 'retracted', 'shape',
    'file_path', 'state', 'job'))

class Segment:
    """A mark, and the plain lines that were run after it.

    A plain line is a straight move or a comment; it changes where the nozzle
    is and the feed rate, but nothing else.  Place 0 is the mark, place i that
    after i plain lines.
    """
    def __init__(self, mark, base, extrude_factor, high_water):
        self.mark = mark
        # Places, and since there the state, G-code origin and extrude factor
        self.changes = [(0, mark.state, base, extrude_factor)]
        self.high_water = high_water
        # When the motors have done what is before the mark; None as long as
        # that waits in the lookahead queue
        self.print_time = None
        # For each line its text, when the motors have done it, where they are
        # after it and the raw G-code position: one row behind the other
        self.texts = []
        self.times = []
        self.motors = self.raw = []
        # Numbers in a row: x, y, z, e and those of further axes
        self.num_motors = self.num_raw = 4
    def __len__(self):
        return len(self.texts)
    def note_time(self, print_time):
        self.print_time = print_time
    def has_rows_of(self, end_pos, gcode_move):
        """Before the first line: what will be noted.

        Returns whether the raw position is another one than the motors'.
        """
        self.num_motors = self.num_raw = len(end_pos)
        if getattr(gcode_move, 'move_transform', self) is None:
            return False
        self.raw = []
        self.num_raw = len(gcode_move.last_position)
        return True
    def freeze(self):
        """What is noted from now on does not count."""
        self.texts = self.texts[:]
        is_same = self.raw is self.motors
        self.motors = self.motors[:]
        self.raw = self.motors if is_same else self.raw[:]
    def note_change(self, state, base, extrude_factor):
        """What the last line has changed; it is not a plain one."""
        self.changes.append((len(self.texts), state, base, extrude_factor))
    def raw_position(self, count):
        """x, y, z, e after so many lines."""
        first = (count - 1) * self.num_raw
        return self.raw[first:first + 4]
    def text(self, count):
        return '\n'.join(self.texts[:count])
    def highest(self, count):
        """The furthest that the extruder has been after so many lines."""
        return max(self.high_water,
                   *self.raw[3:count * self.num_raw:self.num_raw])
    def speed(self, count):
        for line in reversed(self.texts[:count]):
            if line[:3] not in STRAIGHT:
                continue
            found = FEED_WORD.findall(line.split(';')[0].upper())
            if found:
                return float(found[-1])
        return self.mark.speed
    def at(self, place):
        """The mark of a place."""
        if not place:
            return self.mark
        line = self.texts[place - 1]
        first = (place - 1) * self.num_motors
        raw = self.raw_position(place)
        state, base, extrude_factor = [
            change[1:] for change in self.changes if change[0] <= place][-1]
        return self.mark._replace(
            file_position=(self.mark.file_position
                           + counter.num_bytes(self.text(place))),
            position=(raw[0] - base[0], raw[1] - base[1], raw[2] - base[2],
                      (raw[3] - base[3]) / extrude_factor),
            motors=tuple(self.motors[first:first + 3]),
            speed=self.speed(place),
            retracted=self.highest(place) - raw[3],
            shape=fraction.STRAIGHT if line[:3] in STRAIGHT else None,
            state=state)
    def heights(self, place):
        """Z of the motors at the ends of the lines after a place."""
        return self.motors[place * self.num_motors + 2::self.num_motors]

class Timeline:
    def __init__(self):
        self.segments = []
        # The newest place that is executed, as far as asked for
        self._index = self._place = -1
    def add(self, segment, print_time):
        """print_time: of the motors now, about."""
        self.segments.append(segment)
        self._forget(print_time - PAST_SECONDS)
    def freeze(self):
        """What is noted from now on does not count."""
        if self.segments:
            self.segments[-1].freeze()
    def _first_time(self, index, place):
        """When a place or else the next one of a known time is reached."""
        while index < len(self.segments):
            segment = self.segments[index]
            if not place and segment.print_time is not None:
                return segment.print_time
            first = max(place - 1, 0)
            if first < len(segment.times):
                return segment.times[first]
            index, place = index + 1, 0
        return None
    def advance(self, print_time):
        """The time and the mark that are executed then, be it in the past.

        None if nothing is.
        """
        segments, index = self.segments, max(self._index, 0)
        while index + 1 < len(segments):
            begins = self._first_time(index + 1, 0)
            if begins is None or begins > print_time:
                break
            index += 1
        while index >= 0:
            begins = self._first_time(index, 0) if segments else None
            if begins is not None and begins <= print_time:
                break
            index -= 1
        self._index, self._place = index, -1
        if index < 0:
            return None
        segment = segments[index]
        place = min(bisect.bisect_right(segment.times, print_time),
                    len(segment))
        self._place = place
        return (segment.times[place - 1] if place else begins,
                segment.at(place))
    def _forget(self, print_time):
        while len(self.segments) > 1:
            ends = self._first_time(1, 0)
            if ends is None or ends >= print_time:
                return
            self.segments.pop(0)
            self._index -= 1
            if self._index < 0:
                self._index = self._place = -1
    def following(self):
        """The time, None if not known, and the mark after the executed one.

        None if there is none.
        """
        index, place = max(self._index, 0), self._place + 1
        if index >= len(self.segments):
            return None
        if place > len(self.segments[index]):
            index, place = index + 1, 0
            if index >= len(self.segments):
                return None
        return (self._first_time(index, place),
                self.segments[index].at(place))
    def newest_known(self):
        """The time and the mark of the newest place with a known time."""
        for segment in reversed(self.segments):
            place = min(len(segment.times), len(segment))
            if place:
                return segment.times[place - 1], segment.at(place)
            if segment.print_time is not None:
                return segment.print_time, segment.mark
        return None
    def heights_to_come(self):
        """Z of the motors at the ends of all lines after the executed one."""
        found = []
        if self._index >= 0:
            found.extend(self.segments[self._index].heights(self._place))
        for segment in self.segments[self._index + 1:]:
            found.append(segment.mark.motors[2])
            found.extend(segment.heights(0))
        return found
    def pending(self):
        """How many lines are not executed yet."""
        if self._index < 0:
            return sum([1 + len(s) for s in self.segments])
        later = self.segments[self._index + 1:]
        return (len(self.segments[self._index]) - self._place
                + sum([1 + len(s) for s in later]))
