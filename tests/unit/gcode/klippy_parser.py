# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Run by test_lexer.py in klippy's own Python: parses lines as that klippy does.

    python klippy_parser.py TREE

Writes the pattern of words, then for each line of standard input, a JSON list of
G-code lines, one of [name, parameters or null].
"""
import importlib
import json
import os
import sys


def load(tree):
    try:
        sys.path.insert(0, tree)
        return importlib.import_module("klippy.gcode")
    except ImportError:
        sys.path.insert(0, os.path.join(tree, "klippy"))
        return importlib.import_module("gcode")


class Handlers(dict):
    def __init__(self):
        dict.__init__(self)
        self.seen = []

    def get(self, name, default=None):
        return self.seen.append


def parse(dispatch, line):
    handlers = dispatch.gcode_handlers = Handlers()
    dispatch._process_commands([line], need_ack=False)
    command = handlers.seen[0]
    name = command.get_command()
    if not name or dispatch.is_traditional_gcode(name):
        return name, command.get_command_parameters()
    try:
        dispatch._get_extended_params(command)
    except dispatch.error:
        return name, None
    return name, command.get_command_parameters()


def main():
    module = load(sys.argv[1])
    dispatch = object.__new__(module.GCodeDispatch)
    dispatch.error = module.CommandError
    dispatch.respond_info = dispatch.respond_raw = lambda *args: None
    # Kalico counts how deep a script is nested.
    dispatch._script_context = 0
    print(json.dumps(dispatch.args_r.pattern), flush=True)
    for lines in sys.stdin:
        found = [parse(dispatch, line) for line in json.loads(lines)]
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
