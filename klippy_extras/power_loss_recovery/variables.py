# Variables of macros that come back: restore_variables
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# As Python literals, which SET_GCODE_VARIABLE takes as well: JSON knows no
# tuples.
import ast, logging, re

PREFIX = 'gcode_macro '
# Of one value, and of all of them
MAX_LENGTH = 4000
MAX_VARIABLES = 500

def wanted(config):
    """Patterns of 'macro.variable'.  Raises the config's error."""
    patterns = []
    for word in re.split(r'[,\n]', config.get('restore_variables', '')):
        word = word.strip()
        if not word:
            continue
        if not re.match(r'[\w*?]+\.[\w*?]+$', word):
            raise config.error(
                "power_loss_recovery: restore_variables: '%s' is not like"
                " macro.variable, where * stands for any letters" % (word,))
        patterns.append(re.compile(
            word.lower().replace('.', r'\.').replace('*', r'\w*')
            .replace('?', r'\w') + '$'))
    return patterns

def reader(patterns):
    def find(printer):
        if not patterns:
            return None
        macros = [(name[len(PREFIX):].lower(), obj) for name, obj
                  in printer.lookup_objects('gcode_macro')
                  if name.startswith(PREFIX) and hasattr(obj, 'variables')]
        chosen = {}
        for macro, obj in macros:
            keys = [key for key in obj.variables if any(
                [p.match('%s.%s' % (macro, key.lower())) for p in patterns])]
            if keys:
                chosen[macro] = (obj, keys)
        def read():
            found = {}
            for macro, (obj, keys) in chosen.items():
                for key in keys[:MAX_VARIABLES]:
                    text = repr(obj.variables.get(key))
                    if len(text) <= MAX_LENGTH:
                        found['%s.%s' % (macro, key)] = text
            return found
        return read
    return find

def restore(printer, values):
    """Set {'macro.variable': literal}; returns what could not be set."""
    macros = {name[len(PREFIX):].lower(): obj for name, obj
              in printer.lookup_objects('gcode_macro')
              if name.startswith(PREFIX)}
    left_out = []
    for name in sorted(values):
        macro, _dot, key = name.partition('.')
        variables = getattr(macros.get(macro), 'variables', {})
        try:
            value = ast.literal_eval(values[name])
        except (ValueError, SyntaxError, TypeError, MemoryError,
                RuntimeError) as e:
            logging.info("power_loss_recovery: %s: %s", name, e)
            left_out.append(name)
            continue
        if key not in variables:
            left_out.append(name)
            continue
        # Macros that run have the old one
        macros[macro].variables = dict(variables, **{str(key): value})
    return left_out
