# Where the motors are, and how long the boards that drive them have lived
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# A board that is shut down cannot be asked where its motors are, but it says
# at which clock it stopped, and klippy remembers half a minute of steps.  A
# board that has lost its power says nothing: it lived at least until the last
# clock or temperature that it has sent.
import logging

from . import carriages, pulse

# A board answers each second, and sends temperatures more often.  One that is
# silent for longer has lost its power, or its cable.
SILENCE = 2.

class Motors:
    def __init__(self, printer):
        self.printer = printer
        self.kin = self.dual_carriage = None
        self.mcus = []
        self.heaters = []
        self.stop_clocks = {}
        # {board: host time}: when the link was last known to work, of those
        # that say that something came too late
        self._late_since = {}
        self.pulse = pulse.Pulse(printer.get_reactor())
    def attach(self):
        """Look for the boards that drive motors.  Raises if klippy differs."""
        toolhead = self.printer.lookup_object('toolhead')
        self.kin = toolhead.get_kinematics()
        self.dual_carriage = carriages.find(self.printer)
        steppers = list(self.kin.get_steppers())
        extruder = getattr(toolhead.get_extruder(), 'extruder_stepper', None)
        if extruder is not None:
            steppers.append(extruder.stepper)
        try:
            self._watch_boards(steppers)
        except Exception:
            # Marks are right without it, as long as no board is lost
            logging.exception("power_loss_recovery: boards are not watched")
            self.mcus = []
    def _watch_boards(self, steppers):
        for s in steppers:
            if s.get_mcu() not in self.mcus:
                self.mcus.append(s.get_mcu())
        self.heaters = self._find_heaters()
        for mcu in self.mcus:
            self._listen(mcu)
            self.last_life(mcu)
        self.pulse.start()
    def _find_heaters(self):
        heaters = self.printer.lookup_object('heaters', None)
        if heaters is None:
            return []
        found = []
        for name in heaters.get_status(0.)['available_heaters']:
            heater = heaters.lookup_heater(name.split()[-1])
            adc = getattr(getattr(heater, 'sensor', None), 'mcu_adc', None)
            if adc is not None and hasattr(heater, 'last_temp_time'):
                found.append((adc.get_mcu(), heater))
        return found
    def _listen(self, mcu):
        serial = mcu._serial
        klippy_handler = serial.handlers.get(('shutdown', None))
        if klippy_handler is None:
            # Batch mode: there is no board
            return
        def handle_shutdown(params):
            # In klippy's serial thread
            try:
                if 'clock' in params and mcu not in self.stop_clocks:
                    self._note_stop(mcu, params)
            except Exception:
                logging.exception("power_loss_recovery: shutdown clock")
            klippy_handler(params)
        serial.register_response(handle_shutdown, 'shutdown')
    def _note_stop(self, mcu, params):
        if pulse.is_late(str(params.get('static_string_id', ''))):
            # When the newest clock was asked for that it has answered
            self._late_since[mcu] = mcu._clocksync.last_prediction_time
        self.stop_clocks[mcu] = mcu.clock32_to_clock64(params['clock'])
    def position(self, print_time):
        """X, Y and Z of the motors at a past time."""
        return self._position(lambda mcu: print_time)
    def stopped_position(self, stops):
        """X, Y and Z where the motors stopped, each with its own board."""
        return self._position(lambda mcu: stops[mcu][0])
    def _position(self, time_of):
        kin_spos = {}
        for s in self.kin.get_steppers():
            steps = s.get_past_mcu_position(time_of(s.get_mcu()))
            kin_spos[s.get_name()] = s.mcu_to_commanded_position(steps)
        return self.kin.calc_position(carriages.put_right(
            self.dual_carriage, self.kin, kin_spos))
    def last_life(self, mcu):
        """Print time at which this board was surely alive."""
        life = mcu.estimated_print_time(mcu._clocksync.last_prediction_time)
        return max([life] + [heater.last_temp_time
                             for its_mcu, heater in self.heaters
                             if its_mcu is mcu])
    def alive_until(self, print_time):
        """'print_time', or when a board fell silent, if that is earlier."""
        lives = [self.last_life(mcu) for mcu in self.mcus]
        return min([print_time] + [life for life in lives
                                   if life < print_time - SILENCE])
    def are_stopped(self):
        """Whether each board has said at which clock it stopped."""
        return all([mcu in self.stop_clocks for mcu in self.mcus])
    def stops(self, eventtime):
        """{board: print times (earliest, latest) at which its motors stopped}.

        Both are the same if the board has said when, and had all its steps in
        time.  eventtime: now, for one that has not said it yet.
        """
        res = {}
        for mcu in self.mcus:
            if mcu in self.stop_clocks:
                low = high = mcu.clock_to_print_time(self.stop_clocks[mcu])
            else:
                high = mcu.estimated_print_time(eventtime)
                low = min(self.last_life(mcu), high)
            sent = self.pulse.sent_until(mcu, low)
            if sent is None and mcu in self._late_since:
                sent = mcu.estimated_print_time(self._late_since[mcu])
            res[mcu] = (low if sent is None else min(low, sent), high)
        return res
