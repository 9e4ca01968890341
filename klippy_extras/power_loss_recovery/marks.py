# Which bytes of a G-code file are in plastic, and what the print had set
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# The virtual SD card hands each line of the file to the G-code dispatcher.
# A proxy of that dispatcher notes, after each line, the offset of the next
# line; a lookahead callback tells the print time at which the motion of all
# lines before that offset ends.  A mark is executed once the motors have
# passed that time.  Nothing is ever flushed: with an empty lookahead queue
# the time is known already, and a callback would cost a stall.
import collections, logging

from . import fraction, motors, snapshot

# Shaped and pressure-advanced motion ends a little after the planned one.
MOTION_MARGIN = .050
# How far back an executed mark can be found: a lost board is noticed late.
PAST_SECONDS = 20.
IGNORED_WORDS = ('', ';')

# 'position' is the G-code position (x, y, z, e) at which the line starts,
# 'motors' that of the motors (x, y, z); 'retracted' is how far the filament
# is pulled back, in mm; 'speed' is the last F, in mm/min; 'shape' is that of
# the line before.
Mark = collections.namedtuple('Mark', (
    'file_position', 'position', 'motors', 'speed', 'retracted', 'shape',
    'file_path', 'state', 'job'))

# Stands in front of the G-code dispatcher, for the virtual SD card only
class DispatchProxy:
    def __init__(self, dispatch, marks):
        self._dispatch = dispatch
        self._marks = marks
    def __getattr__(self, name):
        return getattr(self._dispatch, name)
    def run_script(self, script):
        self._marks.note_start()
        try:
            self._dispatch.run_script(script)
        except Exception:
            self._marks.note_error()
            raise
        self._marks.note_line(script)

# Our own count of bytes: klippy counts characters up to v0.12
class FileCounter:
    def __init__(self):
        self.position = self._expected = 0
        self._run = None
    def begin(self, sd):
        """Byte offset of the line that is about to be run."""
        run = sd.work_timer
        if sd.file_position != self._expected or run is not self._run:
            # Started, resumed or moved by M26: klippy seeks to this byte,
            # be it a count of characters
            self.position = self._expected = sd.file_position
            self._run = run
        return self.position
    def advance(self, sd, line):
        """Byte offset of the line after 'line', which has just been run."""
        num_bytes = len(line.encode('utf-8', 'surrogateescape')) + 1
        following = sd.next_file_position
        step = following - self._expected
        if step == num_bytes or step == len(line) + 1:
            self.position += num_bytes
        else:
            # The line itself asked for another place (SDCARD_LOOP)
            self.position = following
        self._expected = following
        return self.position

class Marks:
    def __init__(self, printer, mark_interval, z_phase):
        self.printer = printer
        self.z_phase = z_phase
        self.reactor = printer.get_reactor()
        self.mark_interval = mark_interval
        self.motors = motors.Motors(printer)
        self.sd = self.toolhead = self.gcode_move = self.mcu = None
        self.snapshot = None
        self.job = 0
        self.failed = ""
        self.is_approximate = self.is_shutdown = False
        self._extruder_name = 'extruder'
        self._forget()
    def _forget(self):
        # Entries are [print time or None while in the lookahead queue, mark].
        # Callbacks of the old file may still come: into its own entries.
        self.queue = collections.deque()
        self.past = collections.deque()
        self.counter = FileCounter()
        self.high_water = {}
        self._next_refresh = 0.
        self._noted = self._seen = self._bad_run = None
    # Attachment to klippy; every way in from klippy is guarded
    def attach(self):
        """Hook the virtual SD card.  Raises if klippy looks different."""
        lookup = self.printer.lookup_object
        self.sd = sd = lookup('virtual_sdcard')
        self.gcode_move = lookup('gcode_move')
        self.mcu = lookup('mcu')
        self.motors.attach()
        self.snapshot = snapshot.Snapshot(self.printer)
        self.toolhead = lookup('toolhead')
        if all([hasattr(sd, name) for name in (
                'gcode', 'work_timer', 'current_file', 'file_position',
                'next_file_position')]):
            sd.gcode = DispatchProxy(sd.gcode, self)
            return
        self.is_approximate = True
        sd.get_status(self.reactor.monotonic())['file_position']
        self.reactor.register_timer(self._sample, self.reactor.NOW)
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
        # The SD loop finishes its line and queues more: no longer true
        self.is_shutdown = True
    def _guarded(self, note, *args):
        if self.failed or self.is_shutdown:
            return
        try:
            note(*args)
        except Exception:
            logging.exception("power_loss_recovery: mark")
            self.failed = "internal error while marking, see klippy.log"
    def note_start(self):
        self._guarded(self._note_start)
    def note_error(self):
        # What the line has queued belongs to no offset, and klippy goes on
        # with on_error_gcode, which is no line of the file
        self._guarded(self._note_error)
    def note_line(self, line):
        self._guarded(self._note_line, line)
    def _note_error(self):
        self._bad_run = self.sd.work_timer
    def _note_start(self):
        if self.sd.work_timer is self._bad_run:
            return
        file_position = self.counter.begin(self.sd)
        if self._noted is None or (file_position == self._noted
                                   and self._seen == self._coordinates()):
            return
        # Moved by M26, or something else has moved between two lines
        self._next_refresh = 0.
        self._append(file_position, None, '')
    def _note_line(self, line):
        run = self.sd.work_timer
        if run is self._bad_run or self.sd.current_file is None:
            return
        word = first_word(line)
        shape = fraction.shape_of(word, line)
        self._append(self.counter.advance(self.sd, line), shape, word)
    def _append(self, file_position, shape, word):
        eventtime = self.reactor.monotonic()
        self._refresh_state(word, shape, eventtime)
        mark = self._make_mark(
            file_position, shape, self.sd.current_file.name)
        self._enqueue(mark, eventtime)
        self._noted = file_position
        self._seen = self._coordinates()
    def _enqueue(self, mark, eventtime):
        print_time, est, is_empty = self.toolhead.check_busy(eventtime)
        if is_empty:
            self.queue.append([max(print_time, est), mark])
            return
        entry = [None, mark]
        self.queue.append(entry)
        def note_time(print_time):
            entry[0] = print_time
        self.toolhead.register_lookahead_callback(note_time)
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
            self._extruder_name = self.snapshot.state['tool'].get('active')
    def _make_mark(self, file_position, shape, file_path):
        gm = self.gcode_move
        raw = gm.last_position
        base = gm.base_position
        position = (raw[0] - base[0], raw[1] - base[1], raw[2] - base[2],
                    (raw[3] - base[3]) / gm.extrude_factor)
        name = self._extruder_name
        high = max(self.high_water.get(name, raw[3]), raw[3])
        self.high_water[name] = high
        return Mark(file_position, position,
                    tuple(self.toolhead.get_position()[:3]),
                    gm.speed / gm.speed_factor, high - raw[3], shape,
                    file_path, self.snapshot.state, self.job)
    # The executed mark
    def _head_time(self):
        """When the line that is being executed ends, as far as known."""
        for print_time, _mark in self.queue:
            if print_time is not None:
                return print_time
        return None
    def _advance(self, print_time):
        """The mark that is executed at this time, be it a past one."""
        queue, past = self.queue, self.past
        while queue:
            head_time = self._head_time()
            if head_time is None or head_time > print_time:
                break
            past.append([head_time, queue.popleft()[1]])
        while past and past[-1][0] > print_time:
            queue.appendleft(past.pop())
        while len(past) > 1 and past[1][0] < print_time - PAST_SECONDS:
            past.popleft()
        return past[-1] if past else None
    def _fraction(self, entry, position, print_time):
        """How much of the line at the mark is laid: 0 up to less than 1."""
        if not self.queue:
            return 0.
        began, mark = entry
        following = self.queue[0][1]
        before, after = mark.state, following.state
        if before['coordinates'] != after['coordinates']:
            return 0.
        for i in (0, 1):
            # After an excluded object the motors come from elsewhere
            astray = (following.position[i] - mark.position[i]
                      - following.motors[i] + mark.motors[i])
            if abs(astray) > fraction.MAX_ASTRAY:
                return 0.
        ends = self._head_time()
        is_late = ends is not None and print_time > (began + ends) / 2.
        return fraction.done(following.shape, mark.motors, following.motors,
                             position, is_late)
    def _z_range(self, z):
        """Lowest and highest Z of the motors from now to the queue's end.

        At the ends of lines: a macro's own Z moves count while they run.
        """
        heights = [mark.motors[2] for _pt, mark in self.queue]
        heights += [z, self.toolhead.get_position()[2]]
        return [min(heights), max(heights)]
    def _newest_handed_over(self, entry):
        for newer in reversed(self.queue):
            if newer[0] is not None:
                entry = newer
                break
        return {'file_position': entry[1].file_position,
                'print_time': entry[0]}
    def get_status(self, eventtime):
        """The newest executed mark, as plain values; None before the first."""
        if self.is_shutdown or self.toolhead is None:
            return None
        # What a silent board was sent since then may never have moved
        print_time = self.motors.alive_until(
            self.mcu.estimated_print_time(eventtime)) - MOTION_MARGIN
        return self._describe(print_time, self.motors.position(print_time))
    def _describe(self, print_time, position):
        entry = self._advance(print_time)
        if entry is None:
            return None
        mark = entry[1]
        return {
            'file_position': mark.file_position,
            'fraction': self._fraction(entry, position, print_time),
            'toolhead_z': position[2],
            'z_range': self._z_range(position[2]),
            'z_phases': self.z_phase.at(print_time),
            'live_position': list(position[:3]),
            'position': list(mark.position),
            'speed': mark.speed,
            'retracted': mark.retracted,
            'file_path': mark.file_path,
            'print_time': print_time,
            'queued': self._newest_handed_over(entry),
            'job': mark.job,
            'state': mark.state,
        }
    def stopped(self, earliest, latest, position):
        """The last mark of all; None if nothing was executed.

        earliest, latest: print times between which the motors stopped.
        position: of the motors since.  Under 'latest' is the place in the file
        that the motors had reached at most.
        """
        print_time = earliest - MOTION_MARGIN
        reached = self._advance(latest)
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
