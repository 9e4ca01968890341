# How much of the executing line the motors have done
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# Taken from where the motors are, in X and Y: a share of the length of a
# straight move, or of the angle that an arc sweeps.  Never more than is done.
import math, re

# A line is only said to be partly laid up to this much before where the
# motors are: laying 0.2 mm twice is harmless, a gap is not.
MARGIN = .2
# Shorter moves are laid again from their start.
MIN_SPLIT_LENGTH = 1.
# A motor further away from where the line should lead is on some other way.
MAX_ASTRAY = .5
MOST = .999
STRAIGHT_MOVES = ('G0', 'G1', 'G00', 'G01')
ARC_MOVES = {'G2': True, 'G02': True, 'G3': False, 'G03': False}
STRAIGHT = 'straight'
ARC_WORD = re.compile(r'([IJ])\s*([-+]?[0-9.]+)')

def shape_of(word, line):
    """STRAIGHT, (i, j, is_clockwise) of an arc in X and Y, or None."""
    if word in STRAIGHT_MOVES:
        return STRAIGHT
    if word not in ARC_MOVES:
        return None
    offset = dict(ARC_WORD.findall(line.split(';')[0].upper()))
    try:
        return (float(offset.get('I', 0.)), float(offset.get('J', 0.)),
                ARC_MOVES[word])
    except ValueError:
        return None

def done(shape, start, end, motors, is_late):
    """Share (0 up to less than 1) of a line that is done, less the margin.

    start, end, motors: X and Y of the motors, in mm.  is_late: whether more
    than half of the line's time is over; a full circle ends where it starts.
    """
    if shape is None:
        return 0.
    if shape == STRAIGHT:
        return _of_line(start, end, motors)
    return _of_arc(shape, start, end, motors, is_late)

def _of_line(start, end, motors):
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    if length < MIN_SPLIT_LENGTH:
        return 0.
    mx, my = motors[0] - start[0], motors[1] - start[1]
    if abs(mx*dy - my*dx) > MAX_ASTRAY * length:
        return 0.
    along = (mx*dx + my*dy) / length
    return min(max((along - MARGIN) / length, 0.), MOST)

def _of_arc(shape, start, end, motors, is_late):
    i, j, is_clockwise = shape
    radius = math.hypot(i, j)
    centre = (start[0] + i, start[1] + j)
    if not radius or any([
            abs(math.hypot(p[0] - centre[0], p[1] - centre[1]) - radius)
            > MAX_ASTRAY for p in (end, motors)]):
        return 0.
    first = math.atan2(-j, -i)
    travel = _swept(first, end, centre, is_clockwise) or 2. * math.pi
    angle = _swept(first, motors, centre, is_clockwise)
    if radius * travel < MIN_SPLIT_LENGTH:
        return 0.
    # Steps and shapers may have a motor a little before the start or past
    # the end.
    near = MAX_ASTRAY / radius
    if not is_late and angle > 2. * math.pi - near:
        angle = 0.
    elif is_late and (angle > travel or angle < near):
        angle = travel
    if angle > travel:
        return 0.
    return min(max((angle - MARGIN / radius) / travel, 0.), MOST)

def _swept(first, point, centre, is_clockwise):
    angle = math.atan2(point[1] - centre[1], point[0] - centre[0]) - first
    if is_clockwise:
        angle = -angle
    return angle % (2. * math.pi)
