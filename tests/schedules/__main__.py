"""Try crontabs around clock changes: ``python -m tests.schedules --all``, or a sample of them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from random import Random

from tests.schedules.changes import histories
from tests.schedules.sweep import sweep, windows


def main() -> int:
    """Sweep; returns 1 if anything differs from the oracle, and prints what."""
    parser = argparse.ArgumentParser(prog="python -m tests.schedules", description=__doc__)
    parser.add_argument("--all", action="store_true", help="every change of every history of a zone")
    parser.add_argument("--sample", type=int, default=20, help="else so many changes")
    parser.add_argument("--each", type=int, default=40, help="random crontabs at each change")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    args = parser.parse_args()
    began = time.perf_counter()
    chances = windows()
    if not args.all:
        chances = Random(args.seed).sample(chances, args.sample)
    shares = [chances[start :: 4 * args.jobs] for start in range(4 * args.jobs)]
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        done = list(pool.map(sweep, shares, repeat(args.each), repeat(args.seed)))
    tried, found = sum(count for count, _ in done), [line for _, lines in done for line in lines]
    for line in found[:20]:
        print(f"FAIL {line}")
    spent = time.perf_counter() - began
    print(
        f"{len(found)} differences: {tried} crontabs around {len(chances)} clock changes in "
        f"{len({name for name, _ in chances})} of {len(histories())} histories, {spent:.0f} s"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
