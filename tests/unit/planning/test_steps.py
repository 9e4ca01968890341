# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""The sequence on machines that are not like others."""
from __future__ import annotations

from dataclasses import replace

from moonraker_components.power_loss_recovery import plan
from tests.unit.samples import FACTS, GCODE, JOB, LINE, POSITION, head, record


def test_a_bed_heater_that_is_gone_is_said_and_not_waited_for() -> None:
    facts = replace(FACTS, objects=FACTS.objects - {"heater_bed"})
    made = plan.make(record(), JOB, head(GCODE, POSITION), LINE, facts)
    assert all("heater_bed" not in step.wait for step in made.steps)
    assert any("[heater_bed] was at 60" in text for text in made.warnings)
