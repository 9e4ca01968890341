# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What is saved outlives the power and Moonraker; many cuts, no resume.

Real klippy and Moonraker, Moonraker's data and the journal on a FUSE file system
that forgets or tears what was not synced. tests/soak/journal.py does more of the
same. The figures go to artifacts/.
"""
from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.soak import journal as soak
from tests.virtual_printer import fuse_disk
from tests.virtual_printer.cut_trial import KINDS, Cut
from tests.virtual_printer.kill_trial import Kill
from tests.virtual_printer.klippy_tree import REPO

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CUTS, KILLS = 28, 10
PRINTERS = 2
SEED = 40


class Trials:
    """Both started at once, each waited for by the test that looks at it."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.cuts: list[Future[list[Cut]]] = []
        if not fuse_disk.why_not():
            each = CUTS // PRINTERS
            self.cuts = [
                pool.submit(soak.run_cuts, each, SEED + n) for n in range(PRINTERS)
            ]
        self.kills: Future[list[Kill]] = pool.submit(soak.run_kills, KILLS, SEED)


@pytest.fixture(scope="module")
def trials() -> Iterator[Trials]:
    with ThreadPoolExecutor(PRINTERS) as pool:
        yield Trials(pool)


def keep(name: str, table: str) -> None:
    artifacts = REPO / "artifacts"
    artifacts.mkdir(exist_ok=True)
    (artifacts / f"{name}.md").write_text(table)
    print("\n" + table)


def test_after_a_cut_the_journal_holds_what_was_saved(trials: Trials) -> None:
    if fuse_disk.why_not():
        pytest.skip(fuse_disk.why_not())
    cuts = [cut for future in trials.cuts for cut in future.result()]
    keep("journal_cuts", soak.cut_table(cuts))
    assert [cut for cut in cuts if cut.wrong] == []
    assert len(cuts) >= 25 and {cut.kind for cut in cuts} == set(KINDS)
    # Else they would have shown nothing about writes that tear.
    assert any(cut.caught for cut in cuts)
    assert sum(cut.lost is not None for cut in cuts) >= 5


def test_a_killed_moonraker_comes_back_to_the_same_print(trials: Trials) -> None:
    kills = trials.kills.result()
    keep("moonraker_kills", soak.kill_table(kills))
    assert [kill for kill in kills if kill.wrong] == []
    assert sum(kill.kills for kill in kills) >= KILLS
