"""Simulate worlds: ``python -m tests.simulation --seeds 100``, or one: ``--seed 17 --verbose``."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.simulation.world import World


def main() -> int:
    """Simulate; returns 1 if an invariant did not hold, and says how to see that again."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many worlds")
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--verbose", action="store_true", help="print every message, fact and fault")
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first failure")
    parser.add_argument("--digests", action="store_true", help="print nothing but the digest of each world")
    args = parser.parse_args()
    failed = 0
    for seed in range(args.seed, args.seed + args.seeds):
        began = time.perf_counter()
        world = World(seed, verbose=args.verbose)
        try:
            digest = world.run()
        except Exception as error:  # whatever the code under test raises is a finding
            failed += 1
            if not args.go_on or args.verbose:
                traceback.print_exc()
            name = str(error) or type(error).__name__
            print(f"FAIL seed {seed} at {world.now_s:.6f} s: {type(error).__name__}: {name[:600]}")
            print(f"replay: python -m tests.simulation --seed {seed} --verbose", flush=True)
            if not args.go_on:
                return 1
            continue
        spent = time.perf_counter() - began
        if args.digests:
            print(digest)
        elif not args.go_on:
            print(
                f"seed {seed}: {digest}, {world.steps} steps, {world.now_s:.0f} s in {spent:.2f} s",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
