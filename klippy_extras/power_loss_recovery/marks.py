# Which bytes of a G-code file are in plastic, and what the print had set
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# The virtual SD card hands each line of the file to the G-code dispatcher.
# What stands in front of that (dispatch.py) notes, after each line, the offset
# of the next line; a lookahead callback tells the print time at which the
# motion of all lines before that offset ends.  A mark is executed once the
# motors have passed that time (timeline.py).  Nothing is ever flushed: with
# an empty lookahead queue the time is known already, and a callback would cost
# a stall.
import logging

from . import carriages, counter, dispatch, fraction, motors, snapshot
from . import timeline

# Shaped and pressure-advanced motion ends a little after the planned one.
MOTION_MARGIN = .050
IGNORED_WORDS = ('', ';')

class Marks:
    def __init__(self, printer, mark_interval, z_phase, patterns=()):
        self.printer = printer
        self.patterns = patterns
        self.z_phase = z_phase
        self.reactor = printer.get_reactor()
        self.mark_interval = mark_interval
        self.motors = motors.Motors(printer)
        self.sd = self.toolhead = self.gcode_move = self.mcu = None
        self.dual_carriage = None
        self.snapshot = self.dispatch = self._lookahead = None
        self.job = 0
        # Told when a slow line begins, and when it has ended: see pause.py
        self.watch = None
        # Whether somebody wants the print to end: see cancel.py
        self.is_cancelling = lambda: False
        self.failed = ""
        self.is_approximate = self.is_shutdown = False
        self._extruder_name = 'extruder'
        self._forget()
    def _forget(self):
        # Callbacks of the old file may still come: into its own segments
        self.timeline = timeline.Timeline()
        self.counter = counter.FileCounter()
        self.high_water = {}
        self._open = None
        self._next_refresh = 0.
        self._noted = self._seen = self._bad_run = None
        self._look_again()
    # Attachment to klippy; every way in from klippy is guarded
    def attach(self):
        """Hook the virtual SD card.  Raises if klippy looks different."""
        lookup = self.printer.lookup_object
        self.sd = sd = lookup('virtual_sdcard')
        self.gcode_move = lookup('gcode_move')
        self.mcu = lookup('mcu')
        self.motors.attach()
        self.dual_carriage = carriages.find(self.printer)
        self.snapshot = snapshot.Snapshot(self.printer, self.patterns)
        self.toolhead = lookup('toolhead')
        if all([hasattr(sd, name) for name in (
                'gcode', 'work_timer', 'current_file', 'file_position',
                'next_file_position')]):
            self._hook(sd)
            return
        self.is_approximate = True
        sd.get_status(self.reactor.monotonic())['file_position']
        self.reactor.register_timer(self._sample, self.reactor.NOW)
    def _hook(self, sd):
        others = sd.gcode
        sd.gcode = self.dispatch = dispatch.SdDispatch(others, self)
        self._lookahead = getattr(
            self.toolhead, 'lookahead', getattr(
                self.toolhead, 'move_queue', None))
        dispatch.watch_others(self.printer, others, self._others_run)
        self.reactor.register_timer(self._tick, self.reactor.NOW)
    def _look_again(self):
        """Take the next line the slow way."""
        if self.dispatch is not None:
            self.dispatch.look_again()
    def _tick(self, eventtime):
        self._look_again()
        return eventtime + self.mark_interval
    def _others_run(self):
        self._next_refresh = 0.
        self._look_again()
    def note_reset(self):
        """Another file was loaded, or none."""
        self.job += 1
        self._forget()
        if self.snapshot is not None:
            self.snapshot.forget_layer()
    def note_layer(self, layer, layer_height):
        if self.snapshot is not None:
            self._guarded(self.snapshot.note_layer, layer, layer_height)
    def note_shutdown(self):
        # A cancel ends with an error then, and is no longer under way
        was_cancelling = self.is_cancelling()
        self.is_cancelling = lambda: was_cancelling
        # The SD loop finishes its line and queues more: no longer true
        self.is_shutdown = True
        self.timeline.freeze()
        self._look_again()
    def _guarded(self, note, *args):
        if self.failed or self.is_shutdown:
            return
        try:
            note(*args)
        except Exception:
            logging.exception("power_loss_recovery: mark")
            self.failed = "internal error while marking, see klippy.log"
            self._look_again()
    def note_start(self):
        self._guarded(self._note_start)
    def note_error(self):
        # What the line has queued belongs to no offset, and klippy goes on
        # with on_error_gcode, which is no line of the file
        self._guarded(self._note_error)
    def note_line(self, line):
        self._guarded(self._note_line, line)
    def note_change(self, segment, parts):
        """The last line of a segment has changed these parts of the state."""
        self._guarded(self._note_change, segment, parts)
    def _note_change(self, segment, parts):
        self.snapshot.refresh(parts, self.reactor.monotonic())
        self._seen = seen = self._coordinates()
        segment.note_change(self.snapshot.state, seen[1], seen[2])
    def _note_error(self):
        self._bad_run = self.sd.work_timer
        self._close()
    def _close(self):
        """What the open segment has is noted, and the next line is slow."""
        segment, self._open = self._open, None
        if segment is not None and len(segment):
            self._noted = self.counter.advance_plain(
                segment.text(None), self.sd.file_position)
            count = len(segment)
            self._seen = (segment.raw_position(count),) + self._seen[1:]
            self.high_water[self._extruder_name] = segment.highest(count)
        if self.dispatch is not None:
            self.dispatch.go_slowly()
    def _note_start(self):
        self._close()
        if self.sd.work_timer is self._bad_run:
            return
        file_position = self.counter.begin(self.sd)
        if self._noted is not None and (file_position != self._noted
                                        or self._seen != self._coordinates()):
            # Moved by M26, or something else has moved between two lines
            self._next_refresh = 0.
            self._append(file_position, None, '')
            self._open = None
        if self.watch is not None:
            self.watch.note_start(self._make_mark(file_position, None, ''),
                                  self.gcode_move.last_position[3])
    def _note_line(self, line):
        run = self.sd.work_timer
        if run is self._bad_run or self.sd.current_file is None:
            return
        self._close()
        file_position = self.counter.advance(line, self.sd.next_file_position)
        word = first_word(line)
        self._append(file_position, fraction.shape_of(word, line), word)
        if self.watch is not None:
            self.watch.note_line(self.job, file_position)
        way = self.dispatch
        if (way is not None and not way.is_asked
            and dispatch.can_follow(self._lookahead)):
            way.follow(self._open, self._lookahead, self.gcode_move)
    def _append(self, file_position, shape, word):
        eventtime = self.reactor.monotonic()
        self._refresh_state(word, shape, eventtime)
        mark = self._make_mark(
            file_position, shape, self.sd.current_file.name)
        self._open = self._enqueue(mark, eventtime)
        self._noted = file_position
        self._seen = self._coordinates()
    def _enqueue(self, mark, eventtime):
        gm = self.gcode_move
        segment = timeline.Segment(
            mark, gm.base_position[:4], gm.extrude_factor,
            self.high_water[self._extruder_name])
        print_time, est, is_empty = self.toolhead.check_busy(eventtime)
        self.timeline.add(segment, est)
        if is_empty:
            segment.note_time(max(print_time, est))
        else:
            self.toolhead.register_lookahead_callback(segment.note_time)
        return segment
    def _sample(self, eventtime):
        self._guarded(self._note_sample, eventtime)
        return eventtime + self.mark_interval
    def _note_sample(self, eventtime):
        """Without a hook: all before the line that klippy is at is queued."""
        status = self.sd.get_status(eventtime)
        if (not status['is_active'] or not status['file_path']
            or status['file_position'] == self._noted):
            return
        self._noted = status['file_position']
        self._refresh_state(None, None, eventtime)
        self._enqueue(
            self._make_mark(self._noted, None, status['file_path']), eventtime)
    def _coordinates(self):
        gm = self.gcode_move
        return (gm.last_position[:4], gm.base_position[:4], gm.extrude_factor,
                gm.speed_factor, gm.absolute_coord, gm.absolute_extrude)
    def _refresh_state(self, word, shape, eventtime):
        if shape == fraction.STRAIGHT or word in IGNORED_WORDS:
            # Somebody at the console may have changed something meanwhile
            if eventtime < self._next_refresh:
                return
            word = None
        parts = snapshot.parts_of(word)
        self.snapshot.refresh(parts, eventtime)
        if parts is snapshot.ALL_PARTS:
            self._next_refresh = eventtime + self.mark_interval
    def _make_mark(self, file_position, shape, file_path):
        gm = self.gcode_move
        raw = gm.last_position
        base = gm.base_position
        position = (raw[0] - base[0], raw[1] - base[1], raw[2] - base[2],
                    (raw[3] - base[3]) / gm.extrude_factor)
        # As it is now: the state may not have been looked at yet
        name = self._extruder_name = self.toolhead.get_extruder().get_name()
        high = max(self.high_water.get(name, raw[3]), raw[3])
        self.high_water[name] = high
        return timeline.Mark(file_position, position,
                    tuple(self.toolhead.get_position()[:3]),
                    gm.speed / gm.speed_factor, high - raw[3], shape,
                    file_path, self.snapshot.state, self.job)
    # The executed mark
    def _fraction(self, began, mark, position, print_time):
        """How much of the line at the mark is laid: 0 up to less than 1."""
        found = self.timeline.following()
        if found is None:
            return 0.
        ends, following = found
        before, after = mark.state, following.state
        if before['coordinates'] != after['coordinates']:
            return 0.
        if (self.dual_carriage is not None
            and not carriages.are_as_in(self.dual_carriage, before)):
            return 0.
        for i in (0, 1):
            # After an excluded object the motors come from elsewhere
            astray = (following.position[i] - mark.position[i]
                      - following.motors[i] + mark.motors[i])
            if abs(astray) > fraction.MAX_ASTRAY:
                return 0.
        is_late = ends is not None and print_time > (began + ends) / 2.
        return fraction.done(following.shape, mark.motors, following.motors,
                             position, is_late)
    def _z_range(self, z):
        """Lowest and highest Z of the motors from now to the queue's end.

        At the ends of lines: a macro's own Z moves count while they run.
        """
        heights = self.timeline.heights_to_come()
        heights += [z, self.toolhead.get_position()[2]]
        return [min(heights), max(heights)]
    def get_status(self, eventtime):
        """The newest executed mark, as plain values; None before the first."""
        if self.is_shutdown or self.toolhead is None:
            return None
        # What a silent board was sent since then may never have moved
        alive = self.motors.alive_until(
            self.mcu.estimated_print_time(eventtime))
        # A board that has just started has no time before its zero
        print_time = max(alive - MOTION_MARGIN, 0.)
        return self._describe(print_time, self.motors.position(print_time))
    def published(self, eventtime):
        """The executed mark, and apart from it what seldom changes in it.

        The mark is another one each time: klippy tells only what has changed.
        """
        mark = self.complete(self.get_status(eventtime))
        return mark, {} if mark is None else mark['state'].pop('rare')
    def complete(self, mark):
        """A mark as it is published: with what klippy sets late."""
        if mark is not None:
            mark['state'] = self.snapshot.with_late(
                mark['state'], self.reactor.monotonic(), not self.pending())
        return mark
    def _describe(self, print_time, position):
        found = self.timeline.advance(print_time)
        if found is None:
            return None
        began, mark = found
        newest_time, newest = self.timeline.newest_known()
        return {
            'file_position': mark.file_position,
            'fraction': self._fraction(began, mark, position, print_time),
            'toolhead_z': position[2],
            'z_range': self._z_range(position[2]),
            'z_phases': self.z_phase.at(print_time),
            'live_position': list(position[:3]),
            'position': list(mark.position),
            'speed': mark.speed,
            'retracted': mark.retracted,
            'file_path': mark.file_path,
            'print_time': print_time,
            'queued': {'file_position': newest.file_position,
                       'print_time': newest_time},
            'job': mark.job,
            'cancelling': self.is_cancelling(),
            'state': mark.state,
        }
    def pending(self):
        """How many lines are queued that the motors have not come to."""
        return self.timeline.pending()
    def stopped(self, earliest, latest, position):
        """The last mark of all; None if nothing was executed.

        earliest, latest: print times between which the motors stopped.
        position: of the motors since.  Under 'latest' is the place in the file
        that the motors had reached at most.
        """
        print_time = earliest - MOTION_MARGIN
        reached = self.timeline.advance(latest)
        mark = self._describe(print_time, self.motors.position(print_time))
        if mark is not None:
            z = position[2]
            mark['toolhead_z'] = z
            mark['live_position'] = list(position[:3])
            mark['z_phases'] = self.z_phase.at(earliest)
            if earliest == latest:
                mark['z_range'] = [z, z]
            else:
                mark['z_range'] = [min(z, mark['z_range'][0]),
                                   max(z, mark['z_range'][1])]
            mark['latest'] = {'file_position': reached[1].file_position,
                              'print_time': latest}
        return mark

def first_word(line):
    """The command of a G-code line, upper case; '' for a comment."""
    line = line.lstrip()
    if not line or line[0] in ';(':
        return ''
    word = line.split(None, 1)[0].upper()
    if word[0] in 'GM' and len(word) > 2 and not word[1:].isdigit():
        # "G1X10" and "G1;comment" are G1
        digits = 1
        while digits < len(word) and word[digits].isdigit():
            digits += 1
        word = word[:digits]
    return word
