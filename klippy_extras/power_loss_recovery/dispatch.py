# Stands in front of the G-code dispatcher, and sees what goes by
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# The virtual SD card looks 'run_script' up for each line.  Most lines are
# plain, and klippy takes some 30 us for one on a fast host: what is done here
# for each of them must stay far below 1 us.  Next come commands that are known
# to change a part of the state only.  All else is the slow way.

from . import snapshot

PLAIN = frozenset(['G1 ', 'G0 '])
PARTS = snapshot.PARTS_OF_COMMAND
COMMENT_OR_BLANK = ';'
# What klippy's own run_script mentions:
#     with self.mutex:
#         self._process_commands(script.split('\n'), need_ack=False)
RUN_SCRIPT_NAMES = ('mutex', '_process_commands', 'split')

class SdDispatch:
    """What the virtual SD card takes for the dispatcher."""
    def __init__(self, dispatch, marks):
        self._dispatch = dispatch
        self._marks = marks
        self._run_script = dispatch.run_script
        self._mutex, self._process = way_of(dispatch)
        self.run_script = self.run_slowly
        # Whether others have come while a line was run the slow way: they
        # wait for it to end, and the next one has to look at what they did
        self.is_asked = False
    def __getattr__(self, name):
        return getattr(self._dispatch, name)
    def run_slowly(self, script):
        self.is_asked = False
        self._marks.note_start()
        try:
            self._run_script(script)
        except Exception:
            self._marks.note_error()
            raise
        self._marks.note_line(script)
    def look_again(self):
        """Something else than a line may have changed something."""
        self.is_asked = True
        self.go_slowly()
    def go_slowly(self):
        self.run_script = self.run_slowly
    def follow(self, segment, lookahead, gcode_move):
        """Run plain lines the fast way, and note them in this segment.

        lookahead: klippy's queue; its last move is not yet planned, and with
        none there it would be flushed by a callback.
        """
        mutex, process = self._mutex, self._process
        run_slowly, note_line = self.run_slowly, self._marks.note_line
        note_error = self._marks.note_error
        note_change = self._marks.note_change
        queue = lookahead.queue
        has_raw = segment.has_rows_of(queue[-1].end_pos, gcode_move)
        note_time, note_text = segment.times.append, segment.texts.append
        note_motors, note_raw = segment.motors.extend, segment.raw.extend
        def run_plain(script):
            parts = None
            if script[:3] not in PLAIN and script[:1] not in COMMENT_OR_BLANK:
                parts = PARTS.get(script.split(' ', 1)[0])
                if not parts:
                    run_slowly(script)
                    return
            try:
                with mutex:
                    process([script], False)
            except Exception:
                note_error()
                raise
            try:
                move = queue[-1]
                note_motors(move.end_pos)
                if has_raw:
                    note_raw(gcode_move.last_position)
                note_text(script)
                move.timing_callbacks.append(note_time)
            except Exception:
                # Nothing is left in the queue
                note_line(script)
                return
            if parts is not None:
                note_change(segment, parts)
        self.run_script = run_plain

class NoMutex:
    def __enter__(self):
        pass
    def __exit__(self, *exc_info):
        pass

def way_of(dispatch):
    """The mutex and the function that 'run_script' uses, or the like of them.

    To call these two costs less than to call it.
    """
    run_script = dispatch.run_script
    code = getattr(run_script, '__code__', None)
    if (getattr(run_script, '__self__', None) is dispatch
        and getattr(code, 'co_names', None) == RUN_SCRIPT_NAMES):
        return dispatch.mutex, dispatch._process_commands
    return NoMutex(), lambda lines, need_ack: run_script(lines[0])

class SerialDispatch:
    """What the serial console takes for the dispatcher."""
    def __init__(self, dispatch, look_again):
        self._dispatch = dispatch
        self._look_again = look_again
    def __getattr__(self, name):
        return getattr(self._dispatch, name)
    def _process_commands(self, *args, **kwargs):
        self._look_again()
        self._dispatch._process_commands(*args, **kwargs)

def watch_others(printer, dispatch, look_again):
    """Hear of all that is run, but for the file's lines."""
    run_script = dispatch.run_script
    def run_others(script):
        look_again()
        run_script(script)
    dispatch.run_script = run_others
    console = printer.lookup_object('gcode_io', None)
    if getattr(console, 'gcode', None) is dispatch:
        console.gcode = SerialDispatch(dispatch, look_again)

def can_follow(lookahead):
    """Whether the queue looks as expected, and has a move in it."""
    queue = getattr(lookahead, 'queue', None)
    return (isinstance(queue, list) and len(queue) > 0
            and hasattr(queue[-1], 'timing_callbacks')
            and hasattr(queue[-1], 'end_pos'))
