# Ends a hook that waits for heat, when its resume is cancelled
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# While M109, M190 or TEMPERATURE_WAIT waits klippy takes no other G-code, so
# what a cancel sends would come when all is hot.  Requests are answered
# meanwhile.  With its target at 0 the heater is off, but a PID controlled one
# is then waited for until it is cold: the wait itself has to end.  Once in a
# second it tells the temperatures, and there it is made to fail.
import contextlib

ENDPOINT = 'power_loss_recovery/stop_hook'

class Interrupt:
    def __init__(self, printer):
        self.printer = printer
        self.is_running = self.is_asked = False
        webhooks = printer.lookup_object('webhooks')
        webhooks.register_endpoint(ENDPOINT, self._handle_stop)
    def _handle_stop(self, web_request):
        # Without a hook what a cancel sends is run at once
        if self.is_running:
            self.is_asked = True
            self.printer.lookup_object('heaters').turn_off_all_heaters()
    def _check(self):
        if self.is_asked:
            raise self.printer.command_error("the resume was cancelled")
    @contextlib.contextmanager
    def allowed(self):
        """What runs in here can be stopped while it waits for heat."""
        heaters = self.printer.lookup_object('heaters', None)
        get_temp = getattr(heaters, '_get_temp', None)
        if get_temp is None or self.is_running:
            yield
            return
        def look(eventtime):
            self._check()
            return get_temp(eventtime)
        self.is_running, self.is_asked = True, False
        heaters._get_temp = look
        try:
            yield
            self._check()
        finally:
            heaters._get_temp = get_temp
            self.is_running = self.is_asked = False
