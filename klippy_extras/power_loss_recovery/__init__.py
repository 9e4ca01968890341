# Power loss recovery: the part that must live inside klippy
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# Publishes which bytes of the printing file are in plastic (marks.py), homes
# Z onto the Z+ switches (z_homing.py), runs the owner's hooks (hooks.py) and
# passes the PLR_ commands on to Moonraker (commands.py).  It reads and writes
# no file and decides nothing.
import logging

from . import cancel, commands, fans, hooks, marks, mesh, pause, power_pin
from . import restore, stop, tool_check, unattended, variables, z_homing, z_lift
from . import z_phase

class PowerLossRecovery:
    def __init__(self, config):
        self.printer = config.get_printer()
        self.gcode = self.printer.lookup_object('gcode')
        # Moonraker reads these through klippy's configfile object: here they
        # are checked, so that a bad value is refused with its range
        config.getfloat('save_interval', 1., minval=0., maxval=300.)
        history_size = config.getint('history_size', 5, minval=2, maxval=20)
        save_delay = config.getint('save_delay', 2, minval=1, maxval=4)
        if save_delay >= history_size:
            raise config.error(
                "power_loss_recovery: save_delay (%d) must be smaller than"
                " history_size (%d)" % (save_delay, history_size))
        config.getint('max_writes_per_hour', 0, minval=0, maxval=14400)
        unattended.check(config)
        self.debug_mode = config.getboolean('debug_mode', False)
        config.getchoice('z_strategy', {
            'auto': 'auto', 'measure': 'measure', 'assume': 'assume'}, 'auto')
        mark_interval = config.getfloat(
            'mark_interval', .25, minval=.05, maxval=5.)
        self.z_phase = z_phase.ZPhase(self.printer)
        self.marks = marks.Marks(self.printer, mark_interval, self.z_phase,
                                 variables.wanted(config))
        self.cancel = cancel.Cancel(self.printer)
        self.marks.is_cancelling = self.cancel.is_under_way
        self.stop = stop.Stop(self.printer, self.marks, self.marks.motors)
        self.paused = pause.Pause(self.printer, self.marks)
        self.power_pin = power_pin.PowerPin(config, self.paused)
        self.commands = commands.Commands(config, self.marks.note_layer)
        self.mesh = mesh.Mesh(config, self.commands)
        self.fans = fans.Fans(config)
        self.tool_check = tool_check.ToolCheck(config)
        self.restore = restore.Restore(config)
        self.hooks = hooks.Hooks(config, self.debug)
        self.z_homing = z_homing.ZHoming(config, self.hooks)
        z_lift.ZLift(self.printer, self.z_homing)
        self.trouble = ""
        register = self.gcode.register_command
        register('PLR_Z_HOME', self.cmd_PLR_Z_HOME,
                 desc=self.cmd_PLR_Z_HOME_help)
        register('_PLR_ASSUME_Z', self.cmd_PLR_ASSUME_Z)
        register('_PLR_RESTORE_CALIBRATION', self.cmd_PLR_RESTORE_CALIBRATION)
        handler = self.printer.register_event_handler
        handler('klippy:ready', self._handle_ready)
        handler('klippy:shutdown', self.stop.note_shutdown)
        handler('virtual_sdcard:reset_file', self.marks.note_reset)
        handler('virtual_sdcard:reset_file', self.paused.note_reset)
    def _handle_ready(self):
        try:
            self.z_phase.attach()
            self.marks.attach()
            self.cancel.attach()
        except Exception as e:
            logging.exception("power_loss_recovery: attach")
            self.trouble = ("prints are not saved: this Klipper looks"
                            " different (%s)" % (e,))
            self.gcode.respond_info("power_loss_recovery: " + self.trouble)
            return
        if self.marks.is_approximate:
            self.gcode.respond_info(
                "power_loss_recovery: this Klipper's virtual_sdcard looks"
                " different: the saved place is approximate, and some"
                " lines may be printed twice after a power loss.")
    def debug(self, text):
        logging.info("power_loss_recovery: %s", text)
        if self.debug_mode:
            self.gcode.respond_info("power_loss_recovery: " + text, log=False)
    cmd_PLR_Z_HOME_help = "Home Z on the Z+ switches: MODE=CALIBRATE|RESUME"
    def cmd_PLR_Z_HOME(self, gcmd):
        mode = gcmd.get('MODE', '').upper()
        if mode == 'CALIBRATE':
            heights = self.z_homing.calibrate(gcmd)
            text = "Z+ switches calibrated: "
        elif mode == 'RESUME':
            heights = self.z_homing.resume(gcmd)
            text = "Z is true again, from: "
        else:
            raise gcmd.error(
                "PLR_Z_HOME: MODE must be CALIBRATE or RESUME, not '%s'"
                % (gcmd.get('MODE', ''),))
        if heights is not None:
            self.debug("PLR_Z_HOME %s: %s" % (
                mode, self.z_homing.measure.last_result))
            gcmd.respond_info(text + ", ".join(
                ["%s at %.3f" % (name, heights[name])
                 for name in sorted(heights)]))
    def cmd_PLR_ASSUME_Z(self, gcmd):
        # Used by the resume sequence: the recorded Z, before anything moves.
        # BELOW=stepper_z1:0.04,... says how far a motor stands below it
        z = gcmd.get_float('Z', minval=-10., maxval=2000.)
        try:
            below = {name: float(mm) for name, mm in [
                part.split(':') for part in gcmd.get('BELOW', '').split(',')
                if part]}
        except ValueError:
            raise gcmd.error("_PLR_ASSUME_Z: unable to parse BELOW")
        self.z_homing.assume_z(gcmd, z, below)
    def cmd_PLR_RESTORE_CALIBRATION(self, gcmd):
        # Used by Moonraker, which keeps a second copy of the calibration
        self.z_homing.restore_calibration(gcmd)
    def get_status(self, eventtime):
        # What raises here would shut the printer down
        found = {'mark': None, 'rare': {}, 'stopped': None, 'pending_marks': 0,
                 'z_motors': {}, 'z_homing': {}}
        try:
            mark, seldom = self.marks.published(eventtime)
            found = {'mark': self.paused.before(mark), 'rare': seldom,
                     'stopped': self.paused.before(self.stop.mark),
                     'pending_marks': self.marks.pending(),
                     'z_motors': self.z_phase.get_status(),
                     'z_homing': self.z_homing.get_status()}
        except Exception:
            logging.exception("power_loss_recovery: get_status")
            self.marks.failed = "internal error, see klippy.log"
            self.marks.is_shutdown = True
        return dict(
            found,
            trouble=self.trouble or self.marks.failed,
            approximate=self.marks.is_approximate,
            power_loss=self.power_pin.get_status())

def load_config(config):
    return PowerLossRecovery(config)
