# Ends a hook that waits for heat, when its resume is cancelled
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# While M109, M190 or TEMPERATURE_WAIT waits klippy takes no other G-code, so
# what a cancel sends would come when all is hot.  Requests are answered
# meanwhile.  Once in a second such a wait tells the temperatures, and there it
# is made to fail.  Not by a target of 0: a PID controlled heater is then waited
# for until it is cold, and with another one the hook would go on.
import contextlib

ENDPOINT = 'power_loss_recovery/stop_hook'

class Interrupt:
    def __init__(self, printer):
        self.printer = printer
        self.is_running = self.is_asked = False
        webhooks = printer.lookup_object('webhooks')
        webhooks.register_endpoint(ENDPOINT, self._handle_stop)
    def _handle_stop(self, web_request):
        # Without such a command what a cancel sends is run at once
        self.is_asked = self.is_running
    def _turn_off(self):
        heaters = self.printer.lookup_object('heaters', None)
        if heaters is not None:
            heaters.turn_off_all_heaters()
    def _check(self):
        if self.is_asked:
            self._turn_off()
            raise self.printer.command_error("the resume was cancelled")
    @contextlib.contextmanager
    def command(self):
        """One command of a resume: once asked, no hook of it begins."""
        if self.is_running:
            yield
            return
        self.is_running, self.is_asked = True, False
        try:
            yield
        finally:
            if self.is_asked:
                self._turn_off()
            self.is_running = self.is_asked = False
    @contextlib.contextmanager
    def allowed(self):
        """What runs in here can be stopped while it waits for heat."""
        heaters = self.printer.lookup_object('heaters', None)
        get_temp = getattr(heaters, '_get_temp', None)
        if get_temp is None:
            yield
            return
        def look(eventtime):
            self._check()
            return get_temp(eventtime)
        with self.command():
            self._check()
            heaters._get_temp = look
            try:
                yield
                self._check()
            finally:
                heaters._get_temp = get_temp
