# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Is this machine ready for a power loss?  From what is known to a list of findings."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from . import host, machine, macros
from .findings import BAD, DOUBT, GOOD, UNKNOWN, Evidence, Finding, unknown

Check = Callable[[Evidence], Iterable[Finding]]
CHECKS: tuple[Check, ...] = (
    machine.klippy,
    host.versions,
    host.moonraker,
    host.links,
    machine.sections,
    machine.extra,
    host.saving,
    machine.switches,
    machine.calibration,
    macros.homing,
    macros.hooks,
    macros.force_move,
    macros.early,
    macros.starts,
    macros.other_plugins,
    host.journal,
    host.clock,
    host.by_itself,
)
MARKS = {GOOD: "ok", DOUBT: "look", BAD: "BAD", UNKNOWN: "?"}
ORDER = (BAD, DOUBT, UNKNOWN, GOOD)


def examine(evidence: Evidence) -> list[Finding]:
    """All findings, the gravest first."""
    found = [finding for check in CHECKS for finding in _of(check, evidence)]
    return sorted(found, key=lambda finding: ORDER.index(finding.state))


def _of(check: Check, evidence: Evidence) -> list[Finding]:
    try:
        return list(check(evidence))
    except Exception as e:
        # One thing that nobody has thought of must not hide all others.
        text = f"This check of ours failed ({type(e).__name__}: {e})."
        return [unknown(check.__name__, text)]


def summary(findings: Sequence[Finding]) -> str:
    count = {state: 0 for state in ORDER}
    for finding in findings:
        count[finding.state] += 1
    parts = []
    if not count[BAD] and not count[DOUBT]:
        parts.append("All is well that was looked at")
    if count[BAD]:
        parts.append(f"{count[BAD]} to mend")
    if count[DOUBT]:
        parts.append(f"{count[DOUBT]} to look at")
    if count[UNKNOWN]:
        parts.append(f"{count[UNKNOWN]} not looked at")
    return f"{', '.join(parts)}; {count[GOOD]} are well."


def lines(findings: Sequence[Finding]) -> list[str]:
    """For a console: one line for each finding, one more for each mend."""
    found = []
    for finding in findings:
        found.append(f"[{MARKS[finding.state]:>4}] {finding.name}: {finding.found}")
        if finding.mend:
            found.append(f"       -> {finding.mend}")
    return [*found, summary(findings)]
