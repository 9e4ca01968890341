# A pin that says that the mains have failed: an AC detector, or a UPS
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# There may be milliseconds left.  So the newest mark is sent to Moonraker at
# once instead of with the next status update, then power_loss_gcode is run.
import logging

REMOTE_METHOD = 'plr_power_loss'
# klippy asks for the pin's first state this long after it has configured the
# board: until then nobody knows it.
START_TIME = 3.

class PowerPin:
    def __init__(self, config, marks):
        self.printer = config.get_printer()
        self.reactor = self.printer.get_reactor()
        self.gcode = self.printer.lookup_object('gcode')
        self.marks = marks
        self.pin = config.get('power_loss_pin', None)
        self.debounce = config.getfloat(
            'power_loss_debounce', .02, minval=0., maxval=5.)
        macro = self.printer.load_object(config, 'gcode_macro')
        self.template = None
        if config.get('power_loss_gcode', '').strip():
            self.template = macro.load_template(config, 'power_loss_gcode')
        self.is_lost = self._level = False
        self._changed_at = 0.
        self._armed_at = self.reactor.NEVER
        if self.pin is None:
            if self.template is not None:
                raise config.error(
                    "power_loss_recovery: power_loss_gcode is run when"
                    " power_loss_pin says so: set that option, too")
            return
        buttons = self.printer.load_object(config, 'buttons')
        buttons.register_buttons([self.pin], self._handle_pin)
        self.printer.register_event_handler(
            'klippy:ready', self._handle_ready)
    def _handle_ready(self):
        self._armed_at = self.reactor.monotonic() + START_TIME
    def _handle_pin(self, eventtime, state):
        self._level = bool(state)
        self._changed_at = now = self.reactor.monotonic()
        self.reactor.register_callback(self._settle, now + self.debounce)
    def _settle(self, eventtime):
        # A later change has its own call
        if (eventtime < self._changed_at + self.debounce
            or self._level == self.is_lost):
            return
        self.is_lost = self._level
        try:
            if not self.is_lost:
                self._say("power_loss_pin: the power is back.")
            elif eventtime < self._armed_at:
                self._say(
                    "power_loss_pin says since the start that there is no"
                    " power. If there is, put a ! before the pin, or take it"
                    " away. Nothing is done about it.")
            else:
                self._power_lost(eventtime)
        except Exception as e:
            logging.exception("power_loss_recovery: power_loss_pin")
            self._say("power_loss_pin: %s" % (e,))
    def _power_lost(self, eventtime):
        logging.info("power_loss_recovery: power_loss_pin: no power")
        webhooks = self.printer.lookup_object('webhooks')
        try:
            webhooks.call_remote_method(
                REMOTE_METHOD, status={
                    'mark': self.marks.complete(
                        self.marks.get_status(eventtime)),
                    'power_loss': self.get_status()})
        except self.printer.command_error:
            self._say("power_loss_pin: Moonraker is not connected.")
        self._say("power_loss_pin: the power has failed.")
        if self.template is not None:
            self.gcode.run_script(self.template.render())
    def _say(self, text):
        self.gcode.respond_info("power_loss_recovery: " + text)
    def get_status(self):
        return {'available': self.pin is not None, 'lost': self.is_lost}
