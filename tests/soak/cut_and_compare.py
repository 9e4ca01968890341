# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""tests/corpus/test_cut_and_compare.py over every file at hand, at many more lines.

    python -m tests.soak.cut_and_compare [--cuts 200] [--workers 2] [NAME ...]

--cuts: lines of each file, 0 for all of them.  NAME: parts of file names.
"""
from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.corpus.corpus_files import own, real
from tests.corpus.trial import cut

SHOWN = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    files = [
        file for file in [*own(), *real()]
        if not options.names or any(name in str(file) for name in options.names)
    ]  # fmt: skip
    work = [(file, from_record) for file in files for from_record in (False, True)]
    begin, problems, made = time.monotonic(), 0, 0
    print("| file | from | compared | in a line | refused | problems |")
    print("|---|---|---|---|---|---|")
    with ProcessPoolExecutor(options.workers) as workers:
        count = options.cuts or None
        found = [workers.submit(cut, file, count, saved) for file, saved in work]
        for (file, saved), outcome in zip(work, found, strict=True):
            done = outcome.result()
            problems, made = problems + len(done.problems), made + done.compared
            print(
                f"| {file} | {'record' if saved else 'file'} | {done.compared} |"
                f" {done.split} | {done.refused} | {len(done.problems)} |",
                flush=True,
            )
            for problem in done.problems[:SHOWN]:
                print(f"    {problem}")
    seconds = time.monotonic() - begin
    print(f"{made} cuts, {problems} problems, {seconds:.0f} s")
    return 1 if problems or not made else 0


if __name__ == "__main__":
    sys.exit(main())
