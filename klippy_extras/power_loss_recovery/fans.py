# RESTORE_FAN_SPEEDS: the fans as the interrupted print had them
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
VARIABLE = 'resume_meta_info'
COMMAND = 'RESTORE_FAN_SPEEDS'

class Fans:
    def __init__(self, config):
        self.printer = config.get_printer()
        self.gcode = self.printer.lookup_object('gcode')
        self.wanted = [short_name(name) for name in config.get(
            'part_cooling_fans', '').split(',') if name.strip()]
        # The guide has the owner define it as a macro: then that one is used
        macros = [section.get_name().split(None, 1)[-1].upper()
                  for section in config.get_prefix_sections('gcode_macro ')
                  if section.get('rename_existing', None,
                                 note_valid=False) is None]
        if COMMAND not in macros:
            self.gcode.register_command(
                COMMAND, self.cmd_RESTORE_FAN_SPEEDS,
                desc=self.cmd_RESTORE_FAN_SPEEDS_help)
    cmd_RESTORE_FAN_SPEEDS_help = "Set the fans as the interrupted print did"
    def cmd_RESTORE_FAN_SPEEDS(self, gcmd):
        saved = self.saved()
        if saved is None:
            gcmd.respond_info(
                "RESTORE_FAN_SPEEDS: no fan speeds are saved. They are when a"
                " print is resumed, and need [save_variables].")
            return
        there = self.there()
        names = self.wanted or sorted(saved)
        done = ["%s %.0f %%" % (name, saved[name] * 100.)
                for name in names if name in saved and name in there]
        for name in names:
            if name not in there:
                gcmd.respond_info("RESTORE_FAN_SPEEDS: there is no fan %s now:"
                                  " left out." % (name,))
            elif name not in saved:
                gcmd.respond_info("RESTORE_FAN_SPEEDS: no speed is saved for"
                                  " fan %s: left as it is." % (name,))
            elif name == 'fan':
                self.gcode.run_script_from_command(
                    "M106 S%.2f" % (saved[name] * 255.,))
            else:
                self.gcode.run_script_from_command(
                    "SET_FAN_SPEED FAN=%s SPEED=%.4f" % (name, saved[name]))
        gcmd.respond_info("Fans as in the interrupted print: %s"
                          % (', '.join(done) or 'none',))
    def there(self):
        """Names of the fans that this machine has."""
        return [short_name(name) for module in ('fan', 'fan_generic')
                for name, _fan in self.printer.lookup_objects(module)]
    def saved(self):
        """{fan: 0 to 1} of the interrupted print, None if nothing is saved."""
        variables = self.printer.lookup_object('save_variables', None)
        info = {} if variables is None else variables.allVariables.get(VARIABLE)
        speeds = info.get('fan_speeds') if isinstance(info, dict) else None
        if not isinstance(speeds, dict):
            return None
        return {short_name(str(name)): speed for name, speed in speeds.items()
                if isinstance(speed, (int, float)) and 0. <= speed <= 1.}

def short_name(name):
    """As SET_FAN_SPEED takes it: the last word of the section."""
    return (name.split() or [''])[-1]
