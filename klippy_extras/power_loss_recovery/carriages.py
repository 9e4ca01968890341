# Machines with two carriages on one axis: which one moves, and where each is
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.

def find(printer):
    """Klippy's DualCarriages, or None."""
    return printer.lookup_object('dual_carriage', None)

def modes(dual):
    """As SAVE_DUAL_CARRIAGE_STATE has them: a list, from v0.13 on by name."""
    status = dual.get_status(0.)
    if 'carriages' in status:
        return dict(status['carriages'])
    return [status['carriage_0'], status['carriage_1']]

def places(dual):
    """Differs whenever modes do, or a carriage that stands was moved.

    One that stands has a scale of zero, and its place as the offset; one that
    moves alone has one and zero, wherever it is.
    """
    rails = getattr(dual, 'dc', ()) or dual.dc_rails.values()
    return [(dc.mode, dc.scale, dc.offset) for dc in rails]

def are_as_in(dual, state):
    """Whether klippy moves those that it moved in the state of a mark.

    It has a tool change behind it some seconds before the motors.
    """
    saved = state['rare'].get('carriages')
    return saved is not None and saved['carriage_modes'] == modes(dual)

def put_right(dual, kin, positions):
    """For kin.calc_position(): {stepper: mm}.

    Up to v0.12 it takes the place of the first carriage for that of the
    toolhead, also while the second one moves.
    """
    if (dual is None or hasattr(dual, 'get_primary_rail')
        or modes(dual)[1] != 'PRIMARY'):
        return positions
    first, second = kin.rails[dual.axis], dual.dc[1].get_rail()
    place = positions[second.get_name()]
    return dict(positions, **{first.get_name(): place})

def moving(dual, axis):
    """Which of its carriages is the toolhead's on an axis, None where there is
    but one: that does not change when the other one copies it."""
    if dual is None:
        return None
    if hasattr(dual, 'dc_rails'):
        return ([name for name, dc in dual.dc_rails.items()
                 if dc.axis == axis and dc.mode == 'PRIMARY'] or [None])[0]
    if axis != dual.axis:
        return None
    return modes(dual)[1] == 'PRIMARY'
