# At which byte of the file the virtual SD card is
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# klippy's own 'file_position' counts characters up to v0.12.

def num_bytes(text):
    """Of some lines of a file, with the end of the last one."""
    return len(text.encode('utf-8', 'surrogateescape')) + 1

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
    def advance(self, line, following):
        """Byte offset after a line that has just been run.

        following: where klippy says that it goes on.
        """
        if not self._step(line, following):
            # The line itself asked for another place (SDCARD_LOOP)
            self.position = following
        self._expected = following
        return self.position
    def advance_plain(self, text, following):
        """Byte offset after some lines that cannot have asked for a place.

        following: where klippy goes on, be it moved by M26 since.
        """
        if self._step(text, following):
            self._expected = following
        else:
            self.position += num_bytes(text)
            self._expected = None
        return self.position
    def _step(self, text, following):
        if self._expected is None:
            return False
        step, count = following - self._expected, num_bytes(text)
        if step != count and step != len(text) + 1:
            return False
        self.position += count
        return True
