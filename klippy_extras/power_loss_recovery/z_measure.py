# Z+ homing: where each motor's switch is, in steps of that motor
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
#      ==[s1]==============[s2]==   switches at the top of travel, uneven
#         |                  |
#         z1 ---- gantry --- z2     after a power loss each corner has sagged
#         |                  |      by its own amount
#         z ---------------- z3
#
# 1. Approach: all motors go up together and each is stopped by its own switch,
#    in legs so short that a dead switch or motor cannot bend the machine by
#    more than max_adjustment.
# 2. Samples: down a little, up slowly, several times.
# On a floating bed "up" is Z+ too: the bed goes down to its switches.
import logging

class ZHomingError(Exception):
    pass

class ZMeasure:
    def __init__(self, config, motors):
        self.motors = motors
        self.probe_mode = config.getchoice(
            'probe_mode', {'common': 'common', 'individual': 'individual'},
            'common')
        self.rounds = config.getint(
            'probe_iteration_count', 1, minval=1, maxval=10)
        self.fast_travel_speed = config.getfloat(
            'fast_travel_speed', 25., above=0., maxval=500.)
        self.fast_speed = config.getfloat(
            'fast_move_speed', 5., above=0., maxval=50.)
        self.slow_speed = config.getfloat(
            'slow_homing_speed', 1., above=0., maxval=20.)
        self.max_adjustment = config.getfloat(
            'max_adjustment', 5., above=0., maxval=50.)
        self.sample_size = config.getint(
            'sample_size', 3, minval=1, maxval=20)
        self.sample_retract = config.getfloat(
            'sample_retract_dist', 1., above=0., maxval=20.)
        self.tolerance = config.getfloat(
            'samples_tolerance', .05, above=0., maxval=1.)
        self.probe_retries = config.getint(
            'samples_retry_count', 3, minval=0, maxval=20)
        self.tolerance_retries = config.getint(
            'samples_tolerance_retries', 3, minval=0, maxval=20)
        self.samples_range = config.getfloat(
            'probe_samples_range', .07, above=0., maxval=1.)
        self.retract_dist = config.getfloat(
            'retract_dist', 1., above=0., maxval=20.)
        # Steps at which the approach found each switch so far
        self.reached = {}
        self.last_result = None
    def check_released(self):
        self.reached = {}
        pressed = self.motors.pressed()
        if pressed:
            raise ZHomingError(
                "the Z+ switch of %s is already pressed, but all must be open"
                " before Z moves. Check that it is not stuck or unplugged, that"
                " its pin is not inverted (add or remove '!'), and that Z is"
                " not at its very top." % (', '.join(pressed),))
    def measure(self, travel, fast_travel, sample_size):
        """Steps of each motor at its switch, {stepper: steps} (fractions).

        travel: mm in which the first switch must close.  fast_travel: mm of
        it that may go at fast_travel_speed.
        """
        reactor = self.motors.printer.get_reactor()
        self.motors.overrun = 0.
        begin = reactor.monotonic()
        where = self._approach(travel, fast_travel)
        overrun = self.motors.overrun
        self.motors.move(-self.retract_dist, self.fast_speed)
        groups = [self.motors.names()]
        if self.probe_mode == 'individual':
            groups = [[name] for name in groups[0]]
        found, ranges = {}, {}
        for names in groups:
            values = {name: [] for name in names}
            for i in range(self.rounds):
                if i:
                    self._retract(names, self.sample_retract)
                for name, good in self._collect(
                        names, where, sample_size).items():
                    values[name].extend(good)
            for name, v in values.items():
                found[name] = sum(v) / float(len(v))
                ranges[name] = self.motors.mm(name, max(v) - min(v))
            if len(names) == 1:
                # Not further from the others than one retract
                self._retract(names, self.retract_dist)
        self.last_result = {
            'samples_range': max(ranges.values()), 'overrun': overrun,
            'duration': round(reactor.monotonic() - begin, 3)}
        logging.info("power_loss_recovery: switches at steps %s, ranges %s",
                     found, ranges)
        return found
    # Approach
    def _approach(self, travel, fast_travel):
        motors = self.motors
        start = motors.positions()
        found = self.reached
        if fast_travel > 0.:
            self._leg(fast_travel, self.fast_travel_speed, found)
        while len(found) < len(start):
            gone = max(motors.travel(start).values())
            limit = travel
            if found:
                first = min([motors.mm(n, found[n] - start[n]) for n in found])
                limit = first + self.max_adjustment
            leg = min(limit - gone, self.max_adjustment)
            if leg < .01:
                self._raise_not_reached(
                    [n for n in motors.names() if n not in found], found, gone)
            self._leg(leg, self.fast_speed, found)
        return found
    def _leg(self, distance, speed, found):
        steps, moved = self.motors.home(distance, speed)
        for name in steps:
            if self.motors.was_stopped(name, moved[name], distance):
                found[name] = steps[name]
    def _raise_not_reached(self, missing, found, gone):
        names = ', '.join(missing)
        if found:
            raise ZHomingError(
                "%s went on for %.1f mm (max_adjustment) after %s had reached"
                " its switch, and the Z+ switch of %s did not close. Check that"
                " this motor turns, that its switch is pressed by the machine"
                " and wired (QUERY_ENDSTOPS does not show it; press it by hand"
                " and this command says 'already pressed'), and that no other"
                " switch closed too early. If this corner has really sagged"
                " that far, raise max_adjustment."
                % (names, self.max_adjustment, ', '.join(sorted(found)),
                   names))
        raise ZHomingError(
            "no Z+ switch closed within %.1f mm (up to z_position plus"
            " max_adjustment); waiting for %s. Check that the Z motors turn,"
            " that they move towards the switches, that the switches are"
            " wired, and z_position." % (gone, names))
    # Samples
    def _collect(self, names, where, count):
        """`count` good samples of each motor, {stepper: [steps]}."""
        values = {name: [] for name in names}
        good = {}
        for i in range(count + self.tolerance_retries):
            if i:
                self._retract(names, self.sample_retract)
            for name, steps in self._sample(names, where).items():
                values[name].append(steps)
            good = {name: self._near_median(name, values[name])
                    for name in names}
            fewest = min([len(v) for v in good.values()])
            # Of many wild samples some are near the median by chance
            if fewest >= count and 3 * fewest >= 2 * (i + 1):
                break
        else:
            worst = min(names, key=lambda name: len(good[name]))
            self._raise_noisy(worst, values[worst], "within %.3f mm of their"
                              " median (samples_tolerance)" % self.tolerance)
        for name in names:
            spread = self.motors.mm(name, max(good[name]) - min(good[name]))
            if spread > self.samples_range:
                self._raise_noisy(name, good[name], "in a range of %.3f mm"
                                  " (probe_samples_range)" % self.samples_range)
        return good
    def _near_median(self, name, values):
        middle = sorted(values)
        half = len(middle) // 2
        median = .5 * (middle[half] + middle[-1 - half])
        return [v for v in values
                if abs(self.motors.mm(name, v - median)) <= self.tolerance]
    def _raise_noisy(self, name, values, expected):
        spread = self.motors.mm(name, max(values) - min(values))
        raise ZHomingError(
            "the Z+ switch of %s does not repeat: its %d samples are spread"
            " over %.3f mm, they must be %s. Check that the switch and what"
            " presses it are tight and clean, its wiring, and that this motor"
            " loses no steps." % (name, len(values), spread, expected))
    def _sample(self, names, where):
        below, stuck = self.sample_retract, []
        for attempt in range(self.probe_retries + 1):
            if attempt:
                # All in line again: one that missed its switch stands above it
                if stuck:
                    below += self.sample_retract
                self._line_up(names, where, below)
            now = self.motors.positions()
            distance = self.sample_retract + max(
                [self.motors.mm(n, where[n] - now[n]) for n in names])
            if len(names) == 1:
                steps, moved = self.motors.home_one(
                    names[0], distance, self.slow_speed)
            else:
                steps, moved = self.motors.home(distance, self.slow_speed)
            stuck = [n for n in names if moved[n] == 0]
            missed = [n for n in names if not self.motors.was_stopped(
                n, moved[n], distance)]
            if not stuck and not missed:
                return steps
            logging.info("power_loss_recovery: probe failed: still pressed %s,"
                         " not pressed %s", stuck, missed)
        tries = self.probe_retries + 1
        if stuck:
            name = stuck[0]
            below = self.motors.mm(name, where[name] - now[name])
            raise ZHomingError(
                "the Z+ switch of %s does not release: it is still pressed"
                " %.1f mm below the place where it closed, after %d tries"
                " (samples_retry_count). Check that it is not jammed and that"
                " this motor moves down as well."
                % (', '.join(stuck), below, tries))
        raise ZHomingError(
            "the Z+ switch of %s closed at the approach, and not again %.1f mm"
            " above that place, after %d tries (samples_retry_count). Check"
            " its wiring, and that this motor turns."
            % (', '.join(missed), self.sample_retract, tries))
    def _line_up(self, names, where, below):
        """Bring each of these motors so far below its switch."""
        now = self.motors.positions()
        ways = {n: self.motors.mm(n, where[n] - now[n]) - below for n in names}
        if len(names) > 1:
            common = max(ways.values())
            self.motors.move(common, self.fast_speed)
            ways = {n: way - common for n, way in ways.items()}
        for name in names:
            self.motors.move_one(name, ways[name], self.fast_speed)
    def _retract(self, names, distance):
        if len(names) == 1:
            self.motors.move_one(names[0], -distance, self.fast_speed)
        else:
            self.motors.move(-distance, self.fast_speed)
