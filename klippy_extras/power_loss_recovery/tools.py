# Which tool is selected and which is mounted, whatever changes the tools
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# One class for each kind of changer, with one method: get_status() gives
#   number, name: of the selected tool, -1 and None if there is none
#   is_ready: these are to be believed
#   is_changing: a change is under way
#   can_detect: there are sensors that see which tool is mounted
#   mounted: name of the tool that they see; None for none or several

class KlipperToolchanger:
    """[toolchanger] of viesturz/klipper-toolchanger."""
    def __init__(self, toolchanger):
        self.toolchanger = toolchanger
    def get_status(self, eventtime):
        st = self.toolchanger.get_status(eventtime)
        mounted = st.get('detected_tool') or None
        return {
            'number': st['tool_number'],
            'name': st['tool'] or None,
            'is_ready': st['status'] == 'ready',
            'is_changing': st['status'] in ('changing', 'initializing'),
            'can_detect': bool(st.get('has_detection', mounted is not None)),
            'mounted': mounted,
        }

KINDS = {'toolchanger': KlipperToolchanger}

def find(printer):
    """The changer of this machine, None if it has none that we know."""
    for name in sorted(KINDS):
        changer = printer.lookup_object(name, None)
        if changer is not None:
            return KINDS[name](changer)
    return None
