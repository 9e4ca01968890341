# The PLR_ commands that Moonraker carries out
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# They are registered here and not as macros, so that a Moonraker that is away
# is an error on the console.  Moonraker answers there when it is done.
REMOTE_METHOD = 'plr_command'
# What HELP says about them
REMOTE_COMMANDS = {
    'PLR_ENABLE': "Save the state of prints, so that they can be resumed",
    'PLR_DISABLE': "Stop saving the state of prints",
    'PLR_SAVE_PRINT_STATE': "Save the state of the print now",
    'PLR_SAVE_PRINT_STATE_WITH_LAYER':
        "Save the state of the print at a layer change: LAYER= LAYER_HEIGHT=",
    'PLR_QUERY_SAVED_STATE': "Show what is saved and what can be resumed",
    'PLR_CHECK': "Look for what would spoil a resume on this machine",
    'PLR_TEST_RESUME':
        "Rehearse a resume of the last print, without heat and without plastic",
    'PLR_RESET_PRINT_DATA': "Forget the interrupted print",
    'PLR_RESUME_PRINT':
        "Resume the print that was interrupted [LAYER=|Z=|POSITION=]",
    'PLR_RESUME_FROM': "Ask from which layer to resume the print",
    'PLR_STOP_AUTO_RESUME': "Do not resume without being asked",
}
# Where a resume may go on, and what number that is
PLACES = {'LAYER': (int, 1), 'Z': (float, 0.), 'POSITION': (int, 0)}
MAX_PLACE = 10 ** 15

class Commands:
    def __init__(self, config, note_layer):
        """note_layer(layer, layer_height): what the slicer has told."""
        self.printer = config.get_printer()
        self.note_layer = note_layer
        self.save_on_layer = config.getboolean('save_on_layer', True)
        gcode = self.printer.lookup_object('gcode')
        special = {'PLR_RESUME_PRINT': self.cmd_PLR_RESUME_PRINT,
                   'PLR_SAVE_PRINT_STATE_WITH_LAYER':
                       self.cmd_PLR_SAVE_PRINT_STATE_WITH_LAYER}
        for name, text in REMOTE_COMMANDS.items():
            gcode.register_command(
                name, special.get(name, self.cmd_remote), desc=text)
    def is_from_file(self):
        """Whether a line of a printing file is being run: it must not fail."""
        sd = self.printer.lookup_object('virtual_sdcard', None)
        return sd is not None and sd.is_cmd_from_sd()
    def complain(self, gcmd, message):
        if not self.is_from_file():
            raise gcmd.error(message)
        gcmd.respond_info(message)
    def call(self, gcmd, method, **params):
        webhooks = self.printer.lookup_object('webhooks')
        try:
            webhooks.call_remote_method(method, **params)
        except self.printer.command_error:
            self.complain(gcmd, (
                "%s: Moonraker is not connected, or its [power_loss_recovery]"
                " is not loaded. See Moonraker's log."
                % (gcmd.get_command(),)))
    def cmd_remote(self, gcmd):
        self.call(gcmd, REMOTE_METHOD, command=gcmd.get_command(), params={})
    def cmd_PLR_RESUME_PRINT(self, gcmd):
        given = gcmd.get_command_parameters()
        # What is misspelt would resume elsewhere than it says
        unknown = sorted([name for name in given if name not in PLACES])
        if unknown or len(given) > 1:
            self.complain(gcmd, (
                "PLR_RESUME_PRINT: %s: give one of LAYER=, Z= and POSITION=,"
                " or nothing to resume at the saved place."
                % (' '.join(unknown) or ' and '.join(sorted(given)),)))
            return
        params = {}
        for name in given:
            parser, low = PLACES[name]
            try:
                params[name] = parser(given[name])
            except ValueError:
                params[name] = -1
            if not low <= params[name] <= MAX_PLACE:
                self.complain(gcmd, (
                    "PLR_RESUME_PRINT: %s=%s: expected a %snumber from %d up"
                    % (name, given[name], 'whole ' if parser is int else '',
                       low)))
                return
        self.call(gcmd, REMOTE_METHOD, command='PLR_RESUME_PRINT',
                  params=params)
    def cmd_PLR_SAVE_PRINT_STATE_WITH_LAYER(self, gcmd):
        try:
            layer = gcmd.get_int('LAYER', None, minval=0)
            height = gcmd.get_float('LAYER_HEIGHT', None, minval=0.)
        except self.printer.command_error as e:
            self.complain(gcmd, str(e))
            return
        self.note_layer(layer, height)
        if layer is not None and self.save_on_layer and self.is_from_file():
            # Saved once the motors have come to it
            return
        self.cmd_remote(gcmd)
