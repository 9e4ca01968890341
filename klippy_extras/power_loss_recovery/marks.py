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

from . import snapshot

# Shaped and pressure-advanced motion ends a little after the planned one.
MOTION_MARGIN = .050
# A line is only said to be partly laid up to this much before where the
# motors are: laying 0.2 mm twice is harmless, a gap is not.
FRACTION_MARGIN = .2
# Shorter moves are laid again from their start.
MIN_SPLIT_LENGTH = 1.
STRAIGHT_MOVES = ('G0', 'G1', 'G00', 'G01')
IGNORED_WORDS = ('', ';')

# 'position' is the G-code position (x, y, z, e) at which the line starts,
# 'raw' the same without G92 and offsets, 'toolhead_z' that of the motors, with
# a bed mesh; 'retracted' is how far the filament is pulled back, in mm;
# 'speed' is the last F, in mm/min.
Mark = collections.namedtuple('Mark', (
    'file_position', 'position', 'raw', 'toolhead_z', 'speed', 'retracted',
    'straight', 'file_path', 'state', 'job'))

# Stands in front of the G-code dispatcher, for the virtual SD card only
class DispatchProxy:
    def __init__(self, dispatch, note_line, note_error):
        self._dispatch = dispatch
        self._note_line = note_line
        self._note_error = note_error
    def __getattr__(self, name):
        return getattr(self._dispatch, name)
    def run_script(self, script):
        try:
            self._dispatch.run_script(script)
        except Exception:
            self._note_error()
            raise
        self._note_line(script)

# Our own count of bytes: klippy counts characters up to v0.12
class FileCounter:
    def __init__(self):
        self.position = self._expected = 0
        self._run = None
    def advance(self, sd, line):
        """Byte offset of the line after 'line', which has just been run."""
        run = getattr(sd, 'work_timer', None)
        if sd.file_position != self._expected or run is not self._run:
            # Started, resumed or moved by M26: klippy seeks to this byte,
            # be it a count of characters
            self.position = sd.file_position
        self._run = run
        num_bytes = len(line.encode('utf-8', 'surrogateescape')) + 1
        following = sd.next_file_position
        step = following - sd.file_position
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
        self.sd = self.toolhead = self.gcode_move = self.mcu = None
        self.snapshot = None
        self.counter = FileCounter()
        self.queue = collections.deque()
        self.executed = None
        self.job = 0
        self.failed = ""
        self.is_shutdown = False
        self.high_water = {}
        self._extruder_name = 'extruder'
        self._next_refresh = 0.
    # Attachment to klippy; every way in from klippy is guarded
    def attach(self):
        """Hook the virtual SD card.  Raises if klippy looks different."""
        lookup = self.printer.lookup_object
        self.toolhead = lookup('toolhead')
        self.gcode_move = lookup('gcode_move')
        self.mcu = lookup('mcu')
        self.snapshot = snapshot.Snapshot(self.printer)
        self.sd = lookup('virtual_sdcard')
        self.sd.gcode = DispatchProxy(
            self.sd.gcode, self.note_line, self.note_error)
    def note_reset(self):
        """Another file was loaded, or none."""
        self.job += 1
        # Callbacks of the old file may still come: into the old queue
        self.queue = collections.deque()
        self.executed = None
        self.counter = FileCounter()
        self.high_water = {}
        self._next_refresh = 0.
    def note_shutdown(self):
        # The SD loop finishes its line and queues more: no longer true
        self.is_shutdown = True
    def note_error(self):
        """A line failed: what it had queued belongs to no offset."""
        self.counter = FileCounter()
    def note_line(self, line):
        if self.failed or self.is_shutdown:
            return
        try:
            self._note_line(line)
        except Exception:
            logging.exception("power_loss_recovery: mark")
            self.failed = "internal error while marking, see klippy.log"
    def _note_line(self, line):
        file_position = self.counter.advance(self.sd, line)
        eventtime = self.reactor.monotonic()
        word = first_word(line)
        is_straight = word in STRAIGHT_MOVES
        self._refresh_state(word, is_straight, eventtime)
        mark = self._make_mark(file_position, is_straight)
        print_time, est, is_empty = self.toolhead.check_busy(eventtime)
        if is_empty:
            self.queue.append((max(print_time, est), mark))
        else:
            queue = self.queue
            self.toolhead.register_lookahead_callback(
                lambda pt: queue.append((pt, mark)))
    def _refresh_state(self, word, is_straight, eventtime):
        if is_straight or word in IGNORED_WORDS:
            # Somebody at the console may have changed something meanwhile
            if eventtime < self._next_refresh:
                return
            word = None
        parts = snapshot.parts_of(word)
        self.snapshot.refresh(parts, eventtime)
        if parts is snapshot.ALL_PARTS:
            self._next_refresh = eventtime + self.mark_interval
            self._extruder_name = self.snapshot.state['tool'].get('active')
    def _make_mark(self, file_position, is_straight):
        gm = self.gcode_move
        raw = tuple(gm.last_position[:4])
        base = gm.base_position
        position = (raw[0] - base[0], raw[1] - base[1], raw[2] - base[2],
                    (raw[3] - base[3]) / gm.extrude_factor)
        name = self._extruder_name
        high = max(self.high_water.get(name, raw[3]), raw[3])
        self.high_water[name] = high
        current_file = self.sd.current_file
        path = current_file.name if current_file is not None else None
        return Mark(file_position, position, raw,
                    self.toolhead.get_position()[2],
                    gm.speed / gm.speed_factor, high - raw[3], is_straight,
                    path, self.snapshot.state, self.job)
    # The executed mark
    def _advance(self, print_time):
        queue = self.queue
        while queue and queue[0][0] <= print_time:
            self.executed = queue.popleft()[1]
        return self.executed
    def _fraction(self, mark, motors):
        """How much of the line at 'mark' is laid: 0 up to less than 1."""
        if not self.queue:
            return 0.
        following = self.queue[0][1]
        if (not following.straight or following.job != mark.job
            or following.state['coordinates'] != mark.state['coordinates']):
            return 0.
        dx, dy = [following.raw[i] - mark.raw[i] for i in (0, 1)]
        length = (dx*dx + dy*dy) ** .5
        if length < MIN_SPLIT_LENGTH:
            return 0.
        done = ((motors[0] - mark.raw[0])*dx
                + (motors[1] - mark.raw[1])*dy) / length
        return min(max((done - FRACTION_MARGIN) / length, 0.), .999)
    def _z_range(self, z):
        """Lowest and highest Z of the motors from now to the queue's end.

        At the ends of lines: a macro's own Z moves count while they run.
        """
        heights = [mark.toolhead_z for _pt, mark in self.queue]
        heights += [z, self.toolhead.get_position()[2]]
        return [min(heights), max(heights)]
    def _motor_position(self, print_time):
        kin = self.toolhead.get_kinematics()
        kin_spos = {}
        for s in kin.get_steppers():
            steps = s.get_past_mcu_position(print_time)
            kin_spos[s.get_name()] = s.mcu_to_commanded_position(steps)
        return kin.calc_position(kin_spos)
    def get_status(self, eventtime):
        """The newest executed mark, as plain values; None before the first."""
        if self.is_shutdown or self.toolhead is None:
            return None
        print_time = self.mcu.estimated_print_time(eventtime) - MOTION_MARGIN
        mark = self._advance(print_time)
        if mark is None:
            return None
        motors = self._motor_position(print_time)
        return {
            'file_position': mark.file_position,
            'fraction': self._fraction(mark, motors),
            'toolhead_z': motors[2],
            'z_range': self._z_range(motors[2]),
            'z_phases': self.z_phase.at(print_time),
            'position': list(mark.position),
            'speed': mark.speed,
            'retracted': mark.retracted,
            'file_path': mark.file_path,
            'print_time': print_time,
            'job': mark.job,
            'state': mark.state,
        }

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
